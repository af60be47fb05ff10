"""Building blocks of sounds that are made: clocks, noises, envelopes and filters.

Waveforms are float32 `[samples]` at 16 kHz; frequencies are hertz, durations seconds, levels decibels. Randomness
comes in as a numpy generator only, so that the same seed gives the same samples.
"""

import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Waveform = NDArray[np.float32]
Curve = NDArray[np.float32]  # one value a sample or a frequency bin
Generator = np.random.Generator

_T60_NEPERS = 6.908  # a fall by 60 dB, as an exponent of e
_STEP = 32  # samples between the points where a slow curve is computed
_TABLE = 2048  # points of one period


def generator(rng: random.Random) -> Generator:
    """Give a numpy generator that follows the caller's seeded source."""
    return np.random.default_rng(rng.getrandbits(64))


def between(gen: Generator, low: float, high: float) -> float:
    """Draw on a logarithmic scale, as pitches, rates and durations are heard."""
    return float(low * (high / low) ** gen.random())


@lru_cache(maxsize=64)
def fast_length(samples: int) -> int:
    """Give the smallest length of factors 2, 3 and 5 that holds `samples`: other lengths make the FFT slow."""
    odd = [1, 3, 5, 9, 15, 25, 45, 75, 125, 225, 375, 1125]
    return min((1 << max(1, (-(-samples // factor) - 1).bit_length())) * factor for factor in odd)


@lru_cache(maxsize=64)
def clock(samples: int) -> Curve:
    """Give the seconds since the start, `[samples]`, read-only."""
    seconds = (np.arange(samples) / RATE).astype(np.float32)
    seconds.setflags(write=False)
    return seconds


@lru_cache(maxsize=64)
def frequencies(length: int) -> Curve:
    """Give the bins of a real FFT of `length` samples in hertz, `[length // 2 + 1]`, read-only; bin 0 is never 0."""
    bins = np.fft.rfftfreq(length, 1 / RATE).astype(np.float32)
    bins[0] = bins[1]
    bins.setflags(write=False)
    return bins


@lru_cache(maxsize=256)
def _tilted(bins: int, tilt: float) -> Curve:
    relative = frequencies(2 * bins - 2) / 1000
    return np.asarray(relative ** (tilt / 6.02), np.float32)


def band(bins: Curve, low: float, high: float, *, tilt: float = 0.0) -> Curve:
    """Give band-pass gains `[bins]` with 12 dB an octave outside low..high, and `tilt` dB an octave all over."""
    gains: Curve = np.reciprocal((1 + np.square(bins / np.float32(high))) * (1 + np.square(np.float32(low) / bins)))
    if tilt:
        gains *= _tilted(bins.size, round(tilt, 1))
    return gains


def spectrum_to_waveform(spectrum: NDArray[np.complexfloating], samples: int) -> Waveform:
    """Turn the bins of `fast_length(samples)` back into `[samples]`."""
    waveform = np.fft.irfft(spectrum, fast_length(samples))
    return np.asarray(waveform[:samples], np.float32)


def noise(gen: Generator, samples: int, low: float, high: float, *, tilt: float = 0.0) -> Waveform:
    """Give band noise `[samples]` of unit power, drawn in the frequency domain: one inverse FFT and no filter."""
    length = fast_length(samples)
    gains = band(frequencies(length), low, high, tilt=tilt)
    parts = gen.random((2, gains.size), dtype=np.float32) - np.float32(0.5)  # sums of many: normal in time all the same
    spectrum = np.empty(gains.size, np.complex64)
    np.multiply(parts[0], gains, out=spectrum.real)
    np.multiply(parts[1], gains, out=spectrum.imag)
    drawn = spectrum_to_waveform(spectrum, samples)
    drawn *= np.float32(1 / (rms(drawn) + 1e-9))
    return drawn


def wander(gen: Generator, samples: int, per_second: float, low: float, high: float) -> Curve:
    """Give a slow random curve `[samples]` between low and high, with about `per_second` turns a second."""
    knots = max(2, int(samples / RATE * per_second) + 2)
    seconds = (np.arange(knots) - gen.random()) / per_second
    coarse = np.arange(samples // _STEP + 2) * (_STEP / RATE)  # np.interp at every sample is slow
    values = np.interp(coarse, seconds, gen.uniform(low, high, knots)).astype(np.float32)
    ramp = np.arange(_STEP, dtype=np.float32) / _STEP
    fine: Curve = values[:-1, None] + np.diff(values)[:, None] * ramp
    return fine.reshape(-1)[:samples]


def cycles(pitch: Curve | float, samples: int, *, phase: float = 0.0) -> Curve:
    """Give the phase `[samples]` of a constant or gliding pitch in cycles, wrapped into 0..1."""
    if isinstance(pitch, float):
        turned = np.arange(samples) * (pitch / RATE) + phase
    else:
        turned = np.cumsum(pitch, dtype=np.float64) / RATE + phase
    turned -= np.floor(turned)
    wrapped: Curve = turned.astype(np.float32)
    return wrapped


@lru_cache(maxsize=16)
def _partials(count: int) -> Waveform:
    turns = np.outer(np.arange(1, count + 1), np.arange(_TABLE + 1)) * (2 * np.pi / _TABLE)
    return np.sin(turns).astype(np.float32)  # [count, _TABLE + 1]: phase 1.0 exists by rounding


def harmonics(phase: Curve, weights: NDArray[np.float64]) -> Waveform:
    """Give one period's shape, the sum of weighted harmonics, read along `phase` (cycles, `[samples]`)."""
    shape: Waveform = weights.astype(np.float32) @ _partials(weights.size)
    return np.asarray(shape[(phase * _TABLE).astype(np.int64)], np.float32)


def decay(samples: int, t60: float) -> Curve:
    """Give an exponential fall `[samples]` from 1 that loses 60 dB in `t60` seconds."""
    fall: Curve = np.exp(clock(samples) * np.float32(-_T60_NEPERS / t60))
    return fall


def fade(samples: int, attack: float, release: float) -> Curve:
    """Give a flat envelope `[samples]` with linear ends of `attack` and `release` seconds."""
    seconds = clock(samples)
    flat = np.ones(samples, np.float32)
    rising, falling = min(samples, int(attack * RATE) + 1), min(samples, int(release * RATE) + 1)
    flat[:rising] = np.minimum(1, seconds[:rising] / np.float32(attack))
    flat[-falling:] *= np.minimum(1, seconds[falling - 1 :: -1] / np.float32(release))
    return flat


def rms(waveform: Waveform) -> float:
    """Give the root of the mean power; 0 for an empty waveform."""
    return float(np.sqrt(np.dot(waveform, waveform) / max(1, waveform.size)))


def decibels(level: float) -> float:
    """Turn decibels into a factor of amplitude."""
    return float(10.0 ** (level / 20))
