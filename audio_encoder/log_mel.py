"""Waveform -> log-mel spectrogram: [samples] -> ([n_mels, 3000], frames of sound); the features of Whisper.

numpy only. Two libraries offer the same numbers and were left out: transformers' WhisperFeatureExtractor takes 1.3 s to
import, librosa.feature.melspectrogram 2.9 s on its first call (numba, scipy), numpy 0.1 s and it is loaded anyway.
The transforms run in float64 and the result is within 2e-5 of the original's float32.

This room knows no files and no model; the length arithmetic behind the mel belongs to the encoder.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Four facts and the number of bands; the rest follows.
SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples: 25 ms
HOP = 160  # samples: 10 ms
CHUNK_SECONDS = 30
N_MELS = 80

CHUNK_SAMPLES = CHUNK_SECONDS * SAMPLE_RATE  # 480000
CHUNK_FRAMES = CHUNK_SAMPLES // HOP  # 3000

_POWER_FLOOR = 1e-10  # before the logarithm
_BLOCK = 50  # frames transformed at a time: memory, not numbers
_RANGE = 8.0  # powers of ten kept below the loudest band of the clip


def log_mel_spectrogram(waveform: NDArray[np.floating]) -> tuple[NDArray[np.float32], int]:
    """Turn up to 30 s of sound into the mel that the encoder takes: float32 [80, 3000], and its frames of sound.

    ``waveform``: [samples], mono, 16 kHz, within -1..1. Shorter is padded with silence, longer is cut at 30 s.
    ``frames`` = min(samples, 480000) // 160, one per 10 ms; the columns after them are padding, never 0.

    The steps (30 s of samples, reflected by 200 at both ends; periodic Hann window; power; mel; log10 of at
    least 1e-10; at most 8 below the maximum of all 3000 frames; (y + 4) / 4) are those of openai/whisper's audio.py.
    Raises ValueError for anything but one dimension of finite floating-point samples.
    """
    if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(f"waveform must be floating-point [samples], not {waveform.dtype} {list(waveform.shape)}")
    waveform = waveform[:CHUNK_SAMPLES]  # [samples]
    if not np.isfinite(waveform).all():
        raise ValueError("waveform has samples that are not finite")
    log_mel = np.full((N_MELS, CHUNK_FRAMES), np.log10(_POWER_FLOOR), dtype=np.float64)  # [n_mels, 3000]
    filters, frame = mel_filterbank().T.astype(np.float64), 0  # [201, n_mels]
    for power in _power_spectrogram(waveform):  # float64 [frames, 201], of the frames that touch a sample
        mel = power @ filters  # float64 [frames, n_mels]
        log_mel[:, frame : frame + len(mel)] = np.log10(np.maximum(mel, _POWER_FLOOR)).T
        frame += len(mel)
    np.maximum(log_mel, log_mel.max() - _RANGE, out=log_mel)
    log_mel += 4.0
    log_mel /= 4.0
    return log_mel.astype(np.float32), len(waveform) // HOP


def _power_spectrogram(waveform: NDArray[np.floating]) -> Iterator[NDArray[np.float64]]:
    """Give |STFT|^2 of the frames that touch a sample, float64 [frames, 201], some at a time; later ones are exactly 0.

    Frame i of the padded 30 s covers the samples i * 160 - 200 ... i * 160 + 199; the last of 3001 is dropped.
    """
    half = N_FFT // 2
    frames = min(-(-(len(waveform) + half) // HOP), CHUNK_FRAMES)  # the last starts before the last sample
    for first in range(0, frames, _BLOCK):
        last = min(first + _BLOCK, frames)
        places = np.arange(first * HOP - half, (last - 1) * HOP + half)  # of the samples that these frames look at
        places = (CHUNK_SAMPLES - 1) - np.abs((CHUNK_SAMPLES - 1) - np.abs(places))  # reflected at both ends
        sound = np.zeros(len(places))
        heard = places < len(waveform)
        sound[heard] = waveform[places[heard]]
        windows = np.lib.stride_tricks.sliding_window_view(sound, N_FFT)[::HOP]  # [frames, 400]
        spectrum = np.fft.rfft(windows * _hann_window())  # complex128 [frames, 201]
        yield spectrum.real**2 + spectrum.imag**2


@cache
def _hann_window() -> NDArray[np.float64]:
    """Give the periodic Hann window, [400]: a symmetric one moves the result by 0.06."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)


@cache
def mel_filterbank() -> NDArray[np.float32]:
    """Give the Slaney mel filterbank, float32 [80, 201]: power per FFT bin -> power per band.

    Triangles between 82 points that lie evenly on Slaney's mel scale from 0 Hz to 8 kHz: linear (200 / 3 Hz a mel)
    below 1 kHz, logarithmic (27 steps for a factor of 6.4) above; each triangle has area 1 in Hz. Source: M. Slaney,
    Auditory Toolbox, Interval Research TR 1998-010; the original's mel_filters.npz holds the same numbers.
    """
    mels = np.linspace(0.0, _hz_to_mel(SAMPLE_RATE / 2), N_MELS + 2)  # [82]
    hz = np.where(mels < _LINEAR_MELS, mels * _HZ_PER_MEL, _LINEAR_HZ * np.exp(_LOG_STEP * (mels - _LINEAR_MELS)))
    bins = np.arange(N_FFT // 2 + 1) * SAMPLE_RATE / N_FFT  # Hz [201]
    width = np.diff(hz)[:, None]  # [81, 1]
    ramps = hz[:, None] - bins  # [82, 201]
    rising, falling = -ramps[:-2] / width[:-1], ramps[2:] / width[1:]  # [80, 201] both
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(
        np.float32
    )  # rounded here too: bit for bit the original's
    return (triangles * (2.0 / (hz[2:] - hz[:-2]))[:, None]).astype(np.float32)  # [80, 201]


_LINEAR_HZ = 1_000.0
_HZ_PER_MEL = 200.0 / 3.0
_LINEAR_MELS = _LINEAR_HZ / _HZ_PER_MEL  # 15
_LOG_STEP = float(np.log(6.4)) / 27.0


def _hz_to_mel(hz: float) -> float:
    """Slaney's mel of a frequency in the logarithmic part."""
    return _LINEAR_MELS + float(np.log(hz / _LINEAR_HZ)) / _LOG_STEP
