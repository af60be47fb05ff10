"""Rounding a matrix so that its outputs err least, column by column (GPTQ; Frantar et al. 2022), as plain maths.

With x the inputs that a matrix W [n, k] meets and E = W - W', the outputs err by tr(E H E^T), H = sum x x^T [k, k].
With H = R R^T, R upper triangular, that is the sum over columns j of |E_j R_jj + sum_{i<j} E_i R_ij|^2. So column j is
rounded after the errors of those before it were moved into it: W'_j = round(W_j + sum_{i<j} E_i R_ij / R_jj). This is
GPTQ without its inverse. Matrices lie transposed here, [k, n], so that a column is one run of memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.convert.quantize import Float32, fit_range

DAMPING = 0.01  # of the mean of H's diagonal is added to it
PANEL = 512  # columns of a factor that are made at a time
STEP = 32  # columns between two products that move errors on
# A block's range is tried at these sizes: clipping its largest weights refines all others.
RANGE_FACTORS = (1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72)

Grid = tuple[Float32, Float32]  # scale [n], zero point [n] of some columns
Fit = Callable[[Float32, Float32], Grid]  # columns [block, n], what an error in each costs [block] -> their grid


def factor(hessian: Float32, damping: float = DAMPING) -> Float32:
    """Upper triangular R [k, k] with R R^T = H + damping; inputs that were never there cost as much as the damping.

    R takes the place of H, some columns at a time from the last on: of the widest product H has 485 MB, and each copy
    counts.
    """
    mean = float(np.trace(hessian, dtype=np.float64)) / len(hessian)
    np.fill_diagonal(hessian, hessian.diagonal() + np.float32(damping * mean or 1.0))
    for stop in range(len(hessian), 0, -PANEL):
        start = max(0, stop - PANEL)
        corner, above = hessian[start:stop, start:stop], hessian[:start, start:stop]
        corner[:] = np.linalg.cholesky(corner[::-1, ::-1])[::-1, ::-1]
        above[:] = np.linalg.solve(corner, above.T).T
        for first in range(0, start, PANEL):
            last = min(first + PANEL, start)
            hessian[:last, first:last] -= above[:last] @ above[first:last].T
        hessian[start:stop, :start] = 0
    return hessian


def round_columns(weight: Float32, r: Float32, *, block: int, fit: Fit, top: int) -> tuple[Float32, Float32, Float32]:
    """Levels [k, n] from 0 to `top`, scales and zero points [blocks, n] of a transposed matrix [k, n].

    A weight is (level - zero) * scale. `fit` chooses the grid of each block of columns, with the errors so far in them.
    """
    k = len(weight)
    errors, levels = np.zeros_like(weight), np.empty_like(weight)
    size = np.ascontiguousarray(r.diagonal())  # [k]
    scales, zeros = [], []
    for start in range(0, k, block):
        stop = min(start + block, k)
        target = weight[start:stop] + (r[:start, start:stop].T @ errors[:start]) / size[start:stop, None]
        scale, zero = fit(target, np.square(size[start:stop]))
        inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
        for first in range(start, stop, STEP):
            last = min(first + STEP, stop)
            moved = r[start:first, first:last].T @ errors[start:first]
            moved /= size[first:last, None]
            moved += target[first - start : last - start]
            for j in range(first, last):
                wanted = moved[j - first] + (r[first:j, j] / size[j]) @ errors[first:j]
                level = levels[j]
                np.multiply(wanted, inverse, out=level)
                level += zero
                np.rint(level, out=level)
                np.clip(level, 0, top, out=level)
                errors[j] = weight[j] - (level - zero) * scale
        scales.append(scale)
        zeros.append(zero)
    return levels, np.stack(scales), np.stack(zeros)


def fit_zero_point(bits: int) -> Fit:
    """Grids whose zero point is a level, see `quantize.fit_range`."""

    def fit(values: Float32, cost: Float32) -> Grid:
        _, zero, scale = fit_range(np.ascontiguousarray(values.T), bits, RANGE_FACTORS, cost)
        return scale, zero.astype(np.float32)

    return fit


def fit_even(values: Float32, cost: Float32) -> Grid:  # noqa: ARG001 - as every Fit
    """The symmetric grid of 8 bits, its zero at 128."""
    scale = np.abs(values).max(axis=0) / np.float32(127)
    return np.where(scale > 0, scale, np.float32(1)), np.full(values.shape[1], 128, np.float32)
