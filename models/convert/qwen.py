"""The decoder: Qwen-7B's architecture as ONNX graphs. Dimension order: [batch, tokens, channels].

    h -> n_layer x ( h += c_proj(attention(ln_1(h)));  h += c_proj(w1(y) * silu(w2(y))) with y = ln_2(h) )
      -> ln_f -> lm_head

Here is what both flavours are built from; `qwen_fused` and `qwen_plain` lay it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.convert.channel_balance import EvenCheckpoint
from models.convert.checkpoint import Checkpoint, Tensor
from models.convert.graph import GraphBuilder
from models.convert.linear import FINER, Precision, Storage, linear
from models.convert.residual_rotation import Rotation
from models.convert.rounded import RoundedCheckpoint
from models.manifest import DecoderSizes

Source = Checkpoint | EvenCheckpoint | RoundedCheckpoint


@dataclass(frozen=True)
class Qwen:
    """What every part of the decoder is built from: weights, sizes, the graph, and the settings of config.json."""

    checkpoint: Source
    sizes: DecoderSizes
    graph: GraphBuilder
    precision: Precision
    width: int  # of the MLP
    epsilon: float  # of every RMSNorm
    dtype: str = "float32"  # of the plain graph's inputs and outputs
    finer: frozenset[str] = frozenset()  # names of matrices that calibration gives more bits
    rotation: Rotation | None = None  # of a calibrated model's residual stream

    def store(self, weight: Tensor, part: Storage) -> Storage:
        """How a matrix is stored: as its part of the model, or finer."""
        return FINER if weight.name in self.finer else part

    @property
    def half(self) -> bool:
        """Whether activations and cache are float16."""
        return self.graph.floats == "float16"


def c_attn(q: Qwen, y: str, layer: int) -> str:
    """q, k and v side by side, with bias -> [batch, t, 3 * d_model]."""
    name = f"transformer.h.{layer}.attn.c_attn"
    weight = q.checkpoint.take(f"{name}.weight", 3 * q.sizes.d_model, q.sizes.d_model)
    bias = q.checkpoint.take(f"{name}.bias", 3 * q.sizes.d_model)
    return linear(q.graph, q.store(weight, q.precision.attention), y, weight, bias)


def attention_out(q: Qwen, y: str, layer: int) -> str:
    """attn.c_proj, no bias."""
    name = f"transformer.h.{layer}.attn.c_proj"
    weight = q.checkpoint.take(f"{name}.weight", q.sizes.d_model, q.sizes.d_model)
    return linear(q.graph, q.store(weight, q.precision.attention), y, weight)


def gate_and_up(q: Qwen, y: str, name: str) -> tuple[str, str]:
    """w2 is the gate, w1 the up projection; neither has a bias."""
    weights = [q.checkpoint.take(f"{name}.mlp.{part}.weight", q.width, q.sizes.d_model) for part in ("w2", "w1")]
    gate, up = (linear(q.graph, q.store(weight, q.precision.mlp), y, weight) for weight in weights)
    return gate, up


def mlp_out(q: Qwen, y: str, name: str) -> str:
    """mlp.c_proj, no bias."""
    weight = q.checkpoint.take(f"{name}.mlp.c_proj.weight", q.sizes.d_model, q.width)
    return linear(q.graph, q.store(weight, q.precision.mlp), y, weight)


def lm_head(q: Qwen, y: str, piece: int) -> str:
    """Logits; the output layer is not tied to the embeddings. It is made in pieces of at most so many ids."""
    n = q.sizes.vocab_size
    weight = q.checkpoint.take("lm_head.weight", n, q.sizes.d_model)
    if n <= piece:
        return linear(q.graph, q.precision.head, y, weight)
    rows = [weight.cut(start, min(start + piece, n)) for start in range(0, n, piece)]
    return q.graph.node("Concat", [linear(q.graph, q.precision.head, y, one) for one in rows], axis=-1)
