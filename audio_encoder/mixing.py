"""Decoded frames of any rate and number of channels -> 16-bit steps, mono, 16 kHz, in blocks.

`av.AudioResampler` is FFmpeg's libswresample, which the original mixes and resamples with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from audio_encoder.samples import GROUP_SECONDS, SAMPLE_RATE, cancel_out, is_heard

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
    """The group, or the louder of its front channels twice where they cancel each other out and no other is heard."""
    left, right, *others = _channels(group)
    if not cancel_out(left, right) or any(map(is_heard, others)):
        return group
    louder = int(np.square(right).sum() > 1.5 * np.square(left).sum())  # the left one, where they are alike
    note = f"{name}: its channels cancel each other out; the {('left', 'right')[louder]} one is heard"
    if note not in notes:
        notes.append(note)
    array = group.to_ndarray().copy()
    channels = array if group.format.is_planar else array.reshape(-1, group.layout.nb_channels).T
    channels[:2] = channels[louder]
    fresh = av.AudioFrame.from_ndarray(array, format=group.format.name, layout=group.layout.name)
    fresh.sample_rate = group.sample_rate
    return fresh


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
