"""The audio encoder: Whisper large-v2's trunk as Qwen-Audio changed it, as an ONNX graph.

Differences from Whisper: only the real frames of a clip are attended to, frames are averaged in pairs before the last
norm, and a projection to the decoder's width follows. Dimension order: [clips, frames, channels].

    mel [n, n_mels, columns] -> conv1, gelu -> conv2 (stride 2), gelu -> [n, frames, n_state]
        -> + positional_embedding -> n_layer x (attention, mlp) -> mean of frame pairs -> ln_post -> proj [n, T, d_model]

Two flavours: "fused" takes one clip without padding; "plain" takes a padded batch and a mask, as ailia publishes it.
"""

from __future__ import annotations

from models.convert.checkpoint import Checkpoint
from models.convert.graph import GraphBuilder
from models.convert.linear import Storage, linear, vector
from models.manifest import EncoderSizes, Graph

PREFIX = "transformer.audio"
LAYER_NORM_EPSILON = 1e-5
FUSED_INPUTS = ("mel", "n_frames")
PLAIN_INPUTS = ("input_audios", "padding_mask", "input_audio_lengths")
OUTPUT = "features"


def build_fused_encoder(checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, storage: Storage) -> None:
    """One clip: `mel` [1, n_mels, columns], of whose frames the first `n_frames` [1] count -> [1, frames // 2, d_model]."""
    mel = graph.input("mel", "float32", [1, sizes.n_mels, "columns"])
    n_frames = graph.input("n_frames", "int64", [1])
    x = conv_stem(checkpoint, sizes, graph, mel)  # [1, frames, n_state]
    x = graph.node("Slice", [x, graph.constant([0]), n_frames, graph.constant([1])])
    x = graph.node("Add", [x, positions(checkpoint, sizes, graph, n_frames)])
    for layer in range(sizes.n_layer):
        x = block(checkpoint, sizes, graph, storage, x, layer, mask=None)
    head(checkpoint, sizes, graph, storage, x, n_frames, "float32")


def build_plain_encoder(
    checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, storage: Storage, dtype: str
) -> None:
    """A batch: `input_audios` [n, n_mels, 2 n_ctx], `padding_mask` [n, frames] (1 = padding), `input_audio_lengths`
    [n, 2] (frames, tokens) -> [n, frames // 2, d_model]; frames is that of the longest clip."""
    audios = graph.input("input_audios", dtype, ["clips", sizes.n_mels, 2 * sizes.n_ctx])
    padding = graph.input("padding_mask", dtype, ["clips", "frames"])
    lengths = graph.input("input_audio_lengths", "int64", ["clips", 2])
    longest = graph.node("ReduceMax", [lengths], axes=[0], keepdims=0)  # [2]
    n_frames = graph.node("Slice", [longest, graph.constant([0]), graph.constant([1]), graph.constant([0])])  # [1]
    columns = graph.node("Mul", [n_frames, graph.constant([2])])
    mel = graph.node("Cast", [audios], to=1)
    mel = graph.node("Slice", [mel, graph.constant([0]), columns, graph.constant([2])])
    x = conv_stem(checkpoint, sizes, graph, mel)  # [n, frames, n_state]
    x = graph.node("Add", [x, positions(checkpoint, sizes, graph, n_frames)])
    padded = graph.node("Greater", [graph.node("Cast", [padding], to=1), graph.constant(0.5)])  # [n, frames] bool
    rows = graph.node("Unsqueeze", [padded, graph.constant([2])])  # [n, frames, 1]
    x = graph.node("Where", [rows, graph.constant(0.0), x])
    keys = graph.node("Unsqueeze", [padded, graph.constant([1, 2])])  # [n, 1, 1, frames]
    for layer in range(sizes.n_layer):
        x = block(checkpoint, sizes, graph, storage, x, layer, mask=keys)
    head(checkpoint, sizes, graph, storage, x, n_frames, dtype)


def encoder_graph(file: str, flavour: str) -> Graph:
    """How the manifest describes the encoder of a flavour."""
    return Graph(file, FUSED_INPUTS if flavour == "fused" else PLAIN_INPUTS, (OUTPUT,))


def conv_stem(checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, mel: str) -> str:
    """Two convolutions of width 3 with gelu, the second of stride 2 -> [n, frames, n_state]."""
    x = mel
    for name, channels, stride in (("conv1", sizes.n_mels, 1), ("conv2", sizes.n_state, 2)):
        weight = vector(graph, checkpoint.take(f"{PREFIX}.{name}.weight", sizes.n_state, channels, 3))
        bias = vector(graph, checkpoint.take(f"{PREFIX}.{name}.bias", sizes.n_state))
        x = graph.node("Conv", [x, weight, bias], kernel_shape=[3], pads=[1, 1], strides=[stride])
        x = gelu(graph, x)  # [n, n_state, frames]
    return graph.node("Transpose", [x], perm=[0, 2, 1])


def positions(checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, n_frames: str) -> str:
    """The first `n_frames` rows of the stored sinusoids -> [frames, n_state]."""
    table = vector(graph, checkpoint.take(f"{PREFIX}.positional_embedding", sizes.n_ctx, sizes.n_state))
    return graph.node("Slice", [table, graph.constant([0]), n_frames, graph.constant([0])])


def block(
    checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, storage: Storage, x: str, layer: int, *, mask: str | None
) -> str:
    """x += out(attention(attn_ln(x))); x += mlp.2(gelu(mlp.0(mlp_ln(x)))). Keys have no bias."""
    name, state = f"{PREFIX}.blocks.{layer}", sizes.n_state

    def project(y: str, part: str, n: int, k: int, *, has_bias: bool = True) -> str:
        weight = checkpoint.take(f"{name}.{part}.weight", n, k)
        bias = [checkpoint.take(f"{name}.{part}.bias", n)] if has_bias else None
        return linear(graph, storage, y, f"{name}.{part}", [weight], bias)

    normed = layer_norm(checkpoint, graph, x, f"{name}.attn_ln", state)
    query = project(normed, "attn.query", state, state)
    key = project(normed, "attn.key", state, state, has_bias=False)
    value = project(normed, "attn.value", state, state)
    mixed = attention(graph, sizes, query, key, value, mask)
    x = graph.node("Add", [x, project(mixed, "attn.out", state, state)])
    normed = layer_norm(checkpoint, graph, x, f"{name}.mlp_ln", state)
    hidden = gelu(graph, project(normed, "mlp.0", 4 * state, state))
    return graph.node("Add", [x, project(hidden, "mlp.2", state, 4 * state)])


def attention(graph: GraphBuilder, sizes: EncoderSizes, query: str, key: str, value: str, mask: str | None) -> str:
    """softmax(q k^T / sqrt(d)) v over all frames; `mask` (bool, True = padding) is only in the plain flavour."""
    if mask is None:
        return graph.node("com.microsoft:MultiHeadAttention", [query, key, value], num_heads=sizes.n_head)
    dim = sizes.n_state // sizes.n_head
    split = graph.constant([0, 0, sizes.n_head, dim])
    query = graph.node("Mul", [query, graph.constant(dim**-0.5)])
    q = graph.node("Transpose", [graph.node("Reshape", [query, split])], perm=[0, 2, 1, 3])
    k = graph.node("Transpose", [graph.node("Reshape", [key, split])], perm=[0, 2, 3, 1])
    v = graph.node("Transpose", [graph.node("Reshape", [value, split])], perm=[0, 2, 1, 3])
    scores = graph.node("Where", [mask, graph.constant(-3e38), graph.node("MatMul", [q, k])])  # [n, heads, f, f]
    mixed = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), v])
    mixed = graph.node("Transpose", [mixed], perm=[0, 2, 1, 3])
    return graph.node("Reshape", [mixed, graph.constant([0, 0, sizes.n_state])])


def head(
    checkpoint: Checkpoint, sizes: EncoderSizes, graph: GraphBuilder, storage: Storage, x: str, n_frames: str, dtype: str
) -> None:
    """Mean of frame pairs (an odd last frame is dropped), ln_post, proj -> `features` [n, frames // 2, d_model]."""
    tokens = graph.node("Div", [n_frames, graph.constant([2])])
    even = graph.node("Mul", [tokens, graph.constant([2])])
    x = graph.node("Slice", [x, graph.constant([0]), even, graph.constant([1])])
    pairs = graph.node("Concat", [graph.constant([0]), tokens, graph.constant([2, sizes.n_state])], axis=0)
    x = graph.node("ReduceMean", [graph.node("Reshape", [x, pairs])], axes=[2], keepdims=0)
    x = layer_norm(checkpoint, graph, x, f"{PREFIX}.ln_post", sizes.n_state)
    weight = checkpoint.take(f"{PREFIX}.proj.weight", sizes.d_model, sizes.n_state)
    bias = checkpoint.take(f"{PREFIX}.proj.bias", sizes.d_model)
    y = linear(graph, storage, x, f"{PREFIX}.proj", [weight], [bias])
    graph.node("Cast" if dtype == "float16" else "Identity", [y], OUTPUT, **({"to": 10} if dtype == "float16" else {}))
    graph.output(OUTPUT, dtype, ["clips", "tokens", sizes.d_model])


def layer_norm(checkpoint: Checkpoint, graph: GraphBuilder, x: str, name: str, n_state: int) -> str:
    """LayerNorm over channels, affine, epsilon 1e-5."""
    gain = vector(graph, checkpoint.take(f"{name}.weight", n_state))
    bias = vector(graph, checkpoint.take(f"{name}.bias", n_state))
    return graph.node("LayerNormalization", [x, gain, bias], axis=-1, epsilon=LAYER_NORM_EPSILON)


def gelu(graph: GraphBuilder, x: str) -> str:
    """The exact, erf form: x (1 + erf(x / sqrt 2)) / 2. ONNX Runtime fuses these nodes by itself."""
    erf = graph.node("Erf", [graph.node("Mul", [x, graph.constant(2**-0.5)])])
    return graph.node("Mul", [graph.node("Mul", [x, graph.node("Add", [erf, graph.constant(1.0)])]), graph.constant(0.5)])
