"""The decoder on whole sequences in numpy, a layer at a time, for calibration. Dimension order: [tokens, channels].

In: the residual stream of several sequences, one behind the other. Out: the stream behind the layer. Every matrix
product is handed to the caller as `product(name, x)`, who sees its input and says what it gives: so the same lines are
the exact model and a rounded one. `qwen_fused` is the same function as a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.convert.checkpoint import Float32
from models.manifest import DecoderSizes
from models.rotary import logn_scale, ntk_alpha, rotary_tables

TOKENS = 512
Product = Callable[[str, Float32], Float32]  # name of a matrix W [n, k], x [tokens, k] -> x W^T [tokens, n]


@dataclass(frozen=True)
class Layer:
    """The small weights of a layer: gains of both norms [d_model], bias of c_attn [3 * d_model]."""

    ln_1: Float32
    bias: Float32
    ln_2: Float32


class Positions:
    """Rotary tables and LogN factors of sequences of these lengths, each of which starts at position 0."""

    def __init__(self, lengths: Sequence[int], sizes: DecoderSizes) -> None:
        self.lengths, self.sizes = tuple(lengths), sizes
        alphas = {ntk_alpha(length, sizes) for length in lengths}
        self._tables = {alpha: rotary_tables(alpha, sizes) for alpha in alphas}
        self._scale = logn_scale(sizes)

    def attend(self, qkv: Float32) -> Float32:
        """Causal attention of every sequence of `qkv` [tokens, 3 * d_model] -> [tokens, d_model]."""
        found, start = [], 0
        for length in self.lengths:
            found.append(self._one(qkv[start : start + length]))
            start += length
        return np.concatenate(found)

    def _one(self, qkv: Float32) -> Float32:
        t, heads, dim = len(qkv), self.sizes.n_head, self.sizes.head_dim
        cos, sin = (table[:t] for table in self._tables[ntk_alpha(t, self.sizes)])
        q, k, v = qkv.reshape(t, 3, heads, dim).transpose(1, 2, 0, 3)  # each [heads, t, dim]
        q, k = (_rotated(one, cos, sin) for one in (q * self._scale[:t, None], k))
        scores = q @ k.transpose(0, 2, 1) * np.float32(dim**-0.5)  # [heads, t, t]
        scores += np.triu(np.full((t, t), -np.inf, np.float32), 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        return np.asarray((scores @ v).transpose(1, 0, 2).reshape(t, heads * dim), np.float32)


def run_layer(h: Float32, layer: Layer, positions: Positions, epsilon: float, product: Product) -> Float32:
    """h [tokens, d_model] behind one layer; see the module for `product`."""
    y = rms_norm(h, layer.ln_1, epsilon)
    h = h + product("attn.c_proj", positions.attend(product("attn.c_attn", y) + layer.bias))
    y = rms_norm(h, layer.ln_2, epsilon)
    inner = silu(product("mlp.w2", y))
    inner *= product("mlp.w1", y)
    return np.asarray(h + product("mlp.c_proj", inner), np.float32)


def rms_norm(x: Float32, gain: Float32, epsilon: float) -> Float32:
    """x / sqrt(mean(x^2) + epsilon) * gain."""
    size = np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + np.float32(epsilon))
    return np.asarray(x / size * gain, np.float32)


def silu(x: Float32) -> Float32:
    """x / (1 + exp(-x)), in place and some tokens at a time: the MLP's activations are the widest there are."""
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and x over it 0
        for start in range(0, len(x), TOKENS):
            x[start : start + TOKENS] /= 1 + np.exp(-x[start : start + TOKENS])
    return x


def _rotated(x: Float32, cos: Float32, sin: Float32) -> Float32:
    """x [heads, t, dim] turned by its positions, halves apart."""
    first, second = np.split(x, 2, axis=-1)
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
