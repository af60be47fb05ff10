"""The audio encoder: Whisper large-v2's trunk as Qwen-Audio changed it, as an ONNX graph.

Differences from Whisper: only the real frames of a clip are attended to, frames are averaged in pairs before the last
norm, and a projection to the decoder's width follows. Dimension order: [clips, frames, channels].

    mel [n, n_mels, columns] -> conv1, gelu -> conv2 (stride 2), gelu, + positional_embedding [n, frames, n_state]
      -> n_layer x (attention, mlp) -> mean of frame pairs -> ln_post -> proj [n, T, d_model]

Two flavours: "fused" takes one clip without padding; "plain" takes a padded batch and a mask, as ailia publishes it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.convert.checkpoint import Checkpoint, Float32
from models.convert.graph import DTYPES, GraphBuilder
from models.convert.int8_encoder import even_matmul, evening, int8_matmul, made_by, rounded
from models.convert.linear import BLOCKS8, Storage, as_floats, linear, vector
from models.manifest import EncoderSizes, Graph

PREFIX = "transformer.audio"
LAYER_NORM_EPSILON = 1e-5
SINUSOIDS = "sinusoids"  # of config.json's audio.positions: they are reckoned, not stored


@dataclass(frozen=True)
class Whisper:
    """What every part of the encoder is built from: weights, sizes, the graph, how its matrices are stored."""

    checkpoint: Checkpoint
    sizes: EncoderSizes
    graph: GraphBuilder
    storage: Storage
    dtype: str = "float32"  # of the plain graph's inputs and outputs


FUSED_INPUTS = ("mel", "n_frames")
PLAIN_INPUTS = ("input_audios", "padding_mask", "input_audio_lengths")
OUTPUT = "features"


def build_fused_encoder(w: Whisper) -> None:
    """One clip: `mel` [1, n_mels, columns], whose first `n_frames` [1] frames count -> [1, n_frames // 2, d_model]."""
    mel = w.graph.input("mel", "float32", [1, w.sizes.n_mels, "columns"])
    if w.graph.floats != "float32":
        mel = w.graph.cast(mel, w.graph.floats)
    n_frames = w.graph.input("n_frames", "int64", [1])
    x = conv_stem(w, mel)  # [1, frames, n_state]
    x = w.graph.node("Slice", [x, w.graph.constant([0]), n_frames, w.graph.constant([1])])
    x = w.graph.node("Add", [x, positions(w, n_frames)])
    for layer in range(w.sizes.n_layer):
        x = smooth_block(w, x, layer) if w.storage.kind == "smooth" else block(w, x, layer, mask=None)
    head(w, x, n_frames)


def build_plain_encoder(w: Whisper) -> None:
    """A padded batch -> [n, frames // 2, d_model], with the frames of the longest clip.

    `input_audios` [n, n_mels, 2 n_ctx], `padding_mask` [n, frames] (1 = padding), `input_audio_lengths` [n, 2] (frames,
    tokens).
    """
    audios = w.graph.input("input_audios", w.dtype, ["clips", w.sizes.n_mels, 2 * w.sizes.n_ctx])
    padding = w.graph.input("padding_mask", w.dtype, ["clips", "frames"])
    lengths = w.graph.input("input_audio_lengths", "int64", ["clips", 2])
    longest = w.graph.node("ReduceMax", [lengths], axes=[0], keepdims=0)  # [2]
    n_frames = w.graph.node(
        "Slice", [longest, w.graph.constant([0]), w.graph.constant([1]), w.graph.constant([0])]
    )  # [1]
    columns = w.graph.node("Mul", [n_frames, w.graph.constant([2])])
    mel = w.graph.node("Cast", [audios], to=1)
    mel = w.graph.node("Slice", [mel, w.graph.constant([0]), columns, w.graph.constant([2])])
    x = conv_stem(w, mel)  # [n, frames, n_state]
    x = w.graph.node("Add", [x, positions(w, n_frames)])
    padded = w.graph.node("Greater", [w.graph.node("Cast", [padding], to=1), w.graph.constant(0.5)])  # [n, frames] bool
    rows = w.graph.node("Unsqueeze", [padded, w.graph.constant([2])])  # [n, frames, 1]
    x = w.graph.node("Where", [rows, w.graph.constant(0.0), x])
    keys = w.graph.node("Unsqueeze", [padded, w.graph.constant([1, 2])])  # [n, 1, 1, frames]
    for layer in range(w.sizes.n_layer):
        x = block(w, x, layer, mask=keys)
    head(w, x, n_frames)


def encoder_graph(file: str, flavour: str) -> Graph:
    """How the manifest describes the encoder of a flavour."""
    return Graph(file, FUSED_INPUTS if flavour == "fused" else PLAIN_INPUTS, (OUTPUT,))


def conv_stem(w: Whisper, mel: str) -> str:
    """Two convolutions of width 3 with gelu, the second of stride 2 -> [n, frames, n_state]."""
    x = mel
    for name, channels, stride in (("conv1", w.sizes.n_mels, 1), ("conv2", w.sizes.n_state, 2)):
        weight = vector(w.graph, w.checkpoint.take(f"{PREFIX}.{name}.weight", w.sizes.n_state, channels, 3))
        bias = vector(w.graph, w.checkpoint.take(f"{PREFIX}.{name}.bias", w.sizes.n_state))
        x = w.graph.node("Conv", [x, weight, bias], kernel_shape=[3], pads=[1, 1], strides=[stride])
        x = gelu(w, x)  # [n, n_state, frames]
    return w.graph.node("Transpose", [x], perm=[0, 2, 1])


def positions(w: Whisper, n_frames: str) -> str:
    """The first `n_frames` rows of the sinusoids, stored or reckoned as config.json says -> [frames, n_state]."""
    name, shape = f"{PREFIX}.positional_embedding", (w.sizes.n_ctx, w.sizes.n_state)
    if w.checkpoint.config["audio"].get("positions") == SINUSOIDS:
        table = w.graph.weight(name, w.graph.floats, shape, as_floats(w.graph, [sinusoids(*shape)], name))
    else:
        table = vector(w.graph, w.checkpoint.take(name, *shape))
    return w.graph.node("Slice", [table, w.graph.constant([0]), n_frames, w.graph.constant([0])])


def sinusoids(length: int, channels: int) -> Float32:
    """Whisper's positions [length, channels]: sines, then cosines, of 10000^(-i / (channels / 2 - 1)) a frame."""
    turns = np.exp(-np.log(10_000) / (channels // 2 - 1) * np.arange(channels // 2))
    angles = np.arange(length)[:, None] * turns
    return np.concatenate([np.sin(angles), np.cos(angles)], 1).astype(np.float32)


def block(w: Whisper, x: str, layer: int, *, mask: str | None) -> str:
    """x += out(attention(w, attn_ln(x))); x += mlp.2(gelu(w, mlp.0(mlp_ln(x)))). Keys have no bias."""
    name, state = f"{PREFIX}.blocks.{layer}", w.sizes.n_state

    def project(y: str, part: str, n: int, k: int, *, has_bias: bool = True) -> str:
        weight = w.checkpoint.take(f"{name}.{part}.weight", n, k)
        bias = w.checkpoint.take(f"{name}.{part}.bias", n) if has_bias else None
        return linear(w.graph, w.storage, y, weight, bias)

    normed = layer_norm(w, x, f"{name}.attn_ln")
    query = project(normed, "attn.query", state, state)
    key = project(normed, "attn.key", state, state, has_bias=False)
    value = project(normed, "attn.value", state, state)
    mixed = attention(w, query, key, value, mask)
    x = w.graph.node("Add", [x, project(mixed, "attn.out", state, state)])
    normed = layer_norm(w, x, f"{name}.mlp_ln")
    hidden = gelu(w, project(normed, "mlp.0", 4 * state, state))
    return w.graph.node("Add", [x, project(hidden, "mlp.2", state, 4 * state)])


def smooth_block(w: Whisper, x: str, layer: int) -> str:
    """The block with its products in int8 (see `int8_encoder`)."""
    name, state = f"{PREFIX}.blocks.{layer}", w.sizes.n_state

    def read(part: str, *shape: int) -> Float32:
        return w.checkpoint.take(f"{name}.{part}", *shape).read()

    def norm(x: str, part: str, gain: Float32, bias: Float32, c: Float32) -> str:
        stored = [
            w.graph.weight(f"{name}.{part}.{kind}", "float32", value.shape, [value / c])
            for kind, value in (("weight", gain), ("bias", bias))
        ]
        return w.graph.node("LayerNormalization", [x, *stored], axis=-1, epsilon=LAYER_NORM_EPSILON)

    gain, bias = (read(f"attn_ln.{kind}", state) for kind in ("weight", "bias"))
    size = np.hypot(gain, bias)
    weights = {part: read(f"attn.{part}.weight", state, state) for part in ("query", "key", "value", "out")}
    biases = {part: read(f"attn.{part}.bias", state) for part in ("query", "value", "out")}
    inner = ("query", "key", "value")
    c = evening(size, *(weights[part] for part in inner))
    normed = rounded(w.graph, norm(x, "attn_ln", gain, bias, c))
    heads = [int8_matmul(w.graph, normed, f"{name}.attn.{part}", weights[part] * c, biases.get(part)) for part in inner]
    mixed = attention(w, heads[0], heads[1], heads[2], None)
    c = evening(made_by(weights["value"], size, biases["value"]), weights["out"])
    out = even_matmul(w.graph, mixed, f"{name}.attn.out", weights["out"], bias=biases["out"], c=c)
    x = w.graph.node("Add", [x, out])

    gain, bias = (read(f"mlp_ln.{kind}", state) for kind in ("weight", "bias"))
    size = np.hypot(gain, bias)
    up, up_bias = read("mlp.0.weight", 4 * state, state), read("mlp.0.bias", 4 * state)
    down, down_bias = read("mlp.2.weight", state, 4 * state), read("mlp.2.bias", state)
    c = evening(size, up)
    normed = rounded(w.graph, norm(x, "mlp_ln", gain, bias, c))
    hidden = gelu(w, int8_matmul(w.graph, normed, f"{name}.mlp.0", up * c, up_bias))
    c = evening(made_by(up, size, up_bias), down)
    return w.graph.node("Add", [x, even_matmul(w.graph, hidden, f"{name}.mlp.2", down, bias=down_bias, c=c)])


def attention(w: Whisper, query: str, key: str, value: str, mask: str | None) -> str:
    """softmax(q k^T / sqrt(d)) v over all frames; `mask` (bool, True = padding) is only in the plain flavour."""
    if mask is None:
        return w.graph.node("com.microsoft:MultiHeadAttention", [query, key, value], num_heads=w.sizes.n_head)
    dim = w.sizes.n_state // w.sizes.n_head
    split = w.graph.constant([0, 0, w.sizes.n_head, dim])
    query = w.graph.node("Mul", [query, w.graph.constant(dim**-0.5)])
    q = w.graph.node("Transpose", [w.graph.node("Reshape", [query, split])], perm=[0, 2, 1, 3])
    k = w.graph.node("Transpose", [w.graph.node("Reshape", [key, split])], perm=[0, 2, 3, 1])
    v = w.graph.node("Transpose", [w.graph.node("Reshape", [value, split])], perm=[0, 2, 1, 3])
    scores = w.graph.node("Where", [mask, w.graph.constant(-3e38), w.graph.node("MatMul", [q, k])])  # [n, heads, f, f]
    mixed = w.graph.node("MatMul", [w.graph.node("Softmax", [scores], axis=-1), v])
    mixed = w.graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    return w.graph.node("Reshape", [mixed, w.graph.constant([0, 0, w.sizes.n_state])])


def head(w: Whisper, x: str, n_frames: str) -> None:
    """Mean of frame pairs (an odd last frame is dropped), ln_post, proj -> `features` [n, frames // 2, d_model]."""
    tokens = w.graph.node("Div", [n_frames, w.graph.constant([2])])
    even = w.graph.node("Mul", [tokens, w.graph.constant([2])])
    x = w.graph.node("Slice", [x, w.graph.constant([0]), even, w.graph.constant([1])])
    pairs = w.graph.node("Concat", [w.graph.constant([0]), tokens, w.graph.constant([2, w.sizes.n_state])], axis=0)
    x = w.graph.node("ReduceMean", [w.graph.node("Reshape", [x, pairs])], axes=[2], keepdims=0)
    x = layer_norm(w, x, f"{PREFIX}.ln_post")
    weight = w.checkpoint.take(f"{PREFIX}.proj.weight", w.sizes.d_model, w.sizes.n_state)
    bias = w.checkpoint.take(f"{PREFIX}.proj.bias", w.sizes.d_model)
    storage = (
        BLOCKS8 if w.storage.kind == "smooth" else w.storage
    )  # a hundredth of the work, and its tokens are answers
    y = linear(w.graph, storage, x, weight, bias)
    w.graph.node("Cast", [y], OUTPUT, to=DTYPES[w.dtype])
    w.graph.output(OUTPUT, w.dtype, ["clips", "tokens", w.sizes.d_model])


def layer_norm(w: Whisper, x: str, name: str) -> str:
    """LayerNorm over channels, affine, epsilon 1e-5."""
    gain = vector(w.graph, w.checkpoint.take(f"{name}.weight", w.sizes.n_state))
    bias = vector(w.graph, w.checkpoint.take(f"{name}.bias", w.sizes.n_state))
    return w.graph.node("LayerNormalization", [x, gain, bias], axis=-1, epsilon=LAYER_NORM_EPSILON)


def gelu(w: Whisper, x: str) -> str:
    """The exact, erf form: x (1 + erf(x / sqrt 2)) / 2. ONNX Runtime has it as one node, and does not fuse these."""
    if w.graph.contrib:
        return w.graph.node("com.microsoft:Gelu", [x])
    erf = w.graph.node("Erf", [w.graph.node("Mul", [x, w.graph.constant(2**-0.5)])])
    return w.graph.node(
        "Mul", [w.graph.node("Mul", [x, w.graph.node("Add", [erf, w.graph.constant(1.0)])]), w.graph.constant(0.5)]
    )
