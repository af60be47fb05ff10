"""An equivalent checkpoint whose residual stream is turned, so that no channel of it is larger than the rest.

A rotation Q of the stream changes nothing, as RMSNorm keeps lengths: what writes into it is turned, what reads from it
is turned back, and the gains of the norms move into the matrices that read them (QuaRot, Ashkboos et al. 2024). The
embeddings stay as they are: the decoder's graph turns what comes in (`graph_rows`). Trained streams have a few channels
hundreds of times as large as the rest; turned, all are alike, in activations and weights, and both round to few bits
with less error. The values of each attention head are turned within the head likewise.

    turned on the way out                                turned back on the way in
    attn.c_proj, mlp.c_proj                              attn.c_attn, mlp.w1, mlp.w2, lm_head (times the gain)
    the values in attn.c_attn, by head                   attn.c_proj, by head

Q is a product of random signs and two small cosine transforms: x [a * b] as a matrix X [a, b] becomes A X B^T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np

from models.convert.checkpoint import Checkpoint, Float32, Tensor
from models.convert.graph import GraphBuilder


class Rotation:
    """Q [n, n], orthogonal; the same for the same n and seed."""

    def __init__(self, n: int, seed: int) -> None:
        a = next(size for size in range(math.isqrt(n), 0, -1) if n % size == 0)
        self._signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), n)
        self._a, self._b = cosines(a), cosines(n // a)

    def rows(self, x: Float32) -> Float32:
        """Turn every vector [n] of x [..., n]."""
        a, b = len(self._a), len(self._b)
        turned = self._a @ (x * self._signs).reshape(*x.shape[:-1], a, b) @ self._b.T
        return np.asarray(turned.reshape(x.shape), np.float32)

    def graph_rows(self, graph: GraphBuilder, x: str) -> str:
        """The same of a graph's value [1, tokens, n] float32."""
        a, b = len(self._a), len(self._b)
        signed = graph.node("Mul", [x, self._weight(graph, "signs", self._signs)])
        parts = graph.node("Reshape", [signed, graph.constant([0, 0, a, b])])
        right = graph.node("MatMul", [parts, self._weight(graph, "right", np.ascontiguousarray(self._b.T))])
        both = graph.node("MatMul", [self._weight(graph, "left", self._a), right])
        return graph.node("Reshape", [both, graph.constant([0, 0, a * b])])

    def _weight(self, graph: GraphBuilder, name: str, values: Float32) -> str:
        return graph.weight(f"rotation.{name}", "float32", values.shape, [values])

    def columns(self, x: Float32) -> Float32:
        """The same of the vectors along the first axis of x [n, ...]."""
        return np.ascontiguousarray(self.rows(np.ascontiguousarray(x.T)).T)


def cosines(n: int) -> Float32:
    """The orthogonal cosine transform (DCT-II) [n, n]."""
    angle = np.pi * np.outer(np.arange(n), np.arange(n) + 0.5) / n
    matrix = np.cos(angle) * np.sqrt(2 / n)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, np.float32)


Change = Callable[[Float32], Float32]


@dataclass(frozen=True)
class TurnedTensor(Tensor):
    """A tensor that is changed when it is read: block by block where rows are independent, else as a whole."""

    change: Change = field(default=lambda rows: rows, compare=False)
    by_rows: bool = True

    def rows(self) -> Iterator[Float32]:
        """As `Tensor.rows`."""
        if self.by_rows:
            yield from (self.change(block) for block in super().rows())
        else:
            yield self.change(np.concatenate(list(super().rows())))


class RotatedCheckpoint:
    """Hands out the tensors of a checkpoint turned; what the rotation does not concern stays as it is."""

    def __init__(self, checkpoint: Checkpoint, d_model: int, n_head: int) -> None:
        self._checkpoint, self._d_model, self._n_head = checkpoint, d_model, n_head
        self.stream, self._head = Rotation(d_model, 0), Rotation(d_model // n_head, 1)
        self.config, self.directory = checkpoint.config, checkpoint.directory

    def take(self, name: str, *shape: int) -> Tensor:
        """As `Checkpoint.take`."""
        return self._turned(self._checkpoint.take(name, *shape))

    def look_up(self, name: str, *shape: int) -> Tensor:
        """As `Checkpoint.look_up`."""
        return self._turned(self._checkpoint.look_up(name, *shape))

    def _turned(self, tensor: Tensor) -> Tensor:
        change, by_rows = self._change(tensor.name)
        if change is None:
            return tensor
        values = {one.name: getattr(tensor, one.name) for one in fields(Tensor)}
        # A gain that moved into the matrices is float32 ones, whatever the checkpoint stores.
        return TurnedTensor(**values, change=change, by_rows=by_rows)

    def _change(self, name: str) -> tuple[Change | None, bool]:
        """What becomes of a tensor, and whether its rows are independent in that."""
        part = name.removeprefix("transformer.").split(".")
        match part[:1] + part[2:] if part[0] == "h" else part:
            case ["h", "mlp", "c_proj", _]:
                return self.stream.columns, False
            case ["h", "ln_1" | "ln_2", _] | ["ln_f", _]:
                return np.ones_like, True
            case ["h", "attn", "c_attn", "weight"]:
                return partial(self._c_attn, self._gain(f"transformer.h.{part[1]}.ln_1")), False
            case ["h", "attn", "c_attn", "bias"]:
                return self._values_of_bias, False
            case ["h", "attn", "c_proj", _]:
                return self._attention_out, False
            case ["h", "mlp", "w1" | "w2", _]:
                return partial(self._reads, self._gain(f"transformer.h.{part[1]}.ln_2")), True
            case ["lm_head", _]:
                return partial(self._reads, self._gain("transformer.ln_f")), True
        return None, True

    def _gain(self, norm: str) -> Float32:
        return self._checkpoint.look_up(f"{norm}.weight", self._d_model).read()

    def _reads(self, gain: Float32, rows: Float32) -> Float32:
        return self.stream.rows(rows * gain)

    def _by_head(self, vectors: Float32) -> Float32:
        """Turn the heads of vectors [..., d_model] each."""
        heads = vectors.reshape(*vectors.shape[:-1], self._n_head, -1)
        return self._head.rows(heads).reshape(vectors.shape)

    def _values_of_bias(self, bias: Float32) -> Float32:
        return np.concatenate([bias[: 2 * self._d_model], self._by_head(bias[2 * self._d_model :])])

    def _c_attn(self, gain: Float32, weight: Float32) -> Float32:
        turned = self._reads(gain, weight)
        values = self._by_head(np.ascontiguousarray(turned[2 * self._d_model :].T))
        turned[2 * self._d_model :] = values.T
        return turned

    def _attention_out(self, weight: Float32) -> Float32:
        return self._by_head(self.stream.columns(weight))
