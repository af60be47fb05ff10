"""Block quantisation as plain maths on rows, quantise and dequantise side by side.

Two layouts: "blocks" for ONNX Runtime's MatMulNBits (4 or 8 bits, a float32 scale and a zero point for each block of
inputs), and "columns" for DequantizeLinear (int8, one scale for each output). Knows no architecture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

# Shrinking a block's range clips its largest weights and refines all others; the best of these wins, block by block.
RANGE_FACTORS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75)


@dataclass(frozen=True)
class Blocks:
    """Quantised float32 [n, k]: a value is (code - zero) * scale. With 4 bits two codes share a byte, low nibble first.

    codes uint8 [n, blocks, block * bits / 8], scales float32 [n, blocks], zeros uint8 [n, ceil(blocks * bits / 8)].
    """

    codes: UInt8
    scales: Float32
    zeros: UInt8


def quantize_blocks(rows: Float32, *, bits: int, block: int) -> Blocks:
    """Quantise float32 [n, k] to `bits` (4 or 8) with a scale and a zero point for every `block` inputs of a row.

    A block's levels span its smallest and its largest weight and 0, which is one of them; the scale is then refitted
    by least squares, for each of RANGE_FACTORS, and the one with the smallest squared error is kept. 8 bits need none.
    """
    n, k = rows.shape
    blocks = -(-k // block)
    padded = np.pad(rows, ((0, 0), (0, blocks * block - k))) if blocks * block != k else rows
    values = padded.reshape(n * blocks, block)  # [n * blocks, block]
    codes, zeros, scales = fit_range(values, bits, RANGE_FACTORS if bits == 4 else (1.0,))
    return pack_blocks(codes.reshape(n, blocks, block), scales.reshape(n, blocks), zeros.reshape(n, blocks), bits=bits)


def fit_range(
    values: Float32, bits: int, factors: Sequence[float], cost: Float32 | None = None
) -> tuple[UInt8, UInt8, Float32]:
    """Codes [blocks, block], zero points and scales [blocks] of values [blocks, block], each block's error the least.

    The range of a block, which 0 is in, is tried at the sizes `factors`. `cost` [block]: what an error in each costs.
    """
    low, high = np.minimum(values.min(axis=1), 0), np.maximum(values.max(axis=1), 0)
    best = _fit(values, low * np.float32(factors[0]), high * np.float32(factors[0]), bits, cost)
    for factor in factors[1:]:
        found = _fit(values, low * np.float32(factor), high * np.float32(factor), bits, cost)
        better = found[-1] < best[-1]
        for kept, new in zip(best, found, strict=True):
            kept[better] = new[better]  # type: ignore[index]
    return best[:3]


def pack_blocks(codes: UInt8, scales: Float32, zeros: UInt8, *, bits: int) -> Blocks:
    """Codes [n, blocks, block], a byte each, and scales and zero points [n, blocks] as `Blocks`."""
    if bits == 4:
        codes, zeros = (_two_in_a_byte(one) for one in (codes, zeros))
    return Blocks(codes, scales, zeros)


def blocks_of_rows(levels: npt.NDArray[np.int8], scales: Float32, *, block: int) -> Blocks:
    """int8 levels [n, k] with a scale for each row [n] as blocks of 8 bits: the same values, nothing is rounded."""
    n, k = levels.shape
    blocks = -(-k // block)
    codes = np.pad(levels.view(np.uint8) ^ np.uint8(128), ((0, 0), (0, blocks * block - k)), constant_values=128)
    repeated = np.repeat(scales[:, None], blocks, axis=1)
    return pack_blocks(codes.reshape(n, blocks, block), repeated, np.full((n, blocks), 128, np.uint8), bits=8)


def dequantize_blocks(found: Blocks, *, bits: int, k: int) -> Float32:
    """The float32 [n, k] that `quantize_blocks` stands for."""
    n, blocks = found.scales.shape
    codes, zeros = found.codes.reshape(n, -1), found.zeros
    if bits == 4:
        codes, zeros = (np.stack([one & 15, one >> 4], axis=-1).reshape(n, -1) for one in (codes, zeros))
    levels = codes.reshape(n, blocks, -1).astype(np.float32) - zeros[:, :blocks, None]
    return (levels * found.scales[..., None]).reshape(n, -1)[:, :k]


def quantize_rows(rows: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Quantise float32 [n, k] to int8 with one scale a row: q = round(w / scale), scale = max |w| / 127."""
    scale = np.abs(rows).max(axis=1) / np.float32(127)  # [n]
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.rint(rows / safe[:, None]).astype(np.int8), safe


def _fit(
    values: Float32, low: Float32, high: Float32, bits: int, cost: Float32 | None
) -> tuple[UInt8, UInt8, Float32, Float32]:
    """Codes of levels from `low` to `high` of each block, zero point, least-squares scale, squared error left."""
    top = np.float32((1 << bits) - 1)
    step = (high - low) / top
    normal = step >= np.finfo(np.float32).tiny  # a denormal step has no finite inverse, and is as good as zero
    inverse = np.divide(np.float32(1), step, out=np.zeros_like(step), where=normal)
    zero = np.rint(-low * inverse)
    levels = values * inverse[:, None]
    np.rint(levels, out=levels)
    np.clip(levels, -zero[:, None], (top - zero)[:, None], out=levels)
    weighed = levels if cost is None else levels * cost
    cross = np.einsum("ij,ij->i", values, weighed)
    power = np.einsum("ij,ij->i", levels, weighed)
    scale = np.divide(cross, power, out=np.zeros_like(cross), where=power != 0)
    error = np.einsum("ij,ij->i", values, values if cost is None else values * cost) - cross * scale
    levels += zero[:, None]
    return levels.astype(np.uint8), zero.astype(np.uint8), scale, error


def _two_in_a_byte(codes: UInt8) -> UInt8:
    """Codes below 16 by pairs of the last axis, the first in the low nibble; an odd last one has a zero beside it."""
    if codes.shape[-1] % 2:
        codes = np.pad(codes, ((0, 0),) * (codes.ndim - 1) + ((0, 1),))
    return codes[..., 0::2] | (codes[..., 1::2] << np.uint8(4))
