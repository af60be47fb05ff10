"""The decoder: Qwen-7B's architecture as an ONNX graph. Dimension order: [batch, tokens, channels].

    h -> n_layer x ( h += c_proj(attention(ln_1(h)));  h += c_proj(w1(y) * silu(w2(y))) with y = ln_2(h) )
      -> ln_f -> lm_head

Two flavours of it. "fused": ONNX Runtime's contrib operators; takes embeddings, keeps the cache in place in
[1, heads, positions, head_dim] and gives the logits of wanted tokens only. "plain": standard operators of
opset 17 under the names and shapes that ailia publishes; takes ids and `audios` (-inf where a position is text), hands
out a grown cache [1, positions, heads, head_dim] and the logits of every position.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.convert.checkpoint import Checkpoint
from models.convert.graph import GraphBuilder
from models.convert.linear import Precision, linear, to_float16, vector
from models.manifest import DecoderSizes, Graph, State
from models.positions import logn_scale, ntk_thresholds, rotary_tables


@dataclass(frozen=True)
class Qwen:
    """What every part of the decoder is built from: weights, sizes, the graph, and the settings of config.json."""

    checkpoint: Checkpoint
    sizes: DecoderSizes
    graph: GraphBuilder
    precision: Precision
    width: int  # of the MLP
    epsilon: float  # of every RMSNorm
    dtype: str = "float32"  # of the plain graph's inputs and outputs


FUSED_INPUTS = ("inputs_embeds", "rotary_cos", "rotary_sin", "last_positions", "total_lengths", "wanted")
SLOT_INPUTS = ("slot_bounds", "slot_padding")  # of a graph with several slots
PLAIN_INPUTS = ("input_ids", "attention_mask", "audios")
MASKED = -3e38


@dataclass(frozen=True)
class Slot:
    """What the attention of one sequence is told, names of values: see `build_fused_decoder`. The only one has none."""

    number: int | None
    last: str
    total: str
    start: str = ""  # of its tokens among all
    end: str = ""
    count: str = ""
    pads: str = ""  # for Pad


def build_fused_decoder(q: Qwen, slots: int) -> None:
    """Embeddings [1, tokens, d_model] of up to `slots` sequences -> `logits` [wanted, vocab] of the tokens `wanted`.

    Every sequence has its slot, with a cache of its own, and its tokens lie side by side: those of slot s from
    `slot_bounds`[s] to `slot_bounds`[s + 1]; only attention knows of that. ONNX Runtime's kernels round a token that is
    left alone otherwise than tokens in pairs [measured: 1.32], so that all is done in even numbers: tokens and `wanted`
    are even, and the queries of a slot are made so by `slot_padding`[s] zero ones behind them.

    `last_positions` [slots] is past + t - 1 of each slot and `total_lengths` [slots] past + t, with t its tokens and
    its padding. `rotary_cos`, `rotary_sin` [positions, head_dim / 2] carry the NTK alpha of all sequences,
    `query_scale` [1, tokens, 3, 1] the LogN factors as (factor, 1, 1) for q, k, v.
    """
    h = q.graph.input("inputs_embeds", "float32", [1, "tokens", q.sizes.d_model])
    tables = [
        q.graph.input(name, "float32", ["positions", q.sizes.head_dim // 2]) for name in ("rotary_cos", "rotary_sin")
    ]
    if padding := fused_head_dim(q.sizes) - q.sizes.head_dim:
        tables = [q.graph.node("Pad", [table, q.graph.constant([0, 0, 0, padding // 2])]) for table in tables]
    last, total = (q.graph.input(name, "int32", [slots]) for name in ("last_positions", "total_lengths"))
    wanted = q.graph.input("wanted", "int64", ["wanted"])
    if q.sizes.logn:
        q.graph.input("query_scale", "float32", [1, "tokens", 3, 1])
    places = declare_slots(q, slots, last, total) if slots > 1 else [Slot(None, last, total)]
    skip = ""
    for layer in range(q.sizes.n_layer):
        name = f"transformer.h.{layer}"
        h, y = add_and_norm(q, h, skip, f"{name}.ln_1")
        skip = fused_attention(q, y, layer, tables, places)
        h, y = add_and_norm(q, h, skip, f"{name}.ln_2")
        gate, up = gate_and_up(q, y, name)
        silu = q.graph.node("com.microsoft:QuickGelu", [gate], alpha=1.0)
        skip = mlp_out(q, q.graph.node("Mul", [silu, up]), name)
    h, skip = (q.graph.node("Gather", [value, wanted], axis=1) for value in (h, skip))  # [1, wanted, d_model]
    _, y = add_and_norm(q, h, skip, "transformer.ln_f")
    q.graph.node("Squeeze", [lm_head(q, y), q.graph.constant([0])], "logits")
    q.graph.output("logits", "float32", ["wanted", q.sizes.vocab_size])


def declare_slots(q: Qwen, slots: int, last: str, total: str) -> list[Slot]:
    """The inputs that only a graph with several slots has, cut into what each slot is told."""
    bounds, padding = (
        q.graph.input("slot_bounds", "int64", [slots + 1]),
        q.graph.input("slot_padding", "int64", [slots]),
    )
    zero, front = q.graph.constant([0]), q.graph.constant([0, 0, 0, 0])

    def entry(values: str, index: int) -> str:
        return q.graph.node("Slice", [values, *(q.graph.constant([place]) for place in (index, index + 1, 0))])  # [1]

    found = []
    for slot in range(slots):
        start, end = entry(bounds, slot), entry(bounds, slot + 1)
        pads = q.graph.node("Concat", [front, entry(padding, slot), zero], axis=0)
        count = q.graph.node("Sub", [end, start])
        found.append(Slot(slot, entry(last, slot), entry(total, slot), start, end, count, pads))
    return found


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
    logits = lm_head(q, y)
    cast(q, logits, "logits")
    q.graph.output("logits", q.dtype, [1, "t", q.sizes.vocab_size])
    for layer in range(q.sizes.n_layer):
        for kind in ("key", "value"):
            q.graph.output(f"{kind}_cache_out{layer}", q.dtype, [1, "total", q.sizes.n_head, q.sizes.head_dim])


def decoder_graph(file: str, flavour: str, sizes: DecoderSizes, dtype: str, *, slots: int = 1) -> Graph:
    """How the manifest describes the decoder of a flavour: the cache is the state that it keeps between runs."""
    pairs = [(kind, layer) for layer in range(sizes.n_layer) for kind in ("key", "value")]
    if flavour == "fused":
        inputs = FUSED_INPUTS + ("query_scale",) * sizes.logn + SLOT_INPUTS * (slots > 1)
        every = range(slots) if slots > 1 else (None,)
        names = tuple(cache_names(kind, layer, slot) for kind, layer in pairs for slot in every)
        shape = (1, sizes.n_head, -1, fused_head_dim(sizes))
        return Graph(file, inputs, ("logits",), State(names, shape, dtype, in_place=True, slots=slots))
    names = tuple(cache_names(kind, layer) for kind, layer in pairs)
    return Graph(
        file, PLAIN_INPUTS, ("logits",), State(names, (1, -1, sizes.n_head, sizes.head_dim), dtype, in_place=False)
    )


def cache_names(kind: str, layer: int, slot: int | None = None) -> tuple[str, str]:
    """Names of the present and of the past keys or values of a layer, in one of several slots or in the only one."""
    place = f"{layer}" if slot is None else f"{layer}_{slot}"
    return f"{kind}_cache_out{place}", f"{kind}_cache{place}"


def fused_attention(q: Qwen, y: str, layer: int, tables: list[str], slots: list[Slot]) -> str:
    """c_attn, LogN, then rotary, cache write, causal attention in one operator for each slot, then c_proj."""
    qkv = c_attn(q, y, layer)
    if q.sizes.logn:
        # The factor commutes with the rotation, and it is an exact 1 for keys, values and the common short context.
        parts = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 3, q.sizes.d_model])])
        scaled = q.graph.node("Mul", [parts, "query_scale"])
        qkv = q.graph.node("Reshape", [scaled, q.graph.constant([0, 0, 3 * q.sizes.d_model])])
    padding = fused_head_dim(q.sizes) - q.sizes.head_dim
    if padding:
        qkv = pad_halves(q, qkv, padding // 2)
    mixed = [slot_attention(q, qkv, layer, tables, slot) for slot in slots]
    both = mixed[0] if len(mixed) == 1 else q.graph.node("Concat", mixed, axis=1)
    if padding:
        both = cut_halves(q, both, padding // 2)
    return attention_out(q, both, layer)


def slot_attention(q: Qwen, qkv: str, layer: int, tables: list[str], slot: Slot) -> str:
    """The attention of one slot's tokens among those of `qkv` [1, tokens, 3 * heads * width] over its own cache."""
    zero, axis = q.graph.constant([0]), q.graph.constant([1])
    if slot.pads:
        qkv = q.graph.node("Pad", [q.graph.node("Slice", [qkv, slot.start, slot.end, axis]), slot.pads])
    past, present = [], []
    for kind in ("key", "value"):
        shape: list[int | str] = [1, q.sizes.n_head, f"capacity{slot.number}", fused_head_dim(q.sizes)]
        names = cache_names(kind, layer, slot.number)
        present.append(names[0])
        past.append(q.graph.input(names[1], "float32", shape))
        q.graph.output(names[0], "float32", shape)
    mixed = q.graph.node(
        "com.microsoft:GroupQueryAttention",
        [qkv, "", "", *past, slot.last, slot.total, *tables],
        [f"attention{layer}_{slot.number}", *present],
        num_heads=q.sizes.n_head,
        kv_num_heads=q.sizes.n_head,
        do_rotary=1,
        scale=q.sizes.head_dim**-0.5,
    )
    return q.graph.node("Slice", [mixed, zero, slot.count, axis]) if slot.pads else mixed


def fused_head_dim(sizes: DecoderSizes) -> int:
    """Width of a head in the fused cache: GroupQueryAttention wants a multiple of 16. The real model has 128."""
    return -(-sizes.head_dim // 16) * 16


def pad_halves(q: Qwen, qkv: str, padding: int) -> str:
    """Zeros behind both rotary halves of every head: they add nothing to a score and stay zero when rotated."""
    halves = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 6 * q.sizes.n_head, q.sizes.head_dim // 2])])
    padded = q.graph.node("Pad", [halves, q.graph.constant([0] * 7 + [padding])])
    return q.graph.node("Reshape", [padded, q.graph.constant([0, 0, 3 * q.sizes.n_head * fused_head_dim(q.sizes)])])


def cut_halves(q: Qwen, mixed: str, padding: int) -> str:
    """Undo `pad_halves` on the attention's output."""
    half = q.sizes.head_dim // 2
    halves = q.graph.node("Reshape", [mixed, q.graph.constant([0, 0, 2 * q.sizes.n_head, half + padding])])
    cut = q.graph.node("Slice", [halves, q.graph.constant([0]), q.graph.constant([half]), q.graph.constant([3])])
    return q.graph.node("Reshape", [cut, q.graph.constant([0, 0, q.sizes.d_model])])


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


def rotate(q: Qwen, x: str, cos: str, sin: str) -> str:
    """Half-split rotary: (a, b) -> (a cos - b sin, b cos + a sin). x is [1, t, heads, head_dim]."""
    halves = [f"{x}.a", f"{x}.b"]
    a, b = halves[0], halves[1]
    q.graph.node("Split", [x, q.graph.constant([q.sizes.head_dim // 2] * 2)], halves, axis=3)
    first = q.graph.node("Sub", [q.graph.node("Mul", [a, cos]), q.graph.node("Mul", [b, sin])])
    second = q.graph.node("Add", [q.graph.node("Mul", [b, cos]), q.graph.node("Mul", [a, sin])])
    return q.graph.node("Concat", [first, second], axis=3)


def c_attn(q: Qwen, y: str, layer: int) -> str:
    """q, k and v side by side, with bias -> [batch, t, 3 * d_model]."""
    name = f"transformer.h.{layer}.attn.c_attn"
    weight = q.checkpoint.take(f"{name}.weight", 3 * q.sizes.d_model, q.sizes.d_model)
    bias = q.checkpoint.take(f"{name}.bias", 3 * q.sizes.d_model)
    return linear(q.graph, q.precision.decoder, y, weight, bias)


def attention_out(q: Qwen, y: str, layer: int) -> str:
    """attn.c_proj, no bias."""
    name = f"transformer.h.{layer}.attn.c_proj"
    weight = q.checkpoint.take(f"{name}.weight", q.sizes.d_model, q.sizes.d_model)
    return linear(q.graph, q.precision.decoder, y, weight)


def gate_and_up(q: Qwen, y: str, name: str) -> tuple[str, str]:
    """w2 is the gate, w1 the up projection; neither has a bias."""
    weights = [q.checkpoint.take(f"{name}.mlp.{part}.weight", q.width, q.sizes.d_model) for part in ("w2", "w1")]
    gate, up = (linear(q.graph, q.precision.decoder, y, weight) for weight in weights)
    return gate, up


def mlp_out(q: Qwen, y: str, name: str) -> str:
    """mlp.c_proj, no bias."""
    weight = q.checkpoint.take(f"{name}.mlp.c_proj.weight", q.sizes.d_model, q.width)
    return linear(q.graph, q.precision.decoder, y, weight)


def lm_head(q: Qwen, y: str) -> str:
    """Logits; the output layer is not tied to the embeddings."""
    weight = q.checkpoint.take("lm_head.weight", q.sizes.vocab_size, q.sizes.d_model)
    return linear(q.graph, q.precision.head, y, weight)


def add_and_norm(q: Qwen, h: str, skip: str, name: str) -> tuple[str, str]:
    """(h + skip, RMSNorm of it) in one operator; the first norm has no skip yet."""
    gain = vector(q.graph, q.checkpoint.take(f"{name}.weight", q.sizes.d_model))
    if not skip:
        return h, q.graph.node("SimplifiedLayerNormalization", [h, gain], axis=-1, epsilon=q.epsilon, stash_type=1)
    total = f"{name}.sum"
    y = q.graph.node(
        "com.microsoft:SkipSimplifiedLayerNormalization",
        [h, skip, gain],
        [f"{name}.out", "", "", total],
        epsilon=q.epsilon,
    )
    return total, y


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
