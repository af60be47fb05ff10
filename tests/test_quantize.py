"""Block quantisation: exact on edge blocks, bounded elsewhere, and what ONNX Runtime's MatMulNBits computes."""

import numpy as np
import onnxruntime as ort
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from models.convert.quantize import blocks_of_rows, dequantize_blocks, quantize_blocks, quantize_rows

BITS = [4, 8]


def random_rows(n, k, *, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (n, k)).astype(np.float32)


def restored(rows, bits, block):
    return dequantize_blocks(quantize_blocks(rows, bits=bits, block=block), bits=bits, k=rows.shape[1])


def unpacked(codes, bits):
    return np.stack([codes & 15, codes >> 4], axis=-1).reshape(*codes.shape[:-1], -1) if bits == 4 else codes


def steps(rows, bits, block):
    """The range of each weight's block, 0 among it, over the steps between its levels."""
    n, k = rows.shape
    padded = np.pad(rows, ((0, 0), (0, -k % block))).reshape(n, -1, block)
    span = np.maximum(padded.max(axis=-1), 0) - np.minimum(padded.min(axis=-1), 0)
    return np.repeat(span / (2**bits - 1), block, axis=1)[:, :k]


@pytest.mark.parametrize("bits", BITS)
def test_zeros_have_no_scale(bits):
    found = quantize_blocks(np.zeros((2, 64), np.float32), bits=bits, block=32)
    assert_array_equal(found.codes, np.zeros((2, 2, 32 * bits // 8), np.uint8))
    assert_array_equal(found.scales, np.zeros((2, 2), np.float32))
    assert_array_equal(restored(np.zeros((2, 64), np.float32), bits, 32), np.zeros((2, 64)))


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [0.75, -0.75, 1e-30, -3e4])
def test_a_constant_block_comes_back_exactly(bits, value):
    rows = np.full((1, 32), value, np.float32)
    found = quantize_blocks(rows, bits=bits, block=32)
    top = 2**bits - 1  # 0 is one of the levels: the lowest under positive weights, the highest over negative ones
    assert_array_equal(unpacked(found.codes, bits), np.full((1, 1, 32), top if value > 0 else 0))
    assert unpacked(found.zeros, bits)[0, 0] == (0 if value > 0 else top)
    np.testing.assert_allclose(restored(rows, bits, 32), rows, rtol=1e-6)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("value", [8.0, -8.0])
def test_one_outlier_among_zeros_is_exact(bits, value):
    rows = np.zeros((1, 32), np.float32)
    rows[0, 5] = value
    assert_array_equal(restored(rows, bits, 32), rows)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("below", [0, 3, 8, 15])
def test_levels_themselves_come_back_exactly_wherever_zero_lies(bits, below):
    codes = np.arange(2**bits)
    rows = ((codes - below) * np.float32(0.125)).astype(np.float32).reshape(1, -1)
    found = quantize_blocks(rows, bits=bits, block=2**bits)
    assert_array_equal(found.scales, [[0.125]])
    assert unpacked(found.zeros, bits)[0, 0] == below
    assert_array_equal(unpacked(found.codes, bits)[0, 0], codes)
    assert_array_equal(restored(rows, bits, 2**bits), rows)


def test_the_low_nibble_is_the_first():
    rows = np.zeros((1, 48), np.float32)
    rows[0, :2], rows[0, 16:18], rows[0, 32:34] = [-8, 7], [-15, 0], [-4, 11]
    found = quantize_blocks(rows, bits=4, block=16)
    assert_array_equal(found.scales, [[1, 1, 1]])
    assert_array_equal(found.codes[0, :, 0], [0xF0, 0xF0, 0xF0])
    assert_array_equal(found.zeros, [[0xF8, 0x04]])  # an odd last one has a zero beside it


@pytest.mark.parametrize("bits", BITS)
def test_a_last_block_that_is_not_full_is_padded_with_zeros(bits):
    rows = random_rows(3, 40)
    found = quantize_blocks(rows, bits=bits, block=32)
    assert (found.codes.shape, found.scales.shape) == ((3, 2, 32 * bits // 8), (3, 2))
    padding, zeros = unpacked(found.codes, bits)[:, 1, 8:], unpacked(found.zeros, bits)[:, 1:2]
    assert_array_equal(padding, np.broadcast_to(zeros, (3, 24)))
    alone = quantize_blocks(np.pad(rows[:, 32:], ((0, 0), (0, 24))), bits=bits, block=32)
    assert_array_equal(found.codes[:, 1:], alone.codes)
    assert_array_equal(found.scales[:, 1:], alone.scales)
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
    # Zero is rounded to a level, which moves the ends by half a step. 4 bits may shrink the range to 0.75, which takes
    # a quarter of up to 15 steps from the largest, and the refitted scale moves each level a bit.
    limit = step * (0.5 + 0.5 + (0.25 * 15 + 0.5 if bits == 4 else 0.5))
    error = np.abs(restored(rows, bits, block) - rows)
    assert (error <= limit).all()
    assert error.mean() < 0.3 * step.mean()  # uniform rounding would give 0.25


@pytest.mark.parametrize("bits", BITS)
def test_no_block_is_worse_than_plain_rounding(bits):
    found, expected = squared_errors(bits)
    assert (found <= expected * 1.001 + 1e-9).all()


def test_four_bits_gain_from_the_search_for_a_range():
    found, expected = squared_errors(4)
    assert found.mean() < 0.95 * expected.mean()  # measured: 0.93


def squared_errors(bits):
    """The squared error left in each block of 32: ours, and that of rounding to levels from the least to the largest."""
    rows = random_rows(64, 256, seed=1)
    blocks = rows.reshape(64, 8, 32).astype(np.float64)
    low, high = blocks.min(axis=-1, keepdims=True), blocks.max(axis=-1, keepdims=True)
    step = (high - low) / (2**bits - 1)
    zero = np.rint(-low / step)
    rounded = (np.clip(np.rint(blocks / step), -zero, 2**bits - 1 - zero)) * step
    found = restored(rows, bits, 32).reshape(blocks.shape)
    return ((found - blocks) ** 2).sum(-1), ((rounded - blocks) ** 2).sum(-1)


def test_eight_bits_are_ten_times_finer_than_four():
    rows = random_rows(64, 256)
    four, eight = (np.abs(restored(rows, bits, 32) - rows).mean() for bits in BITS)
    assert eight < four / 10


def matmul_nbits(found, *, bits, k, level):
    """The float32 [n, k] matrix that ONNX Runtime multiplies by: its answer to the identity."""
    n, _, width = found.codes.shape
    layout = {"K": k, "N": n, "bits": bits, "block_size": width * 8 // bits, "accuracy_level": level}
    node = helper.make_node("MatMulNBits", ["a", "b", "scales", "zeros"], ["y"], domain="com.microsoft", **layout)
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["m", k])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["m", n])],
        [
            numpy_helper.from_array(one, name)
            for name, one in (("b", found.codes), ("scales", found.scales), ("zeros", found.zeros))
        ],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"a": np.eye(k, dtype=np.float32)})[0].T


@pytest.mark.parametrize("level", [0, 1, 4])
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("k", "block"), [(128, 32), (100, 32), (256, 128), (96, 256), (768, 256)])
def test_dequantised_blocks_are_what_onnx_runtime_multiplies_by(bits, level, k, block):
    found = quantize_blocks(random_rows(24, k), bits=bits, block=block)
    expected = dequantize_blocks(found, bits=bits, k=k)
    # With level 4 the ones of the identity are rounded to 127 steps of 1/127 each, which is nearly exact.
    answered = matmul_nbits(found, bits=bits, k=k, level=level)
    np.testing.assert_allclose(answered, expected, rtol=0, atol=1e-6 if level < 4 else 2e-5)


@pytest.mark.parametrize(("k", "block"), [(128, 32), (100, 32), (96, 128)])
def test_rows_that_are_in_8_bits_already_become_blocks_of_the_same_values(k, block):
    levels = np.random.default_rng(0).integers(-128, 128, (24, k), dtype=np.int8)
    scales = np.random.default_rng(1).random(24, np.float32)
    found = blocks_of_rows(levels, scales, block=block)
    expected = levels * scales[:, None]
    assert_array_equal(dequantize_blocks(found, bits=8, k=k), expected)
    np.testing.assert_allclose(matmul_nbits(found, bits=8, k=k, level=0), expected, rtol=0, atol=1e-6)


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
