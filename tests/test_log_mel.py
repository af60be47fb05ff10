"""The features equal the original's: 80 bands of 3000 frames, whatever the length of the clip."""

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from audio_encoder.log_mel import log_mel_spectrogram, mel_filterbank
from tests.conftest import GOLDEN

TOLERANCE = 2e-5  # the original's float32 against float64, on real recordings
CLIPS = json.loads((GOLDEN / "features.json").read_text())
IN_REPOSITORY = ["short", "silence_1s", "impulse_first", "sine1k_1s", "noise_quiet_0p3s"]


def noise(samples, seed=0):
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def plain_log_mel(waveform):
    """The definition, over all 3001 frames and with no short cut."""
    sound = np.zeros(480_000)
    sound[: len(waveform)] = waveform[:480_000]
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 200, mode="reflect"), 400)[::160]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    power = np.abs(np.fft.rfft(frames * window)[:-1]) ** 2
    log_mel = np.log10(np.maximum(mel_filterbank().astype(np.float64) @ power.T, 1e-10))
    return (np.maximum(log_mel, log_mel.max() - 8) + 4) / 4


def test_filterbank_is_the_original_one_bit_for_bit():
    expected = np.load(GOLDEN / "features.npz")["mel_filters"]
    assert mel_filterbank().dtype == np.float32
    assert np.array_equal(mel_filterbank(), expected)


@pytest.mark.slow
def test_filterbank_is_that_of_librosa():
    librosa_filters = pytest.importorskip("librosa.filters")
    assert_allclose(mel_filterbank(), librosa_filters.mel(sr=16_000, n_fft=400, n_mels=80), rtol=0, atol=1e-8)


@pytest.mark.slow
def test_mel_is_that_of_the_whisper_feature_extractor():
    transformers = pytest.importorskip("transformers")
    extract = transformers.WhisperFeatureExtractor(feature_size=80)
    for samples in (480, 16_000, 123_457, 480_000):
        waveform = noise(samples)
        expected = extract(waveform, sampling_rate=16_000, return_tensors="np").input_features[0]
        assert_allclose(log_mel_spectrogram(waveform)[0], expected, rtol=0, atol=TOLERANCE, err_msg=str(samples))


@pytest.mark.parametrize("clip", IN_REPOSITORY)
def test_mel_equals_the_original(clip):
    goldens = np.load(GOLDEN / "features.npz")
    expected = goldens[f"{clip}.mel"]
    mel, frames = log_mel_spectrogram(goldens[f"{clip}.pcm"] / np.float32(32768))
    assert mel.shape == (80, 3000)
    assert mel.dtype == np.float32
    assert frames == CLIPS[clip]["mel_len"]
    assert_allclose(mel[:, : expected.shape[1]], expected, rtol=0, atol=TOLERANCE)
    assert_allclose(mel[:, expected.shape[1] :], CLIPS[clip]["tail_value"], rtol=0, atol=TOLERANCE)


@pytest.mark.reference
@pytest.mark.parametrize("clip", ["flac", "libri9"])
def test_mel_of_longer_clips_equals_the_original(clip, reference):
    goldens = np.load(reference / "features" / "features.npz")
    expected = goldens[f"{clip}.mel"]
    mel, _ = log_mel_spectrogram(goldens[f"{clip}.pcm"] / np.float32(32768))
    assert_allclose(mel[:, : expected.shape[1]], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "samples",
    [
        *(0, 1, 39, 40, 41, 200, 201, 479, 480, 4801, 479_961, 480_001),
        *(pytest.param(samples, marks=pytest.mark.slow) for samples in (479_960, 479_999, 480_000, 600_000)),
    ],
)
def test_computing_only_the_frames_with_sound_changes_nothing(samples):
    waveform = noise(samples)
    mel, frames = log_mel_spectrogram(waveform)
    assert_allclose(mel, plain_log_mel(waveform), rtol=0, atol=1e-6)
    assert frames == min(samples, 480_000) // 160


def test_frames_follow_the_length_table(monkeypatch):
    monkeypatch.setattr("audio_encoder.log_mel._power_spectrogram", lambda _: iter(()))  # only lengths are looked at
    for samples, frames, *_ in json.loads((GOLDEN / "lengths.json").read_text())["rows"]:
        assert log_mel_spectrogram(np.zeros(min(samples, 480_001), np.float32))[1] == frames


def test_silence_is_minus_one_and_a_half():
    assert (log_mel_spectrogram(np.zeros(16_000, np.float32))[0] == -1.5).all()


def test_a_clip_louder_than_full_scale_stays_finite():
    assert np.isfinite(log_mel_spectrogram(noise(16_000) * 100)[0]).all()


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros((2, 480), np.float32),
        np.zeros(480, np.int16),
        np.float32(0),
        np.array([0, np.nan], np.float32),
        np.array([np.inf], np.float32),
    ],
    ids=["stereo", "integers", "scalar", "nan", "infinite"],
)
def test_what_is_no_waveform_is_a_value_error(waveform):
    with pytest.raises(ValueError, match="waveform"):
        log_mel_spectrogram(waveform)
