"""`python3 -m tests.benchmarks.profile --model DIR`: where the time of a clip, a prompt, a step and a step of 8 rows goes.

ONNX Runtime's own profile, summed by operator over all parts of the decoder. Beside the products stands how fast they
read their weights, to be held against the machine's bandwidth, and how many operations a second they do, which is what a
clip and a prompt are bound by. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from audio_encoder.encoder import AudioEncoder
from decoder.decoder import Decoder
from models.manifest import Graph, Manifest, load_manifest
from models.runtime.session import SessionOptions
from tests.benchmarks.contestants import Memory

CLIP = "clip of 6 s"
FRAMES = 300  # of its 600 the encoder's blocks see half
# Rows, tokens of each row's prompt, and steps behind it; with none, the prompt itself is looked at: one run.
PHASES = {"prompt of 128": (1, 128, 0), "step": (1, 16, 12), "step of 8 rows": (8, 16, 6)}
PRODUCTS = ("MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul")
SHOWN = 5


class Profiled(ort.SessionOptions):  # type: ignore[misc]
    """Session options that have a profile written."""

    prefix = ""
    numbers = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        # Parts that are opened within the same second would write into one file.
        self.enable_profiling, self.profile_file_prefix = True, f"{self.prefix}{next(self.numbers)}"


def profile(manifest: Manifest, phase: str, threads: int) -> Counter[str]:
    """{operator: seconds of one run} in one phase; the first run warms up."""
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        original, Profiled.prefix = ort.SessionOptions, str(Path(folder) / "profile")
        ort.SessionOptions = Profiled
        try:
            options = SessionOptions("onnxruntime", threads=threads)
            runs = listen(manifest, options) if phase == CLIP else decode(manifest, options, *PHASES[phase])
        finally:
            ort.SessionOptions = original
        gc.collect()
        for file in Path(folder).glob("profile*.json"):  # written as the sessions ended
            found.update(seconds(json.loads(file.read_text()), runs=runs))
    return found


def listen(manifest: Manifest, options: SessionOptions) -> int:
    """Encode a clip twice; returns how many of the runs are to be looked at."""
    encoder = AudioEncoder(manifest, options)
    mel = np.random.default_rng(0).normal(0, 0.5, (manifest.encoder_sizes.n_mels, 3000)).astype(np.float32)
    for _ in range(2):
        encoder.encode([(mel, min(2 * FRAMES, 2 * manifest.encoder_sizes.n_ctx))])
    return 1


def decode(manifest: Manifest, options: SessionOptions, rows: int, tokens: int, steps: int) -> int:
    """Run a prompt twice, or steps behind prompts; returns how many of the runs are to be looked at."""
    decoder = Decoder(manifest, options, rows=rows)
    for row in range(rows if steps else 2):
        decoder.prefill([1] * tokens, row=row if steps else 0)
    for _ in range(steps):
        decoder.advance(dict.fromkeys(range(rows), 1))
    return max(1, steps - 1)


def seconds(events: list[dict[str, Any]], *, runs: int) -> Counter[str]:
    """{operator: seconds of one run}, the mean of the last `runs` of one session."""
    begun = sorted(event["ts"] for event in events if event["name"] == "model_run")[-runs]
    found: Counter[str] = Counter()
    for event in events:
        if event["cat"] == "Node" and event["ts"] >= begun and event["name"].endswith("_kernel_time"):
            found[event["args"]["op_name"]] += event["dur"] / 1e6 / runs
    return found


def products(manifest: Manifest, graphs: Sequence[Graph]) -> int:
    """Multiplications of a token in the layers' matrices: their number of weights, read from the graphs."""
    total = 0
    for part in graphs:
        graph = onnx.load(manifest.path(part.file), load_external_data=False).graph
        shapes = {one.name: list(one.dims) for one in graph.initializer}
        for node in graph.node:
            sizes = {one.name: one.i for one in node.attribute}
            if node.op_type in PRODUCTS:
                k, n = (sizes["K"], sizes["N"]) if "K" in sizes else shapes[node.input[1]]
                total += 0 if node.input[1].startswith("lm_head") else k * n
    return total


def describe(name: str, found: Counter[str], manifest: Manifest) -> dict[str, Any]:
    """A row of the table: the shares of the operators, and what the products reach."""
    graphs = (manifest.encoder,) if name == CLIP else manifest.decoder
    rows, tokens, steps = (1, FRAMES, 0) if name == CLIP else PHASES[name]
    weights = manifest.files[Path(graphs[0].file).with_suffix(".data").name].size
    shares = {operator: round(value / found.total(), 3) for operator, value in found.most_common(SHOWN)}
    operations = 2 * products(manifest, graphs) * rows * (1 if steps else tokens)
    busy = sum(found[operator] for operator in PRODUCTS)
    return {
        "phase": name,
        "seconds": round(found.total(), 4),
        "shares": shares,
        "products": round(busy / found.total(), 3),
        "gigabytes_per_s": round(weights / busy / 1e9, 2),
        "gigaoperations_per_s": round(operations / busy / 1e9, 3),
    }


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a converted fused model in int8 or int4")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(argv)
    manifest = load_manifest(options.model)
    bandwidth = Memory(options.threads).read()
    rows = [describe(name, profile(manifest, name, options.threads), manifest) for name in (CLIP, *PHASES)]
    print(f"{manifest.name} {manifest.precision}; memory is read at {bandwidth / 1e9:.1f} GB/s")
    for row in rows:
        shares = ", ".join(f"{operator} {share:.1%}" for operator, share in row["shares"].items())
        print(
            f"{row['phase']:15} {row['seconds']:8.3f} s: {shares}; the products read {row['gigabytes_per_s']} GB/s and do "
            f"{row['gigaoperations_per_s']} billion operations a second"
        )
    print(json.dumps({"benchmark": "profile", "bandwidth": round(bandwidth / 1e9, 1), "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
