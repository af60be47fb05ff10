"""Rotary positions outside attention, in float32, for a decoder whose activations are float16.

GroupQueryAttention would take its tables in float16. The original keeps them in float32 and rounds what is rotated.
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


def rotated(q: Qwen, qkv: str, tables: list[str]) -> str:
    """Rotate q and k of `qkv` [1, tokens, 3 * d_model] in float32, LogN's `query_scale` with it; v stays as it is."""
    heads, half = q.sizes.n_head, q.sizes.head_dim // 2
    split = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 3 * heads, 2 * half])])
    both, values = f"{split}.qk", f"{split}.v"
    q.graph.node("Split", [split, q.graph.constant([2 * heads, heads])], [both, values], axis=2)
    x = q.graph.cast(both, "float32")  # [1, tokens, 2 * heads, head_dim]
    if q.sizes.logn:
        parts = q.graph.node("Reshape", [x, q.graph.constant([0, 0, 2, 2 * heads * half])])
        scale = [q.graph.constant([first]) for first in (0, 2, 2)]
        parts = q.graph.node("Mul", [parts, q.graph.node("Slice", ["query_scale", *scale])])
        x = q.graph.node("Reshape", [parts, q.graph.constant([0, 0, 2 * heads, 2 * half])])
    a, b = f"{split}.a", f"{split}.b"
    q.graph.node("Split", [x, q.graph.constant([half, half])], [a, b], axis=3)
    cos, sin = tables
    turned = [
        q.graph.node(op, [q.graph.node("Mul", [one, cos]), q.graph.node("Mul", [other, sin])])
        for op, one, other in (("Sub", a, b), ("Add", b, a))
    ]
    x = q.graph.cast(q.graph.node("Concat", turned, axis=3), q.graph.floats)
    joined = q.graph.node("Concat", [x, values], axis=2)
    return q.graph.node("Reshape", [joined, q.graph.constant([0, 0, 6 * heads * half])])
