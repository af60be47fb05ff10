"""Any sample rate -> 16 kHz, the way the original's ffmpeg does it, to the bit for 16-bit sound.

ffmpeg's default converter (libswresample) is a bank of windowed-sinc filters, one per position of an output sample
between two input samples: 32 zero crossings, a Kaiser window of beta 9, and 0.97 of the lower Nyquist frequency passed.
16-bit sound is filtered with 16-bit coefficients. soxr, librosa's resampler, has a steeper filter: it moves single
values of the mel by up to 0.3. The facts are those of libswresample/resample.c, version 5.1; the code is ours.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz

_CROSSINGS = 32
_BETA = 9.0
_PASSED = 0.97
_STEPS = 32_768
_BLOCK = 1 << 14  # output samples of one phase at a time: bounds the memory for long recordings


def resample(steps: NDArray[np.float32], rate: int, *, integer: bool) -> NDArray[np.float32]:
    """Convert mono samples in 16-bit steps, float32 [samples], from ``rate`` to 16 kHz; the result is whole steps.

    ``integer``: the sound came as at most 16 bits and is filtered in whole numbers; otherwise in floating point.
    Not clipped. The ends are mirrored, as ffmpeg does it: without the first sample there, with the last one here.
    """
    up, down = SAMPLE_RATE // math.gcd(rate, SAMPLE_RATE), rate // math.gcd(rate, SAMPLE_RATE)
    bank = _filter_bank(up, down, integer=integer)  # [phases, taps]
    taps = bank.shape[1]
    before = np.zeros(taps, np.float32)
    mirrored = steps[1 : taps + 1][::-1]
    before[taps - len(mirrored) :] = mirrored
    after = steps[::-1][: (min(len(steps), taps) + 1) // 2]
    padded = np.concatenate([before, steps, after, np.zeros(taps, np.float32)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)[taps - (taps - 1) // 2 :]  # [samples + ..., taps]
    out = np.empty(-(-len(steps) * up // down))  # [samples at 16 kHz]
    for first in range(min(up, len(out))):  # every up-th output sample has the same phase and is `down` inputs further
        start, phase = divmod(first * down, up)
        count = len(out[first::up])
        for block in range(0, count, _BLOCK):
            end = min(block + _BLOCK, count)
            seen = windows[start + block * down : start + (end - 1) * down + 1 : down]  # [end - block, taps]
            out[first + block * up : first + (end - 1) * up + 1 : up] = seen @ bank[phase]
    return (np.floor(out / _STEPS + 0.5) if integer else np.rint(out)).astype(np.float32)


def _filter_bank(up: int, down: int, *, integer: bool) -> NDArray[np.float64]:
    """Give one filter per phase, float64 [up, taps], of sum 1, or about 32768 in whole numbers."""
    factor = min(_PASSED * up / down, 1.0)  # the cut-off over the input's Nyquist frequency
    taps = math.ceil(_CROSSINGS / factor)
    taps += taps % 2
    position = np.arange(taps) - (taps - 1) // 2 - np.arange(up)[:, None] / up  # input samples [up, taps]
    window = np.i0(_BETA * np.sqrt(np.maximum(1 - (2 * position / taps) ** 2, 0)))
    bank = np.sinc(position * factor) * window
    bank /= bank.sum(axis=1, keepdims=True)
    return np.clip(np.rint(bank * _STEPS), -_STEPS, _STEPS - 1) if integer else bank
