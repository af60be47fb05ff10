"""What every synthesizer hands over: a voice's name, and speech at 16 kHz with the times of its words and phones.

In: samples at the synthesizer's own rate, with its marks in seconds. Out: an `Utterance`. It knows no synthesizer.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAMPLE_RATE = 16000
PEAK = 0.5  # every synthesizer is brought to one level, which would otherwise tell it from the others
MARGIN = 0.1  # seconds kept before the first sound and after the last
KERNEL_CROSSINGS = 16  # zero crossings of the resampling kernel on each side
ACTIVE = 0.02  # a 5 ms frame is sound where its peak is above this part of the utterance's peak

_PHONES = "aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
PHONES: tuple[str, ...] = ("sil", *_PHONES.split())  # ARPAbet without stress, and the schwa "ax"

# Phones of flite and festival that are finer than ours.
SAME_PHONE = {"pau": "sil", "h#": "sil", "brth": "sil", "axr": "er", "dx": "t", "nx": "n", "hv": "hh", "ix": "ih"}
SAME_PHONE |= {"el": "l", "em": "m", "en": "n"}

Mark = tuple[str, float, float]  # what, start s, end s


@dataclass(frozen=True)
class Voice:
    engine: str  # "espeak", "flite", "festival"
    name: str  # the synthesizer's own: "en-us+f3", "slt"
    language: str  # en zh de es ko fr ja it
    gender: str  # "man" or "woman"
    split: str  # "seen", "variant", "other": see speech.py


@dataclass(frozen=True)
class Utterance:
    waveform: NDArray[np.float32]  # [samples] 16 kHz
    words: tuple[Mark, ...]
    phones: tuple[Mark, ...]


def finish(samples: NDArray[np.int16], rate: int, words: list[Mark], phones: list[Mark]) -> Utterance:
    """Resample, bring to one level and cut the silence at both ends; the marks move along."""
    waveform = resample(samples.astype(np.float32), rate)
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak == 0:
        msg = "the synthesizer returned silence"
        raise ValueError(msg)
    first, last = _sounding(waveform, threshold=ACTIVE * peak)
    begin = max(0, first - round(MARGIN * SAMPLE_RATE))
    waveform = waveform[begin : last + round(MARGIN * SAMPLE_RATE)] * np.float32(PEAK / peak)
    offset, duration = begin / SAMPLE_RATE, len(waveform) / SAMPLE_RATE
    return Utterance(waveform, _shift(words, offset, duration), _shift(phones, offset, duration))


def from_segments(segments: list[tuple[str, float, int | None]], tokens: list[str]) -> tuple[list[Mark], list[Mark]]:
    """Words and phones of (phone, end in s, index of its token) in order, as flite and festival keep them."""
    phones: list[Mark] = []
    spans: dict[int, tuple[float, float]] = {}
    start = 0.0
    for name, end, token in segments:
        phone = SAME_PHONE.get(name, name)
        phones.append((phone, start, end))
        if token is not None and phone != "sil":
            spans[token] = (spans.get(token, (start, end))[0], end)
        start = end
    return [(tokens[token], *span) for token, span in sorted(spans.items())], phones


def _sounding(waveform: NDArray[np.float32], *, threshold: float) -> tuple[int, int]:
    """First and last sample that are heard."""
    hop = SAMPLE_RATE // 200
    padded = np.pad(np.abs(waveform), (0, -len(waveform) % hop))
    active = np.flatnonzero(padded.reshape(-1, hop).max(axis=1) > threshold)
    return int(active[0]) * hop, int(active[-1] + 1) * hop


def _shift(marks: list[Mark], offset: float, duration: float) -> tuple[Mark, ...]:
    moved = [(what, max(0.0, start - offset), min(duration, end - offset)) for what, start, end in marks]
    return tuple((what, start, end) for what, start, end in moved if end > start)


@lru_cache(maxsize=8)
def _resampling_matrix(rate: int) -> NDArray[np.float32]:
    """Kaiser-windowed sinc: the weights of one period of the two rates' ratio."""
    common = math.gcd(rate, SAMPLE_RATE)
    up, down = SAMPLE_RATE // common, rate // common
    cutoff = min(1.0, SAMPLE_RATE / rate) * 0.95
    half = math.ceil(KERNEL_CROSSINGS / cutoff)
    inputs = np.arange(down + 2 * half) - half
    distance = inputs[:, None] - np.arange(up) * down / up  # [inputs, outputs]
    window = np.i0(8.0 * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None))) / np.i0(8.0)
    weights = cutoff * np.sinc(cutoff * distance) * window * (np.abs(distance) < half)
    return np.asarray(weights, dtype=np.float32)  # [inputs, outputs]


def resample(waveform: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """[samples at rate] -> [samples at 16 kHz], one matrix product of overlapping pieces."""
    if rate == SAMPLE_RATE:
        return waveform
    weights = _resampling_matrix(rate)
    down = rate // math.gcd(rate, SAMPLE_RATE)
    half = (len(weights) - down) // 2
    periods = -(-len(waveform) // down)
    padded = np.pad(waveform, (half, periods * down - len(waveform) + half))
    pieces = sliding_window_view(padded, len(weights))[::down]  # [periods, inputs]
    length = len(waveform) * SAMPLE_RATE // rate
    return np.asarray(pieces @ weights, dtype=np.float32).reshape(-1)[:length]
