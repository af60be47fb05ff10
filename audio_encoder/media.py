"""Any file that FFmpeg reads -> 16-bit steps, mono, 16 kHz, in blocks; the original hears its files the same way.

PyAV brings FFmpeg's libraries; `av.AudioResampler` is its libswresample. The sound of a video is its first audio
stream. All that can be decoded is decoded: chained streams, joined files, what follows a wrong length. Then the
result is compared with the length in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import av.error
import numpy as np

from audio_encoder.checks import (
    CONVERT,
    COPY_AGAIN,
    SAMPLE_RATE,
    check_samples,
    check_sizes,
    has_sizes,
    is_bare,
    promised_seconds,
)
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_RATES = range(1_000, 1_000_001)  # Hz: outside it a damaged header
_GROUP_SECONDS = 2  # of sound resampled at a time: small frames one by one take 1.5 times as long
_SLACK = 0.1  # seconds: coders pad their ends, and not every writer says by how much
_MOST_PLACED = 8  # channels that FFmpeg mixes by their places; more are mixed to their mean
_PAUSE = 8  # the first kind of AMR frame that holds a pause, not speech
_NO_SOUND, _SOUND = 2 / 32_768, 64 / 32_768  # peaks: of a mix that has cancelled itself, of a channel that is heard
# Nothing but the file is ever opened, for a playlist could name other files, or addresses. Checksums are looked at.
_OPTIONS = {"protocol_whitelist": "data", "err_detect": "crccheck"}
_FAILURES = (
    av.error.FFmpegError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    RuntimeError,
    MemoryError,
)


def stream_media(file: BinaryIO, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    """Decode the first audio stream: int16 [samples] a block, mono, 16 kHz.

    Remarks for the user are added to `notes`. Raises AudioError for what is not sound, and after the last block for
    one that is cut short.
    """
    av.logging.set_level(None)
    check_sizes(file, name, notes)
    file.seek(0)
    try:
        container = av.open(_Input(file), mode="r", metadata_errors="replace", options=_OPTIONS)
    except _FAILURES as error:
        raise _not_opened(file, name, error) from None
    with container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            raise AudioError(f"{name}: no sound in it", CONVERT, kind="not a sound")
        try:
            sound = _Sound(container, file, name, notes)
            yield from sound.blocks()
        except _FAILURES as error:
            raise _no_sound(name, error) from None
        promised = promised_seconds(file, container.format.name, sound.told())
    if not sound.seconds and not has_sizes(container.format.name):
        raise _no_sound(name, ValueError("nothing in it can be decoded"))
    if promised is None:
        notes.append(f"{name}: this kind of file does not say how long it is, so a cut cannot be noticed")
    if sound.damaged and is_bare(container.format.name):  # usually tags between joined files
        notes.append(f"{name}: {sound.damaged} parts that are not sound were skipped")
    elif sound.damaged:
        raise AudioError(f"{name}: damaged in {sound.damaged} places", COPY_AGAIN, kind="damaged")
    # ffmpeg's own CAF files count the last packet as a full one; their bytes are checked above.
    slack = max(_SLACK, sound.longest_frame) if container.format.name == "caf" else _SLACK
    if promised is not None and sound.seconds < promised - slack:
        kept = f"{sound.seconds:.2f} of {promised:.2f} s can be read"
        raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")
    if sound.broken_end and container.format.name == "flac":
        raise AudioError(f"{name}: cut short (its last frame is incomplete)", COPY_AGAIN, kind="cut short")


class _Input:
    """The file as FFmpeg calls it back: PyAV prints an error that is raised there on stderr.

    A damaged header sends FFmpeg to places before the file's start; a disk that fails ends the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError:
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


class _Sound:
    """The first audio stream of an open container, and how much of it has been decoded."""

    def __init__(self, container: Any, file: BinaryIO, name: str, notes: list[str]) -> None:
        self._container, self._stream = container, container.streams.audio[0]
        self._name, self._notes = name, notes
        self._decoder = _decoder(self._stream, file)
        self.damaged = 0  # packets that could not be decoded, with sound behind them
        self.broken_end = False  # the last packet could not be decoded
        self.seconds = self.longest_frame = 0.0

    def blocks(self) -> Iterator[NDArray[np.int16]]:
        """Frames in groups, resampled; a new resampler where a chained stream has another rate or layout."""
        fifo: Any = None
        resampler: Any = None
        form: tuple[int, str, str] | None = None
        for frame in self._frames():
            found = (frame.sample_rate, frame.layout.name, frame.format.name)
            if found != form:
                yield from self._flush(fifo, resampler)
                fifo, form = av.AudioFifo(), found
                resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
            frame.pts = None
            fifo.write(frame)
            size = _GROUP_SECONDS * frame.sample_rate
            while fifo.samples >= size:
                yield from self._resampled(fifo.read(size), resampler)
        yield from self._flush(fifo, resampler)

    def told(self) -> float:
        """The length that FFmpeg tells, in seconds; 0 where it does not know: a picture may last longer."""
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return float(self._container.duration or 0) / 1e6 if len(self._container.streams) == 1 else 0.0

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; what FFmpeg cannot decode is skipped, as its command does."""
        missed = 0
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = self._decoder.decode(packet if packet.size else None)
                except av.error.EOFError:
                    break
                except _FAILURES:
                    missed += 1
                    continue
                for frame in frames:
                    self.damaged, missed = self.damaged + missed, 0
                    yield self._checked(frame)
        except _FAILURES as error:
            if not self.seconds:
                raise _no_sound(self._name, error) from None
            self._notes.append(f"{self._name}: damaged at {self.seconds:.1f} s ({_reason(error)}); heard up to there")
        self.broken_end = missed > 0
        if not self.seconds and missed:
            raise AudioError(
                f"{self._name}: no sound that can be read ({missed} damaged packets)", CONVERT, kind="damaged"
            )

    def _checked(self, frame: Any) -> Any:
        frame = _packed(frame)
        if frame.sample_rate not in _RATES:
            reason = f"damaged header ({frame.sample_rate} samples per second)"
            raise AudioError(f"{self._name}: {reason}", CONVERT, kind="damaged")
        if frame.format.name.startswith(("flt", "dbl")):
            check_samples(frame.to_ndarray(), self._name)
        seconds = frame.samples / frame.sample_rate
        self.seconds, self.longest_frame = self.seconds + seconds, max(self.longest_frame, seconds)
        return frame

    def _flush(self, fifo: Any, resampler: Any) -> Iterator[NDArray[np.int16]]:
        if fifo is not None:
            if rest := fifo.read():
                yield from self._resampled(rest, resampler)
            yield from (one.to_ndarray()[0] for one in resampler.resample(None))

    def _resampled(self, group: Any, resampler: Any) -> Iterator[NDArray[np.int16]]:
        if group.layout.nb_channels == 2:
            group = self._audible(group)
        elif group.layout.nb_channels > _MOST_PLACED:
            group = _mean(group)
        yield from (one.to_ndarray()[0] for one in resampler.resample(group))

    def _audible(self, group: Any) -> Any:
        """The group, or its louder channel twice where the two cancel each other out."""
        array = group.to_ndarray()  # [channels, samples], or [1, samples * channels]
        channels = array if group.format.is_planar else array.reshape(-1, 2).T
        full = float(np.iinfo(array.dtype).max) if np.issubdtype(array.dtype, np.integer) else 1.0
        left, right = channels.astype(np.float64) / full
        peaks = np.abs(left).max(initial=0), np.abs(right).max(initial=0)
        if max(peaks) < _SOUND or np.abs(left + right).max(initial=0) / 2 > _NO_SOUND:
            return group
        louder = int(peaks[1] > peaks[0])
        note = f"{self._name}: its channels cancel each other out; the {('left', 'right')[louder]} one is heard"
        if note not in self._notes:
            self._notes.append(note)
        both = np.repeat(channels[louder : louder + 1], 2, axis=0)
        if not group.format.is_planar:
            both = both.T.reshape(1, -1)
        fresh = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(both), format=group.format.name, layout=group.layout.name
        )
        fresh.sample_rate = group.sample_rate
        return fresh


def _decoder(stream: Any, file: BinaryIO) -> Any:
    """What decodes a stream: FFmpeg's own decoder of AMR fails at a telephone's pauses (DTX), another one does not."""
    own = stream.codec_context
    if own.name != "amrnb" or "libopencore_amrnb" not in av.codecs_available:
        return own
    place = file.tell()
    file.seek(0)
    with av.open(_Input(file), mode="r", metadata_errors="replace", options=_OPTIONS) as scanned:
        kinds = {bytes(packet)[0] >> 3 & 15 for packet in scanned.demux(audio=0) if packet.size}
    file.seek(place)
    if max(kinds, default=0) < _PAUSE:
        return own
    decoder: Any = av.CodecContext.create("libopencore_amrnb", "r")
    decoder.sample_rate, decoder.layout = own.sample_rate, own.layout
    return decoder


def _packed(frame: Any) -> Any:
    """The frame with all channels in one plane if it has more than 8: PyAV reads past the end of a longer list."""
    if not frame.format.is_planar or frame.layout.nb_channels <= _MOST_PLACED:
        return frame
    frame.pts = None
    (packed,) = av.AudioResampler("flt").resample(frame)
    return packed


def _mean(group: Any) -> Any:
    """Mix more channels than have places in a room."""
    array = group.to_ndarray()  # [channels, samples], or [1, samples * channels]
    full = 1.0 if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max) + 1
    channels = array if group.format.is_planar else array.reshape(-1, group.layout.nb_channels).T
    mixed = (channels.mean(axis=0, keepdims=True) / full).astype(np.float32)
    fresh = av.AudioFrame.from_ndarray(mixed, format="flt", layout="mono")
    fresh.sample_rate = group.sample_rate
    return fresh


def _not_opened(file: BinaryIO, name: str, error: BaseException) -> AudioError:
    """Why FFmpeg cannot open a file; a recorder that was interrupted leaves an MP4 without its index."""
    file.seek(4)
    if file.read(4) == b"ftyp":
        return AudioError(f"{name}: cut short (its index is missing)", "record or copy it again", kind="cut short")
    return _no_sound(name, error)


def _no_sound(name: str, error: BaseException) -> AudioError:
    return AudioError(f"{name}: no sound that can be read ({_reason(error)})", CONVERT, kind="not a sound")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
