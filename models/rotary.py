"""How Qwen tells positions apart: rotary tables with dynamic NTK, and the LogN scale of long-range queries.

Shared by the converter (the plain graph carries its tables) and by the decoder (the fused graph is fed with them).
Formulas: rotary embedding of Su et al. 2021 in its half-split layout; NTK-aware base scaling and LogN attention as
Qwen-7B defines them. Everything is float32, as in the original, also for 16-bit models.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.manifest import DecoderSizes

Float32 = npt.NDArray[np.float32]


def ntk_thresholds(sizes: DecoderSizes) -> list[int]:
    """Context lengths N, 2N, 4N, … below `max_positions`: passing each one raises alpha from 2^k - 1 to 2^(k+1) - 1."""
    lengths = [sizes.seq_length]
    while lengths[-1] * 2 < sizes.max_positions:
        lengths.append(lengths[-1] * 2)
    return [length for length in lengths if length < sizes.max_positions] if sizes.dynamic_ntk else []


def ntk_alpha(length: int, sizes: DecoderSizes) -> int:
    """alpha = max(2^ceil(log2(length / N) + 1) - 1, 1) with N = seq_length: 1 up to N, then 3, 7, 15, …"""
    return int(2 ** (1 + sum(length > threshold for threshold in ntk_thresholds(sizes))) - 1)


def rotary_tables(alpha: int, sizes: DecoderSizes) -> tuple[Float32, Float32]:
    """cos and sin of position * base_a^(-2i/d), with base_a = base * alpha^(d/(d-2)).

    Returns two float32 [max_positions, head_dim / 2].
    """
    dim = sizes.head_dim
    base = np.float32(sizes.rotary_base * alpha ** (dim / (dim - 2)))
    inverse_frequency = np.float32(1) / base ** (np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim))
    angle = np.outer(np.arange(sizes.max_positions, dtype=np.float32), inverse_frequency)  # [max_positions, dim / 2]
    return np.cos(angle), np.sin(angle)


def logn_scale(sizes: DecoderSizes) -> Float32:
    """Factor of the query at each position p: ln(p + 1) / ln(N) where p + 1 > N, else 1. float32 [max_positions]."""
    length = np.arange(1, sizes.max_positions + 1)
    scale = np.log(length) / np.log(max(2, sizes.seq_length))
    return np.where(sizes.logn & (length > sizes.seq_length), scale, 1.0).astype(np.float32)
