"""What lies between a sound and our ears: rooms, noise, distance, telephones, clipping, coding, speed.

In and out: `[samples]` float32 at 16 kHz, |x| <= 1. All but `change_speed` keep the length and the alignment: the
direct path of a room is sample 0 and filters have no delay, so word times stay true. The same seed gives the same
samples.
"""

import random
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.nano.train.signals import (
    RATE,
    Curve,
    Generator,
    Waveform,
    between,
    cycles,
    decay,
    decibels,
    fast_length,
    frequencies,
    generator,
    harmonics,
    noise,
    rms,
    spectrum_to_waveform,
    wander,
)

NOISES = ("white", "pink", "brown", "hum", "babble")

_MU = 255.0
_CODES = 1 << 16


def degrade(waveform: Waveform, rng: random.Random, *, strength: float = 1.0, keep_level: bool = False) -> Waveform:
    """Give `[samples]` after a random few of room, equaliser, noise, clipping, mu-law coding and gain.

    `strength` scales how often and how far, 0 for not at all. `keep_level` leaves out gain and clipping, for tasks
    that ask how loud a sound is.
    """
    gen = generator(rng)
    heard = _room_and_tone(waveform, gen, strength)
    if gen.random() < 0.6 * strength:
        snr_db = 35 - min(1.0, strength) * gen.uniform(0, 30)
        heard = _with_noise(heard, snr_db, str(gen.choice(NOISES)), gen)
    if not keep_level and gen.random() < 0.12 * strength:
        heard = _clipped(heard, gen.uniform(0.4, 0.9))
    if gen.random() < 0.12 * strength:
        heard = _mu_law(_contained(heard))
    if not keep_level:
        heard = heard * np.float32(decibels(gen.uniform(-18, 0) * min(1.0, strength)))
    return _contained(heard)


def add_noise(waveform: Waveform, snr_db: float, rng: random.Random, *, kind: str | None = None) -> Waveform:
    """Add noise of `kind`, one of `NOISES` or by lot, at exactly `snr_db` over the whole clip's mean power."""
    gen = generator(rng)
    return _contained(_with_noise(waveform, snr_db, kind or str(gen.choice(NOISES)), gen))


def noise_alone(samples: int, rng: random.Random) -> Waveform:
    """Give `[samples]` of one of `NOISES` by lot."""
    gen = generator(rng)
    return _contained(_noise_of(str(gen.choice(NOISES)), samples, gen))


def telephone(waveform: Waveform, rng: random.Random) -> Waveform:
    """Give `[samples]` in the band of a telephone, in white noise 6 to 16 dB below it."""
    gen = generator(rng)
    length = fast_length(waveform.size + RATE // 100)
    band = _edges(length // 2 + 1, int(gen.integers(25, 40)) * 10, int(gen.integers(30, 37)) * 100)
    heard = spectrum_to_waveform(np.fft.rfft(waveform, length) * band, length)[: waveform.size]
    return _contained(_with_noise(heard, gen.uniform(6, 16), "white", gen))


def mix(first: Waveform, second: Waveform, snr_db: float) -> Waveform:
    """Sum two clips from their common start, as long as the longer; the first is `snr_db` louder where each sounds."""
    quiet = second * np.float32(_active_rms(first) / (_active_rms(second) + 1e-9) * decibels(-snr_db))
    both = np.zeros(max(first.size, second.size), np.float32)
    both[: first.size] += first
    both[: second.size] += quiet
    return _contained(both)


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play `factor` times as fast: `[samples / factor]`, pitch up and times divided by `factor`, nothing aliased."""
    length = fast_length(waveform.size)
    spectrum = np.fft.rfft(waveform, length)
    if factor > 1:
        spectrum[int(spectrum.size / factor) :] = 0
    fine = np.asarray(np.fft.irfft(spectrum, 2 * length) * 2, np.float32)  # twice as dense, for straight lines between
    places = np.arange(round(waveform.size / factor)) * (2 * factor)
    whole = places.astype(np.int64)
    part = (places - whole).astype(np.float32)
    return _contained(fine[whole] * (1 - part) + fine[np.minimum(whole + 1, fine.size - 1)] * part)


def _room_and_tone(waveform: Waveform, gen: Generator, strength: float) -> Waveform:
    """Give the clip after a room, an equaliser or a telephone, whichever fall to it: one product of spectra."""
    reverberant = gen.random() < 0.5 * strength
    kind = gen.choice(["flat", "tilt", "band", "telephone"], p=_shares(min(1.0, 0.55 * strength)))
    if not reverberant and kind == "flat":
        return waveform
    room = _impulse_response(gen, min(1.0, strength)) if reverberant else None
    length = fast_length(waveform.size + (room.size if room is not None else RATE // 100))
    spectrum = np.fft.rfft(waveform, length)
    if room is not None:
        spectrum *= np.fft.rfft(room, length)
    if kind != "flat":
        spectrum *= _equaliser(str(kind), frequencies(length), gen)
    heard = spectrum_to_waveform(spectrum, length)[: waveform.size]
    return heard * np.float32(rms(waveform) / (rms(heard) + 1e-9))


def _shares(touched: float) -> list[float]:
    """Give how often the equaliser is flat, tilted, a band and a telephone, where `touched` are not flat."""
    return [1 - touched, 0.5 * touched, 0.25 * touched, 0.25 * touched]


def _impulse_response(gen: Generator, strength: float) -> Waveform:
    """Give a synthetic room: the direct path at sample 0, a few early reflections, a decaying, dulled noise."""
    t60 = between(gen, 0.1, 0.1 + 0.5 * strength)
    samples = int(t60 * RATE)
    tail = noise(gen, samples, 80, between(gen, 2500, 7000)) * decay(samples, t60)
    first = int(RATE * gen.uniform(0.004, 0.015))
    tail[:first] = 0
    early = gen.integers(first // 2, 4 * first, 6)
    np.add.at(tail, early % samples, gen.uniform(-1, 1, 6).astype(np.float32) * np.float32(3.0))
    direct_to_reverberant = gen.uniform(0, 14) + 8 * (1 - strength)
    tail *= np.float32(decibels(-direct_to_reverberant) / (np.sqrt(np.dot(tail, tail)) + 1e-9))
    tail[0] = 1
    return tail


def _equaliser(kind: str, bins: Curve, gen: Generator) -> Curve:
    """Give zero-phase gains `[bins]`."""
    if kind == "tilt":
        return _tilt(bins.size, int(gen.integers(-8, 9)))
    if kind == "telephone":
        return _edges(bins.size, 300, 3400)
    return _edges(bins.size, int(gen.integers(4, 25)) * 10, int(gen.integers(40, 76)) * 100)


@lru_cache(maxsize=128)
def _tilt(bins: int, half_decibels: int) -> Curve:
    """Give gains that lean by half decibels an octave around 1 kHz, at most 15 dB up or down."""
    octaves = np.log2(frequencies(2 * bins - 2) / 1000)
    return np.asarray(10 ** (np.clip(octaves * half_decibels / 2, -15, 15) / 20), np.float32)


@lru_cache(maxsize=128)
def _edges(bins: int, low: int, high: int) -> Curve:
    """Give gains of a band with edges of 48 dB an octave."""
    relative = frequencies(2 * bins - 2).astype(np.float64)
    return np.asarray(1 / np.sqrt((1 + (low / relative) ** 16) * (1 + (relative / high) ** 16)), np.float32)


def _with_noise(waveform: Waveform, snr_db: float, kind: str, gen: Generator) -> Waveform:
    added = _noise_of(kind, waveform.size, gen)
    return waveform + added * np.float32(rms(waveform) * decibels(-snr_db) / (rms(added) + 1e-9))


def _noise_of(kind: str, samples: int, gen: Generator) -> Waveform:
    """Give `[samples]` of one of `NOISES`, of any level."""
    if kind == "hum":
        mains = float(gen.choice([50.0, 60.0]))
        weights = gen.uniform(0.1, 1, 8) * np.arange(1, 9) ** -1.0
        return harmonics(cycles(mains, samples, phase=gen.random()), weights)
    if kind == "babble":
        return noise(gen, samples, 150, 1200, tilt=-2) * wander(gen, samples, between(gen, 4, 9), 0.3, 1)
    tilt = {"white": 0.0, "pink": -3.0, "brown": -6.0}[kind]
    return noise(gen, samples, 40, 16_000, tilt=tilt)


def _clipped(waveform: Waveform, threshold: float) -> Waveform:
    """Cut off what is above `threshold` of the peak."""
    peak = _peak(waveform)
    return np.clip(waveform, -threshold * peak, threshold * peak)


@lru_cache(maxsize=1)
def _mu_law_table() -> NDArray[np.float32]:
    """Give what 8-bit mu-law makes of each 16-bit sample, `[65536]`."""
    linear = np.arange(-_CODES // 2, _CODES // 2) / (_CODES / 2)
    code = np.round(np.sign(linear) * np.log1p(_MU * np.abs(linear)) / np.log1p(_MU) * 127) / 127
    return np.asarray(np.sign(code) * np.expm1(np.abs(code) * np.log1p(_MU)) / _MU, np.float32)


def _mu_law(waveform: Waveform) -> Waveform:
    return _mu_law_table()[(waveform * 32767).astype(np.int32) + _CODES // 2]


def _active_rms(waveform: Waveform) -> float:
    """Give the level of the 20 ms frames that are within 30 dB of the loudest one."""
    frames = waveform[: waveform.size // 320 * 320].reshape(-1, 320)
    powers = np.einsum("ij,ij->i", frames, frames) / 320
    return float(np.sqrt(powers[powers >= powers.max(initial=0) * 1e-3].mean())) if powers.size else rms(waveform)


def _peak(waveform: Waveform) -> float:
    return max(float(waveform.max(initial=0)), -float(waveform.min(initial=0)))


def _contained(waveform: Waveform) -> Waveform:
    """Turn the whole clip down where it would leave -1..1: ratios within it stay."""
    peak = _peak(waveform)
    return waveform / np.float32(peak) if peak > 1 else waveform
