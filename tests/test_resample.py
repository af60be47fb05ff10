"""The rate converter gives ffmpeg's samples: reference vectors, lengths, and plain acoustics."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from audio_encoder.resample import resample
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


def test_what_lies_above_8_khz_is_removed():
    tone = 10_000 * np.sin(2 * np.pi * 9_500 * np.arange(48_000) / 48_000).astype(np.float32)
    assert np.abs(resample(tone, 48_000, integer=False)[200:-200]).max() < 10


def test_nothing_gives_nothing():
    assert len(resample(np.zeros(0, np.float32), 48_000, integer=True)) == 0
