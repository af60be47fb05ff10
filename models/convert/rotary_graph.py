"""Rotary positions as nodes of a graph, in float32: for the plain decoder, and for a fused one in float16.

In float16, ONNX Runtime's attention would take the tables in float16, too. The original keeps them in float32 and
rounds what is rotated. So a float16 graph rotates before attention. The tables themselves are made in `models.rotary`.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.convert.qwen import Qwen


@dataclass(frozen=True)
class Run:
    """Where one sequence stands, names of int64 values [1]: its number of tokens and the position behind the last."""

    count: str
    end: str


def token_tables(q: Qwen, tables: list[str], runs: list[Run]) -> list[str]:
    """cos and sin of every token, [tokens, 1, head_dim / 2], from tables [positions, head_dim / 2]."""
    zero = q.graph.constant([0])
    starts = [q.graph.node("Sub", [run.end, run.count]) for run in runs]
    found = []
    for table in tables:
        cut = [q.graph.node("Slice", [table, start, run.end, zero]) for start, run in zip(starts, runs, strict=True)]
        every = cut[0] if len(cut) == 1 else q.graph.node("Concat", cut, axis=0)
        found.append(q.graph.node("Unsqueeze", [every, q.graph.constant([1])]))
    return found


def rotate(q: Qwen, x: str, cos: str, sin: str) -> str:
    """Half-split rotary: (a, b) -> (a cos - b sin, b cos + a sin). x is [1, t, heads, head_dim]."""
    a, b = f"{x}.a", f"{x}.b"
    q.graph.node("Split", [x, q.graph.constant([q.sizes.head_dim // 2] * 2)], [a, b], axis=3)
    first = q.graph.node("Sub", [q.graph.node("Mul", [a, cos]), q.graph.node("Mul", [b, sin])])
    second = q.graph.node("Add", [q.graph.node("Mul", [b, cos]), q.graph.node("Mul", [a, sin])])
    return q.graph.node("Concat", [first, second], axis=3)


def rotate_qk(q: Qwen, qkv: str, tables: list[str]) -> str:
    """Rotate q and k of `qkv` [1, tokens, 3 * d_model] in float32, LogN's `query_scale` with it; v stays as it is."""
    heads, head_dim = q.sizes.n_head, q.sizes.head_dim
    split = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 3 * heads, head_dim])])
    both, values = f"{split}.qk", f"{split}.v"
    q.graph.node("Split", [split, q.graph.constant([2 * heads, heads])], [both, values], axis=2)
    x = q.graph.cast(both, "float32")  # [1, tokens, 2 * heads, head_dim]
    if q.sizes.logn:
        parts = q.graph.node("Reshape", [x, q.graph.constant([0, 0, 2, heads * head_dim])])
        scale = [q.graph.constant([first]) for first in (0, 2, 2)]
        parts = q.graph.node("Mul", [parts, q.graph.node("Slice", ["query_scale", *scale])])
        x = q.graph.node("Reshape", [parts, q.graph.constant([0, 0, 2 * heads, head_dim])])
    x = q.graph.cast(rotate(q, x, *tables), q.graph.floats)
    joined = q.graph.node("Concat", [x, values], axis=2)
    return q.graph.node("Reshape", [joined, q.graph.constant([0, 0, 3 * heads * head_dim])])
