"""`python3 -m tests.benchmarks.weights [CHECKPOINT…]`: how far our weights are from the checkpoint's, beside Q4_0.

Without a checkpoint: nano's trained one, and a small random one with planted outlier channels. The relative error of the
decoder's matrices (its output layer, which has more bits in both, left out) is rms(w' - w) / rms(w) over all of them, and
the largest of one matrix. Q4_0 is llama.cpp's format: blocks of 32 weights, a float16 scale, levels -8 to 7, the weight
of largest magnitude on -8. "int4" and "int8" are what these precisions make of a model, attention and MLP each their own
way; the others are one way for all. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from models.convert.channel_balance import EvenCheckpoint, EvenTensor
from models.convert.checkpoint import Checkpoint
from models.convert.linear import PRECISIONS, Storage
from models.convert.quantize import Float32, dequantize_blocks, quantize_blocks, quantize_rows
from models.convert.sizes import read_sizes
from models.nano.embedded import CHECKPOINT
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.benchmarks.random_weights import to_bfloat16

OUTLIERS = Geometry(
    hidden_size=1024, intermediate_size=5632, num_attention_heads=8, num_hidden_layers=4, vocab_size=320,
    audio_start_id=300, n_state=64, n_head=4, n_layer=1,
)  # fmt: skip
BLOCKS = (32, 64, 128, 256)
USED = ("int4", "int8")  # of the fused flavour
PARTS = {"attn.c_attn": "attention", "attn.c_proj": "attention", "mlp.w1": "mlp", "mlp.w2": "mlp", "mlp.c_proj": "mlp"}


def q4_0(rows: Float32) -> Float32:
    """What float32 [n, k] becomes in Q4_0; k is a multiple of 32."""
    assert rows.shape[1] % 32 == 0
    values = rows.reshape(-1, 32)
    extreme = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)  # with its sign
    scale = extreme / np.float32(-8)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    levels = np.clip(np.floor(values * inverse + np.float32(8.5)), 0, 15) - np.float32(8)
    return np.asarray(levels * scale.astype(np.float16), np.float32).reshape(rows.shape)


def ours(rows: Float32, block: int) -> Float32:
    """What float32 [n, k] becomes in our blocks of 4 bits."""
    return dequantize_blocks(quantize_blocks(rows, bits=4, block=block), bits=4, k=rows.shape[1])


def stored(tensor: EvenTensor, storage: Storage) -> Float32:
    """What a matrix of an even checkpoint becomes, its factors taken out again."""
    rows = tensor.read()
    if storage.kind == "blocks":
        found = quantize_blocks(rows, bits=storage.bits, block=storage.block)
        rows = dequantize_blocks(found, bits=storage.bits, k=rows.shape[1])
    else:
        levels, scales = quantize_rows(rows)
        rows = levels * scales[:, None]
    of_rows, of_columns = tensor.factors()
    rows = rows if of_rows is None else rows / of_rows[:, None]
    return rows if of_columns is None else rows / of_columns


FORMATS: dict[str, Callable[[Float32], Float32]] = {
    "Q4_0": q4_0,
    **{f"blocks of {block}": partial(ours, block=block) for block in BLOCKS},
}


def matrices(directory: Path) -> Iterator[tuple[Float32, dict[str, Float32]]]:
    """The matrices of the decoder's layers, each with what becomes of it."""
    checkpoint = Checkpoint(directory)
    sizes = _sizes(checkpoint)
    used = {name: PRECISIONS["fused", name] for name in USED}
    even = {name: EvenCheckpoint(Checkpoint(directory), sizes, one.even) for name, one in used.items()}
    for name, part, shape in _places(*sizes):
        matrix = checkpoint.take(name, *shape).read()
        found = {kind: rounded(matrix) for kind, rounded in FORMATS.items()}
        for kind, one in used.items():
            found[kind] = stored(even[kind].take(name, *shape), getattr(one, part))
        yield matrix, found


def write_q4_0(directory: Path, out: Path) -> None:
    """A copy of a bfloat16 checkpoint whose matrices in the decoder's layers are what Q4_0 makes of them."""
    shutil.copytree(directory, out)
    checkpoint = Checkpoint(out)
    for name, _, shape in _places(*_sizes(checkpoint)):
        tensor = checkpoint.take(name, *shape)
        assert tensor.stored == "BF16"
        bits = to_bfloat16(q4_0(tensor.read()))  # rounds by 0.2 % more
        with tensor.file.open("r+b") as file:
            file.seek(tensor.offset)
            file.write(bits.tobytes())


def _sizes(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """d_model, width of the MLP, layers."""
    _, sizes = read_sizes(checkpoint.config, checkpoint.directory / "config.json")
    return sizes.d_model, checkpoint.config["intermediate_size"] // 2, sizes.n_layer


def _places(d: int, width: int, n_layer: int) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Name, part of the precision and shape of every matrix of the decoder's layers."""
    shapes = {"attn.c_attn": (3 * d, d), "attn.c_proj": (d, d), "mlp.w1": (width, d), "mlp.w2": (width, d),
              "mlp.c_proj": (d, width)}  # fmt: skip
    for layer in range(n_layer):
        for part, shape in shapes.items():
            yield f"transformer.h.{layer}.{part}.weight", PARTS[part], shape


def errors(directory: Path) -> dict[str, dict[str, float]]:
    """{format: {"all": over all matrices, "worst": of the worst one}}."""
    sums = {name: [0.0, 0.0] for name in (*FORMATS, *USED)}
    worst = dict.fromkeys(sums, 0.0)
    for matrix, found in matrices(directory):
        power = float(np.square(matrix, dtype=np.float64).sum())
        for name, rounded in found.items():
            error = float(np.square(rounded - matrix, dtype=np.float64).sum())
            sums[name][0] += error
            sums[name][1] += power
            worst[name] = max(worst[name], (error / power) ** 0.5 if power else 0.0)  # zeros lose nothing
    return {
        name: {"all": round((error / power) ** 0.5, 4), "worst": round(worst[name], 4)}
        for name, (error, power) in sums.items()
    }


def measure(checkpoints: list[Path]) -> list[dict[str, object]]:
    """A row for each checkpoint, or for nano and a small one with outliers."""
    if checkpoints:
        return [{"checkpoint": str(one), "errors": errors(one)} for one in checkpoints]
    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder) / "outliers", OUTLIERS, seed=1, outliers=True)
        made = {"nano": CHECKPOINT, "random with outliers": Path(folder) / "outliers"}
        return [{"checkpoint": name, "errors": errors(path)} for name, path in made.items()]


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoints", type=Path, nargs="*", metavar="CHECKPOINT")
    options = parser.parse_args(argv)
    rows = measure(options.checkpoints)
    for row in rows:
        print(row["checkpoint"])
        for name, found in row["errors"].items():  # type: ignore[attr-defined]
            print(f"  {name:14} {found['all']:.2%}, worst matrix {found['worst']:.2%}")
    print(json.dumps({"benchmark": "weights", "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
