"""`python3 -m tests.benchmarks.trained CHECKPOINT --work DIR`: what each precision loses on trained weights, beside Q4_0.

Makes a model of every precision in DIR, if it is not there (a calibration that was killed goes on), and runs all over the
same texts, which no calibration saw: two novels, a third one, and a file of Python. Ids are forced, in runs of 32. Then a
table and, last, one JSON line:

    perplexity  of the texts, as a multiple of fp32's
    KL          mean Kullback-Leibler divergence from fp32's distribution, in nats
    argmax      share of positions where the likeliest id is fp32's
    GB          read for a token on the full 8.4 B geometry: matrices of the decoder as ONNX Runtime packs them
    encoder     rms(embeddings - fp32's) / rms(fp32's), over the sounds

"Q4_0" is fp32 over weights as llama.cpp's format rounds them, with the output layer in its Q8_0, and all else exact:
what llama.cpp errs at least, since it rounds activations too. "llama.cpp" is what itself makes of these weights; it needs
an interpreter that has llama_cpp and gguf (`--python PATH…`). The weights of a family member come from the registry: see
RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from audio_encoder.encoder import AudioEncoder, Float32
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from decoder.decoder import Decoder
from models.convert.checkpoint import Checkpoint, Tensor
from models.convert.convert import convert
from models.convert.linear import CALIBRATED, FINER, PRECISIONS, Precision, Storage
from models.manifest import FILE_NAME, Manifest, load_manifest
from models.runtime.cpu import usable_cores
from tests.benchmarks.contestants import ROOT, Contestant
from tests.benchmarks.geometry import FULL
from tests.benchmarks.random_weights import to_bfloat16
from tests.benchmarks.speed import interpreters
from tests.benchmarks.weights import _places, _sizes, q4_0
from tokenizer.tokenizer import Tokenizer

Q4_0, LLAMA = "Q4_0", "llama.cpp"
SEED = 0  # of the rotation, the only random thing in a conversion
# name: precision, whether calibrated
MODELS = {
    "fp32": ("fp32", False),
    "int8-fine": ("int8-fine", False),
    "int8": ("int8", True),
    "int8, uncalibrated": ("int8", False),
    "int4-fine": ("int4-fine", True),
    "int4": ("int4", True),
    "int4, uncalibrated": ("int4", False),
    Q4_0: ("fp32", False),
    LLAMA: ("", False),
}
TEXTS = (*sorted((Path(__file__).parent / "texts").glob("*.txt")), Path(textwrap.__file__))
SOUNDS = (Path(__file__).parents[1] / "golden" / "1272-128104-0000.flac",)
START, RUN = 32, 32  # ids before the first that counts, and ids of a run
Q8_BLOCK = 32


@dataclass(frozen=True)
class Found:
    """What a model says: log-probabilities [n, vocab] behind each id, the ids that follow [n], embeddings of sounds."""

    log_p: Float32
    targets: list[int]
    embeddings: Float32


def q8_0(rows: Float32) -> Float32:
    """What float32 [n, k] becomes in Q8_0: blocks of 32, a float16 scale, levels -127 to 127."""
    values = rows.reshape(-1, Q8_BLOCK)
    scale = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    levels = np.rint(np.divide(values, scale, out=np.zeros_like(values), where=scale > 0))
    return np.asarray(levels * scale.astype(np.float16), np.float32).reshape(rows.shape)


def write_peer(directory: Path, out: Path) -> None:
    """A copy of a checkpoint with the decoder's matrices in Q4_0 and the output layer in Q8_0, in its own float type."""
    shutil.copytree(directory, out, dirs_exist_ok=True)
    checkpoint = Checkpoint(out)
    for name, _, shape in _places(*_sizes(checkpoint)):
        _rewrite(checkpoint.take(name, *shape), q4_0)
    _rewrite(checkpoint.take("lm_head.weight", checkpoint.config["vocab_size"], shape[0]), q8_0)


def _rewrite(tensor: Tensor, change: object) -> None:
    assert callable(change)
    with tensor.file.open("r+b") as file:
        file.seek(tensor.offset)
        for rows in list(tensor.rows()):
            found = change(rows)
            file.write((found.astype(np.float16) if tensor.stored == "F16" else to_bfloat16(found)).tobytes())


def prepare(checkpoint: Path, work: Path, name: str) -> Manifest:
    """The model of a row, made if it is not there."""
    precision, calibrated = MODELS[name]
    out = work / name.replace(", ", "-").replace("_", "")
    if not (out / FILE_NAME).exists():
        source = checkpoint
        if name == Q4_0:
            source = work / "rounded"
            write_peer(checkpoint, source)
        convert(
            source, out, precision=precision, flavour="fused", calibration=[] if calibrated else None, report=report
        )
        if name == Q4_0:
            shutil.rmtree(source)
    return load_manifest(out)


def report(line: str) -> None:
    """Progress goes to standard error."""
    print(line, file=sys.stderr, flush=True)


def listen(manifest: Manifest, texts: Sequence[Path], sounds: Sequence[Path], most: int) -> Found:
    """Run a model over all texts, at most so many ids of each, and over all sounds."""
    tokenizer, decoder = Tokenizer(manifest.path(manifest.vocabulary or "")), Decoder(manifest)
    rows, targets = [], []
    for text in texts:
        ids = tokenizer.encode(text.read_text(encoding="utf-8"))[:most]
        decoder.prefill(ids[:START])
        logits = np.concatenate([decoder.extend({0: ids[i : i + RUN]})[0] for i in range(START, len(ids), RUN)])
        rows.append(_log_softmax(logits[:-1, : tokenizer.vocab_size]))
        targets += ids[START + 1 :]
    encoder = AudioEncoder(manifest)
    embeddings = [encoder.encode([log_mel_spectrogram(load_waveform(path))])[0] for path in sounds]
    return Found(np.concatenate(rows), targets, np.concatenate(embeddings))


def listen_llama(checkpoint: Path, work: Path, python: str, texts: Sequence[Path], most: int) -> Found:
    """The same of llama.cpp over the decoder's weights in Q4_0; it has no encoder."""
    file, logits = work / "q4_0.gguf", work / "logits.npy"
    if not file.exists():
        code = "import sys; from pathlib import Path; from models.convert.checkpoint import Checkpoint; "
        code += "from tests.benchmarks.peer_models import make_trained_gguf; "
        code += "make_trained_gguf(Path(sys.argv[1]), Checkpoint(Path(sys.argv[2])))"
        part = file.with_suffix(".part")
        subprocess.run([python, "-c", code, str(part), str(checkpoint)], check=True, cwd=ROOT)
        part.replace(file)
    tokenizer = Tokenizer(checkpoint / "qwen.tiktoken")
    vocabulary, context = Checkpoint(checkpoint).config["vocab_size"], 32 * -(-most // 32)
    cores = usable_cores()
    llama = Contestant(LLAMA, python, model=str(file), threads=cores, vocabulary=vocabulary, context=context)
    rows, targets = [], []
    for text in texts:
        ids = tokenizer.encode(text.read_text(encoding="utf-8"))[:most]
        llama.do("logits", ids, str(logits))
        rows.append(_log_softmax(np.load(logits)[START:-1, : tokenizer.vocab_size]))
        targets += ids[START + 1 :]
    llama.close()
    logits.unlink()
    return Found(np.concatenate(rows), targets, np.empty((0, 0), np.float32))


def compare(found: Found, exact: Found) -> dict[str, float | None]:
    """A row of the table: a model against fp32."""
    kl = np.array([(np.exp(p) * (p - q)).sum(dtype=np.float64) for p, q in zip(exact.log_p, found.log_p, strict=True)])
    every = np.arange(len(found.targets))
    loss, exact_loss = (-one.log_p[every, one.targets].mean(dtype=np.float64) for one in (found, exact))
    error = None
    if found.embeddings.size:
        error = np.sqrt(np.square(found.embeddings - exact.embeddings).mean() / np.square(exact.embeddings).mean())
    return {
        "perplexity": float(np.exp(loss)),
        "of_fp32": float(np.exp(loss - exact_loss)),
        "kl": float(kl.mean()),
        "argmax": float((found.log_p.argmax(axis=1) == exact.log_p.argmax(axis=1)).mean()),
        "encoder": None if error is None else float(error),
    }


def token_bytes(name: str) -> float:
    """Bytes read for a token on the full geometry, as packed: blocks have 8 bytes beside their levels."""
    precision, calibrated = MODELS[name]
    if name in (Q4_0, LLAMA):
        return sum(n * k * (8.5 if part == "head" else 4.5) / 8 for part, n, k in _matrices())
    storage: Precision = CALIBRATED[precision] if calibrated else PRECISIONS["fused", precision]
    total = sum(_bytes(getattr(storage, part), n, k) for part, n, k in _matrices())
    layers = sum(n * k for part, n, k in _matrices() if part != "head")
    finer = (FINER.bits - storage.mlp.bits) / 8 if storage.finer else 0
    return total + storage.finer * layers * finer


def _matrices() -> Iterator[tuple[str, int, int]]:
    """Part, outputs and inputs of every matrix that a token meets in the full decoder."""
    d, width = FULL.hidden_size, FULL.intermediate_size // 2
    for _ in range(FULL.num_hidden_layers):
        yield from (("attention", 3 * d, d), ("attention", d, d), ("mlp", 2 * width, d), ("mlp", d, width))
    yield "head", FULL.vocab_size, d


def _bytes(storage: Storage, n: int, k: int) -> float:
    if storage.kind == "blocks":
        return n * k * storage.bits / 8 + n * -(-k // storage.block) * 8
    return n * k * {"tokens": 1, "float16": 2, "float32": 4}[storage.kind]


def _log_softmax(logits: Float32) -> Float32:
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), np.float32)


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--work", type=Path, required=True, help="where the models are made and kept")
    parser.add_argument("--texts", type=Path, nargs="+", default=TEXTS, metavar="FILE")
    parser.add_argument("--sounds", type=Path, nargs="+", default=SOUNDS, metavar="FILE")
    parser.add_argument("--tokens", type=int, default=448, help="ids of each text (default 448)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="NAME")
    parser.add_argument("--python", nargs="*", default=[], metavar="PATH", help="interpreters that have llama.cpp")
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("numpy", "onnxruntime")} | {"python": platform.python_version()}
    print(f"seed {SEED}; " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    print(f"{'':20} {'perplexity':>10} {'of fp32':>8} {'KL':>8} {'argmax':>7} {'GB':>6} {'encoder':>9}")
    rows, exact = [], None
    for name in ("fp32", *(one for one in options.models if one != "fp32")):
        told = None
        if name == LLAMA:
            python = interpreters([sys.executable, *options.python], [LLAMA]).get(LLAMA)
            if python is None:
                continue
            found = listen_llama(options.checkpoint, options.work, python, options.texts, options.tokens)
        else:
            manifest = prepare(options.checkpoint, options.work, name)
            found, told = listen(manifest, options.texts, options.sounds, options.tokens), manifest.loss
        exact = exact or found
        row = {**compare(found, exact), "gigabytes": token_bytes(name) / 1e9, "told": told}
        rows.append({"model": name, **row})
        encoder = "none" if row["encoder"] is None else f"{row['encoder']:.2e}"
        numbers = f"{row['perplexity']:10.3f} {row['of_fp32']:8.4f} {row['kl']:8.4f} {row['argmax']:7.3f}"
        print(f"{name:20} {numbers} {row['gigabytes']:6.2f} {encoder:>9}", flush=True)
    print(json.dumps({"benchmark": "trained", "seed": SEED, "versions": versions, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
