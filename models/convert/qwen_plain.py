"""The "plain" decoder: standard operators of opset 17, under the names and shapes that ailia publishes.

It takes ids and `audios` (-inf where a position is text), hands out a grown cache [1, positions, heads, head_dim] and
the logits of every position.
"""

from __future__ import annotations

import numpy as np

from models.convert.linear import to_float16, vector
from models.convert.qwen import Qwen, attention_out, c_attn, gate_and_up, lm_head, mlp_out
from models.convert.rotary_graph import rotate
from models.manifest import DecoderSizes, Graph, State
from models.rotary import logn_scale, ntk_thresholds, rotary_tables

INPUTS = ("input_ids", "attention_mask", "audios")
MASKED = -3e38


def build_plain_decoder(q: Qwen) -> None:
    """`input_ids` [1, t], `attention_mask` [1, past + t], `audios` [1, t, d_model] -> `logits` [1, t, vocab].

    Every non-zero of the mask is attended to. The ones among them are the prompt and their count fixes the NTK alpha;
    a caller that marks generated positions with 2 keeps alpha as the original does, beyond seq_length too.
    """
    ids = q.graph.input("input_ids", "int64", [1, "t"])
    mask = q.graph.input("attention_mask", "int64", [1, "total"])
    audios = q.graph.node("Cast", [q.graph.input("audios", q.dtype, [1, "t", q.sizes.d_model])], to=1)
    for layer in range(q.sizes.n_layer):
        for kind in ("key", "value"):
            q.graph.input(f"{kind}_cache{layer}", q.dtype, [1, "past", q.sizes.n_head, q.sizes.head_dim])
    table = q.checkpoint.take("transformer.wte.weight", q.sizes.vocab_size, q.sizes.d_model)
    stored = "float16" if q.dtype == "float16" else "float32"
    blocks = (to_float16(rows, table.name) if stored == "float16" else rows for rows in table.rows())
    wte = q.graph.weight(table.name, stored, table.shape, blocks)
    text = q.graph.node("Cast", [q.graph.node("Gather", [wte, ids], axis=0)], to=1)  # [1, t, d_model]
    h = q.graph.node("Where", [q.graph.node("Less", [audios, q.graph.constant(MASKED)]), text, audios])
    cos, sin, scale, allowed = plain_positions(q, ids, mask)
    for layer in range(q.sizes.n_layer):
        name = f"transformer.h.{layer}"
        y = rms_norm(q, h, f"{name}.ln_1")
        y = plain_attention(q, y, layer, (cos, sin, scale, allowed))
        h = q.graph.node("Add", [h, y])
        y = rms_norm(q, h, f"{name}.ln_2")
        gate, up = gate_and_up(q, y, name)
        silu = q.graph.node("Mul", [gate, q.graph.node("Sigmoid", [gate])])
        y = mlp_out(q, q.graph.node("Mul", [silu, up]), name)
        h = q.graph.node("Add", [h, y])
    y = rms_norm(q, h, "transformer.ln_f")
    logits = lm_head(q, y, q.sizes.vocab_size)
    cast(q, logits, "logits")
    q.graph.output("logits", q.dtype, [1, "t", q.sizes.vocab_size])
    for layer in range(q.sizes.n_layer):
        for kind in ("key", "value"):
            q.graph.output(f"{kind}_cache_out{layer}", q.dtype, [1, "total", q.sizes.n_head, q.sizes.head_dim])


def plain_graph(file: str, sizes: DecoderSizes, dtype: str) -> Graph:
    """How the manifest describes it: the cache that it hands out is the state that it takes in the next run."""
    pairs = [(kind, layer) for layer in range(sizes.n_layer) for kind in ("key", "value")]
    names = tuple((f"{kind}_cache_out{layer}", f"{kind}_cache{layer}") for kind, layer in pairs)
    shape = (1, -1, sizes.n_head, sizes.head_dim)
    return Graph(file, INPUTS, ("logits",), State(names, shape, dtype, in_place=False))


def plain_positions(q: Qwen, ids: str, mask: str) -> tuple[str, str, str, str]:
    """From ids and mask: cos, sin [t, 1, head_dim / 2], LogN scale [t, 1, 1], allowed [t, total] (bool)."""
    total = q.graph.node("Slice", [q.graph.node("Shape", [mask]), *(q.graph.constant([i]) for i in (1, 2, 0))])  # [1]
    t = q.graph.node("Slice", [q.graph.node("Shape", [ids]), *(q.graph.constant([i]) for i in (1, 2, 0))])  # [1]
    past = q.graph.node("Sub", [total, t])
    every = q.graph.constant(np.arange(q.sizes.max_positions))
    axis = q.graph.constant([0])
    queries = q.graph.node("Slice", [every, past, total, axis])  # [t]
    keys = q.graph.node("Slice", [every, axis, total, axis])  # [total]
    rows = q.graph.node("Unsqueeze", [queries, q.graph.constant([1])])
    future = q.graph.node("Greater", [keys, rows])  # [t, total]
    seen = q.graph.node("Greater", [mask, q.graph.constant([[0]])])  # [1, total]
    allowed = q.graph.node("And", [q.graph.node("Not", [future]), seen])
    prompt = q.graph.node("Cast", [q.graph.node("Equal", [mask, q.graph.constant([[1]])])], to=1)
    length = q.graph.node("ReduceSum", [prompt, q.graph.constant([1])], keepdims=0)  # [1]
    thresholds = ntk_thresholds(q.sizes)
    tables = [rotary_tables(2 ** (k + 1) - 1, q.sizes) for k in range(len(thresholds) + 1)]
    index = queries
    if thresholds:
        passed = q.graph.node("Greater", [length, q.graph.constant(np.array(thresholds, np.float32))])
        passed = q.graph.node("ReduceSum", [q.graph.node("Cast", [passed], to=7), axis])  # [1]
        index = q.graph.node("Add", [queries, q.graph.node("Mul", [passed, q.graph.constant([q.sizes.max_positions])])])
    cos, sin = (
        q.graph.weight(
            name,
            "float32",
            (len(tables) * q.sizes.max_positions, 1, q.sizes.head_dim // 2),
            [table[i] for table in tables],
        )
        for i, name in enumerate(("rotary_cos", "rotary_sin"))
    )
    logn = q.graph.weight("logn_scale", "float32", (q.sizes.max_positions, 1, 1), [logn_scale(q.sizes)])
    scale = q.graph.node("Gather", [logn, queries], axis=0)
    return q.graph.node("Gather", [cos, index], axis=0), q.graph.node("Gather", [sin, index], axis=0), scale, allowed


def plain_attention(q: Qwen, y: str, layer: int, positions: tuple[str, str, str, str]) -> str:
    """The same attention in standard operators; the cache grows by concatenation, keys stored after rotary."""
    cos, sin, scale, allowed = positions
    qkv = c_attn(q, y, layer)
    heads = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 3 * q.sizes.n_head, q.sizes.head_dim])])
    names = [f"{part}{layer}" for part in ("query", "key", "value")]
    q.graph.node("Split", [heads, q.graph.constant([q.sizes.n_head] * 3)], names, axis=2)  # 3 x [1, t, heads, head_dim]
    query = q.graph.node("Mul", [rotate(q, names[0], cos, sin), scale])
    query = q.graph.node("Mul", [query, q.graph.constant(q.sizes.head_dim**-0.5)])
    grown = []
    for kind, new in (("key", rotate(q, names[1], cos, sin)), ("value", names[2])):
        new = cast(q, new, f"{kind}_new{layer}")  # noqa: PLW2901
        both = q.graph.node("Concat", [f"{kind}_cache{layer}", new], f"{kind}_cache_out{layer}", axis=1)
        grown.append(q.graph.node("Cast", [both], to=1) if q.dtype == "float16" else both)
    queries = q.graph.node("Transpose", [query], perm=[0, 2, 1, 3])
    keys = q.graph.node("Transpose", [grown[0]], perm=[0, 2, 3, 1])
    values = q.graph.node("Transpose", [grown[1]], perm=[0, 2, 1, 3])
    scores = q.graph.node(
        "Where", [allowed, q.graph.node("MatMul", [queries, keys]), q.graph.constant(MASKED)]
    )  # [1, heads, t, total]
    mixed = q.graph.node("MatMul", [q.graph.node("Softmax", [scores], axis=-1), values])
    mixed = q.graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    mixed = q.graph.node("Reshape", [mixed, q.graph.constant([0, 0, q.sizes.d_model])])
    return attention_out(q, mixed, layer)


def rms_norm(q: Qwen, x: str, name: str) -> str:
    """x / sqrt(mean(x^2) + q.epsilon) * gain, in standard operators."""
    gain = vector(q.graph, q.checkpoint.take(f"{name}.weight", q.sizes.d_model))
    mean = q.graph.node("ReduceMean", [q.graph.node("Mul", [x, x])], axes=[-1], keepdims=1)
    root = q.graph.node("Sqrt", [q.graph.node("Add", [mean, q.graph.constant(q.epsilon)])])
    return q.graph.node("Mul", [q.graph.node("Div", [x, root]), gain])


def cast(q: Qwen, x: str, name: str) -> str:
    """`x` under the name `name`, as float16 if the graph speaks float16 outside."""
    if q.dtype == "float16":
        return q.graph.node("Cast", [x], name, to=10)
    return q.graph.node("Identity", [x], name)
