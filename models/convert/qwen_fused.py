"""The "fused" decoder: ONNX Runtime's contrib operators, in parts of a few layers.

It takes embeddings, keeps the cache in place in [1, heads, positions, head_dim] and gives the logits of wanted tokens
only.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.convert.linear import vector
from models.convert.qwen import Qwen, attention_out, c_attn, gate_and_up, lm_head, mlp_out
from models.convert.rotary_graph import Run, rotate_qk, token_tables
from models.manifest import DecoderSizes, Graph, State

PART_LAYERS = 9  # four parts of 32 layers: the last has five and the output layer, as large as three to five
# A matrix is in memory twice while it is packed, mapped and packed; as one, the output layer would set a run's peak.
HEAD_IDS = 16384
POSITION_INPUTS = ("rotary_cos", "rotary_sin", "last_positions", "total_lengths")
SLOT_INPUTS = ("slot_bounds", "slot_padding")  # of a graph with several slots, or without pairs


@dataclass(frozen=True)
class Slot:
    """What the attention of one sequence is told, names of values: see `build_fused_decoder`."""

    number: int | None  # the only one has none
    last: str
    total: str
    start: str = ""  # of its tokens among all
    end: str = ""
    count: str = ""
    pads: str = ""  # for Pad


def build_fused_decoder(q: Qwen, layers: range, slots: int) -> None:
    """One part of the decoder: embeddings [1, tokens, d_model] of up to `slots` sequences through some of the layers.

    A part gives `hidden_states_out` [1, tokens, d_model], the first input of the next one; the last part gives `logits`
    [wanted, vocab] of the tokens `wanted`. Every sequence has its slot, with a cache of its own, and its tokens lie
    side by side: those of slot s from `slot_bounds`[s] to `slot_bounds`[s + 1]; only attention knows of that. ONNX
    Runtime's kernels round a token that is left alone otherwise than tokens in pairs [measured: 1.32], so that all is
    done in even numbers: tokens and `wanted` are even, and the queries of a slot are made so by `slot_padding`[s] zero
    ones behind them. Where products add integers only attention needs that, and one slot has these inputs, too; an MLP
    that needs it among such products fills up for itself.

    `last_positions` [slots] is past + t - 1 of each slot and `total_lengths` [slots] past + t, with t its tokens and
    its padding. `rotary_cos`, `rotary_sin` [positions, head_dim / 2] carry the NTK alpha of all sequences,
    `query_scale` [1, tokens, 3, 1] the LogN factors as (factor, 1, 1) for q, k, v.
    """
    last_part = layers.stop == q.sizes.n_layer
    h = q.graph.input("hidden_states" if layers.start else "inputs_embeds", "float32", [1, "tokens", q.sizes.d_model])
    if q.rotation and not layers.start:
        h = q.rotation.graph_rows(q.graph, h)
    if q.half:
        h = q.graph.cast(h, "float16")
    last, total = (q.graph.input(name, "int32", [slots]) for name in ("last_positions", "total_lengths"))
    if q.sizes.logn:
        q.graph.input("query_scale", "float32", [1, "tokens", 3, 1])
    pairs = q.precision.pairs
    places = declare_slots(q, slots, last, total) if slots > 1 or not pairs else [Slot(None, last, total)]
    tables = _rotary_tables(q, h, places)
    count, pads = _odd_token(q, h) if not pairs and q.precision.mlp.kind != "tokens" else ("", "")
    skip = ""
    for layer in layers:
        name = f"transformer.h.{layer}"
        h, y = add_and_norm(q, h, skip, f"{name}.ln_1")
        skip = fused_attention(q, y, layer, tables, places)
        h, y = add_and_norm(q, h, skip, f"{name}.ln_2")
        gate, up = gate_and_up(q, q.graph.node("Pad", [y, pads]) if pads else y, name)
        silu = q.graph.node("com.microsoft:QuickGelu", [gate], alpha=1.0)
        skip = mlp_out(q, q.graph.node("Mul", [silu, up]), name)
        if pads:
            skip = q.graph.node("Slice", [skip, q.graph.constant([0]), count, q.graph.constant([1])])
    if not last_part:
        q.graph.node("Add", [h, skip], "hidden_states_out")
        q.graph.output("hidden_states_out", "float32", [1, "tokens", q.sizes.d_model])
        return
    wanted = q.graph.input("wanted", "int64", ["wanted"])
    h, skip = (q.graph.node("Gather", [value, wanted], axis=1) for value in (h, skip))  # [1, wanted, d_model]
    _, y = add_and_norm(q, h, skip, "transformer.ln_f")
    logits = lm_head(q, y, HEAD_IDS)
    q.graph.node("Squeeze", [q.graph.cast(logits, "float32") if q.half else logits, q.graph.constant([0])], "logits")
    q.graph.output("logits", "float32", ["wanted", q.sizes.vocab_size])


def _rotary_tables(q: Qwen, h: str, slots: list[Slot]) -> list[str]:
    """cos and sin as attention takes them: of every position and as wide as the cache, in float16 of each token."""
    tables = [
        q.graph.input(name, "float32", ["positions", q.sizes.head_dim // 2]) for name in ("rotary_cos", "rotary_sin")
    ]
    if q.half:
        return token_tables(q, tables, _runs(q, h, slots))
    if padding := fused_head_dim(q.sizes) - q.sizes.head_dim:
        return [q.graph.node("Pad", [table, q.graph.constant([0, 0, 0, padding // 2])]) for table in tables]
    return tables


def _runs(q: Qwen, h: str, slots: list[Slot]) -> list[Run]:
    """Where each slot's tokens stand; what fills a slot up stands behind them."""
    found = []
    for slot in slots:
        end = q.graph.cast(slot.total, "int64")
        if not slot.count:
            found.append(Run(q.graph.node("Shape", [h], start=1, end=2), end))
            continue
        pads = [q.graph.constant([place]) for place in (slot.number or 0, (slot.number or 0) + 1, 0)]
        found.append(Run(slot.count, q.graph.node("Sub", [end, q.graph.node("Slice", ["slot_padding", *pads])])))
    return found


def _odd_token(q: Qwen, h: str) -> tuple[str, str]:
    """The number of tokens of h [1, tokens, d_model] as [1], and for Pad what makes it even."""
    zero, front = q.graph.constant([0]), q.graph.constant([0, 0, 0, 0])
    count = q.graph.node("Shape", [h], start=1, end=2)
    odd = q.graph.node("Mod", [count, q.graph.constant([2])])
    return count, q.graph.node("Concat", [front, odd, zero], axis=0)


def fused_graphs(
    file: str, sizes: DecoderSizes, *, slots: int, pairs: bool, floats: str = "float32"
) -> tuple[Graph, ...]:
    """How the manifest describes the parts of a decoder: each keeps the cache of its layers between runs."""
    found = []
    for number, layers in enumerate(parts(sizes, floats)):
        last_part = layers.stop == sizes.n_layer
        inputs = ("hidden_states" if number else "inputs_embeds", *POSITION_INPUTS) + ("query_scale",) * sizes.logn
        inputs += ("wanted",) * last_part + SLOT_INPUTS * (slots > 1 or not pairs)
        every = range(slots) if slots > 1 else (None,)
        caches = [(kind, layer) for layer in layers for kind in ("key", "value")]
        names = tuple(cache_names(kind, layer, slot) for kind, layer in caches for slot in every)
        shape = (1, sizes.n_head, -1, fused_head_dim(sizes))
        state = State(names, shape, floats, in_place=True, slots=slots)
        outputs = ("logits" if last_part else "hidden_states_out",)
        found.append(Graph(part_file(file, number), inputs, outputs, state))
    return tuple(found)


def parts(sizes: DecoderSizes, floats: str = "float32") -> list[range]:
    """The layers of each part: ONNX Runtime packs a graph's weights in one thread, and all parts open at once.

    A float16 decoder is for a GPU, where nothing is packed and what goes between parts would leave the device.
    """
    if floats == "float16":
        return [range(sizes.n_layer)]
    return [range(first, min(first + PART_LAYERS, sizes.n_layer)) for first in range(0, sizes.n_layer, PART_LAYERS)]


def part_file(file: str, number: int) -> str:
    """decoder.onnx, decoder_2.onnx, decoder_3.onnx, …"""
    stem, _, suffix = file.rpartition(".")
    return f"{stem}_{number + 1}.{suffix}" if number else file


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
        number = slot if slots > 1 else None
        pads = q.graph.node("Concat", [front, entry(padding, slot), zero], axis=0)
        count = q.graph.node("Sub", [end, start])
        found.append(Slot(number, entry(last, slot), entry(total, slot), start, end, count, pads))
    return found


def cache_names(kind: str, layer: int, slot: int | None = None) -> tuple[str, str]:
    """Names of the present and of the past keys or values of a layer, in one of several slots or in the only one."""
    place = f"{layer}" if slot is None else f"{layer}_{slot}"
    return f"{kind}_cache_out{place}", f"{kind}_cache{place}"


def fused_attention(q: Qwen, y: str, layer: int, tables: list[str], slots: list[Slot]) -> str:
    """c_attn, LogN, then rotary, cache write, causal attention in one operator for each slot, then c_proj.

    `tables` are rotary_cos and rotary_sin, or in a float16 graph those of each token (see `rotary_graph`).
    """
    qkv = c_attn(q, y, layer)
    if q.half:
        qkv = rotate_qk(q, qkv, tables)
    elif q.sizes.logn:
        # The factor commutes with the rotation, and it is an exact 1 for keys, values and the common short context.
        parts = q.graph.node("Reshape", [qkv, q.graph.constant([0, 0, 3, q.sizes.d_model])])
        scaled = q.graph.node("Mul", [parts, "query_scale"])
        qkv = q.graph.node("Reshape", [scaled, q.graph.constant([0, 0, 3 * q.sizes.d_model])])
    padding = fused_head_dim(q.sizes) - q.sizes.head_dim
    if padding:
        qkv = pad_halves(q, qkv, padding // 2)
    mixed = [slot_attention(q, qkv, layer, [] if q.half else tables, slot) for slot in slots]
    both = mixed[0] if len(mixed) == 1 else q.graph.node("Concat", mixed, axis=1)
    if padding:
        both = cut_halves(q, both, padding // 2)
    return attention_out(q, both, layer)


def slot_attention(q: Qwen, qkv: str, layer: int, tables: list[str], slot: Slot) -> str:
    """The attention of one slot's tokens among those of `qkv` [1, tokens, 3 * heads * width] over its own cache."""
    zero, axis = q.graph.constant([0]), q.graph.constant([1])
    if slot.number is not None:
        qkv = q.graph.node("Slice", [qkv, slot.start, slot.end, axis])
    if slot.pads:
        qkv = q.graph.node("Pad", [qkv, slot.pads])
    past, present = [], []
    for kind in ("key", "value"):
        shape: list[int | str] = [1, q.sizes.n_head, f"capacity{slot.number}", fused_head_dim(q.sizes)]
        names = cache_names(kind, layer, slot.number)
        present.append(names[0])
        past.append(q.graph.input(names[1], q.graph.floats, shape))
        q.graph.output(names[0], q.graph.floats, shape)
    mixed = q.graph.node(
        "com.microsoft:GroupQueryAttention",
        [qkv, "", "", *past, slot.last, slot.total, *tables],
        [f"attention{layer}_{slot.number}", *present],
        num_heads=q.sizes.n_head,
        kv_num_heads=q.sizes.n_head,
        do_rotary=int(bool(tables)),
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
