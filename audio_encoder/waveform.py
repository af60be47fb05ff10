"""Sound file or standard input -> waveform: float32 [samples], mono, 16 kHz, every sample a 16-bit step.

The original pipes each file through ffmpeg as signed 16-bit mono at 16 kHz and divides by 32768. A file that is already
at 16 kHz gives the same samples here, bit for bit; resample.py does the same for other rates. A file that ends before
its own header says so is refused: half a recording must not be answered as if it were the whole one.

This room knows files and samples; it knows no features, no windows and no model.
"""

from __future__ import annotations

import io
import os
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audio_encoder.resample import SAMPLE_RATE, resample_blocks
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SAMPLES = 480  # 0.03 s: one audio token; the encoder has nothing to pool in a shorter clip
STDIN = "-"

_CONVERT = "convert it: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"
_COPY_AGAIN = "copy it again, or keep what is there: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"
_FORMATS = ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "MP3")  # those whose completeness is checked below
_RATES = range(1_000, 1_000_001)  # Hz: outside it a damaged header, which would ask for gigabytes
_BLOCK_SECONDS = 4  # decoded at a time
_BLOCK_VALUES = 1 << 20  # and no more than this over all channels: 8 MB, whatever the header says
_WHOLE_STEPS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")  # what ffmpeg mixes and resamples as 16-bit integers
_STEPS = 32_768  # 16-bit steps between 0 and full scale
_UNKNOWN = 0x7FFF0000  # a pipe cannot know its length: ffmpeg writes 0xFFFFFFFF, sox 0x7FFFF000, arecord 0x7FFFFF00
_SLACK = 0.1  # seconds: MP3 and Opus pad their ends, and not every writer says by how much
_MP3_TAGS = 2_048  # bytes of ID3v1 and APE tags that may follow the last MP3 frame


def load_waveform(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read a WAV, FLAC, OGG, MP3 or AIFF file, or standard input for ``-``, of any rate and any number of channels.

    Returns float32 [samples]: mono (the mean of the channels) at 16 kHz, each sample n / 32768 with n a 16-bit integer.
    A clip shorter than ``MIN_SAMPLES`` is returned as it is; one with zero samples is an error.

    Raises AudioError, with the name and the fix, if the file is missing, unreadable, empty, no sound, damaged or cut
    short, or has samples that are not finite. WAV and FLAC streams of unknown length are read to the end.
    """
    return np.concatenate(list(stream_waveform(path)))


def stream_waveform(path: str | os.PathLike[str]) -> Iterator[NDArray[np.float32]]:
    """Read what ``load_waveform`` reads in blocks, float32 [samples] each, which joined are its waveform to the bit.

    A block is 1 to 8 s long (the last one any length, and all with dozens of channels); there is at least one. The
    memory does not grow with the length of a file; a pipe and standard input are held whole, as the bytes they are.

    Raises the same AudioError, from the first block on: what is cut or damaged may show after the last block only, and
    the blocks before it must then not be answered as if they were the recording. The file stays open until the end.
    """
    import soundfile  # here, as --help does not need it

    name, empty = "standard input" if path == STDIN else os.fspath(path), True
    with _open(path, name) as file:
        length_at = _check_chunks(file, name)
        try:
            with soundfile.SoundFile(_SndfileInput(file, length_at)) as sound:
                _check_header(sound, name)
                blocks = _decode(sound, file, name)
                if sound.samplerate != SAMPLE_RATE:
                    blocks = resample_blocks(blocks, sound.samplerate, integer=sound.subtype in _WHOLE_STEPS)
                for steps in blocks:
                    empty = False
                    yield np.clip(steps, -_STEPS, _STEPS - 1) / np.float32(_STEPS)
        except soundfile.SoundFileError as error:
            reason = str(error).rpartition(": ")[2].strip(" .") or "unknown format"
            raise AudioError(f"{name}: no sound that can be read ({reason})", fix=_CONVERT) from None
    if empty:
        raise AudioError(f"{name}: no samples in it", fix=f"give a recording of at least {MIN_SAMPLES / SAMPLE_RATE} s")


def _open(path: str | os.PathLike[str], name: str) -> BinaryIO:
    """Open a file, a pipe or standard input as bytes that can be sought in."""
    try:
        if path == STDIN:
            return _not_empty(io.BytesIO(sys.stdin.buffer.read()), name)
        file = open(path, "rb")  # noqa: PTH123, SIM115 - the caller closes it; Path("") would be "."
        if file.seekable():
            return _not_empty(file, name)
        with file:
            return _not_empty(io.BytesIO(file.read()), name)
    except FileNotFoundError:
        raise AudioError(f"{name}: no such file", fix="check the path") from None
    except IsADirectoryError:
        raise AudioError(f"{name}: this is a folder", fix="give a sound file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{name}: cannot be read ({reason})", fix="check the path and its permissions") from None


def _not_empty(file: BinaryIO, name: str) -> BinaryIO:
    if not file.read(1):  # a file that opens may still refuse to be read
        file.close()
        raise AudioError(f"{name}: the file is empty", fix="record or copy it again")
    return file


def _check_chunks(file: BinaryIO, name: str) -> int | None:
    """Hold the sound chunk of a RIFF or AIFF file against the bytes there are: libsndfile reads a cut one silently.

    Leaves the file at its start. Returns where a stream's header says that its sound has 0 bytes, else None.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic, total = file.read(4), file.read(8)
    kinds = {b"RIFF": ("<", b"data"), b"RIFX": (">", b"data"), b"FORM": (">", b"SSND")}
    order, sound_chunk = kinds.get(magic, ("", b""))
    position, length_at = 12, None  # behind the magic, the size of the rest and the kind
    while order and position + 8 <= size:
        file.seek(position)
        chunk, length = struct.unpack(f"{order}4sI", file.read(8))
        position += 8
        if chunk == sound_chunk:
            promised_end = struct.unpack(f"{order}I", total[:4])[0] + 8
            if length == 0 and (promised_end <= position or promised_end >= _UNKNOWN):
                length_at = position - 4
            elif length < _UNKNOWN and position + length > size:
                kept = f"{size - position} of {length} bytes of sound"
                raise AudioError(f"{name}: cut short ({kept})", fix=_COPY_AGAIN)
            break
        position += length + length % 2  # chunks are padded to even lengths
    file.seek(0)
    return length_at


class _SndfileInput:
    """The file as libsndfile calls it back: an error raised there could only end as a traceback on stderr.

    A damaged header sends libsndfile to places before the file's start; it then reads what is here and finds it wrong.
    ``length_at``: the place of 4 bytes to be read as 0xFFFFFFFF, the length that means "to the end".
    """

    def __init__(self, file: BinaryIO, length_at: int | None) -> None:
        self._file = file
        self._unknown = range(0) if length_at is None else range(length_at, length_at + 4)

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self._file.tell()

    def read(self, size: int) -> bytes:
        start = self._file.tell()
        try:
            data = self._file.read(size)
        except OSError:  # a disk that fails: the missing samples are noticed
            return b""
        for place in self._unknown:
            if start <= place < start + len(data):
                data = data[: place - start] + b"\xff" + data[place - start + 1 :]
        return data


def _check_header(sound: Any, name: str) -> None:
    if sound.format not in _FORMATS:
        raise AudioError(f"{name}: {sound.format} files are not read here", fix=_CONVERT)
    if sound.samplerate not in _RATES:
        raise AudioError(f"{name}: damaged header ({sound.samplerate} samples per second)", fix=_CONVERT)


def _decode(sound: Any, file: BinaryIO, name: str) -> Iterator[NDArray[np.float32]]:
    """Decode and mix to 16-bit steps, float32 [frames] a block; raises AudioError behind the last if frames miss."""
    # soundfile seeks after every read of a seekable file; a FLAC stream of unknown length cannot do that.
    sound.seekable = lambda: False
    size = min(_BLOCK_SECONDS * sound.samplerate, max(1, _BLOCK_VALUES // sound.channels))
    frames, ones = 0, np.ones(sound.channels)  # a product with ones is the fast sum of few channels
    while True:
        wanted = min(size, sound.frames - frames)  # more would be decoded, thrown away and hide what is left
        block = sound.read(wanted, dtype="float64", always_2d=True)  # float64 [frames, channels]
        if not len(block):
            break
        if not np.isfinite(block).all():
            raise AudioError(f"{name}: samples that are not finite numbers", fix=_CONVERT)
        frames += len(block)
        yield _round(block @ ones / sound.channels * _STEPS, sound)
    _check_complete(sound, frames, file, name)


def _round(steps: NDArray[np.float64], sound: Any) -> NDArray[np.float32]:
    """Round mixed samples to 16-bit steps as ffmpeg does: each way of arriving there has its own rule."""
    if sound.subtype in _WHOLE_STEPS:
        steps = np.floor(steps + 0.5)  # integer mixing: halves go up
    elif sound.samplerate == SAMPLE_RATE:
        lower_bits_are_cut = sound.subtype in ("PCM_24", "PCM_32") and sound.channels == 1
        steps = np.floor(steps) if lower_bits_are_cut else np.rint(steps)  # from floating point: halves go to even
    return steps.astype(np.float32)  # still exact: what is not rounded here is, once the rate is converted


def _check_complete(sound: Any, frames: int, file: BinaryIO, name: str) -> None:
    """Raise AudioError where the decoder gave fewer frames than the file promises or holds."""
    promised = sound.frames if sound.frames < 1 << 62 else 0  # a FLAC stream of unknown length says 2^63 - 1
    if sound.format == "MP3":
        if _bytes_left(file) > _MP3_TAGS:  # libsndfile guessed a length from the first bit rate, and stopped there
            raise AudioError(f"{name}: an MP3 of varying bit rate that does not say its length", fix=_CONVERT)
        promised = promised - int(_SLACK * sound.samplerate) if _says_its_length(file) else 0
    if frames < promised:
        raise AudioError(f"{name}: cut short ({frames} of {promised} frames can be read)", fix=_COPY_AGAIN)
    if sound.format == "OGG":
        _check_last_page(sound, frames, file, name)


def _bytes_left(file: BinaryIO) -> int:
    return -file.tell() + file.seek(0, os.SEEK_END)


def _says_its_length(file: BinaryIO) -> bool:
    """Whether the first MP3 frame is a table of contents; without one, libsndfile's frame count is a guess."""
    file.seek(0)
    head = file.read(10)
    id3 = int.from_bytes(head[6:10], "big")  # a tag's length: 4 bytes of 7 bits
    length = sum((id3 >> shift & 0x7F) << shift // 8 * 7 for shift in (0, 8, 16, 24))
    file.seek(10 + length if head[:3] == b"ID3" else 0)
    first_frame = file.read(2_048)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))


def _check_last_page(sound: Any, frames: int, file: BinaryIO, name: str) -> None:
    """Ogg says where it ends in its last page only (RFC 3533): an end-of-stream flag and the position in samples."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - (1 << 16)))  # a page has at most 65307 bytes
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    flags, end = struct.unpack_from("<Bq", page.ljust(14, b"\0"), 5)
    rate = 48_000 if sound.subtype == "OPUS" else sound.samplerate  # Opus counts in 48 kHz samples
    if not flags & 4 or frames / sound.samplerate + _SLACK < end / rate:
        raise AudioError(f"{name}: cut short or damaged ({frames} frames can be read)", fix=_COPY_AGAIN)


def check_length(waveform: NDArray[np.float32], path: str) -> NDArray[np.float32]:
    """Pass a waveform on that is long enough to be heard; raises AudioError for one under ``MIN_SAMPLES``."""
    if len(waveform) < MIN_SAMPLES:
        seconds = f"{len(waveform) / SAMPLE_RATE:.4f} s is too short to be heard"
        raise AudioError(f"{path}: {seconds}", fix=f"give a recording of at least {MIN_SAMPLES / SAMPLE_RATE} s")
    return waveform
