"""`python3 -m models.nano.train.card RECORDINGS OUT`: the scores of nano's card, by --score on the fixed test clips.

A checkpoint is converted and asked on the command line, list by list (models.nano.train.lists). `--whisper MODEL` has
faster-whisper transcribe the same lists (MODEL: Whisper base as a CTranslate2 folder); `cli.score` scores them, too. It
also says when words are, which nano's word times are held against.
A second run goes on where the first stopped. A table for the card is printed; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.main import main as ask
from cli.output.answer import Answer
from cli.score.scorer import Scorer
from models.nano.train.lists import MOST, write_lists

LONGEST = "200"  # tokens of an answer


@dataclass(frozen=True)
class Run:
    """One list, asked once: what the table calls the score, and how it is asked. `is_inverse`: one less the score."""

    rows: str
    measure: str
    metric: str
    flags: tuple[str, ...] = ()
    is_inverse: bool = False


RUNS = (
    Run("words", "words wrong, base prompt", "wer", ("--raw",)),
    Run("words", "words wrong, chat", "wer"),
    Run("telephone", "words wrong, base prompt", "wer", ("--raw",)),
    Run("labels", "right", "accuracy", ("--long", "first")),
    Run("together", "right", "accuracy", ("--long", "first")),
    Run("silence", "words invented", "accuracy", ("--raw", "--long", "first"), is_inverse=True),
    Run("times", "words begin and end, off by", "word-times", ("--raw",)),
)
TIMED = ("librispeech", "studio_man")  # sets whose words are clear enough for Whisper to say when they are
Score = dict[str, Any]  # value, low, high, answers
Transcribe = Callable[[str], str]  # sound file -> text


def convert_checkpoint(checkpoint: Path, out: Path, precision: str) -> Path:
    """The checkpoint as a model that runs."""
    from models.convert.convert import convert

    model = out / precision
    convert(checkpoint, model, precision=precision, flavour="fused", calibration="if it can be")
    return model


def answered(run: Run, model: Path, out: Path) -> dict[str, Score]:
    """The answers of nano to a list; returns the score of each set."""
    folder = out / f"{run.rows}{''.join(run.flags[:1])}"
    flags = ["--model", str(model), "--files-from", str(out / f"{run.rows}.jsonl"), "-o", str(folder), "-f", "json"]
    ask([*flags, "--max-new-tokens", LONGEST, "--score", run.metric, *run.flags, "-q"])
    return by_set(json.loads((folder / "score.json").read_text(encoding="utf-8")), run)


def whispered(run: Run, transcribe: Transcribe, out: Path) -> dict[str, Score]:
    """Whisper's transcripts of the same list, as OUT/whisper-NAME.jsonl; returns the score of each set."""
    scorer = Scorer([run.metric])
    with (out / f"whisper-{run.rows}.jsonl").open("w", encoding="utf-8") as file:
        for line in (out / f"{run.rows}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            answer = Answer([row["audio"]], "", text=transcribe(row["audio"]), model="Whisper base")
            answer.references, answer.source = (row["text"],), row["source"]
            scorer.add(answer)
            print(answer.as_json(), file=file)
    return by_set(json.loads(scorer.as_json()), run)


def by_set(score: dict[str, Any], run: Run) -> dict[str, Score]:
    """What score.json says of each set."""
    found: Score = score["metrics"][run.metric]
    sets: dict[str, Score] = found.pop("by_source") or {run.rows: found}
    if run.is_inverse:
        for one in sets.values():
            one |= {"value": 1 - one["value"], "low": 1 - one["high"], "high": 1 - one["low"]}
    return sets


def whisper(folder: str) -> tuple[Transcribe, Transcribe]:
    """Whisper as a whole, greedy, English: sound file -> text, and sound file -> words with their times."""
    from faster_whisper import WhisperModel

    from audio_encoder.waveform import load_waveform

    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2)

    def transcribe(path: str) -> str:
        sound = load_waveform(path)
        segments, _ = model.transcribe(sound, language="en", beam_size=1, temperature=0.0, without_timestamps=True)
        return " ".join(segment.text.strip() for segment in segments)

    def timed(path: str) -> str:
        segments, _ = model.transcribe(
            load_waveform(path), language="en", beam_size=1, temperature=0.0, word_timestamps=True
        )
        words = (word for segment in segments for word in segment.words)
        return "".join(f"<|{word.start:.2f}|>{word.word.strip()}<|{word.end:.2f}|>" for word in words)

    return transcribe, timed


def write_times(timed: Transcribe, out: Path) -> int:
    """OUT/times.jsonl: when Whisper says that the words of clear speech are; returns how many clips there are."""
    rows = map(json.loads, (out / "words.jsonl").read_text(encoding="utf-8").splitlines())
    lines = [
        json.dumps({**row, "text": timed(row["audio"]), "task": "timestamps"}) for row in rows if row["source"] in TIMED
    ]
    (out / "times.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(lines)


def table(rows: list[Score]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| recordings | measure | nano | 95 % interval | Whisper base | clips |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        shown = "{:.0f} ms" if row["metric"] == "word-times" else "{:.0%}"
        value, low, high = (shown.format(row[name]) for name in ("value", "low", "high"))
        other = shown.format(row["whisper"]) if "whisper" in row else ""
        yield f"| {row['set']} | {row['measure']} | {value} | {low} to {high} | {other} | {row['clips']} |"


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--checkpoint", type=Path, default=Path(__file__).parents[1] / "checkpoint", metavar="DIR")
    parser.add_argument("--precision", default="int8-fine")
    parser.add_argument("--whisper", metavar="MODEL", help="Whisper base beside it")
    parser.add_argument("--count", type=int, default=MOST, help=f"clips of each set at most (default: {MOST})")
    options = parser.parse_args(argv)
    out: Path = options.out
    counts = write_lists(options.recordings, out, options.count)
    model = convert_checkpoint(options.checkpoint, out, options.precision)
    transcribe = None
    if options.whisper:
        transcribe, timed = whisper(options.whisper)
        counts["times"] = write_times(timed, out)
    rows: list[Score] = []
    for run in (run for run in RUNS if counts.get(run.rows)):
        print(f"{run.rows}: {run.measure}, {counts[run.rows]} rows", file=sys.stderr)
        beside = whispered(run, transcribe, out) if transcribe and run.metric == "wer" and run.flags else {}
        for name, score in answered(run, model, out).items():
            row = {"set": name, "measure": run.measure, "metric": run.metric, "clips": score.pop("answers"), **score}
            rows.append(row | ({"whisper": beside[name]["value"]} if name in beside else {}))
    print("\n".join(table(rows)))
    print(json.dumps({"benchmark": "nano", "precision": options.precision, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
