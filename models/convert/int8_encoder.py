"""Products in int8 for the encoder: one scale for each output of a matrix, one for all activations of a clip.

That is the fastest product there is on a CPU, but a scale for everything wastes its levels where some channels or
tokens are larger than the rest, as in every trained transformer. So they are made even first:

- channels: x_j / c_j meets W_j c_j, with c_j = sqrt(size of x_j / size of W_j) as SmoothQuant has it (Xiao et al.
  2023), where the size of x_j is not calibrated on data but read off the weights that make it;
- tokens: each is divided by its root mean square before the product, and multiplied by it behind. After a LayerNorm
  all have the same anyway, and c goes into its gain and bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.convert.checkpoint import Float32
from models.convert.graph import GraphBuilder
from models.convert.quantize import quantize_rows

# A channel that hardly differs from nothing must not be blown up, nor one weight column decide over all levels.
SMALLEST = 1e-4
EPSILON = 1e-12


class Rounded(NamedTuple):
    """Names of activations in uint8, of their scale and of their zero point."""

    levels: str
    scale: str
    zero: str


def evening(size: Float32, *weights: Float32) -> Float32:
    """c [k] for a channel of activations of `size` [k] that all `weights` [n, k] take in; its median is 1."""
    return balance(size, np.sqrt(np.sum([np.square(weight).mean(axis=0) for weight in weights], axis=0)))


def balance(size: Float32, columns: Float32) -> Float32:
    """c [k] for channels of `size` [k] that are read by weights whose `columns` have these sizes [k]."""
    if not (np.any(size) and np.any(columns)):  # nothing is read: there is nothing to balance
        return np.ones_like(size, np.float32)
    ratio = np.sqrt(_floored(size) / _floored(columns))
    return np.asarray(ratio / np.median(ratio), np.float32)


def made_by(weight: Float32, size: Float32, bias: Float32) -> Float32:
    """How large the outputs [n] of y = x W^T + b are, for independent inputs of `size` [k]."""
    return np.sqrt(np.square(weight) @ np.square(size) + np.square(bias))  # type: ignore[no-any-return]


def rounded(graph: GraphBuilder, x: str) -> Rounded:
    """x in 8 bits as it comes, once for all products that read it."""
    names = Rounded(f"{x}.levels", f"{x}.scale", f"{x}.zero")
    graph.node("DynamicQuantizeLinear", [x], list(names))
    return names


def int8_matmul(graph: GraphBuilder, x: Rounded, name: str, weight: Float32, bias: Float32 | None) -> str:
    """y = x W^T + b for W [n, k] in int8."""
    levels, scale = quantize_rows(weight)
    stored = graph.weight(f"{name}.levels", "int8", (weight.shape[1], weight.shape[0]), [levels.T])
    inputs = [x.levels, stored, x.scale, graph.weight(f"{name}.scale", "float32", scale.shape, [scale]), x.zero]
    if bias is not None:
        inputs += ["", graph.weight(f"{name}.bias", "float32", bias.shape, [bias])]
    return graph.node("com.microsoft:MatMulIntegerToFloat", inputs)


def even_matmul(graph: GraphBuilder, x: str, name: str, weight: Float32, *, bias: Float32, c: Float32) -> str:
    """The same for x of any size: tokens and channels made even before, tokens given their size back behind."""
    inverse = graph.weight(f"{name}.even", "float32", c.shape, [1 / c])
    outputs = [f"{name}.evened", f"{name}.inverse_size"]  # [n, frames, k], [n, frames, 1]
    even = graph.node("SimplifiedLayerNormalization", [x, inverse], outputs, axis=-1, epsilon=EPSILON, stash_type=1)
    y = graph.node("Div", [int8_matmul(graph, rounded(graph, even), name, weight * c, None), outputs[1]])
    return graph.node("Add", [y, graph.weight(f"{name}.bias", "float32", bias.shape, [bias])])


def _floored(values: Float32) -> Float32:
    least = SMALLEST * np.abs(values).max() + np.finfo(np.float32).tiny
    return np.asarray(np.maximum(np.abs(values), least), np.float32)
