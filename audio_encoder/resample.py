"""Any sample rate -> 16 kHz in blocks, the way the original's ffmpeg does it, to the bit for 16-bit sound.

ffmpeg's default converter (libswresample) is a bank of windowed-sinc filters, one per position of an output sample
between two input samples: 32 zero crossings, a Kaiser window of beta 9, and 0.97 of the lower Nyquist frequency passed.
16-bit sound is filtered with 16-bit coefficients. soxr, librosa's resampler, has a steeper filter: it moves single
values of the mel by up to 0.3. The facts are those of libswresample/resample.c, version 5.1; the code is ours.

With 16000 / rate = up / down, the positions repeat every ``up`` output samples, ``down`` input samples further on. A
few neighbouring outputs of many such periods are therefore one product: [periods, span] @ [span, outputs].
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz

_CROSSINGS = 32
_BETA = 9.0
_PASSED = 0.97
_STEPS = 32_768
_GROUP = 16  # output samples of one product: with more, more zeros are multiplied; with fewer, more input is copied
_PIECE = 2 * SAMPLE_RATE  # output samples made at a time, at least
_PERIODS = 8  # made at a time, at least: a period is up to 1 s long, and costs one reading of all its filters


def resample(steps: NDArray[np.float32], rate: int, *, integer: bool) -> NDArray[np.float32]:
    """Convert mono samples in 16-bit steps, float32 [samples], from ``rate`` to 16 kHz; the result is whole steps.

    ``integer``: the sound came as at most 16 bits and is filtered in whole numbers; otherwise in floating point.
    Not clipped. The ends are mirrored, as ffmpeg does it: without the first sample there, with the last one here.
    """
    return np.concatenate([np.zeros(0, np.float32), *resample_blocks([steps], rate, integer=integer)])


def resample_blocks(
    blocks: Iterable[NDArray[np.float32]], rate: int, *, integer: bool
) -> Iterator[NDArray[np.float32]]:
    """Convert as ``resample`` does what comes in blocks of any sizes, float32 [samples], in memory that does not grow.

    Gives pieces of 2 to 8 s, float32 [samples]; the last may be shorter, and there is none for no samples. The
    products are cut at fixed places of the recording: how its blocks are cut cannot move a bit of the result.
    """
    bank = _Bank(rate, integer=integer)
    pending, waiting, position = [np.zeros(0, np.float32)], 0, 0  # input not yet converted, its size and its start
    for block in _mirrored_start(blocks, bank.lead):
        pending.append(block)
        waiting += len(block)
        if waiting < bank.looked_at:
            continue
        held = np.concatenate(pending)
        while len(held) >= bank.looked_at:
            yield bank.convert(held)
            held, position = held[bank.used :], position + bank.used
        pending, waiting = [held], len(held)
    if not waiting:
        return
    held = np.concatenate(pending)
    samples = position + len(held) - bank.lead  # of input, in all
    left = -(-samples * bank.up // bank.down) - position * bank.up // bank.down
    mirrored_end = held[::-1][: (min(samples, bank.taps) + 1) // 2]
    held = np.concatenate([held, mirrored_end, np.zeros(2 * bank.looked_at, np.float32)])
    for piece in range(-(-left // bank.made)):
        yield bank.convert(held[piece * bank.used :])[: left - piece * bank.made]


def _mirrored_start(blocks: Iterable[NDArray[np.float32]], lead: int) -> Iterator[NDArray[np.float32]]:
    """Pass the blocks on behind ``lead`` samples, mirrored at the first; they are 0 where the sound is that short."""
    head, blocks = np.zeros(0, np.float32), iter(blocks)
    for block in blocks:
        head = np.concatenate([head, block])
        if len(head) > lead:
            break
    if len(head):
        mirrored = head[1 : lead + 1][::-1]
        yield np.concatenate([np.zeros(lead - len(mirrored), np.float32), mirrored, head])
    yield from blocks


class _Bank:
    """The filters of one rate, laid out as the matrices of one period, and the sizes of one piece.

    ``taps``: input samples of one filter, of which ``lead`` lie before the output sample. ``made``: output samples of
    a piece. ``used``: input samples that it moves on by. ``looked_at``: input samples, from ``lead`` before, it takes.
    """

    def __init__(self, rate: int, *, integer: bool) -> None:
        common = math.gcd(rate, SAMPLE_RATE)
        self.up, self.down = SAMPLE_RATE // common, rate // common
        self._integer = integer
        self._factor = min(_PASSED * self.up / self.down, 1.0)  # the cut-off over the input's Nyquist frequency
        self.taps = math.ceil(_CROSSINGS / self._factor)
        self.taps += self.taps % 2
        self.lead = (self.taps - 1) // 2
        repeats = -(-_GROUP // self.up)  # a period shorter than a group is taken several times
        self._period, self._stride = repeats * self.up, repeats * self.down  # output samples, input samples
        self._periods = max(_PERIODS, -(-_PIECE // self._period))
        self._span = self.taps + _GROUP * self.down // self.up + 1  # input samples that a group looks at
        self.made, self.used = self._periods * self._period, self._periods * self._stride
        self.looked_at = self.used + self._span
        self._groups = [self._matrix(first) for first in range(0, self._period, _GROUP)]

    def convert(self, held: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make one piece from at least ``looked_at`` samples: whole steps, float32 [made]."""
        windows = np.lib.stride_tricks.sliding_window_view(held, self._span)  # [..., span]
        out = np.empty((self._periods, self._period))
        for group, matrix in enumerate(self._groups):
            first = group * _GROUP
            start = first * self.down // self.up
            seen = windows[start : start + self.used : self._stride]  # [periods, span]
            out[:, first : first + _GROUP] = seen @ matrix
        return (np.floor(out / _STEPS + 0.5) if self._integer else np.rint(out)).astype(np.float32).reshape(-1)

    def _matrix(self, first: int) -> NDArray[np.float64]:
        """Give the filters of the outputs from ``first`` on, each at its place: float64 [span, outputs]."""
        outputs = np.arange(first, min(first + _GROUP, self._period))
        starts, phases = np.divmod(outputs * self.down, self.up)
        matrix = np.zeros((self._span, len(outputs)))
        for output, (start, filter_) in enumerate(zip(starts - starts[0], self._filters(phases), strict=True)):
            matrix[start : start + self.taps, output] = filter_
        return matrix

    def _filters(self, phases: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give one filter per phase, float64 [phases, taps], of sum 1, or about 32768 in whole numbers."""
        position = np.arange(self.taps) - self.lead - phases[:, None] / self.up  # input samples [phases, taps]
        window = np.i0(_BETA * np.sqrt(np.maximum(1 - (2 * position / self.taps) ** 2, 0)))
        sinc = np.sinc(position * self._factor)
        sinc[np.abs(sinc) < 1e-12] = 0  # at the crossings: an input sample that is passed as it is stays exactly that
        filters = sinc * window
        filters /= filters.sum(axis=1, keepdims=True)
        return np.clip(np.rint(filters * _STEPS), -_STEPS, _STEPS - 1) if self._integer else filters
