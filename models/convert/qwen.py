"""The decoder: Qwen-7B's architecture as an ONNX graph. Dimension order: [batch, tokens, channels].

    h -> n_layer x ( h += c_proj(attention(ln_1(h)));  h += c_proj(w1(y) * silu(w2(y))) with y = ln_2(h) )
      -> ln_f -> lm_head

Two flavours of it. "fused": ONNX Runtime's contrib operators; takes embeddings, keeps the cache in place in
[batch, heads, positions, head_dim] and gives the logits of the last position only. "plain": standard operators of
opset 17 under the names and shapes that ailia publishes; takes ids and `audios` (-inf where a position is text), hands
out a grown cache [1, positions, heads, head_dim] and the logits of every position.
"""

from __future__ import annotations

import numpy as np

from models.convert.checkpoint import Checkpoint
from models.convert.graph import GraphBuilder
from models.convert.linear import Precision, Storage, linear, vector
from models.manifest import DecoderSizes, Graph, State
from models.positions import logn_scale, ntk_thresholds, rotary_tables

FUSED_INPUTS = ("inputs_embeds", "rotary_cos", "rotary_sin", "last_position", "total_length")
PLAIN_INPUTS = ("input_ids", "attention_mask", "audios")
MASKED = -3e38


def build_fused_decoder(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, precision: Precision, width: int, epsilon: float
) -> None:
    """Embeddings [batch, t, d_model] after `past` cached positions -> `logits` [batch, vocab] of the last of them.

    `rotary_cos`, `rotary_sin` [positions, head_dim / 2] carry the NTK alpha of the sequence, `query_scale` [batch, t, 3, 1]
    the LogN factors as (factor, 1, 1) for q, k, v; `last_position` [batch] and `total_length` [1] = past + t - 1, past + t.
    """
    h = graph.input("inputs_embeds", "float32", ["batch", "t", sizes.d_model])
    tables = [graph.input(name, "float32", ["positions", sizes.head_dim // 2]) for name in ("rotary_cos", "rotary_sin")]
    if padding := fused_head_dim(sizes) - sizes.head_dim:
        tables = [graph.node("Pad", [table, graph.constant([0, 0, 0, padding // 2])]) for table in tables]
    graph.input("last_position", "int32", ["batch"])
    graph.input("total_length", "int32", [1])
    if sizes.logn:
        graph.input("query_scale", "float32", ["batch", "t", 3, 1])
    skip = ""
    for layer in range(sizes.n_layer):
        name = f"transformer.h.{layer}"
        h, y = add_and_norm(checkpoint, sizes, graph, h, skip, f"{name}.ln_1", epsilon)
        skip = fused_attention(checkpoint, sizes, graph, precision.decoder, y, layer, tables)
        h, y = add_and_norm(checkpoint, sizes, graph, h, skip, f"{name}.ln_2", epsilon)
        gate, up = gate_and_up(checkpoint, sizes, graph, precision.decoder, y, name, width)
        silu = graph.node("com.microsoft:QuickGelu", [gate], alpha=1.0)
        skip = mlp_out(checkpoint, sizes, graph, precision.decoder, graph.node("Mul", [silu, up]), name, width)
    last = [graph.constant(value) for value in ([-1], [2**62], [1])]
    h, skip = (graph.node("Slice", [value, *last]) for value in (h, skip))  # [batch, 1, d_model]
    _, y = add_and_norm(checkpoint, sizes, graph, h, skip, "transformer.ln_f", epsilon)
    logits = lm_head(checkpoint, sizes, graph, precision.head, y)  # [batch, 1, vocab]
    graph.node("Squeeze", [logits, graph.constant([1])], "logits")
    graph.output("logits", "float32", ["batch", sizes.vocab_size])


def build_plain_decoder(
    checkpoint: Checkpoint,
    sizes: DecoderSizes,
    graph: GraphBuilder,
    precision: Precision,
    width: int,
    epsilon: float,
    dtype: str,
) -> None:
    """`input_ids` [1, t], `attention_mask` [1, past + t], `audios` [1, t, d_model] -> `logits` [1, t, vocab].

    Every non-zero of the mask is attended to. The ones among them are the prompt and their count fixes the NTK alpha;
    a caller that marks generated positions with 2 keeps alpha as the original does, beyond seq_length too.
    """
    ids = graph.input("input_ids", "int64", [1, "t"])
    mask = graph.input("attention_mask", "int64", [1, "total"])
    audios = graph.node("Cast", [graph.input("audios", dtype, [1, "t", sizes.d_model])], to=1)
    for layer in range(sizes.n_layer):
        for kind in ("key", "value"):
            graph.input(f"{kind}_cache{layer}", dtype, [1, "past", sizes.n_head, sizes.head_dim])
    table = checkpoint.take("transformer.wte.weight", sizes.vocab_size, sizes.d_model)
    stored = "float16" if dtype == "float16" else "float32"
    blocks = (rows.astype(stored) for rows in table.rows())
    wte = graph.weight(table.name, stored, table.shape, blocks)
    text = graph.node("Cast", [graph.node("Gather", [wte, ids], axis=0)], to=1)  # [1, t, d_model]
    h = graph.node("Where", [graph.node("Less", [audios, graph.constant(MASKED)]), text, audios])
    cos, sin, scale, allowed = plain_positions(sizes, graph, ids, mask)
    for layer in range(sizes.n_layer):
        name = f"transformer.h.{layer}"
        y = rms_norm(checkpoint, sizes, graph, h, f"{name}.ln_1", epsilon)
        y = plain_attention(checkpoint, sizes, graph, precision.decoder, y, layer, (cos, sin, scale, allowed), dtype)
        h = graph.node("Add", [h, y])
        y = rms_norm(checkpoint, sizes, graph, h, f"{name}.ln_2", epsilon)
        gate, up = gate_and_up(checkpoint, sizes, graph, precision.decoder, y, name, width)
        silu = graph.node("Mul", [gate, graph.node("Sigmoid", [gate])])
        y = mlp_out(checkpoint, sizes, graph, precision.decoder, graph.node("Mul", [silu, up]), name, width)
        h = graph.node("Add", [h, y])
    y = rms_norm(checkpoint, sizes, graph, h, "transformer.ln_f", epsilon)
    logits = lm_head(checkpoint, sizes, graph, precision.head, y)
    cast(graph, logits, "logits", dtype)
    graph.output("logits", dtype, [1, "t", sizes.vocab_size])
    for layer in range(sizes.n_layer):
        for kind in ("key", "value"):
            graph.output(f"{kind}_cache_out{layer}", dtype, [1, "total", sizes.n_head, sizes.head_dim])


def decoder_graph(file: str, flavour: str, sizes: DecoderSizes, dtype: str) -> Graph:
    """How the manifest describes the decoder of a flavour: the cache is the state that it keeps between runs."""
    pairs = [(kind, layer) for layer in range(sizes.n_layer) for kind in ("key", "value")]
    names = tuple((f"{kind}_cache_out{layer}", f"{kind}_cache{layer}") for kind, layer in pairs)
    if flavour == "fused":
        inputs = FUSED_INPUTS + (("query_scale",) if sizes.logn else ())
        return Graph(file, inputs, ("logits",), State(names, (1, sizes.n_head, -1, fused_head_dim(sizes)), dtype, in_place=True))
    return Graph(
        file, PLAIN_INPUTS, ("logits",), State(names, (1, -1, sizes.n_head, sizes.head_dim), dtype, in_place=False)
    )


def fused_attention(
    checkpoint: Checkpoint,
    sizes: DecoderSizes,
    graph: GraphBuilder,
    storage: Storage,
    y: str,
    layer: int,
    tables: list[str],
) -> str:
    """c_attn, LogN, then rotary, cache write, causal attention in one operator, then c_proj."""
    qkv = c_attn(checkpoint, sizes, graph, storage, y, layer)  # [batch, t, 3 * d_model]
    if sizes.logn:
        # The factor commutes with the rotation, and it is an exact 1 for keys, values and the common short context.
        parts = graph.node("Reshape", [qkv, graph.constant([0, 0, 3, sizes.d_model])])
        scaled = graph.node("Mul", [parts, "query_scale"])
        qkv = graph.node("Reshape", [scaled, graph.constant([0, 0, 3 * sizes.d_model])])
    padding = fused_head_dim(sizes) - sizes.head_dim
    if padding:
        qkv = pad_halves(sizes, graph, qkv, padding // 2)
    past, present = [], []
    for kind in ("key", "value"):
        shape = ["batch", sizes.n_head, "capacity", fused_head_dim(sizes)]
        past.append(graph.input(f"{kind}_cache{layer}", "float32", shape))
        present.append(f"{kind}_cache_out{layer}")
        graph.output(present[-1], "float32", shape)
    mixed = graph.node(
        "com.microsoft:GroupQueryAttention",
        [qkv, "", "", *past, "last_position", "total_length", *tables],
        [f"attention{layer}", *present],
        num_heads=sizes.n_head,
        kv_num_heads=sizes.n_head,
        do_rotary=1,
        scale=sizes.head_dim**-0.5,
    )
    if padding:
        mixed = cut_halves(sizes, graph, mixed, padding // 2)
    return attention_out(checkpoint, sizes, graph, storage, mixed, layer)


def fused_head_dim(sizes: DecoderSizes) -> int:
    """Width of a head in the fused cache: GroupQueryAttention wants a multiple of 16. The real model has 128."""
    return -(-sizes.head_dim // 16) * 16


def pad_halves(sizes: DecoderSizes, graph: GraphBuilder, qkv: str, padding: int) -> str:
    """Zeros behind both rotary halves of every head: they add nothing to a score and stay zero when rotated."""
    halves = graph.node("Reshape", [qkv, graph.constant([0, 0, 6 * sizes.n_head, sizes.head_dim // 2])])
    padded = graph.node("Pad", [halves, graph.constant([0] * 7 + [padding])])
    return graph.node("Reshape", [padded, graph.constant([0, 0, 3 * sizes.n_head * fused_head_dim(sizes)])])


def cut_halves(sizes: DecoderSizes, graph: GraphBuilder, mixed: str, padding: int) -> str:
    """Undo `pad_halves` on the attention's output."""
    half = sizes.head_dim // 2
    halves = graph.node("Reshape", [mixed, graph.constant([0, 0, 2 * sizes.n_head, half + padding])])
    cut = graph.node("Slice", [halves, graph.constant([0]), graph.constant([half]), graph.constant([3])])
    return graph.node("Reshape", [cut, graph.constant([0, 0, sizes.d_model])])


def plain_positions(sizes: DecoderSizes, graph: GraphBuilder, ids: str, mask: str) -> tuple[str, str, str, str]:
    """From the lengths of ids and mask: cos, sin [t, 1, head_dim / 2], LogN scale [t, 1, 1], allowed [t, total] (bool)."""
    total = graph.node("Slice", [graph.node("Shape", [mask]), *(graph.constant([i]) for i in (1, 2, 0))])  # [1]
    t = graph.node("Slice", [graph.node("Shape", [ids]), *(graph.constant([i]) for i in (1, 2, 0))])  # [1]
    past = graph.node("Sub", [total, t])
    every = graph.constant(np.arange(sizes.max_positions))
    axis = graph.constant([0])
    queries = graph.node("Slice", [every, past, total, axis])  # [t]
    keys = graph.node("Slice", [every, axis, total, axis])  # [total]
    rows = graph.node("Unsqueeze", [queries, graph.constant([1])])
    future = graph.node("Greater", [keys, rows])  # [t, total]
    seen = graph.node("Greater", [mask, graph.constant([[0]])])  # [1, total]
    allowed = graph.node("And", [graph.node("Not", [future]), seen])
    prompt = graph.node("Cast", [graph.node("Equal", [mask, graph.constant([[1]])])], to=1)
    length = graph.node("ReduceSum", [prompt, graph.constant([1])], keepdims=0)  # [1]
    thresholds = ntk_thresholds(sizes)
    tables = [rotary_tables(2 ** (k + 1) - 1, sizes) for k in range(len(thresholds) + 1)]
    index = queries
    if thresholds:
        passed = graph.node("Greater", [length, graph.constant(np.array(thresholds, np.float32))])
        passed = graph.node("ReduceSum", [graph.node("Cast", [passed], to=7), axis])  # [1]
        index = graph.node("Add", [queries, graph.node("Mul", [passed, graph.constant([sizes.max_positions])])])
    cos, sin = (
        graph.weight(name, "float32", (len(tables) * sizes.max_positions, 1, sizes.head_dim // 2), [table[i] for table in tables])
        for i, name in enumerate(("rotary_cos", "rotary_sin"))
    )
    logn = graph.weight("logn_scale", "float32", (sizes.max_positions, 1, 1), [logn_scale(sizes)])
    scale = graph.node("Gather", [logn, queries], axis=0)
    return graph.node("Gather", [cos, index], axis=0), graph.node("Gather", [sin, index], axis=0), scale, allowed


def plain_attention(
    checkpoint: Checkpoint,
    sizes: DecoderSizes,
    graph: GraphBuilder,
    storage: Storage,
    y: str,
    layer: int,
    positions: tuple[str, str, str, str],
    dtype: str,
) -> str:
    """The same attention in standard operators; the cache grows by concatenation, keys stored after rotary."""
    cos, sin, scale, allowed = positions
    qkv = c_attn(checkpoint, sizes, graph, storage, y, layer)
    heads = graph.node("Reshape", [qkv, graph.constant([0, 0, 3 * sizes.n_head, sizes.head_dim])])
    names = [f"{part}{layer}" for part in ("query", "key", "value")]
    graph.node("Split", [heads, graph.constant([sizes.n_head] * 3)], names, axis=2)  # 3 x [1, t, heads, head_dim]
    query = graph.node("Mul", [rotate(sizes, graph, names[0], cos, sin), scale])
    query = graph.node("Mul", [query, graph.constant(sizes.head_dim**-0.5)])
    grown = []
    for kind, new in (("key", rotate(sizes, graph, names[1], cos, sin)), ("value", names[2])):
        new = cast(graph, new, f"{kind}_new{layer}", dtype)  # noqa: PLW2901
        both = graph.node("Concat", [f"{kind}_cache{layer}", new], f"{kind}_cache_out{layer}", axis=1)
        grown.append(graph.node("Cast", [both], to=1) if dtype == "float16" else both)
    q = graph.node("Transpose", [query], perm=[0, 2, 1, 3])
    k = graph.node("Transpose", [grown[0]], perm=[0, 2, 3, 1])
    v = graph.node("Transpose", [grown[1]], perm=[0, 2, 1, 3])
    scores = graph.node("Where", [allowed, graph.node("MatMul", [q, k]), graph.constant(MASKED)])  # [1, heads, t, total]
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), v])
    mixed = graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    mixed = graph.node("Reshape", [mixed, graph.constant([0, 0, sizes.d_model])])
    return attention_out(checkpoint, sizes, graph, storage, mixed, layer)


def rotate(sizes: DecoderSizes, graph: GraphBuilder, x: str, cos: str, sin: str) -> str:
    """Half-split rotary: (a, b) -> (a cos - b sin, b cos + a sin). x is [1, t, heads, head_dim]."""
    halves = [f"{x}.a", f"{x}.b"]
    a, b = halves[0], halves[1]
    graph.node("Split", [x, graph.constant([sizes.head_dim // 2] * 2)], halves, axis=3)
    first = graph.node("Sub", [graph.node("Mul", [a, cos]), graph.node("Mul", [b, sin])])
    second = graph.node("Add", [graph.node("Mul", [b, cos]), graph.node("Mul", [a, sin])])
    return graph.node("Concat", [first, second], axis=3)


def c_attn(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, storage: Storage, y: str, layer: int
) -> str:
    """q, k and v side by side, with bias -> [batch, t, 3 * d_model]."""
    name = f"transformer.h.{layer}.attn.c_attn"
    weight = checkpoint.take(f"{name}.weight", 3 * sizes.d_model, sizes.d_model)
    return linear(graph, storage, y, name, [weight], [checkpoint.take(f"{name}.bias", 3 * sizes.d_model)])


def attention_out(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, storage: Storage, y: str, layer: int
) -> str:
    """attn.c_proj, no bias."""
    name = f"transformer.h.{layer}.attn.c_proj"
    weight = checkpoint.take(f"{name}.weight", sizes.d_model, sizes.d_model)
    return linear(graph, storage, y, name, [weight], None)


def gate_and_up(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, storage: Storage, y: str, name: str, width: int
) -> tuple[str, str]:
    """w2 is the gate, w1 the up projection; neither has a bias."""
    weights = [checkpoint.take(f"{name}.mlp.{part}.weight", width, sizes.d_model) for part in ("w2", "w1")]
    gate, up = (linear(graph, storage, y, w.name.removesuffix(".weight"), [w], None) for w in weights)
    return gate, up


def mlp_out(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, storage: Storage, y: str, name: str, width: int
) -> str:
    """mlp.c_proj, no bias."""
    weight = checkpoint.take(f"{name}.mlp.c_proj.weight", sizes.d_model, width)
    return linear(graph, storage, y, f"{name}.mlp.c_proj", [weight], None)


def lm_head(checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, storage: Storage, y: str) -> str:
    """Logits; the output layer is not tied to the embeddings."""
    weight = checkpoint.take("lm_head.weight", sizes.vocab_size, sizes.d_model)
    return linear(graph, storage, y, "lm_head", [weight], None)


def add_and_norm(
    checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, h: str, skip: str, name: str, epsilon: float
) -> tuple[str, str]:
    """(h + skip, RMSNorm of it) in one operator; the first norm has no skip yet."""
    gain = vector(graph, checkpoint.take(f"{name}.weight", sizes.d_model))
    if not skip:
        return h, graph.node("SimplifiedLayerNormalization", [h, gain], axis=-1, epsilon=epsilon, stash_type=1)
    total = f"{name}.sum"
    y = graph.node(
        "com.microsoft:SkipSimplifiedLayerNormalization", [h, skip, gain], [f"{name}.out", "", "", total], epsilon=epsilon
    )
    return total, y


def rms_norm(checkpoint: Checkpoint, sizes: DecoderSizes, graph: GraphBuilder, x: str, name: str, epsilon: float) -> str:
    """x / sqrt(mean(x^2) + epsilon) * gain, in standard operators."""
    gain = vector(graph, checkpoint.take(f"{name}.weight", sizes.d_model))
    mean = graph.node("ReduceMean", [graph.node("Mul", [x, x])], axes=[-1], keepdims=1)
    root = graph.node("Sqrt", [graph.node("Add", [mean, graph.constant(epsilon)])])
    return graph.node("Mul", [graph.node("Div", [x, root]), gain])


def cast(graph: GraphBuilder, x: str, name: str, dtype: str) -> str:
    """`x` under the name `name`, as float16 if the graph speaks float16 outside."""
    if dtype == "float16":
        return graph.node("Cast", [x], name, to=10)
    return graph.node("Identity", [x], name)
