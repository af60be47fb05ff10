"""The random values of a checkpoint, and the outlier channels that a trained one would have.

In: a `Tensor`, a range of its rows and a seed. Out: their bits in bfloat16, the same for any number of threads.

Values. Every value is one of 65536 quantiles of the normal distribution (so nothing beyond 4.3 sigma), drawn by a
uniform 16-bit index from a table already rounded to bfloat16: 4 times as fast as drawing normals and rounding them,
and after rounding hardly another distribution. The stream is seeded by (seed, tensor name, first row of the chunk).
The audio position table is the real sinusoid.

Outliers (--outliers). Trained transformers have channels 20 to 100 times the rest; they are what ruins 8-bit
activations, 4-bit blocks and fp16. Planted as factors f, log-uniform in 25..80, on top of the same random values
(a checkpoint without --outliers and with the same seed is equal elsewhere):
- gain channels, 3 of 4096, the same in all layers: ln_1 and ln_2 gains times f, so every c_attn, w1, w2 sees them;
- stream channels, 3 others: columns of wte and audio_bos_eos_token and rows of audio.proj times f, so the residual
  stream starts with them, and rows of attn.c_proj and mlp.c_proj times f in three layers, so some layers add to them;
- intermediate channels, 6 of 11008, others in each layer: rows of w1 times f, so mlp.c_proj sees them;
- audio encoder: attn_ln and mlp_ln gains times f in 2 of 1280 channels, the same in all blocks; rows of mlp.0 times f
  in 4 of 5120, others in each block.
Gain and stream channels differ on purpose: on one channel the two factors multiply to 400 and more, and then a handful
of channels alone would decide every attention score and every logit. As planted, outliers and the rest weigh about the
same in a dot product of 4096. In the full model (float32, seed 1, 24 words, audio, 24 words) these channels have 10 to
95 times the median RMS of a channel after ln_1, up to 220 times before mlp.c_proj (layers 0 to 3, 16 and 31); the
largest value of any layer is 3700 (fp16 ends at 65504), logits have std 2.96 and the best two are 0.38 apart (3.01 and
0.49 without outliers). In a tiny geometry one channel outweighs the rest and attention is nearly one-hot, but the
largest value is 4600.
"""

import math
import statistics
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from models.convert.whisper import sinusoids
from tests.benchmarks.geometry import Gains, Geometry, Tensor

Bits = npt.NDArray[np.uint16]  # bfloat16 values, as numpy has no such dtype

CHUNK_VALUES = 1 << 21  # part of the format: another value gives other weights for the same seed
OUTLIER_RANGE = (25.0, 80.0)  # inside 20..100, with room for the spread of what is multiplied
WRITE_LAYERS = 3


@dataclass(frozen=True)
class Channels:
    """The outlier channels that several tensors of one model share, with their factors."""

    gain: Gains  # hidden, in ln_1 and ln_2
    stream: Gains  # hidden, in the residual stream
    state: Gains  # of the audio encoder, in attn_ln and mlp_ln
    write_layers: frozenset[int]  # decoder layers that add to the stream channels


def pick_channels(geometry: Geometry, *, seed: int) -> Channels:
    """Choose the shared outlier channels: the same ones for the same widths and seed."""
    g = geometry
    each = _share(g.hidden_size, 3, 4096)
    hidden = list(_pick(seed, "hidden", g.hidden_size, 2 * each).items())
    return Channels(
        gain=dict(hidden[:each]),
        stream=dict(hidden[each:]),
        state=_pick(seed, "state", g.n_state, _share(g.n_state, 2, 1280)),
        write_layers=frozenset(_pick(seed, "layers", g.num_hidden_layers, min(WRITE_LAYERS, g.num_hidden_layers))),
    )


def plant_outliers(tensor: Tensor, channels: Channels, *, seed: int) -> Tensor:
    """Give the tensor the row and column factors that the docstring of this module describes."""
    width = tensor.shape[0]
    match tensor.name.split(".")[1:]:  # without "transformer"
        case ["wte", _] | ["audio", "audio_bos_eos_token", _]:
            return replace(tensor, columns=channels.stream)
        case ["audio", "proj", "weight"]:
            return replace(tensor, rows=channels.stream)
        case ["h", layer, "attn" | "mlp", "c_proj", _] if int(layer) in channels.write_layers:
            return replace(tensor, rows=channels.stream)
        case ["h", _, "ln_1" | "ln_2", _]:
            return replace(tensor, rows=channels.gain)
        case ["h", _, "mlp", "w1", _]:
            return replace(tensor, rows=_pick(seed, tensor.name, width, _share(width, 6, 11008)))
        case ["audio", "blocks", _, "attn_ln" | "mlp_ln", "weight"]:
            return replace(tensor, rows=channels.state)
        case ["audio", "blocks", _, "mlp", "0", "weight"]:
            return replace(tensor, rows=_pick(seed, tensor.name, width, _share(width, 4, 5120)))
    return tensor


def _share(width: int, count: int, full_width: int) -> int:
    """Number of outliers in a narrower layer: in proportion, at least one."""
    return max(1, round(count * width / full_width))


def _pick(seed: int, label: str, width: int, count: int) -> Gains:
    rng = np.random.default_rng([seed, zlib.crc32(f"outliers {label}".encode())])
    channels = rng.choice(width, count, replace=False)
    low, high = (math.log(factor) for factor in OUTLIER_RANGE)
    factors = np.exp(rng.uniform(low, high, count))
    return dict(zip(channels.tolist(), factors.tolist(), strict=True))


def to_bfloat16(values: npt.NDArray[np.float32]) -> Bits:
    """Round float32 to the nearest bfloat16, ties to even (finite values only)."""
    bits = values.view(np.uint32)
    return ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: Bits) -> npt.NDArray[np.float32]:
    """Widen bfloat16 to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@lru_cache(maxsize=1)
def _quantiles() -> npt.NDArray[np.float32]:
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)], np.float32)


@lru_cache(maxsize=64)
def _table(mean: float, std: float) -> Bits:
    return to_bfloat16(np.float32(mean) + np.float32(std) * _quantiles())


def chunks(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Row ranges [first, last) in which the tensor is made: about CHUNK_VALUES values each."""
    height, width = tensor.matrix
    step = max(1, CHUNK_VALUES // width)
    return ((first, min(first + step, height)) for first in range(0, height, step))


def make_rows(tensor: Tensor, first: int, last: int, *, seed: int) -> Bits:
    """Values of one chunk of the tensor; depends on nothing but the arguments."""
    if tensor.name.endswith("positional_embedding"):
        return to_bfloat16(sinusoids(*tensor.matrix)[first:last])
    width = tensor.matrix[1]
    count = (last - first) * width
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(tensor.name.encode()), first]))
    words = rng.integers(0, 2**64 - 1, -(-count // 4), np.uint64, endpoint=True)  # 4 indices each
    indices = words.astype("<u8", copy=False).view("<u2")[:count]
    # "wrap" spares a bounds check: every 16-bit index is in the table
    rows = np.take(_table(tensor.mean, tensor.std), indices, mode="wrap").reshape(-1, width)  # [rows, width]
    for row, factor in tensor.rows.items():
        if first <= row < last:
            rows[row - first] = _times(rows[row - first], factor)
    for column, factor in tensor.columns.items():
        rows[:, column] = _times(rows[:, column], factor)
    return rows


def _times(bits: Bits, factor: float) -> Bits:
    return to_bfloat16(from_bfloat16(bits) * np.float32(factor))
