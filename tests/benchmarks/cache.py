"""`python3 -m tests.benchmarks.cache CHECKPOINT…`: what a cache in int8 would save, and what it costs the answers.

The graphs that `models.convert` makes keep keys and values in float32. Here the same graphs get caches in int8 with a
scale for each channel, `--headroom` times the largest value that one clip and prompt have in it; another clip is then
asked. Printed for fp32 and for int4 weights, everything against the same weights with the cache in float32: the error
of the logits, the share of steps that choose the same id (`tests.benchmarks.precision` says how), and how many times as
fast prompts and steps are, medians in turns. Last comes one JSON line.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from audio_encoder.encoder import AudioEncoder, Float32
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from decoder.decoder import Decoder
from models.convert.convert import convert
from models.manifest import Graph, Manifest, load_manifest
from tests.benchmarks.contestants import timed
from tests.benchmarks.precision import compare, run

GOLDEN = Path(__file__).parents[1] / "golden"
SAMPLE = GOLDEN / "1272-128104-0000.flac"
CALIBRATION = GOLDEN / "nano" / "speech.flac"
CONTEXTS = (200, 770)
STEPS = 8


def calibrate(manifest: Manifest, clip: Path, headroom: float) -> dict[str, Float32]:
    """{cache input: scale of each channel [1, heads, 1, head_dim]} from a clip and some words."""
    embeddings = AudioEncoder(manifest).encode([log_mel_spectrogram(load_waveform(clip))])[0]
    sizes, decoder = manifest.decoder_sizes, Decoder(manifest)
    words = np.random.default_rng(1).integers(0, min(sizes.vocab_size, sizes.audio_start), 24).tolist()
    ids = [*words[:8], sizes.audio_start, *[0] * (len(embeddings) - 2), sizes.audio_end, *words[8:]]
    decoder.prefill(ids, [embeddings])
    chain: Any = decoder._contract._session
    found = {}
    for session in [one for _, one in chain._parts] if hasattr(chain, "_parts") else [chain]:
        for (_, consumed), held in zip(session._state.names, session._held, strict=True):
            largest = np.abs(held.numpy()[:, :, : len(ids)]).max(axis=2, keepdims=True)
            found[consumed] = np.asarray(np.maximum(largest, 1e-6) * headroom / 127, np.float32)
    return found


def with_int8_cache(manifest: Manifest, scales: dict[str, Float32], folder: Path) -> Manifest:
    """The same model in another folder, over the same weights, its decoder's cache in int8."""
    for path in manifest.directory.iterdir():
        os.link(path, folder / path.name)
    parts = []
    for graph in manifest.decoder:
        model = onnx.load(manifest.path(graph.file), load_external_data=False)
        quantise_cache(model.graph, scales)
        (folder / graph.file).unlink()  # the link, not what it names
        onnx.save(model, folder / graph.file)
        parts.append(_in_int8(graph))
    return dataclasses.replace(manifest, decoder=tuple(parts), directory=folder)


def quantise_cache(graph: onnx.GraphProto, scales: dict[str, Float32]) -> None:
    """Have every GroupQueryAttention keep its past and present in int8."""
    held = set()
    for node in graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        inputs = [*node.input, *[""] * (12 - len(node.input))]
        for name in inputs[3:5]:  # past keys, past values; their scales are the inputs 12 and 13
            graph.initializer.append(numpy_helper.from_array(scales[name], f"{name}_scale"))
            inputs.append(f"{name}_scale")
        held |= {*inputs[3:5], *node.output[1:3]}
        node.input[:] = inputs
        settings = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        node.attribute.extend(helper.make_attribute(name, value) for name, value in settings.items())
    for value in (*graph.input, *graph.output):
        if value.name in held:
            value.type.tensor_type.elem_type = TensorProto.INT8


def _in_int8(graph: Graph) -> Graph:
    assert graph.state
    return dataclasses.replace(graph, state=dataclasses.replace(graph.state, dtype="int8"))


def speeds(pair: tuple[Manifest, Manifest], rounds: int) -> dict[str, float]:
    """How many times as fast the second is: prompts of CONTEXTS and steps behind them."""
    decoders, rng = [Decoder(manifest) for manifest in pair], np.random.default_rng(2)
    most = min(pair[0].decoder_sizes.vocab_size, pair[0].decoder_sizes.audio_start)
    found: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first round warms up
        for context in CONTEXTS:
            ids = rng.integers(0, most, context + STEPS).tolist()
            seconds = [ask(decoder, ids, context) for decoder in (decoders if number % 2 else decoders[::-1])]
            before, after = seconds if number % 2 else seconds[::-1]
            if number:
                found.setdefault(f"prefill {context}", []).append(before[0] / after[0])
                found.setdefault(f"step after {context}", []).append(before[1] / after[1])
    return {name: round(median(values), 3) for name, values in found.items()}


def ask(decoder: Decoder, ids: list[int], context: int) -> tuple[float, float]:
    """Seconds of a prompt of `context` ids and of all steps behind it."""
    prompt = timed(lambda: decoder.prefill(ids[:context]))
    return prompt, timed(lambda: [decoder.step(one) for one in ids[context:]])


def measure(checkpoint: Path, precision: str, headroom: float, rounds: int, steps: int) -> dict[str, Any]:
    """One row of the table."""
    with (
        tempfile.TemporaryDirectory(dir=checkpoint.parent) as room,
        tempfile.TemporaryDirectory(dir=checkpoint.parent) as other,
    ):
        convert(checkpoint, Path(room), precision=precision, flavour="fused")
        floating = load_manifest(Path(room))
        eight = with_int8_cache(floating, calibrate(floating, CALIBRATION, headroom), Path(other))
        exact = run(floating, SAMPLE, None, steps)
        error = compare(run(eight, SAMPLE, exact.logits.argmax(axis=1).tolist(), steps), exact)
        times = speeds((floating, eight), rounds)
    row = {"checkpoint": checkpoint.name, "precision": precision, "logits": error["logits"], "argmax": error["argmax"]}
    print(
        f"{checkpoint.name:16} {precision:6} logits {error['logits']:.2e}, argmax {error['argmax']:.2f}; {times}",
        flush=True,
    )
    return {**row, "times_as_fast": times}


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoints", nargs="+", type=Path, metavar="CHECKPOINT")
    parser.add_argument("--precision", nargs="+", default=("fp32", "int4"))
    parser.add_argument("--headroom", type=float, default=2.0, help="times the largest value seen (default: 2)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=32)
    given = parser.parse_args(argv)
    asked = [(checkpoint, precision) for checkpoint in given.checkpoints for precision in given.precision]
    rows = [measure(*one, given.headroom, given.rounds, given.steps) for one in asked]
    print(json.dumps({"benchmark": "cache", "headroom": given.headroom, "rounds": given.rounds, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
