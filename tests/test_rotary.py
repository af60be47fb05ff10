"""Rotary tables with dynamic NTK and LogN scales, against the formulas in float64."""

import dataclasses

import numpy as np
import pytest

from models.manifest import DecoderSizes
from models.rotary import logn_scale, ntk_alpha, ntk_thresholds, rotary_tables

SIZES = DecoderSizes(
    vocab_size=320, d_model=256, n_layer=1, n_head=2, head_dim=128, seq_length=2048, max_positions=8192,
    rotary_base=10000.0, dynamic_ntk=True, logn=True, audio_start=300, audio_end=301,
)  # fmt: skip


def sizes(**changes):
    return dataclasses.replace(SIZES, **changes)


@pytest.mark.parametrize(
    ("length", "alpha"),
    [(1, 1), (2047, 1), (2048, 1), (2049, 3), (4096, 3), (4097, 7), (8192, 7), (8193, 15), (16384, 15), (16385, 31)],
)
def test_alpha_follows_the_table_of_the_original(length, alpha):
    assert ntk_alpha(length, sizes(max_positions=32768)) == alpha


@pytest.mark.parametrize(
    ("length", "alpha"), [(1, 1), (16, 1), (17, 3), (32, 3), (33, 7), (64, 7), (65, 15), (100, 15)]
)
def test_alpha_scales_with_the_trained_context(length, alpha):
    assert ntk_alpha(length, sizes(seq_length=16, max_positions=100)) == alpha


@pytest.mark.parametrize("seq_length", [16, 64, 2048, 3])
def test_alpha_is_the_formula_for_every_length(seq_length):
    lengths = np.arange(1, 1025)
    formula = np.maximum(2.0 ** np.ceil(np.log2(lengths / seq_length) + 1) - 1, 1)
    found = [ntk_alpha(length, sizes(seq_length=seq_length, max_positions=1024)) for length in lengths]
    np.testing.assert_array_equal(found, formula)


def test_alpha_is_one_without_dynamic_ntk():
    assert [ntk_alpha(length, sizes(dynamic_ntk=False)) for length in (1, 2049, 8192)] == [1, 1, 1]
    assert ntk_thresholds(sizes(dynamic_ntk=False)) == []


@pytest.mark.parametrize(
    ("max_positions", "thresholds"),
    [(2048, []), (2049, [2048]), (4096, [2048]), (4097, [2048, 4096]), (8192, [2048, 4096])],
)
def test_thresholds_are_the_lengths_below_the_limit(max_positions, thresholds):
    assert ntk_thresholds(sizes(max_positions=max_positions)) == thresholds


@pytest.mark.parametrize("head_dim", [8, 32, 128])
@pytest.mark.parametrize("alpha", [1, 3, 7])
def test_rotary_tables_are_the_formula(alpha, head_dim):
    # Up to position 8191, an angle in float32 is off by some 2^-24 of itself for each of its roundings.
    cos, sin = rotary_tables(alpha, sizes(head_dim=head_dim))
    base = 10000.0 * alpha ** (head_dim / (head_dim - 2))
    angle = np.outer(np.arange(8192), base ** (-np.arange(0, head_dim, 2) / head_dim))
    limit = 1e-7 + angle * 8 * 2**-24
    assert cos.dtype == sin.dtype == np.float32
    assert cos.shape == sin.shape == (8192, head_dim // 2)
    assert (np.abs(cos - np.cos(angle)) <= limit).all()
    assert (np.abs(sin - np.sin(angle)) <= limit).all()


def test_the_first_position_is_not_rotated():
    cos, sin = rotary_tables(3, SIZES)
    np.testing.assert_array_equal(cos[0], np.ones(64))
    np.testing.assert_array_equal(sin[0], np.zeros(64))


def test_logn_begins_behind_the_trained_context():
    scale = logn_scale(SIZES)
    assert (scale.dtype, scale.shape) == (np.float32, (8192,))
    np.testing.assert_array_equal(scale[:2048], np.ones(2048))
    assert scale[2048] > 1


@pytest.mark.parametrize("position", [2048, 2049, 4095, 8191])
def test_logn_counts_positions_from_one(position):
    expected = np.log(position + 1) / np.log(2048)
    off_by_one = np.log(position) / np.log(2048)
    assert abs(logn_scale(SIZES)[position] - expected) < 2e-7 < abs(off_by_one - expected) / 50


def test_logn_is_one_everywhere_when_off():
    np.testing.assert_array_equal(logn_scale(sizes(logn=False)), np.ones(8192))
