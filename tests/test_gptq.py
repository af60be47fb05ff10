"""GPTQ rounds with less error of outputs than rounding to nearest, and its pieces are what they say."""

import numpy as np
import pytest

from models.convert import gptq
from models.convert.calibrate import round_rows
from models.convert.gptq import factor, fit_zero_point, round_columns
from models.convert.linear import BLOCKS4, TOKENS8, Storage
from models.convert.quantize import Blocks, dequantize_blocks, quantize_blocks, quantize_rows
from models.convert.residual_rotation import Rotation

RANDOM = np.random.default_rng(0)


def inputs(tokens, k):
    """Correlated inputs with some large channels."""
    x = RANDOM.standard_normal((tokens, k // 4)) @ RANDOM.standard_normal((k // 4, k))
    return np.float32(x + 0.1 * RANDOM.standard_normal((tokens, k))) * np.float32(1 + 5 * (np.arange(k) % 16 == 3))


def restored(found, k):
    if "zeros" in found:
        return dequantize_blocks(Blocks(found["codes"], found["scales"], found["zeros"]), bits=4, k=k)
    return found["codes"] * found["scales"][:, None]


def output_error(weight, rounded, x):
    return np.square(x @ (weight - rounded).T).mean() / np.square(x @ weight.T).mean()


@pytest.mark.parametrize("panel", [512, 64, 48, 1])
def test_the_factor_is_upper_triangular_and_gives_the_damped_matrix_back(panel, monkeypatch):
    monkeypatch.setattr(gptq, "PANEL", panel)
    x = inputs(400, 64)
    hessian = x.T @ x
    r = factor(hessian.copy(), damping=0.01)
    assert np.array_equal(r, np.triu(r))
    damped = hessian + 0.01 * hessian.trace() / 64 * np.eye(64)
    np.testing.assert_allclose(r @ r.T, damped, atol=1e-4 * hessian.max())


def test_inputs_that_were_never_there_have_a_factor():
    assert np.isfinite(factor(np.zeros((8, 8), np.float32))).all()


@pytest.mark.parametrize(("storage", "k"), [(Storage("blocks", 4, 64), 150), (BLOCKS4, 512), (TOKENS8, 128)])
def test_outputs_err_less_than_with_rounding_to_nearest(storage, k):
    x, weight = inputs(1500, k), np.float32(RANDOM.standard_normal((48, k)))
    found = restored(round_rows(weight, factor(x.T @ x), storage), k)
    if storage.kind == "tokens":
        levels, scales = quantize_rows(weight)
        nearest = levels * scales[:, None]
    else:
        nearest = dequantize_blocks(quantize_blocks(weight, bits=4, block=storage.block), bits=4, k=k)
    assert output_error(weight, found, x) < 0.7 * output_error(weight, nearest, x)


def test_independent_inputs_are_rounded_to_nearest():
    weight = np.float32(RANDOM.standard_normal((64, 5)))
    levels, scales, zeros = round_columns(weight, np.eye(64, dtype=np.float32), block=32, fit=fit_zero_point(4), top=15)
    wanted = np.clip(np.rint(weight / np.repeat(scales, 32, 0) + np.repeat(zeros, 32, 0)), 0, 15)
    np.testing.assert_array_equal(levels, wanted)


@pytest.mark.parametrize("n", [1, 7, 48, 896])
def test_a_rotation_keeps_lengths_and_spreads_one_channel_over_all(n):
    turned = Rotation(n, 0).rows(np.eye(n, dtype=np.float32))
    np.testing.assert_allclose(turned @ turned.T, np.eye(n), atol=1e-5)
    if n > 7:
        assert np.abs(turned).max() <= 2.01 / n**0.5
    np.testing.assert_allclose(Rotation(n, 0).columns(np.eye(n, dtype=np.float32)), turned.T, atol=1e-6)
