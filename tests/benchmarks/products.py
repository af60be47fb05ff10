"""`python3 -m tests.benchmarks.products`: the products of an MLP as each runtime offers them, side by side.

Six pairs of matrices [11008, 4096] and [4096, 11008], more than any cache holds: in blocks of 2, 4 and 8 bits of several
sizes, with ONNX Runtime's table lookup, in int8 with a scale for each token, and in OpenVINO (`pip install openvino`; left
out where it is not installed). The contestants take turns. Weights are random: speed does not depend on them. `GB/s` is
what a lone token reads of stored weights. Prints a table of medians, and one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from models.runtime.cpu import usable_cores
from models.runtime.onnxruntime import session_settings
from tests.benchmarks.contestants import Memory

D, WIDTH, PAIRS = 4096, 11008, 6
TOKENS = (1, 2, 8, 128)
LOOKUP = {"mlas.use_lut_gemm": "1"}
Run = Callable[[np.ndarray[Any, Any]], Any]


@dataclass(frozen=True)
class Way:
    """How matrices are stored: `bits` in blocks of `block` (0: int8 with a scale for each token), and who runs them."""

    name: str
    bits: int
    block: int = 0
    zeros: bool = True
    lookup: bool = False
    openvino: bool = False


WAYS = (
    Way("4 bits of 256, as in int4", 4, 256),
    Way("4 bits of 128", 4, 128),
    Way("4 bits of 32", 4, 32),
    Way("4 bits of 32, no zero points", 4, 32, zeros=False),
    Way("2 bits of 128", 2, 128),
    Way("2 bits of 128, table lookup", 2, 128, lookup=True),
    Way("4 bits of 128, table lookup", 4, 128, lookup=True),
    Way("8 bits of 256", 8, 256),
    Way("int8, tokens rounded, as in int8", 8),
    Way("OpenVINO, 4 bits of 256", 4, 256, openvino=True),
    Way("OpenVINO, 4 bits of 128", 4, 128, openvino=True),
    Way("OpenVINO, 4 bits of 32, no zero points", 4, 32, zeros=False, openvino=True),
)


def make_graph(way: Way) -> tuple[bytes, int]:
    """The products one behind another, [tokens, D] to the same, and the bytes of all weights."""
    random, weights, nodes, x = np.random.default_rng(0), [], [], "x"

    def weight(name: str, values: np.ndarray[Any, Any]) -> str:
        weights.append(numpy_helper.from_array(values, name))
        return name

    for number in range(2 * PAIRS):
        n, k = (WIDTH, D) if number % 2 == 0 else (D, WIDTH)
        y = f"y{number}"
        if way.block:
            count = -(-k // way.block)
            codes = random.integers(0, 256, (n, count, way.block * way.bits // 8), np.uint8)
            inputs = [x, weight(f"w{number}", codes)]
            scales = np.full(n * count, 0.02 / k**0.5, np.float32)
            inputs.append(weight(f"s{number}", scales))
            if way.zeros:
                inputs.append(weight(f"z{number}", random.integers(0, 256, n * -(-count * way.bits // 8), np.uint8)))
            layout = {"K": k, "N": n, "bits": way.bits, "block_size": way.block, "accuracy_level": 4}
            nodes.append(helper.make_node("MatMulNBits", inputs, [y], domain="com.microsoft", **layout))
        else:
            nodes += _tokens(number, x, y, weight(f"w{number}", random.integers(-127, 128, (k, n), np.int8)))
            weight(f"s{number}", np.full(n, 0.02 / k**0.5, np.float32))
        x = y
    if not way.block:
        weight("step", np.array(1 / 127, np.float32))
        weight("zero", np.array(128, np.uint8))
    size = sum(len(one.raw_data) for one in weights)
    shape = [None, D]
    ends = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name in ("x", x))
    graph = helper.make_graph(nodes, way.name, *ends, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString(), size


def _tokens(number: int, x: str, y: str, matrix: str) -> list[onnx.NodeProto]:
    """A product with inputs in 8 bits, as `models.convert.linear` writes it but for the size of a token, which is 1."""
    levels = f"q{number}"
    return [
        helper.make_node("QuantizeLinear", [x, "step", "zero"], [levels]),
        helper.make_node(
            "MatMulIntegerToFloat", [levels, matrix, "step", f"s{number}", "zero"], [y], domain="com.microsoft"
        ),
    ]


def open_graph(way: Way, model: bytes, threads: int) -> Run:
    """What runs the graph over x [tokens, D]."""
    if way.openvino:
        core = import_module("openvino").Core()
        config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(core.read_model(model), "CPU", config)
        request = compiled.create_infer_request()
        return lambda x: request.infer({0: x})
    options = session_settings(threads)
    for key, value in (LOOKUP if way.lookup else {}).items():
        options.add_session_config_entry(key, value)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})


def measure(ways: Sequence[Way], rounds: int, threads: int) -> list[dict[str, Any]]:
    """Seconds of each way and number of tokens, medians; a way that a runtime refuses says why."""
    opened: dict[str, Run] = {}
    rows: dict[str, dict[str, Any]] = {}
    for way in ways:
        model, size = make_graph(way)
        rows[way.name] = {"way": way.name, "bytes": size}
        try:
            opened[way.name] = open_graph(way, model, threads)
        except Exception as error:  # noqa: BLE001 - whatever a runtime raises is its answer
            rows[way.name]["refused"] = str(error).strip().splitlines()[-1][:200]
    inputs = {t: np.random.default_rng(1).normal(0, 0.1, (t, D)).astype(np.float32) for t in TOKENS}
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):  # the first one warms up
        for tokens, x in inputs.items():
            for name, run in opened.items():
                start = time.perf_counter()
                run(x)
                if number:
                    found.setdefault((name, tokens), []).append(time.perf_counter() - start)
    for (name, tokens), seconds in found.items():
        rows[name][f"{tokens}"] = median(seconds)
    return list(rows.values())


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=usable_cores() or 1)
    options = parser.parse_args(argv)
    ways = [way for way in WAYS if not way.openvino or find_spec("openvino")]
    bandwidth = Memory(options.threads).read()
    rows = measure(ways, options.rounds, options.threads)
    print(f"{'':42} {'MB':>5}" + "".join(f"{f'{t} tokens, ms':>15}" for t in TOKENS) + f"{'GB/s':>7}")
    for row in rows:
        head = f"{row['way']:42} {row['bytes'] / 1e6:5.0f}"
        if "refused" in row:
            print(f"{head}  refused: {row['refused']}")
            continue
        row["gb_per_s"] = row["bytes"] / row["1"] / 1e9
        print(head + "".join(f"{1e3 * row[f'{t}']:15.1f}" for t in TOKENS) + f"{row['gb_per_s']:7.1f}", flush=True)
    print(f"memory is read at {bandwidth / 1e9:.0f} GB/s")
    report = {"benchmark": "products", "onnxruntime": ort.__version__, "bandwidth": bandwidth, "rows": rows}
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
