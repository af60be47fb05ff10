"""Whisper base's decoder in torch, for training only: what a grafted decoder is made of and held against.

In: ids of Whisper's own and the frozen encoder's features of one clip. Out: what the last norm gives, whose products
with the embeddings are the logits, and the residual stream before each of the eighteen parts (self-attention,
cross-attention and MLP of six layers), which `refit` and `distil` take as their targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.nano.train.whisper_base import read_variables

N_LAYER, N_HEAD, STATE = 6, 8, 512
HEAD_DIM = STATE // N_HEAD
EPSILON = 1e-5
START, ENGLISH, TRANSCRIBE, NO_TIMES, END = 50258, 50259, 50359, 50363, 50257  # Whisper's special ids
SILENT_FRAMES = 750  # behind a sound: Whisper hears 30 s, and ours mostly last less
TIMES = 50364  # the id of 0 s; each further one is 20 ms later
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

    def states(self, ids: Tensor, features: Tensor, louder: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:
        """ids [..., t], features [..., T, state] -> the last norm's output and the residual stream before each part.

        All are [..., t, state]. `louder` [..., T] is added to the scores of cross-attention (`followed_by`).
        """
        x = self.embeddings[ids] + self.positions[: ids.shape[-1]]
        future = torch.full((ids.shape[-1], ids.shape[-1]), -torch.inf).triu(1)
        heard = torch.zeros(()) if louder is None else louder[..., None, None, :]
        seen = []
        for layer in self.layers:
            seen.append(x)
            normed = layer.attend.norm(x)
            x = x + mixed(layer.attend, normed, normed, future)
            seen.append(x)
            x = x + mixed(layer.cross, layer.cross.norm(x), features, heard)
            seen.append(x)
            x = x + layer.down(F.gelu(layer.up(layer.mlp_norm(x))))
        return self.norm(x), seen


def followed_by(silence: Tensor, sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Sounds [T, state] with one frame of silence [state] behind each, padded, and what `states` takes as `louder`."""
    features = pad_sequence([torch.cat([sound, silence[None]]) for sound in sounds], batch_first=True)
    louder = torch.full(features.shape[:2], -torch.inf)
    for row, sound in enumerate(sounds):
        louder[row, : len(sound)] = 0.0
        louder[row, len(sound)] = math.log(SILENT_FRAMES)
    return features, louder


def mixed(attention: Attention, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
    """What one attention adds: `asking` [..., t, state] looks at `asked` [..., T, state]; the scores take the mask."""
    value = _heads(attention.value(asked))
    return attention.out((attended(attention, asking, asked, mask) @ value).transpose(-3, -2).flatten(-2))


def attended(attention: Attention, asking: Tensor, asked: Tensor, mask: Tensor) -> Tensor:
    """Where each head looks: [..., heads, t, T]."""
    q, k = _heads(attention.query(asking)), _heads(attention.key(asked))
    return (q @ k.mT / math.sqrt(HEAD_DIM) + mask).softmax(-1)


def _heads(x: Tensor) -> Tensor:
    return x.unflatten(-1, (N_HEAD, -1)).transpose(-3, -2)


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
