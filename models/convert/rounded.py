"""Matrices that calibration has rounded, kept in files until the graphs are written, and what they stand for.

A matrix is kept as `linear` stores it: "blocks" as codes, scales and zero points, "tokens" as int8 levels and a scale
for each output. A file gets its name when it is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from models.convert.channel_balance import EvenCheckpoint, EvenTensor
from models.convert.checkpoint import Float32
from models.convert.quantize import Blocks, dequantize_blocks

KINDS = ("codes", "scales", "zeros")
ROWS = 2048  # read at a time


@dataclass(frozen=True)
class RoundedTensor(EvenTensor):
    """A tensor whose rounded form lies in the files of `kept`, from row `start` on."""

    kept: Path = Path()
    start: int = 0

    def cut(self, start: int, stop: int) -> Self:
        """As `Tensor.cut`."""
        return replace(super().cut(start, stop), start=self.start + start)

    def rounded(self) -> Iterator[Any]:
        """Some rows at a time, what the quantisers give: Blocks, or int8 levels and scales."""
        files = [path for kind in KINDS if (path := kept_file(self.kept, kind)).exists()]
        arrays = [np.load(path, mmap_mode="r", allow_pickle=False) for path in files]
        for first in range(self.start, self.start + self.shape[0], ROWS):
            last = min(first + ROWS, self.start + self.shape[0])
            parts = [np.ascontiguousarray(array[first:last]) for array in arrays]
            yield Blocks(*parts) if len(parts) == len(KINDS) else tuple(parts)

    def restored(self) -> Iterator[Float32]:
        """The same as float32 rows."""
        for found in self.rounded():
            if isinstance(found, Blocks):
                yield dequantize_blocks(found, bits=4, k=self.shape[1])  # nothing else is kept in blocks
            else:
                levels, scales = found
                yield levels * scales[:, None]


class RoundedCheckpoint:
    """Hands out the tensors of an even checkpoint, those in `room` as they were rounded, but not the `finer`."""

    def __init__(self, checkpoint: EvenCheckpoint, room: Path, finer: frozenset[str] = frozenset()) -> None:
        self._checkpoint, self._room, self._finer = checkpoint, room, finer

    def take(self, name: str, *shape: int) -> EvenTensor:
        """As `Checkpoint.take`."""
        return self._rounded(self._checkpoint.take(name, *shape))

    def look_up(self, name: str, *shape: int) -> EvenTensor:
        """As `Checkpoint.look_up`."""
        return self._rounded(self._checkpoint.look_up(name, *shape))

    def _rounded(self, tensor: EvenTensor) -> EvenTensor:
        kept = self._room / tensor.name
        if tensor.name in self._finer or not kept_file(kept, "scales").exists():
            return tensor
        return RoundedTensor(**{one.name: getattr(tensor, one.name) for one in fields(EvenTensor)}, kept=kept)


def kept_file(kept: Path, kind: str) -> Path:
    """Where one array of a rounded matrix lies."""
    return kept.with_name(f"{kept.name}.{kind}.npy")


def keep(kept: Path, parts: Iterator[dict[str, Any]], rows: int) -> None:
    """Write the arrays of a matrix, some rows at a time; the scales, whose file says that it is whole, last."""
    files: dict[str, Any] = {}
    start = 0
    for part in parts:
        for kind, array in part.items():
            if kind not in files:
                path = kept_file(kept, kind).with_suffix(".part")
                files[kind] = np.lib.format.open_memmap(path, "w+", array.dtype, (rows, *array.shape[1:]))
            files[kind][start : start + len(array)] = array
        start += len(next(iter(part.values())))
    for kind in sorted(files, key=lambda kind: kind == "scales"):
        files[kind].flush()
        kept_file(kept, kind).with_suffix(".part").replace(kept_file(kept, kind))
