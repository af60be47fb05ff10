"""What a model directory is: one frozen `Manifest`, read from `manifest.json`, which every other room relies on.

In: a directory (or its manifest.json). Out: sizes, names of graphs and their states, and files, each of which is there
with the right size. Nothing is guessed from a folder name or from the shape of a tensor. No graph is opened here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shlex
import sys
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import ModelError, command
from models.metadata import MISSING, read_object, regular

FORMAT = 2
FILE_NAME = "manifest.json"
_AGAIN = "convert or download this model again"
# Tables of every position are made on opening: a damaged number must not take all memory. A state: of one position.
LARGEST = {"max_positions": 2**20, "state": 2**24, "rotary_base": 1e30}
# Backend -> its class in the module of that name in models/runtime. This line is what adds one.
BACKENDS = {"onnxruntime": "OnnxRuntimeSession", "ailia": "AiliaSession"}


@dataclass(frozen=True)
class EncoderSizes:
    """Whisper trunk: n_mels bands in, frames of n_state channels (at most n_ctx of them), d_model out."""

    n_mels: int
    n_ctx: int
    n_state: int
    n_head: int
    n_layer: int
    d_model: int


@dataclass(frozen=True)
class DecoderSizes:
    """Qwen decoder. `seq_length` is the trained context (NTK and LogN start beyond it), `max_positions` the limit."""

    vocab_size: int
    d_model: int
    n_layer: int
    n_head: int
    head_dim: int
    seq_length: int
    max_positions: int
    rotary_base: float
    dynamic_ntk: bool
    logn: bool
    audio_start: int
    audio_end: int


@dataclass(frozen=True)
class State:
    """Tensors that a graph hands to its own next run: `names` pairs each output with the input that it becomes.

    `shape` is that of one row: a 1 first, and one -1, the axis of positions. With `in_place`, output and input share a
    buffer, and there may be many rows: `slots` of them run at once, and each pair of names stands `slots` times side by
    side. Otherwise the output is the input grown by the new positions, and there is one row.
    """

    names: tuple[tuple[str, str], ...]
    shape: tuple[int, ...]
    dtype: str
    in_place: bool
    slots: int = 1


@dataclass(frozen=True)
class Graph:
    """One ONNX file: the names of its inputs and outputs, in order, and the state it keeps between runs."""

    file: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    state: State | None = None


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and lower-case hexadecimal SHA-256 of one file of the directory."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Everything that the pipeline needs to know of a model.

    `contract` says how the decoder is fed: "fused" (our graph, embeddings looked up outside, cache in place) or
    "plain" (ids, mask and audios inside, as ailia publishes). `dtype` is the floating type of the graphs' inputs.
    `backends` is in order of preference. `vocabulary` and `embeddings` are file names or None.

    `decoder` is one graph, or several of which each goes on from the one before with the next layers. `decoder_rows` is
    the same over the same weights for several sequences side by side; a plain model has none. With `pairs`, a fused
    decoder is given an even number of tokens: its products round one otherwise. `loss` is KL from fp32, in nats.
    """

    name: str
    contract: str
    precision: str
    dtype: str
    backends: tuple[str, ...]
    chat_format: str
    max_window_size: int
    encoder_sizes: EncoderSizes
    decoder_sizes: DecoderSizes
    encoder: Graph
    decoder: tuple[Graph, ...]
    boundary_rows: tuple[str, str]
    embeddings: str | None
    vocabulary: str | None
    source: str
    converter: str
    files: dict[str, FileRecord]
    decoder_rows: tuple[Graph, ...] = ()
    pairs: bool = True
    loss: float | None = None  # on texts
    answers_loss: float | None = None  # about clips
    format: int = FORMAT
    directory: Path = Path()

    def path(self, file: str) -> Path:
        """Where `file` of this model lies."""
        return self.directory / file

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """Every graph that there is."""
        return (self.encoder, *self.decoder, *self.decoder_rows)


def load_manifest(directory: Path) -> Manifest:
    """Read and check `manifest.json` of a model directory; every listed file must exist with its listed size.

    Raises ModelError for a missing or unfinished model, another format, an unknown or missing key, a value of the wrong
    type, and a file that is missing or of the wrong size.
    """
    path = Path(directory).parent if Path(directory).name == FILE_NAME else Path(directory)
    data = _read_json(path)
    if data.get("format") != FORMAT:
        found = f"format {data.get('format')!r}, this program reads format {FORMAT}"
        again = command("python3 -m models.convert CHECKPOINT MODEL")
        raise ModelError(f"{path / FILE_NAME}: {found}", fix=f"convert the checkpoint again: `{again}`")
    if "directory" in data:
        raise ModelError(f"{path / FILE_NAME}: unknown key 'directory'")
    manifest: Manifest = _build(Manifest, data, path / FILE_NAME, "")
    manifest = dataclasses.replace(manifest, directory=path)
    _check_values(manifest)
    _check_files(manifest)
    return manifest


def save_manifest(manifest: Manifest) -> None:
    """Write `manifest.json` whole or not at all: a directory without it is not a model."""
    data = dataclasses.asdict(manifest)
    del data["directory"]
    target = manifest.directory / FILE_NAME
    temporary = target.with_suffix(".json.part")
    temporary.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(target)


def verify_files(manifest: Manifest) -> None:
    """Hash every file of the model; raises ModelError naming the first one that differs from its record."""
    for name, record in manifest.files.items():
        found = file_sha256(manifest.path(name))
        if found != record.sha256:
            reason = f"sha256 {found[:16]}…, expected {record.sha256[:16]}…"
            raise ModelError(f"{manifest.path(name)}: damaged ({reason})", fix=_AGAIN)


def check_vocabulary(manifest: Manifest, size: int, audio_ids: tuple[int, int]) -> None:
    """Raise ModelError for a vocabulary of another model: of more ids, or with other ids of <audio> and </audio>."""
    sizes, directory = manifest.decoder_sizes, manifest.directory
    if audio_ids != (sizes.audio_start, sizes.audio_end):
        found = f"its vocabulary has <audio> as {audio_ids[0]}, its decoder as {sizes.audio_start}"
        raise ModelError(f"{directory}: {found}", fix="convert the checkpoint again with its own qwen.tiktoken")
    width = manifest.encoder_sizes.d_model
    if size > sizes.vocab_size or width != sizes.d_model:
        found = f"{size} tokens and an encoder of width {width} do not fit a decoder of "
        raise ModelError(f"{directory}: {found}{sizes.vocab_size} and {sizes.d_model}", fix=_AGAIN)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_json(directory: Path) -> dict[str, Any]:
    path = directory / FILE_NAME
    try:
        return read_object(path, _AGAIN)
    except ModelError as error:
        if error.kind != MISSING:
            raise
        if not directory.is_dir():
            raise ModelError(f"{directory}: no such model directory") from None
        whole, what = shlex.quote(str(directory.absolute())), "not a model or an unfinished conversion"
        ends = f"CHECKPOINT {whole}"
        if (directory / "config.json").exists():  # it is never to be converted into itself
            what, ends = "a checkpoint, not a model", f"{whole} {whole}-int4"
        fix = f"make it with `{command(f'python3 -m models.convert {ends}')}`"
        raise ModelError(f"{directory}: no {FILE_NAME}, so {what}", fix) from None


def _build(kind: Any, value: Any, path: Path, where: str) -> Any:
    """Build `kind` (a dataclass, tuple, dict, optional or plain type) from parsed JSON; nothing is converted."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, value, path, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value, path, where)
    if origin is tuple and isinstance(value, list):
        inner = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(inner) == len(value):
            pairs = zip(inner, value, strict=True)
            return tuple(_build(one, item, path, f"{where}[{i}]") for i, (one, item) in enumerate(pairs))
    elif origin is dict and isinstance(value, dict):
        return {key: _build(arguments[1], item, path, f"{where}[{key!r}]") for key, item in value.items()}
    elif kind is float and type(value) in {int, float} and abs(value) <= sys.float_info.max:  # of NaN this is false
        return float(value)
    elif isinstance(kind, type) and kind is not float and type(value) is kind:
        return value
    expected = getattr(kind, "__name__", str(kind)) if origin is None else str(kind)
    raise ModelError(f"{path}: {where or 'the document'} is {value!r:.60}, expected {expected}")


def _build_dataclass(kind: type, value: Any, path: Path, where: str) -> Any:
    if not isinstance(value, dict):
        raise ModelError(f"{path}: {where} is {value!r:.60}, expected an object")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.name != "directory"}
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in fields:
            raise ModelError(f"{path}: unknown key '{prefix}{name}'", fix="was it written by a newer version?")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise ModelError(f"{path}: missing key '{prefix}{name}'")
    return kind(**{name: _build(hints[name], item, path, prefix + name) for name, item in value.items()})


def _check_values(manifest: Manifest) -> None:
    path = manifest.path(FILE_NAME)
    choices = {"contract": ("fused", "plain"), "dtype": ("float32", "float16"), "chat_format": ("chatml", "raw")}
    for name, allowed in choices.items():
        if getattr(manifest, name) not in allowed:
            raise ModelError(f"{path}: {name} is {getattr(manifest, name)!r}, expected one of {', '.join(allowed)}")
    if not manifest.backends or not set(manifest.backends) <= set(BACKENDS):
        raise ModelError(f"{path}: backends is {list(manifest.backends)}, expected some of {', '.join(BACKENDS)}")
    sizes = {**dataclasses.asdict(manifest.encoder_sizes), **dataclasses.asdict(manifest.decoder_sizes)}
    for name, size in sizes.items():
        low, high = (0 if name.startswith("audio_") else 1), LARGEST.get(name, 2**31)
        if not isinstance(size, bool) and not low <= size <= high:
            raise ModelError(f"{path}: {name} is {size}, expected a positive number up to {high}")
    if manifest.contract == "fused" and manifest.embeddings is None:
        raise ModelError(f"{path}: embeddings is None, but a fused model looks them up outside its graph")
    if not manifest.decoder or (manifest.contract == "fused") != bool(manifest.decoder_rows):
        raise ModelError(f"{path}: decoder or decoder_rows is missing, or is not of the contract {manifest.contract}")
    for graph in manifest.graphs:
        if len(graph.outputs) != 1:
            raise ModelError(f"{path}: {graph.file} has the outputs {list(graph.outputs)}, expected one")
        shape = graph.state.shape if graph.state else (1, -1)
        if [size for size in shape if size < 1] != [-1] or shape[0] != 1 or -math.prod(shape) > LARGEST["state"]:
            raise ModelError(f"{path}: the state shape {shape!s:.60} of {graph.file} needs 1 first, and one -1")
        if graph.state and (graph.state.slots < 1 or len(graph.state.names) % graph.state.slots):
            raise ModelError(f"{path}: {graph.file} has {graph.state.slots} slots, which do not fit its state")
        if graph.state and graph.state.dtype not in choices["dtype"]:
            raise ModelError(f"{path}: the state dtype {graph.state.dtype!r} of {graph.file} is unknown")


def _check_files(manifest: Manifest) -> None:
    needed = {*(graph.file for graph in manifest.graphs), *manifest.boundary_rows}
    needed |= {name for name in (manifest.embeddings, manifest.vocabulary) if name is not None}
    for name in needed - manifest.files.keys():
        raise ModelError(f"{manifest.path(FILE_NAME)}: '{name}' is used but not listed under files")
    for name, record in manifest.files.items():
        if name in {".", ".."} or Path(name).name != name or os.sep in name:
            raise ModelError(f"{manifest.path(FILE_NAME)}: '{name}' is not a plain file name")
        try:
            size = regular(manifest.path(name)).stat().st_size
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = (getattr(error, "strerror", None) or "unreadable").lower()
            raise ModelError(f"{manifest.path(name)}: {reason}", fix=_AGAIN) from None
        if size != record.size:
            raise ModelError(f"{manifest.path(name)}: {size} bytes, expected {record.size}", fix=_AGAIN)
