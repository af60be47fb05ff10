"""A matrix product in the graph, stored in one of four ways. The only place where precision turns into nodes.

`linear` streams the rows of a checkpoint tensor into the graph's weights file and adds y = x W^T + b. Storage is chosen
for each part of the model by `precision_of`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from errors import ModelError
from models.convert.checkpoint import Float32, Tensor
from models.convert.graph import Array, GraphBuilder
from models.convert.quantize import Blocks, blocks_of_rows, quantize_blocks, quantize_rows
from models.convert.rounded import RoundedTensor
from models.runtime.cpu import usable_cores
from models.runtime.threads import in_threads

Found = TypeVar("Found")

# Rows quantised by one thread at a time, and columns of one transposed slab: both keep memory far below the limit.
ROW_BYTES = 8 << 20
SLAB_BYTES = 256 << 20
FLOAT16_MAX = 65504.0
# MatMulNBits with int8 activations: 1.5 to 4 times faster on a CPU than with float32 ones.
ACCURACY_LEVEL = 4
SILENT = 1e-30  # a token of zeros has no size to divide by


@dataclass(frozen=True)
class Storage:
    """How a matrix is kept: "float32", "float16", "int8" (a scale for each output), "tokens" or "blocks" (MatMulNBits).

    "tokens" is int8 with a scale for each output. Its inputs are rounded to int8 with a scale for each token, so their
    channels should be even (see `channel_balance`). "smooth" is for whole blocks of the encoder (see `int8_encoder`).
    """

    kind: str
    bits: int = 0
    block: int = 0


@dataclass(frozen=True)
class Precision:
    """Storage of the matrices of the decoder's attention, of its MLP, of its output layer, and of the encoder.

    `finer` is the share of the layers' weights that calibration may store as FINER, where that gains most.
    """

    attention: Storage
    mlp: Storage
    head: Storage
    encoder: Storage
    finer: float = 0.0

    @property
    def even(self) -> frozenset[str]:
        """The parts of the decoder whose channels must be even."""
        return frozenset(part for part in ("attention", "mlp", "head") if getattr(self, part).kind == "tokens")

    @property
    def pairs(self) -> bool:
        """Whether tokens must come to the decoder in even numbers: a product of blocks or floats rounds one otherwise.

        Where it is the MLP's only, the graph fills up for it (`qwen_fused`).
        """
        return not self.even >= {"attention", "head"}


FLOAT32, FLOAT16, INT8 = Storage("float32"), Storage("float16"), Storage("int8")
BLOCKS4, BLOCKS8 = Storage("blocks", 4, 256), Storage("blocks", 8, 128)
# Chosen by measurement (tests/benchmarks/LOG.md). int4 takes the least memory: the MLP, two thirds of the weights,
# has 4 bits. int8 takes prompts and rows fastest. int8-fine is nearest to float32, and slow: with outlier
# channels blocks of 32 err half as much as blocks of 128.
FINE8 = Storage("blocks", 8, 32)
TOKENS8 = Storage("tokens", 8)
# CUDA has no product of int8 tokens; its MatMulNBits takes blocks of 16 to 128 [documentation of ONNX Runtime].
CUDA4, CUDA8 = Storage("blocks", 4, 32), Storage("blocks", 8, 128)
SMOOTH8 = Storage("smooth", 8)  # 1.5 to 1.75 times as fast as blocks of 128, with 1.1 to 1.4 times their error

FINER = Storage("blocks", 8, 256)

PRECISIONS = {
    ("fused", "fp32"): Precision(FLOAT32, FLOAT32, FLOAT32, FLOAT32),
    ("fused", "fp16"): Precision(FLOAT16, FLOAT16, FLOAT16, FLOAT16),
    ("fused", "int8"): Precision(TOKENS8, TOKENS8, TOKENS8, SMOOTH8),
    ("fused", "int8-fine"): Precision(FINE8, FINE8, FINE8, FINE8),
    ("fused", "int4"): Precision(TOKENS8, BLOCKS4, TOKENS8, SMOOTH8),
    ("fused", "int4-fine"): Precision(TOKENS8, BLOCKS4, TOKENS8, SMOOTH8),
    ("cuda", "fp16"): Precision(FLOAT16, FLOAT16, FLOAT16, FLOAT16),
    ("cuda", "int8"): Precision(CUDA8, CUDA8, CUDA8, FLOAT16),
    ("cuda", "int4"): Precision(CUDA8, CUDA4, CUDA8, FLOAT16),
    ("plain", "fp32"): Precision(FLOAT32, FLOAT32, FLOAT32, FLOAT32),
    ("plain", "fp16"): Precision(FLOAT16, FLOAT16, FLOAT16, FLOAT16),
    ("plain", "int8"): Precision(INT8, INT8, INT8, INT8),
}
# With calibration. int4 has 4 bits throughout but for what it gains most from: 4.2 GB are read for a token of the full
# model, and 5.1 GB in int4-fine.
CALIBRATED = {
    "int8": PRECISIONS["fused", "int8"],
    "int4-fine": PRECISIONS["fused", "int4-fine"],
    "int4": Precision(BLOCKS4, BLOCKS4, TOKENS8, SMOOTH8, finer=0.035),
}


def precision_of(flavour: str, precision: str) -> Precision:
    """Storage of each part; raises ModelError for a pair that the operators of the flavour cannot express."""
    if (flavour, precision) not in PRECISIONS:
        known = ", ".join(one for kind, one in PRECISIONS if kind == flavour)
        raise ModelError(f"--precision {precision} does not exist for --flavour {flavour}", fix=f"choose from {known}")
    return PRECISIONS[flavour, precision]


def linear(graph: GraphBuilder, storage: Storage, x: str, weight: Tensor, bias: Tensor | None = None) -> str:
    """Add y = x W^T + b, with W [n, k] and b [n]. Returns y."""
    (n, k), name = weight.shape, weight.name.removesuffix(".weight")
    b = vector(graph, bias) if bias else ""
    if storage.kind == "blocks":
        return _block_matmul(graph, storage, x, weight, b)
    if storage.kind == "tokens":
        return _token_matmul(graph, x, weight, b)
    if storage.kind == "int8":
        scale, levels = _int8(graph, weight)
        zero = graph.weight(f"{name}.zero", "int8", (n,), [np.zeros(n, np.int8)])
        matrix = graph.node("DequantizeLinear", [levels, scale, zero], axis=1)
    else:
        matrix = graph.weight(weight.name, storage.kind, (k, n), _transposed(weight, storage.kind))
        if storage.kind != graph.floats:
            matrix = graph.cast(matrix, graph.floats)
    y = graph.node("MatMul", [x, matrix])
    return graph.node("Add", [y, b]) if b else y


def vector(graph: GraphBuilder, tensor: Tensor) -> str:
    """A small weight (gain, bias, table) kept in the type of the activations under its own name."""
    return graph.weight(tensor.name, graph.floats, tensor.shape, as_floats(graph, tensor.rows(), tensor.name))


def as_floats(graph: GraphBuilder, rows: Iterable[Array], name: str) -> Iterator[Array]:
    """float32 arrays in the type of the graph's activations."""
    for part in rows:
        yield to_float16(part, name) if graph.floats == "float16" else part


def to_float16(rows: Float32, name: str) -> Array:
    """float16 copy of `rows`; raises ModelError for values that float16 cannot hold."""
    if rows.size and np.abs(rows).max() > FLOAT16_MAX:
        raise ModelError(f"{name} holds values beyond {FLOAT16_MAX:g}", fix="use --precision fp32")
    return rows.astype(np.float16)


def _int8(graph: GraphBuilder, weight: Tensor) -> tuple[str, str]:
    """Scales [n] and levels [k, n] of a matrix."""
    (n, k), name = weight.shape, weight.name.removesuffix(".weight")
    scales: list[Array] = []

    def levels() -> Iterator[Array]:
        found, start = np.empty((n, k), np.int8), 0
        stored = weight.levels() if weight.is_in_8_bits else _quantized(weight, quantize_rows)
        for part, scale in stored:
            found[start : start + len(part)] = part
            scales.append(scale)
            start += len(part)
        step = max(1, SLAB_BYTES // n)
        for column in range(0, k, step):
            yield found[:, column : column + step].T

    matrix = graph.weight(weight.name, "int8", (k, n), levels())
    return graph.weight(f"{name}.scale", "float32", (n,), scales), matrix


def _token_matmul(graph: GraphBuilder, x: str, weight: Tensor, bias: str) -> str:
    """Inputs in 8 bits, the largest of a token 127 levels from 0. Sums of integers are exact: no token sees another."""
    size = graph.node("ReduceMax", [graph.node("Abs", [x])], axes=[-1], keepdims=1)  # [1, t, 1]
    size = graph.node("Max", [size, graph.constant(SILENT)])
    step, zero = graph.constant(1 / 127), graph.constant(np.uint8(128))
    levels = graph.node("QuantizeLinear", [graph.node("Div", [x, size]), step, zero])
    scale, matrix = _int8(graph, weight)
    y = graph.node("com.microsoft:MatMulIntegerToFloat", [levels, matrix, step, scale, zero])
    y = graph.node("Mul", [y, size])
    return graph.node("Add", [y, bias]) if bias else y


def _block_matmul(graph: GraphBuilder, storage: Storage, x: str, weight: Tensor, bias: str) -> str:
    """MatMulNBits: codes packed by rows of the checkpoint, scales and zero points beside them.

    Its inputs are rounded to int8 where activations are float32, for a CPU.
    """
    (n, k), name = weight.shape, weight.name.removesuffix(".weight")
    bits, count = storage.bits, -(-k // storage.block)
    scales: list[Array] = []
    zeros: list[Array] = []

    def quantize(part: Float32) -> Blocks:
        return quantize_blocks(part, bits=bits, block=storage.block)

    def stored() -> Iterator[Blocks]:
        if bits == 8 and weight.is_in_8_bits:
            return (blocks_of_rows(*part, block=storage.block) for part in weight.levels())
        return _quantized(weight, quantize)

    def packed() -> Iterator[Array]:
        for found in stored():
            scales.append(found.scales)
            zeros.append(found.zeros)
            yield found.codes

    inputs = [
        x,
        graph.weight(f"{name}.blocks", "uint8", (n, count, storage.block * bits // 8), packed()),
        graph.weight(f"{name}.scales", graph.floats, (n, count), as_floats(graph, scales, name)),
        graph.weight(f"{name}.zeros", "uint8", (n, -(-count * bits // 8)), zeros),
    ]
    inputs += ["", bias] if bias else []
    layout: dict[str, Any] = {"K": k, "N": n, "bits": bits, "block_size": storage.block}
    level = ACCURACY_LEVEL if graph.floats == "float32" else 0
    return graph.node("com.microsoft:MatMulNBits", inputs, **layout, accuracy_level=level)


def _quantized(weight: Tensor, quantize: Callable[[Float32], Found]) -> Iterator[Found]:
    """What `quantize` makes of the rows [n, k] of a tensor, a few at a time, in order; what is rounded stays so."""
    if isinstance(weight, RoundedTensor):
        yield from weight.rounded()
        return
    step = max(1, ROW_BYTES // (4 * weight.shape[1]))
    count = 2 * (usable_cores() or 2)
    for rows in weight.rows():
        yield from in_threads(quantize, (rows[i : i + step] for i in range(0, len(rows), step)), count)


def _transposed(weight: Tensor, kind: str) -> Iterator[Array]:
    """The [n, k] tensor as blocks of rows of its transpose [k, n], in the stored type."""
    n, k = weight.shape
    step = max(1, SLAB_BYTES // (4 * n))
    for start in range(0, k, step):
        slab = (rows[:, start : start + step] for rows in weight.rows())
        # Copies: a view would keep all its rows in memory.
        yield np.concatenate([to_float16(one, weight.name) if kind == "float16" else one.copy() for one in slab]).T
