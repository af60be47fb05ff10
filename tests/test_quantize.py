"""Block quantisation: exact on edge blocks, bounded elsewhere, and what ONNX Runtime's MatMulNBits computes."""

import numpy as np
import onnxruntime as ort
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from models.convert.quantize import dequantize_blocks, quantize_blocks, quantize_rows

BITS = [4, 8]


def random_rows(n, k, *, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (n, k)).astype(np.float32)


def restored(rows, bits, block):
    packed, scales = quantize_blocks(rows, bits=bits, block=block)
    return dequantize_blocks(packed, scales, bits=bits, k=rows.shape[1])


def steps(rows, bits, block):
    """The largest magnitude of each weight's block, over the 2^(bits-1) levels below zero."""
    n, k = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -k % block))).reshape(n, -1, block)
    return np.repeat(np.abs(padded).max(axis=-1) / 2 ** (bits - 1), block, axis=1)[:, :k]


@pytest.mark.parametrize("bits", BITS)
def test_zeros_have_the_middle_code_and_no_scale(bits):
    packed, scales = quantize_blocks(np.zeros((2, 64), np.float32), bits=bits, block=32)
    assert_array_equal(packed, np.full((2, 2, 32 * bits // 8), 0x88 if bits == 4 else 0x80, np.uint8))
    assert_array_equal(scales, np.zeros((2, 2), np.float32))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.75, -0.75, 1e-30, -3e4])
def test_a_constant_block_comes_back_exactly_from_the_lowest_level(bits, value):
    rows = np.full((1, 32), value, np.float32)
    packed, scales = quantize_blocks(rows, bits=bits, block=32)
    assert_array_equal(packed, np.zeros_like(packed))
    np.testing.assert_allclose(scales, [[-value / 2 ** (bits - 1)]], rtol=1e-6)
    np.testing.assert_allclose(restored(rows, bits, 32), rows, rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [8.0, -8.0])
def test_one_outlier_among_zeros_is_exact(bits, value):
    rows = np.zeros((1, 32), np.float32)
    rows[0, 5] = value
    assert_array_equal(restored(rows, bits, 32), rows)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("sign", [1, -1])
def test_levels_themselves_come_back_exactly(bits, sign):
    half = 2 ** (bits - 1)
    rows = (sign * np.arange(-half, half, dtype=np.float32) * np.float32(0.125)).reshape(1, -1)
    packed, scales = quantize_blocks(rows, bits=bits, block=2 * half)
    assert_array_equal(scales, [[sign * 0.125]])
    assert_array_equal(restored(rows, bits, 2 * half), rows)
    codes = np.arange(2 * half, dtype=np.uint8)
    assert_array_equal(packed[0, 0], codes[0::2] | codes[1::2] << 4 if bits == 4 else codes)


def test_the_low_nibble_is_the_first_weight():
    rows = np.zeros((1, 16), np.float32)
    rows[0, :2] = [-8, 7]
    packed, scales = quantize_blocks(rows, bits=4, block=16)
    assert_array_equal(scales, [[1]])
    assert packed[0, 0, 0] == 0xF0


@pytest.mark.parametrize("bits", BITS)
def test_the_largest_weight_sits_on_the_lowest_level_whatever_its_sign(bits):
    rows = random_rows(16, 32)
    rows[:, 7] = np.where(np.arange(16) % 2, 3, -3)
    packed, scales = quantize_blocks(rows, bits=bits, block=32)
    codes = packed[:, 0, 3] >> 4 if bits == 4 else packed[:, 0, 7]
    assert_array_equal(codes, np.zeros(16, np.uint8))
    assert_array_equal(scales[:, 0] < 0, np.arange(16) % 2 == 1)


@pytest.mark.parametrize("bits", BITS)
def test_a_last_block_that_is_not_full_is_padded_with_zeros(bits):
    rows = random_rows(3, 40)
    packed, scales = quantize_blocks(rows, bits=bits, block=32)
    assert (packed.shape, scales.shape) == ((3, 2, 32 * bits // 8), (3, 2))
    assert_array_equal(packed[:, 1, 8 * bits // 8 :], np.full((3, 24 * bits // 8), 0x88 if bits == 4 else 0x80))
    alone, alone_scales = quantize_blocks(np.pad(rows[:, 32:], ((0, 0), (0, 24))), bits=bits, block=32)
    assert_array_equal(packed[:, 1:], alone)
    assert_array_equal(scales[:, 1:], alone_scales)
    assert restored(rows, bits, 32).shape == (3, 40)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("tiny", [1e-39, 1e-44, -1e-45])
def test_denormal_weights_stay_finite_and_small(bits, tiny):
    found = restored(np.linspace(0, tiny, 32, dtype=np.float32)[None], bits, 32)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 2 * abs(tiny)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("block", [16, 32, 128])
def test_an_error_is_half_a_step_and_what_clipping_takes(bits, block):
    rows = random_rows(64, 256)
    step = steps(rows, bits, block)
    # The level +2^(bits-1) does not exist: one step for a weight opposite to the largest one. 4 bits may also shrink
    # the range to 0.79, which takes 0.21 of 8 steps from the largest, and the refitted scale moves each level a bit.
    limit = step * (0.5 + 1.0 + (0.21 * 8 if bits == 4 else 0.5))
    error = np.abs(restored(rows, bits, block) - rows)
    assert (error <= limit).all()
    assert error.mean() < 0.3 * step.mean()  # uniform rounding would give 0.25


@pytest.mark.parametrize("bits", BITS)
def test_no_block_is_worse_than_plain_rounding(bits):
    found, expected = squared_errors(bits)
    assert (found <= expected * 1.001 + 1e-9).all()


def test_four_bits_gain_from_the_search_for_a_range():
    found, expected = squared_errors(4)
    assert found.mean() < 0.94 * expected.mean()  # measured: 0.91, and 0.965 with the refitted scale alone


def squared_errors(bits):
    """The squared error left in each block of 32: ours, and that of rounding to the levels below the largest weight."""
    rows = random_rows(64, 256, seed=1)
    half = 2 ** (bits - 1)
    blocks = rows.reshape(64, 8, 32).astype(np.float64)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(-1)[..., None], -1)
    rounded = np.clip(np.rint(blocks / (extreme / -half)), -half, half - 1) * (extreme / -half)
    found = restored(rows, bits, 32).reshape(blocks.shape)
    return ((found - blocks) ** 2).sum(-1), ((rounded - blocks) ** 2).sum(-1)


def test_eight_bits_are_ten_times_finer_than_four():
    rows = random_rows(64, 256)
    four, eight = (np.abs(restored(rows, bits, 32) - rows).mean() for bits in BITS)
    assert eight < four / 10


def matmul_nbits(packed, scales, *, bits, k, level):
    """The float32 [n, k] matrix that ONNX Runtime multiplies by: its answer to the identity."""
    n, _, width = packed.shape
    layout = {"K": k, "N": n, "bits": bits, "block_size": width * 8 // bits, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", ["a", "b", "scales"], ["y"], domain="com.microsoft", **layout)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["m", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", n])],
        [numpy_helper.from_array(packed, "b"), numpy_helper.from_array(scales, "scales")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"a": np.eye(k, dtype=np.float32)})[0].T


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("k", "block"), [(128, 32), (100, 32), (256, 128)])
def test_dequantised_blocks_are_what_onnx_runtime_multiplies_by(bits, level, k, block):
    packed, scales = quantize_blocks(random_rows(24, k), bits=bits, block=block)
    expected = dequantize_blocks(packed, scales, bits=bits, k=k)
    found = matmul_nbits(packed, scales, bits=bits, k=k, level=level)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_rows_keep_their_largest_weight_and_half_a_step():
    rows = random_rows(16, 100)
    levels, scale = quantize_rows(rows)
    assert levels.dtype == np.int8
    assert_array_equal(np.abs(levels).max(axis=1), np.full(16, 127))
    assert (np.abs(levels * scale[:, None] - rows) <= scale[:, None] * 0.5001).all()


def test_a_row_of_zeros_has_levels_of_zero_and_a_scale_that_divides():
    levels, scale = quantize_rows(np.zeros((2, 8), np.float32))
    assert_array_equal(levels, np.zeros((2, 8), np.int8))
    assert_array_equal(scale, [1, 1])
