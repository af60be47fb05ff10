"""Files that libsndfile reads and FFmpeg does not, or wrongly -> 16-bit steps, mono, 16 kHz, in blocks.

FFmpeg hears noise in a WAV file of big-endian samples (RIFX) or of NMS ADPCM, and knows no AU file of little-endian
ones.

soundfile is imported where it is needed: it takes as long as a short file.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import numpy as np

from audio_encoder.checks import zeros_from
from audio_encoder.mixing import mix
from audio_encoder.samples import CONVERT, check_rate, check_samples
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MISHEARD = (b"RIFX", b"dns.", b"ALawSoundFile**")  # how files begin that FFmpeg takes for others
_KNOWN = (
    b"RIFF", b"RF64", b"riff", b"FORM", b".snd", b"caff", b"NIST_1A", b" paf", b"fap ", b"PVF1", b"2BIT",
    b"MATLAB 5.0", b"Creative Voice File", *_MISHEARD,
)  # fmt: skip
_NMS, _MP3 = 0x38, 0x55  # format tags
_BLOCK = 1 << 16  # frames
_TYPES = {"PCM_16": ("int16", "s16"), "PCM_24": ("int32", "s32"), "PCM_32": ("int32", "s32")}


class Forgiving:
    """A file as libraries call it back, which print an error that is raised there.

    A damaged header sends them to places before the file's start; a disk that fails ends the file. So does `end`.
    `head` stands in the place of as many bytes at its start.
    """

    def __init__(self, file: BinaryIO, end: int | None = None, head: bytes = b"") -> None:
        self._file, self._end, self._head, self.tell = file, end, head, file.tell

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        place = self.tell()
        try:
            data = self._file.read(size if self._end is None else min(size, max(0, self._end - place)))
        except OSError:
            return b""
        return self._head[place : place + len(data)] + data[max(0, len(self._head) - place) :] if self._head else data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Where the file stands now; -1 where there is no such place."""
        try:
            if whence == os.SEEK_END and self._end is not None:
                return self._file.seek(self._end + offset)
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def readinto(self, buffer: memoryview) -> int:
        """Fill a buffer as far as bytes are there."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def needs_sndfile(file: BinaryIO) -> bool:
    """Whether FFmpeg would hear something else in a file."""
    return (_head(file).startswith(_MISHEARD) or _tag(file) == _NMS) and opens(file)


def opens(file: BinaryIO) -> bool:
    """Whether libsndfile knows what a file is. It is not asked about MP3, of which it prints on stderr."""
    if not _head(file).startswith(_KNOWN) or _tag(file) == _MP3:
        return False
    import soundfile

    end = zeros_from(file)
    file.seek(0)
    try:
        with soundfile.SoundFile(Forgiving(file, end)) as sound:
            return bool(sound.frames)
    except (soundfile.SoundFileError, OSError, ValueError, TypeError):
        return False


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(22)


def _tag(file: BinaryIO) -> int:
    """The format tag of a WAV file; 0 for other files, and where it does not come first."""
    head = _head(file)
    return (
        struct.unpack("<H", head[20:])[0] if head[:4] == b"RIFF" and head[12:16] == b"fmt " and len(head) == 22 else 0
    )


def stream_sndfile(file: BinaryIO, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    """Decode a file that `opens`: int16 [samples] a block."""
    import soundfile

    from audio_encoder.pcm import Forward

    file.seek(0)
    try:
        with Forward(Forgiving(file)) as sound:
            yield from mix(_frames(sound, name), name, notes)
    except soundfile.SoundFileError as error:
        raise AudioError(f"{name}: damaged ({' '.join(str(error).split())})", CONVERT, kind="damaged") from None


def _frames(sound: Any, name: str) -> Iterator[Any]:
    check_rate(sound.samplerate, name)
    dtype, kind = _TYPES.get(sound.subtype, ("float32", "flt"))
    while len(block := sound.read(_BLOCK, dtype=dtype, always_2d=True)):  # [samples, channels]
        if dtype == "float32":
            check_samples(block, name)
        if sound.channels > 2:
            block = block.mean(axis=1, keepdims=True).astype(dtype)
        layout = "mono" if block.shape[1] == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.reshape(1, -1)), format=kind, layout=layout)
        frame.sample_rate = sound.samplerate
        yield frame
