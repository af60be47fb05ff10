"""An equivalent checkpoint whose channels are even, for products that round activations with one scale for a token.

Such a scale wastes its levels where some channels are larger than the rest, as in every trained transformer. So a
channel is divided by c_j where it is made, and its weights are multiplied by c_j where it is read: the same function.
c_j = sqrt(size of x_j / size of W_j) as SmoothQuant has it (Xiao et al. 2023), where the size of x_j is not calibrated
on data but read off the weights that make it:

    made by                          read by
    ln_1                             attn.c_attn
    the values, in attn.c_attn       attn.c_proj
    ln_2                             mlp.w1, mlp.w2
    mlp.w1                           mlp.c_proj
    ln_f                             lm_head

What a norm makes is its gain times what the embeddings and the layers before write into the residual stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Self

import numpy as np

from models.convert.checkpoint import Checkpoint, Float32, Tensor
from models.convert.int8_encoder import balance
from models.convert.residual_rotation import RotatedCheckpoint

SMALLEST = 1e-30  # a stream of zeros has no size to divide by
Factors = tuple[Float32 | None, Float32 | None]  # of rows [n] and of columns [k]


@dataclass(frozen=True)
class EvenTensor(Tensor):
    """A tensor with factors for its rows and its columns, which are worked out when it is read from `source`."""

    factors: Callable[[], Factors] = field(default=lambda: (None, None), compare=False)
    source: Tensor | None = None

    def cut(self, start: int, stop: int) -> Self:
        """As `Tensor.cut`, with the factors of these rows."""

        def of_these() -> Factors:
            of_rows, of_columns = self.factors()
            return None if of_rows is None else of_rows[start:stop], of_columns

        source = self.source.cut(start, stop) if self.source else None
        return replace(super().cut(start, stop), factors=of_these, source=source)

    def rows(self) -> Iterator[Float32]:
        """As `Tensor.rows`, times the factors."""
        of_rows, of_columns = self.factors()
        start = 0
        for block in self.source.rows() if self.source else super().rows():
            if of_rows is not None:
                factors = of_rows[start : start + len(block)]
                np.multiply(block, factors if block.ndim == 1 else factors[:, None], out=block)
            if of_columns is not None and block.ndim > 1:  # a bias has none
                np.multiply(block, of_columns, out=block)
            start += len(block)
            yield block


@dataclass(frozen=True)
class _Layer:
    """c of what is made in a layer, and the mean squares of the residual stream behind it, each by channel."""

    ln_1: Float32
    values: Float32
    ln_2: Float32
    inner: Float32
    stream: Float32


class EvenCheckpoint:
    """Hands out the tensors of `checkpoint` with their factors, those of attention, the MLP or the output layer."""

    def __init__(
        self,
        checkpoint: Checkpoint | RotatedCheckpoint,
        sizes: tuple[int, int, int],
        parts: frozenset[str],
        measured: Callable[[int], Float32] | None = None,
    ) -> None:
        """`sizes`: d_model, width of the MLP, layers; `parts`: those of "attention", "mlp" and "head" to be even.

        `measured` gives c of a layer's inner activations [width] as calibration measured them. Then only these are made
        even: the other channels of a rotated checkpoint are so already.
        """
        self._checkpoint, self._parts, self._measured = checkpoint, parts, measured
        self._d_model, self._width, self._n_layer = sizes
        self._layers: list[_Layer] = []
        self._head: Float32 | None = None

    def take(self, name: str, *shape: int) -> EvenTensor:
        """As `Checkpoint.take`."""
        return self._even(self._checkpoint.take(name, *shape))

    def look_up(self, name: str, *shape: int) -> EvenTensor:
        """As `Checkpoint.look_up`."""
        return self._even(self._checkpoint.look_up(name, *shape))

    def _even(self, tensor: Tensor) -> EvenTensor:
        values = {one.name: getattr(tensor, one.name) for one in fields(Tensor)}
        return EvenTensor(**values, factors=lambda: self._factors(tensor.name), source=tensor)

    def _factors(self, name: str) -> Factors:
        match name.removeprefix("transformer.").split(".")[:-1]:
            case ["h", layer, *part]:
                return self._layer_factors(self._layer(int(layer)), part)
            case ["ln_f"] if "head" in self._parts:
                return _inverse(self._of_head()), None
            case ["lm_head"] if "head" in self._parts:
                return None, self._of_head()
        return None, None

    def _layer_factors(self, c: _Layer, part: list[str]) -> Factors:
        if part in (["ln_1"], ["attn", "c_attn"], ["attn", "c_proj"]) and "attention" in self._parts:
            queries_and_keys = np.ones(2 * self._d_model, np.float32)
            table: dict[str, Factors] = {
                "ln_1": (_inverse(c.ln_1), None),
                "c_attn": (np.concatenate([queries_and_keys, _inverse(c.values)]), c.ln_1),
                "c_proj": (None, c.values),
            }
            return table[part[-1]]
        if part[0] in ("ln_2", "mlp") and "mlp" in self._parts:
            table = {
                "ln_2": (_inverse(c.ln_2), None),
                "w1": (_inverse(c.inner), c.ln_2),
                "w2": (None, c.ln_2),
                "c_proj": (None, c.inner),
            }
            return table[part[-1]]
        return None, None

    def _layer(self, number: int) -> _Layer:
        """A layer's c; without measured sizes, the layers before it come first."""
        if self._measured:
            ones = np.ones(self._d_model, np.float32)
            return _Layer(ones, ones, ones, self._measured(number), ones)
        while len(self._layers) <= number:
            self._layers.append(self._work_out(len(self._layers)))
        return self._layers[number]

    def _work_out(self, number: int) -> _Layer:
        d, name = self._d_model, f"transformer.h.{number}"
        stream = self._layers[-1].stream if self._layers else self._of_embeddings()
        y = self._normed(stream, f"{name}.ln_1")
        columns, made = self._sizes(f"{name}.attn.c_attn.weight", 3 * d, d, y)
        bias = self._read(f"{name}.attn.c_attn.bias", 3 * d)
        ln_1, value_sizes = balance(y, columns), np.asarray(np.hypot(made, bias)[2 * d :], np.float32)
        columns, made = self._sizes(f"{name}.attn.c_proj.weight", d, d, value_sizes)
        values, stream = balance(value_sizes, columns), stream + np.square(made)
        y = self._normed(stream, f"{name}.ln_2")
        up_columns, up = self._sizes(f"{name}.mlp.w1.weight", self._width, d, y)
        gate_columns, gate = self._sizes(f"{name}.mlp.w2.weight", self._width, d, y)
        inner_sizes = np.asarray(up * gate / 2, np.float32)  # silu(x) is about x / 2
        columns, made = self._sizes(f"{name}.mlp.c_proj.weight", d, self._width, inner_sizes)
        ln_2 = balance(y, np.hypot(up_columns, gate_columns))
        return _Layer(ln_1, values, ln_2, balance(inner_sizes, columns), stream + np.square(made))

    def _of_head(self) -> Float32:
        if self._head is None:
            y = self._normed(self._layer(self._n_layer - 1).stream, "transformer.ln_f")
            vocab = self._checkpoint.config["vocab_size"]
            self._head = balance(y, self._sizes("lm_head.weight", vocab, self._d_model, y)[0])
        return self._head

    def _of_embeddings(self) -> Float32:
        vocab = self._checkpoint.config["vocab_size"]
        return np.square(
            self._sizes("transformer.wte.weight", vocab, self._d_model, np.ones(self._d_model, np.float32))[0]
        )

    def _normed(self, stream: Float32, norm: str) -> Float32:
        """Sizes of what a norm makes of the stream."""
        gain, mean = self._read(f"{norm}.weight", self._d_model), max(float(stream.mean()), SMALLEST)
        return np.asarray(np.abs(gain) * np.sqrt(stream / mean), np.float32)

    def _read(self, name: str, *shape: int) -> Float32:
        return self._checkpoint.look_up(name, *shape).read()

    def _sizes(self, name: str, n: int, k: int, size: Float32) -> tuple[Float32, Float32]:
        """Root mean squares of a matrix's columns [k], and of its outputs [n] for independent inputs of `size` [k]."""
        columns, outputs = np.zeros(k, np.float32), []
        for rows in self._checkpoint.look_up(name, n, k).rows():
            np.square(rows, out=rows)
            columns += rows.sum(axis=0) / np.float32(n)
            outputs.append(rows @ np.square(size))
        return np.sqrt(columns), np.sqrt(np.concatenate(outputs))


def _inverse(c: Float32) -> Float32:
    return np.asarray(1 / c, np.float32)
