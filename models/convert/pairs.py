"""Tokens in pairs: what lets a row's logits have the same bits alone and beside other rows.

ONNX Runtime's MatMulNBits takes tokens two by two where blocks are long, and the odd last one by a kernel that adds up
in another order [measured: 1.32, AVX512-VNNI]; int8 activations make a visible difference of that. The graph of such a
model takes `padding_tokens` [1], the number of zero tokens that run behind the real ones:

    [batch, t, channels] -> together -> [1, batch * t + padding_tokens, channels] -> apart -> [batch, t, channels]

Only attention and the choice of the last token stand apart: they know of rows.
"""

from __future__ import annotations

from models.convert.graph import GraphBuilder

INPUT = "padding_tokens"
# Values that every use shares: [batch, t], [batch * t] and the argument of Pad.
ROWS, COUNT, PADS = "token_rows", "token_count", "token_pads"


def declare_pairs(graph: GraphBuilder, tokens: str) -> None:
    """Add the input, and read the rows from `tokens` [batch, t, channels]."""
    padding = graph.input(INPUT, "int64", [1])
    start, end = graph.constant([0]), graph.constant([2])
    graph.node("Slice", [graph.node("Shape", [tokens]), start, end], ROWS)
    graph.node("ReduceProd", [ROWS], COUNT, keepdims=1)
    graph.node("Concat", [graph.constant([0, 0, 0, 0]), padding, start], PADS, axis=0)


def together(graph: GraphBuilder, tokens: str, channels: int) -> str:
    """[rows, tokens, channels] -> [1, rows * tokens + padding_tokens, channels]."""
    flat = graph.node("Reshape", [tokens, graph.constant([1, -1, channels])])
    return graph.node("Pad", [flat, PADS])


def apart(graph: GraphBuilder, tokens: str, channels: int) -> str:
    """The inverse of `together` for [batch, t, channels]."""
    real = graph.node("Slice", [tokens, graph.constant([0]), COUNT, graph.constant([1])])
    shape = graph.node("Concat", [ROWS, graph.constant([channels])], axis=0)
    return graph.node("Reshape", [real, shape])
