"""`python3 -m tests.benchmarks.encoder_precision RECORDINGS --work DIR`: what each precision does to the ears.

nano's encoder is OpenAI's Whisper base, tuned, so its weights are trained ones. For each precision the embedded model's
checkpoint is converted to DIR, and the encoder alone hears real recordings, the fixed test clips of nano's training. A
line for each precision and kind of recording:

    error   rms(embeddings - fp32's) / rms(fp32's), over all clips of the kind
    worst   the same of the worst clip
    wrong   words wrong of what fp32's decoder reads from these embeddings (base prompt, whisper-normalizer)
    changed share of the clips whose words are other than with fp32's embeddings

So `wrong` beside fp32's own is what the encoder's precision alone costs. The last line is JSON. Needs requirements-eval.txt.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections import defaultdict
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

import qwen_audio
from audio_encoder.encoder import AudioEncoder, Float32
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from cli.output.answer import Answer
from cli.score.scorer import Scorer
from models.convert.convert import convert
from models.manifest import FILE_NAME, Manifest, load_manifest
from models.nano.train.lists import write_lists
from models.nano.train.wordings import TRANSCRIBE_TAGS

CHECKPOINT = Path(__file__).parents[2] / "models" / "nano" / "checkpoint"
EXACT = "fp32"
PRECISIONS = ("fp16", "int8-fine", "int8", "int4-fine", "int4")
LISTS = ("words", "telephone", "silence")  # sounds without words are in the last; nothing is read from them
LONGEST = 200  # tokens of an answer


def prepare(checkpoint: Path, work: Path, precision: str) -> Manifest:
    """The model of a precision, made if it is not there."""
    out = work / precision
    if not (out / FILE_NAME).exists():
        convert(checkpoint, out, precision=precision, flavour="fused")
    return load_manifest(out)


def rows_of(recordings: Path, work: Path, count: int) -> list[dict[str, str]]:
    """The clips: `audio`, `text`, and `source`, the kind of recording."""
    write_lists(recordings, work, count)
    lines = (line for name in LISTS for line in (work / f"{name}.jsonl").read_text(encoding="utf-8").splitlines())
    return [json.loads(line) for line in lines]


def heard(manifest: Manifest, rows: Sequence[dict[str, str]]) -> list[Float32]:
    """Embeddings of each clip, encoded alone."""
    encoder = AudioEncoder(manifest)
    return [encoder.encode([log_mel_spectrogram(load_waveform(Path(row["audio"])))])[0] for row in rows]


def read(model: qwen_audio.Model, embeddings: Float32) -> str:
    """What the exact decoder reads from a clip."""
    clips = [embeddings]
    ids = qwen_audio.prompt_ids(TRANSCRIBE_TAGS, clips, model)
    return "".join(qwen_audio.answer(ids, clips, model, max_new_tokens=LONGEST)).strip()


def words_wrong(rows: Sequence[dict[str, str]], texts: Sequence[str]) -> float | None:
    """Word error rate as --score counts it; None where nothing is said."""
    scorer = Scorer(["wer"])
    spoken = [(row, text) for row, text in zip(rows, texts, strict=True) if row["text"]]
    for row, text in spoken:
        answer = Answer([row["audio"]], "", text=text, model=EXACT)
        answer.references = (row["text"],)
        scorer.add(answer)
    return float(json.loads(scorer.as_json())["metrics"]["wer"]["value"]) if spoken else None


def compare(
    rows: Sequence[dict[str, str]], found: tuple[list[Float32], list[str]], exact: tuple[list[Float32], list[str]]
) -> list[dict[str, object]]:
    """A line for each kind of recording: embeddings and texts against the exact ones."""
    kinds: defaultdict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        kinds[row["source"]].append(place)
    lines: list[dict[str, object]] = []
    for kind, places in kinds.items():
        errors = np.array([np.square(found[0][place] - exact[0][place]).mean(dtype=np.float64) for place in places])
        powers = np.array([np.square(exact[0][place]).mean(dtype=np.float64) for place in places])
        texts = [found[1][place] for place in places]
        changed = [found[1][place] != exact[1][place] for place in places]
        lines.append(
            {
                "kind": kind,
                "clips": len(places),
                "error": float(np.sqrt(errors.mean() / powers.mean())),
                "worst": float(np.sqrt(errors / powers).max()),
                "wrong": words_wrong([rows[place] for place in places], texts),
                "changed": float(np.mean(changed)),
            }
        )
    return lines


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS", help="folder with meta.jsonl")
    parser.add_argument("--work", type=Path, required=True, help="where the models are made and kept")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, metavar="DIR")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), metavar="NAME")
    parser.add_argument("--count", type=int, default=20, help="clips of each set at most (default: 20)")
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("numpy", "onnxruntime")} | {"python": platform.python_version()}
    rows = rows_of(options.recordings, options.work, options.count)
    prepare(options.checkpoint, options.work, EXACT)
    model = qwen_audio.load(options.work / EXACT, raw=True)
    print(f"{'precision':10} {'recordings':22} {'clips':>5} {'error':>8} {'worst':>8} {'wrong':>7} {'changed':>8}")
    table: list[dict[str, object]] = []
    exact: tuple[list[Float32], list[str]] | None = None
    for precision in (EXACT, *options.precisions):
        embeddings = heard(prepare(options.checkpoint, options.work, precision), rows)
        found = embeddings, [read(model, one) for one in embeddings]
        exact = exact or found
        for line in compare(rows, found, exact):
            table.append({"precision": precision, **line})
            wrong = "" if line["wrong"] is None else f"{line['wrong']:.1%}"
            numbers = f"{line['clips']:5} {line['error']:8.1e} {line['worst']:8.1e} {wrong:>7} {line['changed']:8.1%}"
            print(f"{precision:10} {line['kind']:22} {numbers}", flush=True)
    print(json.dumps({"benchmark": "encoder_precision", "versions": versions, "rows": table}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
