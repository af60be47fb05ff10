"""What samples of sound may be: their rates, their loudness, and two channels that cancel each other out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of everything that the model hears
GROUP_SECONDS = 2  # of sound mixed at a time: small frames one by one take 1.5 times as long
CONVERT = "convert it: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"
_RATES = range(1_000, 1_000_001)  # Hz: outside it a damaged header
_LOUDEST = 1e3  # of full scale: louder samples are damage, not sound
_SOUND = 64 / 32_768  # the peak of a channel that is heard
_CANCELLED = 100  # times less power than a channel has a mix in which it is lost


def check_rate(rate: int, name: str) -> None:
    """Raise AudioError for a rate at which nothing is recorded."""
    if rate not in _RATES:
        raise AudioError(f"{name}: damaged header ({rate} samples per second)", CONVERT, kind="damaged")


def check_samples(samples: NDArray[np.floating[Any]], name: str) -> None:
    """Raise AudioError for samples that are not numbers, or too loud to be sound."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: samples that are not finite numbers", CONVERT, kind="damaged")
    if samples.size and np.abs(samples).max() > _LOUDEST:
        raise AudioError(
            f"{name}: samples far too loud to be sound ({np.abs(samples).max():.0e})", CONVERT, kind="damaged"
        )


def is_heard(channel: NDArray[np.float64]) -> bool:
    """Whether there is sound in a channel, full scale 1."""
    return bool(np.abs(channel).max(initial=0) >= _SOUND)


def is_lost(channel: NDArray[np.float64], mixed: NDArray[np.float64]) -> bool:
    """Whether next to nothing of a channel, full scale 1, is left in a mix; coders keep a little of it."""
    return is_heard(channel) and bool(np.square(mixed).sum() < np.square(channel).sum() / _CANCELLED)


def cancel_out(left: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    """Whether two channels cancel each other out in their mean."""
    return any(is_lost(one, (left + right) / 2) for one in (left, right))
