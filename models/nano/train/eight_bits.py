"""Matrices as integers of 8 bits with a scale a row: how nano's checkpoint is stored (`models.convert.checkpoint`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.convert.gptq import factor, fit_even, round_columns

Arrays = dict[str, NDArray[Any]]


def eight_bit(name: str, values: NDArray[np.floating]) -> Arrays:
    """A matrix, or a kernel, as integers of -127 to 127 and the scale of each row."""
    rows = values.reshape(len(values), -1)
    scales = np.maximum(np.abs(rows).max(1), 1e-8).astype(np.float32) / np.float32(127)
    return {name: np.rint(rows / scales[:, None]).astype(np.int8).reshape(values.shape), f"{name}.scales": scales}


def eight_bit_near(name: str, values: NDArray[np.floating], moments: NDArray[np.float32]) -> Arrays:
    """The same, rounded so that the outputs err least for inputs with these `moments` (`gptq`), sum of x x^T [k, k]."""
    weight = np.ascontiguousarray(values.T, np.float32)
    levels, scales, _ = round_columns(weight, factor(moments.copy()), block=len(weight), fit=fit_even, top=255)
    return {name: np.ascontiguousarray((levels - 128).T.astype(np.int8)), f"{name}.scales": scales[0]}


def from_eight_bits(stored: Arrays) -> Arrays:
    """Weights of what `eight_bit` made; what has no scales stays as it is."""
    weights = {}
    for name, values in stored.items():
        if not name.endswith(".scales"):
            scales = stored.get(f"{name}.scales")
            weights[name] = values if scales is None else values * scales.reshape(-1, *[1] * (values.ndim - 1))
    return weights
