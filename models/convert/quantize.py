"""Block quantisation as plain maths on rows, quantise and dequantise side by side.

Two layouts: "blocks" for ONNX Runtime's MatMulNBits (4 or 8 bits, one float32 scale for each block of inputs, zero
point in the middle), and "columns" for DequantizeLinear (int8, one scale for each output). Knows no architecture.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

# Shrinking a block's range clips its largest weight and refines all others; the best of these wins, block by block.
RANGE_FACTORS = (1.0, 0.93, 0.86, 0.79)


def quantize_blocks(rows: Float32, *, bits: int, block: int) -> tuple[UInt8, Float32]:
    """Quantise float32 [n, k] to `bits` (4 or 8) with a scale for every `block` inputs of a row.

    Returns (packed uint8 [n, blocks, block * bits / 8], scales float32 [n, blocks]); a value is (q - 2^(bits-1)) *
    scale, low nibble first. The largest weight of a block sits on the level -2^(bits-1); the scale is then refitted by
    least squares, for each of RANGE_FACTORS, and the one with the smallest squared error is kept. 8 bits need none.
    """
    n, k = rows.shape
    blocks = -(-k // block)
    padded = np.pad(rows, ((0, 0), (0, blocks * block - k))) if blocks * block != k else rows
    values = padded.reshape(n * blocks, block)  # [n * blocks, block]
    half = 1 << (bits - 1)
    low, high = values.min(axis=1), values.max(axis=1)
    extreme = np.where(-low > high, low, high)  # the weight of largest magnitude, with its sign
    base = extreme / np.float32(-half)
    factors = RANGE_FACTORS if bits == 4 else (1.0,)
    best_levels, best_scale, best_error = _fit(values, base, half)
    for factor in factors[1:]:
        levels, scale, error = _fit(values, base * np.float32(factor), half)
        better = error < best_error
        best_levels[better], best_scale[better], best_error[better] = levels[better], scale[better], error[better]
    codes: UInt8 = (best_levels + np.float32(half)).astype(np.uint8)  # [n * blocks, block]
    if bits == 4:
        codes = codes[:, 0::2] | (codes[:, 1::2] << np.uint8(4))
    return codes.reshape(n, blocks, -1), best_scale.reshape(n, blocks)


def dequantize_blocks(packed: UInt8, scales: Float32, *, bits: int, k: int) -> Float32:
    """The float32 [n, k] that `quantize_blocks` stands for."""
    n, blocks, _ = packed.shape
    codes = np.stack([packed & 15, packed >> 4], axis=-1) if bits == 4 else packed
    values = (codes.reshape(n, blocks, -1).astype(np.float32) - np.float32(1 << (bits - 1))) * scales[..., None]
    return values.reshape(n, -1)[:, :k]


def quantize_rows(rows: Float32) -> tuple[npt.NDArray[np.int8], Float32]:
    """Quantise float32 [n, k] to int8 with one scale a row: q = round(w / scale), scale = max |w| / 127."""
    scale = np.abs(rows).max(axis=1) / np.float32(127)  # [n]
    safe = np.where(scale > 0, scale, np.float32(1))
    return np.rint(rows / safe[:, None]).astype(np.int8), safe


def _fit(values: Float32, base: Float32, half: int) -> tuple[Float32, Float32, Float32]:
    """Levels in [-half, half) for step `base`, the least-squares scale for them and the squared error left."""
    normal = np.abs(base) >= np.finfo(np.float32).tiny  # a denormal step has no finite inverse, and is as good as zero
    inverse = np.divide(np.float32(1), base, out=np.zeros_like(base), where=normal)
    levels = values * inverse[:, None]
    np.rint(levels, out=levels)
    np.clip(levels, -half, half - 1, out=levels)
    cross = np.einsum("ij,ij->i", values, levels)
    power = np.einsum("ij,ij->i", levels, levels)
    scale = np.divide(cross, power, out=np.zeros_like(cross), where=power != 0)
    error = np.einsum("ij,ij->i", values, values) - cross * scale
    return levels, scale, error
