"""`python3 -m models.nano.train.score --recordings DIR`: nano on the fixed test clips of real people and real sounds.

Through the run-time path: converted, then `listen`, `prompt_ids`, `answer`. The last line is JSON. `--whisper MODEL`
scores Whisper base through faster-whisper on the same clips instead (MODEL: a CTranslate2 folder).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import acoustics, wordings
from models.nano.train.answers import TASKS
from models.nano.train.corpus import Clip
from models.nano.train.recordings import Recording, recordings, spoken, test_ids
from qwen_audio import answer, listen, load, prompt_ids

Waveform = NDArray[np.float32]
Answer = Callable[[Waveform, str, bool], str]  # sound, prompt, whether it is the base model's

SEED = 20261128
SPEECH = ("librispeech", "studio_man", "non_native_adults", "non_native_children", "librivox", "wake_words")
SPOKEN = ("librispeech", "non_native_adults", "multilingual", "wake_words_es", "mandarin_words")
MOST = 60  # clips of a set
SCREENED = ("white", "pink", "brown", "hum", "babble", "silence")


def distance(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Least number of words to insert, delete or replace."""
    row = list(range(len(wanted) + 1))
    for i, left in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def quoted(text: str) -> str:
    """What stands in the quotation marks of a chat answer, or all."""
    found = re.search(r'"(.*)"', text)
    return found.group(1) if found else text


class Nano:
    """The converted checkpoint."""

    def __init__(self, checkpoint: Path, precision: str, folder: Path) -> None:
        from models.convert.convert import convert

        convert(checkpoint, folder, precision=precision, flavour="fused")
        self.chat = load(folder)
        self.base = replace(self.chat, chat=False)

    def __call__(self, sound: Waveform, prompt: str, base: bool) -> str:  # noqa: FBT001 - a prompt and its kind
        """The answer to one question."""
        model = self.base if base else self.chat
        clips = listen([sound], model)
        ids = prompt_ids(prompt, clips, model)
        return "".join(answer(ids, clips, model, max_new_tokens=200))


def whisper(folder: str) -> Answer:
    """Whisper as a whole, greedy, English."""
    from faster_whisper import WhisperModel

    model = WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=2)

    def answer(sound: Waveform, prompt: str, base: bool) -> str:  # noqa: FBT001 - as Nano
        del prompt, base
        segments, _ = model.transcribe(sound, language="en", beam_size=1, without_timestamps=True)
        return " ".join(segment.text for segment in segments)

    return answer


class Scores:
    """Amounts out of others, by set and measure."""

    def __init__(self, show: int) -> None:
        self.sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.shown: Counter[tuple[str, str]] = Counter()
        self.show = show

    def add(self, name: str, measure: str, amount: float, out_of: float, what: str) -> None:
        """Count one answer, and print the first few."""
        self.sums[name, measure][0] += amount
        self.sums[name, measure][1] += out_of
        self.shown[name, measure] += 1
        if self.shown[name, measure] <= self.show:
            print(f"  {name} {measure} {amount:.0f}/{out_of:.0f}: {what}")

    def rows(self) -> list[dict[str, object]]:
        """One a line of the table."""
        return [
            {"set": name, "measure": measure, "value": round(part / max(whole, 1), 4), "of": int(whole)}
            for (name, measure), (part, whole) in self.sums.items()
        ]


def score_words(answer: Answer, sets: dict[str, list[Recording]], scores: Scores, *, chat: bool) -> None:
    """Words wrong, clean; for LibriSpeech by telephone in 10 dB of noise, too."""
    for name in SPEECH:
        for row in sets.get(name, ()):
            sound, wanted = load_waveform(row["audio"]), row["text"].split()
            kinds = {"base": (wordings.TRANSCRIBE_TAGS, True)} | ({"chat": (ASKED, False)} if chat else {})
            for kind, (prompt, base) in kinds.items():
                found = spoken(quoted(answer(sound, prompt, base)))
                scores.add(
                    name,
                    f"words wrong, {kind}",
                    distance(found.split(), wanted),
                    len(wanted),
                    f"{found} | {row['text']}",
                )
            if name == "librispeech":
                found = spoken(answer(by_telephone(sound, row["id"]), wordings.TRANSCRIBE_TAGS, True))
                scores.add(name, "words wrong, telephone", distance(found.split(), wanted), len(wanted), found)


ASKED = "what does the person say?"


def by_telephone(sound: Waveform, name: str) -> Waveform:
    """300 to 3,400 Hz and white noise at 10 dB."""
    rng = random.Random(f"{SEED}/{name}")  # noqa: S311 - reproducible data, not secrets
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / 16_000)
    spectrum[(hertz < 300) | (hertz > 3400)] = 0
    return acoustics.add_noise(np.fft.irfft(spectrum, len(sound)).astype(np.float32), 10.0, rng, kind="white")


def score_labels(answer: Answer, sets: dict[str, list[Recording]], scores: Scores) -> None:
    """Language, gender, age and sounds."""
    for name, rows in sets.items():
        for row in rows:
            sound = load_waveform(row["audio"])[: 30 * 16_000]
            for task, wanted in wanted_labels(name, row):
                rng = random.Random(f"{SEED}/{row['id']}")  # noqa: S311
                found = answer(sound, wordings.question(task, rng, split="test"), False)
                scores.add(name, task, float(found == wanted), 1, f"{found} | {wanted}")


def wanted_labels(name: str, row: Recording) -> list[tuple[str, str]]:
    """Tasks and their whole answers."""
    tasks = ["language"] if name in SPOKEN and row.get("language") in wordings.LANGUAGE_NAMES else []
    tasks += ["gender"] if name in {"librispeech", "non_native_adults"} else []
    tasks += ["age"] if name.startswith("non_native") else []
    tasks += ["event"] if row.get("sound") else []
    tasks += ["instrument"] if name == "instruments" else []
    clip = Clip(Path(), 0, 0, row)
    return [(task, "".join(piece.text for piece in TASKS[task].answer(clip))) for task in tasks]


def score_silence(answer: Answer, sets: dict[str, list[Recording]], scores: Scores) -> None:
    """Words where nobody speaks: 30 clips of noise and silence, 30 of sounds."""
    rng = np.random.default_rng(SEED)
    sounds = [(f"{SCREENED[n % 6]} {n}", noise_clip(SCREENED[n % 6], n, rng)) for n in range(30)]
    worded = {"singing voice", "crowd of people", "screaming or yelling", "laughter", "choir", "mouth noises"}
    others = [row for row in sets.get("sounds", ()) if row["sound"] not in worded][:30]
    sounds += [(row["sound"], load_waveform(row["audio"])[: 30 * 16_000]) for row in others]
    for name, sound in sounds:
        found = answer(sound, wordings.TRANSCRIBE_TAGS, True)
        scores.add("silence", "invented", float(bool(spoken(found))), 1, f"{name}: {found}")


def noise_clip(kind: str, number: int, rng: np.random.Generator) -> Waveform:
    """Two to six seconds."""
    samples = int(rng.uniform(2, 6) * 16_000)
    if kind == "silence":
        return rng.normal(0, 1e-4, samples).astype(np.float32)
    quiet = rng.normal(0, 1e-5, samples).astype(np.float32)
    return acoustics.add_noise(quiet, -60.0, random.Random(number), kind=kind) * np.float32(0.1)  # noqa: S311


def test_sets(folder: Path, names: Sequence[str], count: int) -> dict[str, list[Recording]]:
    """The fixed lists, at most `count` clips of each, spread over them."""
    by_id = {row["id"]: row for row in recordings(folder)}
    sets = {}
    for name, ids in test_ids().items():
        if not names or name in names:
            step = max(1, len(ids) / count)
            chosen = [by_id[ids[int(place * step)]] for place in range(min(count, len(ids)))]
            sets[name] = [row for row in chosen if readable(row["audio"])]
    return sets


def readable(path: str) -> bool:
    """Two long places are not: said on standard error."""
    try:
        load_waveform(path)
    except AudioError as error:
        print(error, file=sys.stderr)
        return False
    return True


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=Path(__file__).parents[1] / "checkpoint", metavar="DIR")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--precision", default="int8-fine")
    parser.add_argument("--sets", default="", help="comma-separated (default: all)")
    parser.add_argument("--count", type=int, default=MOST, help=f"clips of each set at most (default: {MOST})")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of each kind")
    parser.add_argument("--whisper", metavar="MODEL", help="score Whisper's own transcripts instead")
    options = parser.parse_args(argv)
    sets = test_sets(options.recordings, [name for name in options.sets.split(",") if name], options.count)
    scores = Scores(options.show)
    with tempfile.TemporaryDirectory() as folder:
        if options.whisper:
            score_words(whisper(options.whisper), sets, scores, chat=False)
        else:
            nano = Nano(options.checkpoint, options.precision, Path(folder))
            score_words(nano, sets, scores, chat=True)
            score_labels(nano, sets, scores)
            score_silence(nano, sets, scores)
    for row in scores.rows():
        print(f"{row['set']:22} {row['measure']:24} {row['value']:8.4f} of {row['of']}")
    print(json.dumps({"benchmark": "nano", "precision": options.precision, "seed": SEED, "rows": scores.rows()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
