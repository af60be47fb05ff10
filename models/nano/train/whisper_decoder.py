"""Whisper base's decoder in torch, for training only: what a grafted decoder is made of and held against.

In: ids of Whisper's own and the frozen encoder's features of one clip. Out: logits, and the residual stream before each
of the eighteen parts (self-attention, cross-attention and MLP of six layers), which `refit` takes as its targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from models.nano.train.whisper_base import read_variables

N_LAYER, N_HEAD, STATE = 6, 8, 512
HEAD_DIM = STATE // N_HEAD
EPSILON = 1e-5
PARTS = ("self", "cross", "mlp")  # of a layer, in order
START, ENGLISH, TRANSCRIBE, NO_TIMES, END = 50258, 50259, 50359, 50363, 50257  # Whisper's special ids
PROMPT = (START, ENGLISH, TRANSCRIBE, NO_TIMES)


@dataclass(frozen=True)
class Linear:
    """weight [out, in], bias [out]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def after(self, norm: Norm) -> Linear:
        """The same product on what `norm` gives before its own weight and bias."""
        return Linear(self.weight * norm.weight, self.bias + self.weight @ norm.bias)


@dataclass(frozen=True)
class Norm:
    """Layer norm: weight and bias [state]."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, EPSILON)


@dataclass(frozen=True)
class Attention:
    """One attention: its norm, and four products. Keys have no bias (it is zero)."""

    norm: Norm
    query: Linear
    key: Linear
    value: Linear
    out: Linear


@dataclass(frozen=True)
class Layer:
    """Three parts, each added to the residual stream."""

    attend: Attention
    cross: Attention
    mlp_norm: Norm
    up: Linear
    down: Linear


class WhisperDecoder:
    """embeddings [51865, state], positions [448, state], layers and the last norm; logits use the embeddings again."""

    def __init__(self, path: Path) -> None:
        """`path` is CTranslate2's `model.bin` (`whisper_base.fetch`)."""
        stored = {
            name.removeprefix("decoder/"): torch.from_numpy(values.astype(np.float32))
            for name, values in read_variables(path).items()
            if name.startswith("decoder/") and values.ndim
        }
        self.embeddings, self.positions = stored["embeddings/weight"], stored["position_encodings/encodings"]
        self.layers = [_layer(stored, f"layer_{number}") for number in range(N_LAYER)]
        self.norm = _norm(stored, "layer_norm")

    def states(self, ids: Tensor, features: Tensor) -> tuple[Tensor, list[Tensor]]:
        """ids [t], features [T, state] -> logits [t, 51865] and the residual stream before each part, [t, state]."""
        x = self.embeddings[ids] + self.positions[: len(ids)]
        future = torch.full((len(ids), len(ids)), -torch.inf).triu(1)
        seen = []
        for layer in self.layers:
            seen.append(x)
            heard = layer.attend.norm(x)
            x = x + mixed(layer.attend, heard, heard, future)
            seen.append(x)
            x = x + mixed(layer.cross, layer.cross.norm(x), features, torch.zeros(()))
            seen.append(x)
            x = x + layer.down(F.gelu(layer.up(layer.mlp_norm(x))))
        return F.linear(self.norm(x), self.embeddings), seen


def mixed(attention: Attention, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
    """What one attention adds: `asking` [t, state] looks at `asked` [T, state]; the mask is added to the scores."""
    q, k, v = (
        layer(x).unflatten(-1, (N_HEAD, HEAD_DIM)).transpose(0, 1)
        for layer, x in ((attention.query, asking), (attention.key, asked), (attention.value, asked))
    )  # [heads, t, dim]
    weights = (q @ k.mT / math.sqrt(HEAD_DIM) + mask).softmax(-1)
    return attention.out((weights @ v).transpose(0, 1).flatten(1))


def _layer(stored: dict[str, Tensor], name: str) -> Layer:
    own, cross = f"{name}/self_attention", f"{name}/attention"
    own_query, own_key, own_value = _linear(stored, f"{own}/linear_0", 3)
    key, value = _linear(stored, f"{cross}/linear_1", 2)
    (query,), (own_out,) = _linear(stored, f"{cross}/linear_0"), _linear(stored, f"{own}/linear_1")
    (cross_out,) = _linear(stored, f"{cross}/linear_2")
    (up,), (down,) = (_linear(stored, f"{name}/ffn/linear_{number}") for number in range(2))
    return Layer(
        Attention(_norm(stored, f"{own}/layer_norm"), own_query, own_key, own_value, own_out),
        Attention(_norm(stored, f"{cross}/layer_norm"), query, key, value, cross_out),
        _norm(stored, f"{name}/ffn/layer_norm"),
        up,
        down,
    )


def _linear(stored: dict[str, Tensor], name: str, parts: int = 1) -> list[Linear]:
    pairs = zip(stored[f"{name}/weight"].chunk(parts), stored[f"{name}/bias"].chunk(parts), strict=True)
    return [Linear(weight, bias) for weight, bias in pairs]


def _norm(stored: dict[str, Tensor], name: str) -> Norm:
    return Norm(stored[f"{name}/gamma"], stored[f"{name}/beta"])
