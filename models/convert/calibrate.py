"""Calibration: every matrix of the decoder rounded by the activations that the exact model has, a layer at a time.

In: a checkpoint, how its matrices are to be stored, and the residual stream of a calibration set. Out: rounded matrices
in a folder (see `rounded`), and what rounding each one alone does to its layer. For each layer the exact model is run,
H = sum x x^T of every product's inputs x is taken, channels of the MLP are made even by their measured size, and each
matrix is rounded by GPTQ (see `gptq`). What is done is noted after each layer, so that a run that was killed goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.convert.channel_balance import EvenCheckpoint
from models.convert.checkpoint import Float32, Tensor
from models.convert.exact import Layer, Positions, rms_norm, run_layer
from models.convert.gptq import factor, fit_even, fit_zero_point, round_columns
from models.convert.int8_encoder import balance
from models.convert.linear import Precision, Storage
from models.convert.quantize import pack_blocks
from models.convert.residual_rotation import RotatedCheckpoint
from models.convert.rounded import ROWS, RoundedCheckpoint, keep
from models.manifest import DecoderSizes
from models.runtime.threads import in_threads

# A layer's matrices: the part of the precision, and whose input each shares.
MATRICES = {
    "attn.c_attn": ("attention", "attn.c_attn"),
    "attn.c_proj": ("attention", "attn.c_proj"),
    "mlp.w2": ("mlp", "mlp.w2"),
    "mlp.w1": ("mlp", "mlp.w2"),
    "mlp.c_proj": ("mlp", "mlp.c_proj"),
}
Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True)
class Sequences:
    """How a stream is read: the lengths of its sequences, and the root of how much each token counts [seen].

    The matrices are rounded by the first `seen` tokens, and tried on those of `probes`.
    """

    lengths: tuple[int, ...]
    roots: Float32
    probes: tuple[slice, ...]

    @property
    def seen(self) -> int:
        """Tokens to round by."""
        return len(self.roots)

    def squares(self, x: Float32) -> Float32:
        """H = sum x x^T [k, k] over the tokens to round by of x [tokens, k], each as often as it counts.

        x is scaled in its place and back, which is exact: of the widest product it has 590 MB.
        """
        known = x[: self.seen]
        known *= self.roots[:, None]
        found = known.T @ known
        known /= self.roots[:, None]
        return np.asarray(found)


@dataclass
class Calibration:
    """A decoder and the folder where its rounded matrices go."""

    checkpoint: RotatedCheckpoint
    sizes: DecoderSizes
    precision: Precision
    room: Path
    losses: dict[str, float] = field(default_factory=dict)  # of each matrix, see `_probe`

    @property
    def width(self) -> int:
        """Of the MLP."""
        return int(self.checkpoint.config["intermediate_size"]) // 2

    @property
    def epsilon(self) -> float:
        """Of every RMSNorm."""
        return float(self.checkpoint.config["layer_norm_epsilon"])

    def shape(self, part: str) -> tuple[int, int]:
        """[n, k] of a matrix of a layer."""
        d, width = self.sizes.d_model, self.width
        return {"attn.c_attn": (3 * d, d), "attn.c_proj": (d, d), "mlp.c_proj": (d, width)}.get(part, (width, d))

    def even(self, checkpoint: Any = None) -> EvenCheckpoint:
        """The checkpoint, or another reader of it, with even channels in the MLP."""
        sizes = (self.sizes.d_model, self.width, self.sizes.n_layer)
        return EvenCheckpoint(checkpoint or self.checkpoint, sizes, frozenset({"mlp"}), self._evening)

    def rounded(self, checkpoint: Any = None, finer: frozenset[str] = frozenset()) -> RoundedCheckpoint:
        """The same with the matrices that are rounded by now, but for the `finer` ones."""
        return RoundedCheckpoint(self.even(checkpoint), self.room, finer)

    def layer(self, checkpoint: Any, number: int) -> Layer:
        """The small weights of a layer, from one of these checkpoints."""
        name, d = f"transformer.h.{number}", self.sizes.d_model
        names = {f"{name}.ln_1.weight": d, f"{name}.attn.c_attn.bias": 3 * d, f"{name}.ln_2.weight": d}
        return Layer(*(checkpoint.look_up(*one).read() for one in names.items()))

    def run(self, stream: Float32, sequences: Sequences, progress: Progress) -> Float32:
        """Round all matrices by `stream` [tokens, d_model].

        Returns the exact stream behind the last layer, of all tokens that nothing is rounded by.
        """
        done, stream = self._resume(stream)
        positions = Positions(sequences.lengths, self.sizes)
        for number in progress(range(done, self.sizes.n_layer)):
            stream = self._run_layer(number, stream, positions, sequences)
            self._note(number + 1, stream)
        n, d = self.sizes.vocab_size, self.sizes.d_model
        y = rms_norm(stream[: sequences.seen], np.ones(d, np.float32), self.epsilon)
        self._round(self.checkpoint.look_up("lm_head.weight", n, d), factor(sequences.squares(y)), self.precision.head)
        return stream[sequences.seen :]

    def chosen(self) -> frozenset[str]:
        """The matrices that FINER is spent on: those whose rounding changes their layer most for their size."""
        sizes = {name: int(np.prod(self.shape(name.split(".", 3)[3].removesuffix(".weight")))) for name in self.losses}
        left, found = self.precision.finer * sum(sizes.values()), set()
        for name in sorted(sizes, key=lambda name: -self.losses[name] / sizes[name]):
            if sizes[name] <= left:
                found.add(name)
                left -= sizes[name]
        return frozenset(found)

    def matrix(self, checkpoint: Any, number: int, part: str) -> Any:
        """A matrix of a layer, from one of these checkpoints."""
        return checkpoint.look_up(f"transformer.h.{number}.{part}.weight", *self.shape(part))

    def _run_layer(self, number: int, stream: Float32, positions: Positions, sequences: Sequences) -> Float32:
        hessians: dict[str, Float32] = {}

        def product(part: str, x: Float32) -> Float32:
            if MATRICES[part][1] == part:
                hessians[part] = sequences.squares(x)
            return np.asarray(x @ self.matrix(self.checkpoint, number, part).read().T)

        probes = [stream[one] for one in sequences.probes]
        stream = run_layer(stream, self.layer(self.checkpoint, number), positions, self.epsilon, product)
        size = np.sqrt(hessians["mlp.c_proj"].diagonal() / np.square(sequences.roots).sum())
        columns = np.sqrt(np.square(self.matrix(self.checkpoint, number, "mlp.c_proj").read()).mean(axis=0))
        np.save(self._even_file(number), balance(size, columns))
        even, r = self.even(), np.empty(0, np.float32)
        for part, (kind, source) in MATRICES.items():
            tensor = self.matrix(even, number, part)
            if source in hessians:  # w1 shares that of w2
                r = factor(_scaled(hessians.pop(source), tensor.factors()[1]))
            self._round(tensor, r, getattr(self.precision, kind))
        self._probe(number, probes)
        return stream

    def _round(self, tensor: Tensor, r: Float32, storage: Storage) -> None:
        """Round a matrix [n, k] by the factor of its inputs, some rows at a time and on all cores."""

        def part(rows: Float32) -> dict[str, Any]:
            return round_rows(rows, r, storage)

        pieces = (rows[i : i + ROWS] for rows in tensor.rows() for i in range(0, len(rows), ROWS))
        keep(self.room / tensor.name, in_threads(part, pieces, 2), tensor.shape[0])

    def _probe(self, number: int, probes: Sequence[Float32]) -> None:
        """Note by how much, of its mean square, a layer's output changes when one of its matrices is rounded.

        The same sequences run once for the exact layer and once for each matrix, side by side.
        """
        stream, lengths = np.concatenate(probes), [len(one) for one in probes]
        even, rounded, t = self.even(), self.rounded(), len(stream)

        def product(part: str, x: Float32) -> Float32:
            y = x @ self.matrix(even, number, part).read().T
            mine = slice((1 + list(MATRICES).index(part)) * t, (2 + list(MATRICES).index(part)) * t)
            y[mine] = _product(x[mine], self.matrix(rounded, number, part))
            return np.asarray(y)

        copies = 1 + len(MATRICES)
        positions = Positions(lengths * copies, self.sizes)
        found = run_layer(np.tile(stream, (copies, 1)), self.layer(even, number), positions, self.epsilon, product)
        exact, *others = found.reshape(copies, t, -1)
        power = np.square(exact).mean(axis=-1)
        for part, other in zip(MATRICES, others, strict=True):
            change = np.square(other - exact).mean(axis=-1) / power
            self.losses[f"transformer.h.{number}.{part}.weight"] = float(change.mean())

    def _evening(self, number: int) -> Float32:
        return np.asarray(np.load(self._even_file(number), allow_pickle=False), np.float32)

    def _even_file(self, number: int) -> Path:
        return self.room / f"even.{number}.npy"

    def _note(self, done: int, stream: Float32) -> None:
        """Keep where a run stands; the note comes last, so that it never tells of what is not there."""
        np.save(self.room / f"stream.{done}.npy", stream)
        note = self.room / "done.json.part"
        note.write_text(json.dumps({"layers": done, "losses": self.losses}))
        note.replace(self.room / "done.json")
        (self.room / f"stream.{done - 1}.npy").unlink(missing_ok=True)

    def _resume(self, stream: Float32) -> tuple[int, Float32]:
        """How many layers are done, and the stream behind them."""
        note = self.room / "done.json"
        if not note.exists():
            return 0, stream
        found = json.loads(note.read_text())
        self.losses.update(found["losses"])
        return found["layers"], np.load(self.room / f"stream.{found['layers']}.npy", allow_pickle=False)


def round_rows(rows: Float32, r: Float32, storage: Storage) -> dict[str, Any]:
    """Rows [n, k] rounded by the factor of their inputs, as `rounded.keep` wants them."""
    k = rows.shape[1]
    if storage.kind == "tokens":
        levels, scales, _ = round_columns(np.ascontiguousarray(rows.T), r, block=k, fit=fit_even, top=255)
        return {"codes": np.ascontiguousarray((levels - 128).T).astype(np.int8), "scales": scales[0]}
    block = storage.block
    fit = fit_zero_point(storage.bits)
    levels, scales, zeros = round_columns(
        np.ascontiguousarray(rows.T), r, block=block, fit=fit, top=2**storage.bits - 1
    )
    codes = np.pad(levels.T.astype(np.uint8), ((0, 0), (0, -k % block))).reshape(len(rows), -1, block)
    found = pack_blocks(codes, np.ascontiguousarray(scales.T), zeros.T.astype(np.uint8), bits=storage.bits)
    return {"codes": found.codes, "scales": found.scales, "zeros": found.zeros}


def _product(x: Float32, tensor: Any) -> Float32:
    """x W^T of a rounded matrix."""
    return np.concatenate([x @ rows.T for rows in tensor.restored()], axis=1)


def _scaled(hessian: Float32, c: Float32 | None) -> Float32:
    """H of inputs that are divided by c, in place."""
    if c is not None:
        hessian /= c
        hessian /= c[:, None]
    return hessian
