"""The rate converter gives ffmpeg's samples: reference vectors, lengths, and plain acoustics."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from audio_encoder.resample import resample, resample_blocks
from tests.conftest import GOLDEN

VECTORS = json.loads((GOLDEN / "resample.json").read_text())["cases"]


@pytest.mark.parametrize("case", VECTORS, ids=lambda case: f"{case['rate']}")
def test_16_bit_samples_equal_those_of_ffmpeg(case):
    assert resample(np.array(case["input"], np.float32), case["rate"], integer=True).tolist() == case["output"]


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_056, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("integer", [True, False])
def test_a_tone_keeps_its_pitch_and_loudness(rate, integer):
    tone = 10_000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    expected = 10_000 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    converted = resample(np.rint(tone), rate, integer=integer)
    assert_allclose(converted[500:15_500], expected[500:15_500], rtol=0, atol=8)


@pytest.mark.parametrize("samples", [1, 2, 3, 49, 50, 51, 99, 100, 101, 1_000])
@pytest.mark.parametrize("rate", [4_000, 24_000, 48_000])
def test_any_number_of_samples_is_converted(samples, rate):
    converted = resample(np.full(samples, 1_000, np.float32), rate, integer=False)
    assert len(converted) == -(-samples * 16_000 // rate)
    assert np.isfinite(converted).all()


@pytest.mark.parametrize("rate", [1_000, 8_000, 16_001, 44_100, 96_000])
@pytest.mark.parametrize("integer", [True, False])
def test_how_the_blocks_are_cut_moves_no_bit(rate, integer):
    rng = np.random.default_rng(rate)
    steps = np.rint(rng.standard_normal(9 * rate + 5) * 3_000).astype(np.float32)
    expected = resample(steps, rate, integer=integer)
    for cuts in ([1, 2, 3, 3, 50, 101, rate], np.arange(0, len(steps), 997)):
        pieces = list(resample_blocks(np.split(steps, cuts), rate, integer=integer))
        assert np.array_equal(np.concatenate(pieces), expected)
        assert all(32_000 <= len(piece) <= 128_000 for piece in pieces[:-1])


@pytest.mark.parametrize(("rate", "skipped"), [(8_000, 5_001), (44_100, 441 * 77), (48_000, 3 * 12_345)])
def test_the_pieces_leave_no_seams(rate, skipped):
    steps = np.rint(np.random.default_rng(0).standard_normal(12 * rate) * 3_000).astype(np.float32)
    whole, later = resample(steps, rate, integer=True), resample(steps[skipped:], rate, integer=True)
    assert np.array_equal(whole[skipped * 16_000 // rate :][100:], later[100:])


def test_a_sample_that_is_passed_as_it_is_has_its_halves_rounded_to_even():
    steps = np.tile(np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 100.5]), 4_000)
    assert np.array_equal(resample(steps, 8_000, integer=False)[::2], np.rint(steps))


def test_what_lies_above_8_khz_is_removed():
    tone = 10_000 * np.sin(2 * np.pi * 9_500 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000, integer=False)[200:-200]).max() < 10


def test_nothing_gives_nothing():
    assert len(resample(np.zeros(0, np.float32), 48_000, integer=True)) == 0
