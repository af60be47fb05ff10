"""`python3 -m tests.benchmarks.precision CHECKPOINT…`: how far each precision's logits are from fp32's.

Converts each checkpoint to every precision of the fused flavour, asks it about one clip and feeds the ids that fp32
chooses (teacher forcing), so that every step compares like with like. Prints a table, then one JSON line:

    logits   rms(logits - fp32) / rms(fp32 - its mean), over all steps
    encoder  the same of the clip's embeddings
    argmax   share of steps that choose fp32's id
    KL       mean Kullback-Leibler divergence from fp32's distribution, in nats

"Q4_0" is fp32 over weights that were rounded as llama.cpp's format does it, the output layer and the encoder left exact:
what llama.cpp errs at least, since it rounds activations too.

A random-weight checkpoint measures rounding alone; one made with `--outliers` has the few large channels that trained
models have, on which rounding costs most.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio_encoder.encoder import AudioEncoder, Float32
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from decoder.decoder import Decoder
from models.convert.convert import convert
from models.manifest import Manifest, load_manifest
from tests.benchmarks.weights import write_q4_0

Q4_0 = "Q4_0"
PRECISIONS = ("fp32", "fp16", "int8-fine", "int8", "int4", Q4_0)

CLIP = Path(__file__).parents[1] / "golden" / "1272-128104-0000.flac"


@dataclass(frozen=True)
class Run:
    """What one precision answered: embeddings of the clip [span, d_model], logits of every step [steps, vocab]."""

    embeddings: Float32
    logits: Float32
    size: int


def run(manifest: Manifest, clip: Path, forced: list[int] | None, steps: int) -> Run:
    """Encode the clip, prefill a prompt of ids around it, then step along `forced`, or greedily where it is None."""
    embeddings = AudioEncoder(manifest).encode([log_mel_spectrogram(load_waveform(clip))])[0]
    sizes = manifest.decoder_sizes
    words = np.random.default_rng(0).integers(0, min(sizes.vocab_size, sizes.audio_start), 24).tolist()
    span = [sizes.audio_start, *[0] * (len(embeddings) - 2), sizes.audio_end]
    decoder = Decoder(manifest)
    logits = [decoder.prefill([*words[:12], *span, *words[12:]], [embeddings])]
    for step in range(steps - 1):
        logits.append(decoder.step(forced[step] if forced else int(np.argmax(logits[-1]))))
    return Run(embeddings, np.stack(logits), sum(record.size for record in manifest.files.values()))


def compare(found: Run, exact: Run) -> dict[str, float]:
    """One row of the table: `found` against the fp32 run."""
    log_p, log_q = (run.logits - _log_sum_exp(run.logits) for run in (exact, found))
    return {
        "logits": _relative(found.logits, exact.logits),
        "encoder": _relative(found.embeddings, exact.embeddings),
        "argmax": float((found.logits.argmax(axis=1) == exact.logits.argmax(axis=1)).mean()),
        "kl": float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()),
        "gigabytes": round(found.size / 1e9, 3),
    }


def _relative(found: Float32, exact: Float32) -> float:
    centred = exact - exact.mean(axis=-1, keepdims=True)
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(centred**2)))


def _log_sum_exp(logits: Float32) -> Float32:
    top = logits.max(axis=1, keepdims=True)
    return np.asarray(top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True)))


def measure(checkpoint: Path, clip: Path, precisions: tuple[str, ...], steps: int) -> list[dict[str, object]]:
    """Rows of all precisions for one checkpoint; fp32 always runs first, for the others to be held against."""
    rows: list[dict[str, object]] = []
    exact = None
    forced: list[int] = []
    for precision in ("fp32", *(one for one in precisions if one != "fp32")):
        with tempfile.TemporaryDirectory(dir=checkpoint.parent) as room:
            source, kept, out = checkpoint, precision, Path(room) / "model"
            if precision == Q4_0:
                source, kept = Path(room) / "rounded", "fp32"
                write_q4_0(checkpoint, source)
            convert(source, out, precision=kept, flavour="fused")
            found = run(load_manifest(out), clip, forced or None, steps)
        exact = exact or found
        forced = forced or exact.logits.argmax(axis=1).tolist()
        row = compare(found, exact)
        numbers = " ".join(f"{row[key]:9.2e}" for key in ("logits", "encoder", "argmax", "kl", "gigabytes"))
        print(f"{checkpoint.name:24} {precision:6} {numbers}", flush=True)
        rows.append({"checkpoint": checkpoint.name, "precision": precision, **row})
    return rows


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--clip", type=Path, default=CLIP)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    options = parser.parse_args(argv)
    print(f"{'checkpoint':24} {'':6} {'logits':>9} {'encoder':>9} {'argmax':>9} {'KL':>9} {'GB':>9}")
    rows = []
    for checkpoint in options.checkpoints:
        rows += measure(checkpoint, options.clip, tuple(options.precision), options.steps)
    print(json.dumps({"benchmark": "precision", "steps": options.steps, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
