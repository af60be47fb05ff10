"""The sizes of a Qwen-Audio model, and every tensor of its checkpoint with the scale of its random values.

In: a `Geometry`. Out: a list of `Tensor`: name, shape, mean and std, in the order of the original state dict. It makes
no values, and it knows nothing of the rest of the project: names and shapes are written down here from the
architecture.

Matrices have std gain/sqrt(fan_in); matrices that write into a residual stream are smaller by sqrt(2 * layers), so that
32 layers together add about as much as the embedding brought. c_attn has gain 1.5 so that attention is neither uniform
nor one-hot, the convolutions 1.5 for what GELU takes away, lm_head 3: logits have std 3. Norm gains are
1 + 0.1 N(0, 1), biases 0.02 N(0, 1).
"""

import math
from dataclasses import dataclass, field

Gains = dict[int, float]  # channel -> factor


@dataclass(frozen=True)
class Geometry:
    """Sizes of a Qwen-Audio model, named as in its config.json; the defaults are the published model."""

    hidden_size: int = 4096
    intermediate_size: int = 22016  # twice the real width: w1 and w2 are counted together
    num_attention_heads: int = 32
    num_hidden_layers: int = 32
    vocab_size: int = 155947
    seq_length: int = 2048
    audio_start_id: int = 155163
    n_state: int = 1280
    n_head: int = 20
    n_layer: int = 32
    n_mels: int = 80
    n_ctx: int = 1500

    def __post_init__(self) -> None:
        """Reject sizes that the architecture cannot have."""
        assert self.hidden_size % (2 * self.num_attention_heads) == 0, "rotary needs an even head_dim"
        assert self.n_state % (2 * self.n_head) == 0, "n_state is n_head times an even head_dim"
        assert self.intermediate_size % 2 == 0, "w1 and w2 are halves of intermediate_size"
        assert min(self.num_hidden_layers, self.n_layer) >= 1, "at least one layer"


FULL = Geometry()
TINY = Geometry(  # real vocabulary, 20 MB
    hidden_size=32, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2, n_state=64, n_head=4, n_layer=2
)


@dataclass(frozen=True)
class Tensor:
    """One tensor of the checkpoint: mean + std * N(0, 1), then rows and columns times their outlier factors."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    rows: Gains = field(default_factory=dict)
    columns: Gains = field(default_factory=dict)

    @property
    def matrix(self) -> tuple[int, int]:
        """Shape as rows and columns; a vector is a column."""
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return 2 * math.prod(self.shape)


def list_tensors(geometry: Geometry) -> list[Tensor]:
    """Every tensor of the checkpoint in the order of the original state dict, without outliers."""
    g, prefix = geometry, "transformer."
    tensors = [Tensor(prefix + "wte.weight", (g.vocab_size, g.hidden_size), 0.5)]
    for layer in range(g.num_hidden_layers):
        tensors += _decoder_layer(g, f"{prefix}h.{layer}.")
    tensors.append(_norm_gain(prefix + "ln_f", g.hidden_size))
    tensors += _encoder(g, prefix + "audio.")
    return [*tensors, _matrix("lm_head.weight", (g.vocab_size, g.hidden_size), gain=3.0)]


def _decoder_layer(g: Geometry, prefix: str) -> list[Tensor]:
    hidden, inner = g.hidden_size, g.intermediate_size // 2
    residual = 1 / math.sqrt(2 * g.num_hidden_layers)
    return [
        _norm_gain(prefix + "ln_1", hidden),
        _matrix(prefix + "attn.c_attn.weight", (3 * hidden, hidden), gain=1.5),
        _bias(prefix + "attn.c_attn", 3 * hidden),
        _matrix(prefix + "attn.c_proj.weight", (hidden, hidden), gain=residual),
        _norm_gain(prefix + "ln_2", hidden),
        _matrix(prefix + "mlp.w1.weight", (inner, hidden)),
        _matrix(prefix + "mlp.w2.weight", (inner, hidden)),
        _matrix(prefix + "mlp.c_proj.weight", (hidden, inner), gain=residual),
    ]


def _encoder(g: Geometry, prefix: str) -> list[Tensor]:
    state = g.n_state
    tensors = [
        Tensor(prefix + "positional_embedding", (g.n_ctx, state), 0.0),  # not random: a sinusoid
        _matrix(prefix + "conv1.weight", (state, g.n_mels, 3), gain=1.5),
        _bias(prefix + "conv1", state),
        _matrix(prefix + "conv2.weight", (state, state, 3), gain=1.5),
        _bias(prefix + "conv2", state),
    ]
    for block in range(g.n_layer):
        tensors += _encoder_block(g, f"{prefix}blocks.{block}.")
    return [
        *tensors,
        _norm_gain(prefix + "ln_post", state),
        _bias(prefix + "ln_post", state),
        _matrix(prefix + "proj.weight", (g.hidden_size, state), gain=0.5),  # as large as wte
        _bias(prefix + "proj", g.hidden_size),
        Tensor(prefix + "audio_bos_eos_token.weight", (2, g.hidden_size), 0.5),
    ]


def _encoder_block(g: Geometry, prefix: str) -> list[Tensor]:
    state, inner = g.n_state, 4 * g.n_state
    residual = 1 / math.sqrt(2 * g.n_layer)
    return [
        _matrix(prefix + "attn.query.weight", (state, state)),
        _bias(prefix + "attn.query", state),
        _matrix(prefix + "attn.key.weight", (state, state)),  # no bias in Whisper
        _matrix(prefix + "attn.value.weight", (state, state)),
        _bias(prefix + "attn.value", state),
        _matrix(prefix + "attn.out.weight", (state, state), gain=residual),
        _bias(prefix + "attn.out", state),
        _norm_gain(prefix + "attn_ln", state),
        _bias(prefix + "attn_ln", state),
        _matrix(prefix + "mlp.0.weight", (inner, state)),
        _bias(prefix + "mlp.0", inner),
        _matrix(prefix + "mlp.2.weight", (state, inner), gain=residual),
        _bias(prefix + "mlp.2", state),
        _norm_gain(prefix + "mlp_ln", state),
        _bias(prefix + "mlp_ln", state),
    ]


def _matrix(name: str, shape: tuple[int, ...], *, gain: float = 1.0) -> Tensor:
    return Tensor(name, shape, gain / math.sqrt(math.prod(shape[1:])))


def _bias(layer: str, width: int) -> Tensor:
    return Tensor(layer + ".bias", (width,), 0.02)


def _norm_gain(layer: str, width: int) -> Tensor:
    return Tensor(layer + ".weight", (width,), 0.1, mean=1.0)
