"""Decoded frames of any rate and number of channels -> 16-bit steps, mono, 16 kHz, in blocks.

`av.AudioResampler` is FFmpeg's libswresample, which the original mixes and resamples with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from audio_encoder.samples import GROUP_SECONDS, SAMPLE_RATE, cancel_out, is_heard, is_lost

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MOST_PLACED = 8  # channels that FFmpeg mixes by their places; more are mixed to their mean


def mix(frames: Iterable[Any], name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    """Frames in groups, resampled: int16 [samples] a block; a new resampler where the rate or the layout changes."""
    fifo: Any = None
    resampler: Any = None
    form: tuple[int, str, str] | None = None
    for frame in frames:
        found = (frame.sample_rate, frame.layout.name, frame.format.name)
        if found != form:
            yield from _flush(fifo, resampler, name, notes)
            fifo, form = av.AudioFifo(), found
            resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
        frame.pts = None
        fifo.write(frame)
        size = GROUP_SECONDS * frame.sample_rate
        while fifo.samples >= size:
            yield from _resampled(fifo.read(size), resampler, name, notes)
    yield from _flush(fifo, resampler, name, notes)


def packed(frame: Any) -> Any:
    """The frame with all channels in one plane if it has more than 8: PyAV reads past the end of a longer list."""
    if not frame.format.is_planar or frame.layout.nb_channels <= _MOST_PLACED:
        return frame
    frame.pts = None
    (packed,) = av.AudioResampler("flt").resample(frame)
    return packed


def _flush(fifo: Any, resampler: Any, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    if fifo is not None:
        if rest := fifo.read():
            yield from _resampled(rest, resampler, name, notes)
        yield from (one.to_ndarray()[0] for one in resampler.resample(None))


def _resampled(group: Any, resampler: Any, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    if group.layout.nb_channels > _MOST_PLACED:
        group = _mean(group)
    elif group.layout.nb_channels > 1:
        group = _audible(group, name, notes)
    yield from (one.to_ndarray()[0] for one in resampler.resample(group))


def _audible(group: Any, name: str, notes: list[str]) -> Any:
    """The group, or its louder channel in the place of all where nothing is left of them when they are mixed."""
    channels = _channels(group)
    is_stereo = len(channels) == 2
    if not (cancel_out(*channels) if is_stereo else _is_silent(group, channels)):
        return group
    power = np.square(channels).sum(axis=1)
    louder = int(np.argmax(power > power.max() / 1.5))  # the first one of those that are alike
    reason = "its channels cancel each other out" if is_stereo else "mixed, its channels are silent"
    which = f"the {('left', 'right')[louder]} one" if is_stereo else f"channel {louder + 1}"
    note = f"{name}: {reason}; {which} is heard"
    if note not in notes:
        notes.append(note)
    array = group.to_ndarray().copy()
    rows = array if group.format.is_planar else array.reshape(-1, len(channels)).T
    rows[:] = rows[louder].copy()
    fresh = av.AudioFrame.from_ndarray(array, format=group.format.name, layout=group.layout.name)
    fresh.sample_rate = group.sample_rate
    return fresh


def _is_silent(group: Any, channels: NDArray[np.float64]) -> bool:
    """Whether there is sound in one of many channels and none in their mix: FFmpeg leaves the one for low tones out."""
    group.pts = None
    (frame,) = av.AudioResampler("flt", "mono").resample(group)
    mixed = frame.to_ndarray()[0].astype(np.float64)
    return not is_heard(mixed) and any(is_lost(one, mixed) for one in channels)


def _mean(group: Any) -> Any:
    """Mix more channels than have places in a room."""
    mixed = _channels(group).mean(axis=0, keepdims=True).astype(np.float32)
    fresh = av.AudioFrame.from_ndarray(mixed, format="flt", layout="mono")
    fresh.sample_rate = group.sample_rate
    return fresh


def _channels(group: Any) -> NDArray[np.float64]:
    """[channels, samples], full scale 1."""
    array = group.to_ndarray()  # [channels, samples], or [1, samples * channels]
    channels = array if group.format.is_planar else array.reshape(-1, group.layout.nb_channels).T
    if array.dtype == np.uint8:
        channels, full = channels.astype(np.float64) - 128, 128.0
    else:
        full = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max) + 1
    found: NDArray[np.float64] = channels / np.float64(full)
    return found
