"""A Hugging Face checkpoint, read lazily: config.json, safetensors shards, generation_config.json, qwen.tiktoken.

Every tensor is to be consumed exactly once: `take` hands it out, `finish` names what nobody took. Rows are read with
plain file reads, not through a memory map, so that the memory of a conversion stays that of one block of rows. The
safetensors library is not used since its numpy side has no bfloat16 and maps whole shards.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from errors import ModelError
from models.metadata import LONGEST, parse_object, read_object, regular

Float32 = npt.NDArray[np.float32]

# Bytes in one block of rows: large enough for the disk, small beside the memory limit.
BLOCK_BYTES = 64 << 20
# safetensors' name -> the numpy type of the stored bits (bfloat16 has none, its bits are the upper half of a float32).
STORED: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("i1"),  # with a scale for each row in a tensor of its own, NAME + SCALES
}
EMBEDDINGS, HEAD = "transformer.wte.weight", "lm_head.weight"  # one matrix, stored once, where embeddings are tied
SCALES = ".scales"  # F32 [rows]: value = stored * scale of its row, in float32


@dataclass(frozen=True)
class Tensor:
    """A tensor on disk: name, shape, stored type (one of `STORED`), file and byte offset, scales of its rows if I8."""

    name: str
    shape: tuple[int, ...]
    stored: str
    file: Path
    offset: int
    scales: Tensor | None = None

    def rows(self) -> Iterator[Float32]:
        """The tensor as float32, a block of leading rows at a time, in order."""
        start = 0
        for bits in self._stored_rows():
            values = _as_float32(bits, self)
            if self.scales is not None:
                scales = self.scales.cut(start, start + len(bits)).read()
                values = values.reshape(len(bits), -1) * scales[:, None]
            self._check_finite(values)
            yield values.reshape(bits.shape)
            start += len(bits)

    @property
    def is_in_8_bits(self) -> bool:
        """Whether `levels` stand for its values. Those of a subclass are changed when they are read."""
        return type(self) is Tensor and self.scales is not None

    def levels(self) -> Iterator[tuple[npt.NDArray[np.int8], Float32]]:
        """Of a tensor `is_in_8_bits` what is stored: int8 levels, a block of rows at a time, and the rows' scales."""
        start = 0
        for bits in self._stored_rows():
            scales = self.scales.cut(start, start + len(bits)).read()  # type: ignore[union-attr]
            self._check_finite(scales * np.float32(-128))  # the largest level
            yield bits, scales
            start += len(bits)

    def _check_finite(self, values: Float32) -> None:
        if not np.isfinite(values).all():
            raise ModelError(f"{self.file}: {self.name} holds values that are not finite numbers")

    def _stored_rows(self) -> Iterator[npt.NDArray[Any]]:
        """Some leading rows at a time, in the type that they are stored in."""
        dtype, width = STORED[self.stored], math.prod(self.shape[1:])
        block = max(1, BLOCK_BYTES // max(1, width * 4))
        with self.file.open("rb") as file:
            file.seek(self.offset)
            for start in range(0, self.shape[0], block):
                n_rows = min(block, self.shape[0] - start)
                bits = np.fromfile(file, dtype, n_rows * width)
                if bits.size != n_rows * width:
                    raise ModelError(f"{self.file}: ends inside {self.name}", fix="download it again")
                yield bits.reshape(n_rows, *self.shape[1:])

    def cut(self, start: int, stop: int) -> Self:
        """Some of its rows as a tensor, named after the first."""
        row = math.prod(self.shape[1:]) * STORED[self.stored].itemsize
        name = f"{self.name.removesuffix('.weight')}.{start}.weight"
        scales = self.scales.cut(start, stop) if self.scales is not None else None
        shape, offset = (stop - start, *self.shape[1:]), self.offset + start * row
        return replace(self, name=name, shape=shape, offset=offset, scales=scales)

    def read(self) -> Float32:
        """The whole tensor as float32 of `shape`."""
        return np.concatenate(list(self.rows()))


class Checkpoint:
    """The directory of a checkpoint: `config`, `generation_config`, `vocabulary` (a path or None) and its tensors."""

    def __init__(self, directory: Path) -> None:
        if not directory.is_dir():
            raise ModelError(f"{directory}: no such checkpoint directory")
        self.directory = directory
        self.config = read_object(directory / "config.json")
        generation = directory / "generation_config.json"
        self.generation_config = read_object(generation) if generation.exists() else {}
        vocabulary = directory / "qwen.tiktoken"
        self.vocabulary = regular(vocabulary) if vocabulary.exists() else None
        self._tensors: dict[str, Tensor] = {}
        for file in _shards(directory):
            for tensor in _read_header(file):
                if tensor.name in self._tensors:
                    raise ModelError(f"{file}: {tensor.name} is also in {self._tensors[tensor.name].file.name}")
                self._tensors[tensor.name] = tensor
        self._check_index()
        self._join_scales()
        if self.config.get("tie_word_embeddings") is True and EMBEDDINGS in self._tensors:
            self._tensors.setdefault(HEAD, replace(self._tensors[EMBEDDINGS], name=HEAD))
        self._left = set(self._tensors)

    def take(self, name: str, *shape: int) -> Tensor:
        """Hand out a tensor once; raises ModelError when it is not there or has another shape."""
        tensor = self.look_up(name, *shape)
        if name not in self._left:
            raise ModelError(f"{self.directory}: tensor {name} is used twice")
        self._left.remove(name)
        return tensor

    def look_up(self, name: str, *shape: int) -> Tensor:
        """The same tensor, which stays to be taken, or was; raises as `take` does."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelError(f"{self.directory}: tensor {name} is missing")
        if tensor.shape != shape:
            raise ModelError(f"{self.directory}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
        return tensor

    def finish(self) -> None:
        """Raise ModelError naming the tensors that no part of the graphs asked for."""
        if self._left:
            names = sorted(self._left)
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ModelError(f"{self.directory}: tensors that no graph uses: {', '.join(names[:5])}{more}")

    def _join_scales(self) -> None:
        """Give each I8 tensor the scales of its rows, which are no tensors of their own."""
        for name, tensor in list(self._tensors.items()):
            if tensor.stored == "I8":
                scales = self._tensors.pop(name + SCALES, None)
                if scales is None or scales.stored != "F32" or scales.shape != tensor.shape[:1]:
                    raise ModelError(f"{tensor.file}: {name} is stored as I8 without F32 scales of its rows")
                self._tensors[name] = replace(tensor, scales=scales)

    def _check_index(self) -> None:
        index = self.directory / "model.safetensors.index.json"
        if not index.exists():
            return
        for name, file in read_object(index).get("weight_map", {}).items():
            if name not in self._tensors or self._tensors[name].file.name != file:
                raise ModelError(f"{index}: lists {name} in {file}, but it is not there", fix="download it again")


def _shards(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_object(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise ModelError(f"{index}: no weight_map")
        for name, file in weight_map.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ModelError(f"{index}: {name} is in {file!r}, expected the name of a file beside it")
        files = [directory / file for file in sorted(set(weight_map.values()))]
    else:
        files = [directory / "model.safetensors"]
    for file in files:
        if not os.path.isfile(file):  # noqa: PTH113 - Path raises for a name that is too long
            raise ModelError(f"{file}: missing", fix="download the checkpoint again")
    return files


def _read_header(file: Path) -> Iterator[Tensor]:
    """The tensors of one safetensors file: 8 bytes of header length, a JSON header, the data."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(size - 8, LONGEST):
            raise ModelError(f"{file}: not a safetensors file, or cut short", fix="download it again")
        text = stream.read(length)
    try:
        header = parse_object(text, file, "download it again")
        entries = [
            _parse_entry(name, entry, file, 8 + length) for name, entry in header.items() if name != "__metadata__"
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ModelError(f"{file}: damaged header", fix="download it again") from None
    for tensor, n_bytes in entries:
        if tensor.stored not in STORED:
            raise ModelError(f"{file}: {tensor.name} is stored as {tensor.stored}, expected F32, F16, BF16 or I8")
        expected = math.prod(tensor.shape) * STORED[tensor.stored].itemsize
        if n_bytes != expected or tensor.offset + n_bytes > size:
            raise ModelError(f"{file}: {tensor.name} does not fit into the file", fix="download it again")
        yield tensor


def _parse_entry(name: str, entry: Any, file: Path, start: int) -> tuple[Tensor, int]:
    """One entry of a header, and its length in bytes; raises ValueError, TypeError or KeyError when it is none."""
    shape, stored, (first, last) = tuple(entry["shape"]), entry["dtype"], entry["data_offsets"]
    if not isinstance(stored, str) or not all(type(number) is int and number >= 0 for number in (*shape, first, last)):
        raise ValueError(name)
    return Tensor(name, shape, stored, file, start + first), last - first


def _as_float32(bits: npt.NDArray[Any], tensor: Tensor) -> Float32:
    if tensor.stored == "BF16":
        return (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.astype(np.float32, copy=False)
