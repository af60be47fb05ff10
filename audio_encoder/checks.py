"""Checks that a sound file is as long as its headers say.

FFmpeg reads a cut WAV, AIFF or Ogg file to its end without a word. So sizes in headers are checked here first. A size
that the writer of a pipe could not know does not count. Nothing is decoded here.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, BinaryIO

from audio_encoder.kinds import begins_another
from audio_encoder.mpeg import read_table
from audio_encoder.pages import check_pages
from audio_encoder.parts import COPY_AGAIN, MOST_PARTS, JoinedError, check_parts, is_name, search
from errors import AudioError

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXPORT = "export it again with the program that wrote it"

# What programs that write to a pipe put where a size belongs: ffmpeg, sox, arecord, and streaming servers.
_STREAMED = (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x7F000008, 0x80000000, 2_000_000_000)
_HEADER = 128  # bytes by which such a size may be smaller: some subtract the header
_HEADER_LEFT = 44  # bytes: some writers count the header in
_REST, _REST_BYTES = 0.1, 4_096  # seconds, or bytes, of sound after the end that deserve a note
# Formats whose duration FFmpeg only estimates from the bit rate.
_RECKONED = {
    "aac",
    "ac3",
    "eac3",
    "amr",
    "amrnb",
    "amrwb",
    "mp3",
    "dts",
    "loas",
    "gsm",
    "mpeg",
    "mpegts",
    "g722",
    "swf",
}
_BY_BYTES = {"wav", "w64", "aiff", "au", "ogg", "asf", "avi", "caf", "voc"}  # their sizes are checked here
# Formats whose header counts the samples. Of others FFmpeg tells a duration as well, which it may have from the size.
_COUNTED = {"flac", "tta", "wv", "ape", "mpc", "mpc8", "tak", "dsf", "ast", "mxf", "nistsphere"}


def check_sizes(file: BinaryIO, name: str, notes: list[str]) -> bool:
    """Compare the sizes in the header with the file; whether they say how long it is, or a note says that they do not.

    Adds to `notes` where sound follows after them, too. Raises AudioError for a file that ends too early, JoinedError
    where a second one begins.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM"):
        return _check_chunks(file, magic, name, notes) or check_parts(file, size, name)
    if magic == b"OggS":
        return check_pages(file, size, name)
    if magic == b"riff":
        return _check_wave64(file, size, name, notes)
    if magic in (b".snd", b"dns."):
        header, length = struct.unpack(">II" if magic == b".snd" else "<II", file.read(8).ljust(8, b"\0"))
        _check_length(file, size - header, length, name, notes)
        file.seek(min(header + length, size))
        head = file.read(16)
        if length and (head[:4] == magic or begins_another(head)):  # what follows is heard, if it is no header
            raise JoinedError(header + length)
        return True
    if magic == b"caff":
        return _check_caf(file, size, name, notes)
    if magic == b"Crea":
        return _check_voc(file, size, name, notes)
    return check_parts(file, size, name)


def zeros_from(file: BinaryIO) -> int | None:
    """Where the chunks of a WAV file end and zeros begin, which a recorder left that had made room for more.

    FFmpeg walks through a gigabyte of them, 8 bytes at a time.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head, end = file.read(12), 12
    if head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        return None
    for chunk, position, length in _chunks(file, 12, size, "<4sI"):
        if chunk == b"data" and length == 0:  # streamed: all that follows is sound, and may begin with silence
            return None
        end = position + length + length % 2
    file.seek(min(end, size))
    return end if file.read(8) == bytes(8) else None


def is_streamed_rf64(file: BinaryIO) -> bool:
    """Whether the large sizes of a WAV file are 0, as behind a pipe: FFmpeg believes that there is no sound."""
    file.seek(0)
    head = file.read(36)
    return head[:4] in (b"RF64", b"BW64") and head[12:16] == b"ds64" and head[28:] == bytes(8)


def promised_seconds(file: BinaryIO, format_name: str, told: float, *, is_known: bool) -> tuple[float, bool]:
    """(seconds that the file should at least hold, whether they are all): FFmpeg says `told`, its sizes `is_known`."""
    names = set(format_name.split(","))
    if names == {"mp3"}:
        table = read_table(file)
        return (table.seconds if table else 0.0), table is not None
    if names & _RECKONED:
        return 0.0, False
    if names & _BY_BYTES and not (names == {"asf"} and is_known):
        return 0.0, is_known
    return told, is_known or (told > 0 and bool(names & _COUNTED))


def is_bare(format_name: str) -> bool:
    """Whether a format is a row of frames without a container, in which tags may lie between joined files."""
    return bool(set(format_name.split(",")) & _RECKONED)


def has_sizes(format_name: str) -> bool:
    """Whether the header of a format says how much sound there is."""
    return bool(set(format_name.split(",")) & _BY_BYTES)


def _check_chunks(file: BinaryIO, magic: bytes, name: str, notes: list[str]) -> bool:
    """Find the chunks of sound of a RIFF or AIFF file, and check their sizes."""
    size = file.seek(0, os.SEEK_END)
    order, wanted = (">", b"SSND") if magic == b"FORM" else (">" if magic == b"RIFX" else "<", b"data")
    file.seek(4)
    whole = struct.unpack(f"{order}I", file.read(4).ljust(4, b"\0"))[0]  # what follows these 8 bytes
    rate, large, is_found = 0, None, False
    for chunk, position, length in _chunks(file, 12, size, f"{order}4sI"):
        if chunk == b"fmt ":
            rate = struct.unpack(f"{order}I", file.read(12)[8:12].ljust(4, b"\0"))[0]  # bytes a second
        elif chunk == b"COMM":
            channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            rate = channels * bits // 8 * 8_000
        elif chunk == b"ds64":
            large = struct.unpack("<Q", file.read(16)[8:16].ljust(8, b"\0"))[0]
        elif chunk == wanted:
            if length == 0xFFFFFFFF and large is not None:
                length = large  # noqa: PLW2901
            if is_found:  # FFmpeg hears the last one, libsndfile the first
                raise AudioError(f"{name}: several chunks of sound, where one belongs", _EXPORT, kind="damaged")
            is_found = True
            if length == 0:  # a recorder may have filled in the size of the whole only
                return _check_length(file, size - 8, whole, name, notes)
            _check_length(file, size - position, length, name, notes)
            if _is_streamed(length):
                return True
            _tell_rest(file, position + length, size - int(rate * _REST), name, notes)
        elif chunk == magic and is_found:
            raise JoinedError(position - 8)
    return is_found


def _chunks(file: BinaryIO, position: int, size: int, layout: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content starts, length) of each chunk; the file stands there. Names are printable."""
    head = struct.calcsize(layout)
    for _ in range(MOST_PARTS):
        if position + head > size:  # it may be beyond what can be sought
            return
        file.seek(position)
        chunk, length = struct.unpack(layout, file.read(head))
        if not is_name(chunk):
            return
        position += head
        yield chunk, position, length
        position += max(0, length) + length % 2 * (head == 8)  # CAF alone, with lengths of 8 bytes, pads none


def _check_wave64(file: BinaryIO, size: int, name: str, notes: list[str]) -> bool:
    """Sony Wave64: a GUID, the size of the whole file and a GUID, then chunks: a GUID and a size that counts both."""
    file.seek(16)
    (whole,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    _check_length(file, size, whole, name, notes)
    file.seek(min(whole, size))
    if whole and file.read(4) == b"riff":
        raise JoinedError(whole)
    position = 40
    for _ in range(MOST_PARTS):
        if position + 24 > size:
            break
        file.seek(position)
        chunk, length = struct.unpack("<4s12xQ", file.read(24))
        if chunk == b"data":
            if not _is_streamed(length):
                _check_length(file, size - position, length, name, notes)
                _tell_rest(file, position + length + -length % 8, size - _REST_BYTES, name, notes)
            return True
        if length < 24:
            break
        position += length + -length % 8  # chunks are padded
    return False


def _check_length(file: BinaryIO, there: int, length: int, name: str, notes: list[str]) -> bool:
    """Raise AudioError where `there` bytes of sound are fewer than the `length` that the header names, else say True.

    Where it names none, as behind a pipe, a note says so; what was joined to it is searched for.
    """
    if _is_streamed(length):
        notes.append(f"{name}: its header does not say how long it is, so whether it is whole cannot be told")
        search(file)
    elif length > there + _HEADER_LEFT:
        kept = f"{max(there, 0)} of {length} bytes of sound; the file has {file.seek(0, os.SEEK_END)} bytes"
        raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")
    return True


def _is_streamed(length: int) -> bool:
    return length == 0 or length >= 1 << 62 or any(0 <= mark - length <= _HEADER for mark in _STREAMED)


def _tell_rest(file: BinaryIO, end: int, size: int, name: str, notes: list[str]) -> None:
    """Add to `notes` that sound goes on after the size in the header: what follows is not a chunk.

    Raises JoinedError where it is another file.
    """
    file.seek(0)
    magic = file.read(4)
    file.seek(end)
    kind = file.read(16)
    if kind[:4] == magic or begins_another(kind):
        raise JoinedError(end)
    kind = kind[1:5] if end % 2 else kind[:4]
    if end + 1 < size and not (kind.isascii() and kind.decode().strip().isalnum()):
        rest = file.seek(0, os.SEEK_END) - end
        notes.append(f"{name}: {rest} bytes after the end of the sound are ignored; the header says where it ends")


def _check_caf(file: BinaryIO, size: int, name: str, notes: list[str]) -> bool:
    is_found = False
    for chunk, position, length in _chunks(file, 8, size, ">4sq"):
        if chunk == b"data":
            is_found = _check_length(file, size - position, max(length, 0), name, notes)
            if not _is_streamed(max(length, 0)):
                _tell_rest(file, position + length, size - _REST_BYTES, name, notes)
        elif chunk == b"caff" and is_found:
            raise JoinedError(position - 12)
        if length < 0:  # to the end
            break
    return is_found


def _check_voc(file: BinaryIO, size: int, name: str, notes: list[str]) -> bool:
    """Follow the blocks of a Creative Voice file: a kind, then three bytes of size; kind 0, without a size, ends it."""
    file.seek(20)
    position = int.from_bytes(file.read(2), "little")
    while position < size:
        file.seek(position)
        kind, *length = file.read(4).ljust(4, b"\0")
        if not kind:
            _tell_rest(file, position + 1, size - _REST_BYTES, name, notes)
            return True
        position += 4 + int.from_bytes(bytes(length), "little")
        if not any(length):
            break
    return _check_length(file, size, position if position > size else 0, name, notes)
