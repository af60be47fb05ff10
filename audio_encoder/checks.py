"""Checks that a sound file is as long as its headers say, and that its samples can be sound.

FFmpeg reads a cut WAV, AIFF or Ogg file to its end without a word. So sizes in headers are checked here first. A size
that the writer of a pipe could not know does not count. Nothing is decoded here.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audio_encoder.parts import check_parts
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz, of everything that the model hears
CONVERT = "convert it: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"
COPY_AGAIN = "copy it again, or keep what is there: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"

# What programs that write to a pipe put where a size belongs: ffmpeg, sox, arecord, and streaming servers.
_STREAMED = (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x7F000008, 0x80000000, 2_000_000_000)
_HEADER = 128  # bytes by which such a size may be smaller: some subtract the header
_HEADER_LEFT = 44  # bytes: some writers count the header in
_REST = 0.1  # seconds of sound after the end that deserve a note
_LOUDEST = 1e3  # of full scale: louder samples are damage, not sound
# Formats whose duration FFmpeg only estimates from the bit rate.
_RECKONED = {"aac", "ac3", "eac3", "amr", "amrnb", "amrwb", "mp3", "dts", "loas", "gsm", "mpeg", "mpegts", "g722"}
_BY_BYTES = {"wav", "w64", "aiff", "au", "ogg", "asf"}  # their sizes are checked here
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MP3_RATES = (11_025, 12_000, 8_000)  # Hz, of MPEG 2.5; twice as much in MPEG 2, four times in MPEG 1


def check_sizes(file: BinaryIO, name: str, notes: list[str]) -> None:
    """Compare the sizes in the header with the file; adds to `notes` where sound follows after them.

    Raises AudioError for a file that ends too early.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    magic = file.read(4)
    if magic in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        _check_chunks(file, magic, name, notes)
    elif magic == b"OggS":
        _check_pages(file, size, name)
    elif magic == b"riff":
        _check_wave64(file, size, name, notes)
    elif magic == b".snd":
        header, length = struct.unpack(">II", file.read(8).ljust(8, b"\0"))
        _check_length(size - header, length, size, name, notes)
    elif magic == b"caff":
        _check_caf(file, size, name, notes)
    elif magic == b"Crea":
        _check_voc(file, size, name, notes)
    else:
        check_parts(file, size, name)


def promised_seconds(file: BinaryIO, format_name: str, told: float) -> float | None:
    """Seconds that the file should hold; 0 where sizes are checked, None if unknown. FFmpeg says `told`."""
    names = set(format_name.split(","))
    if names == {"mp3"}:
        return _mp3_seconds(file)
    if names & _RECKONED:
        return None
    return 0.0 if names & _BY_BYTES else told


def check_samples(samples: NDArray[np.floating[Any]], name: str) -> None:
    """Raise AudioError for samples that are not numbers, or too loud to be sound."""
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: samples that are not finite numbers", CONVERT, kind="damaged")
    if samples.size and np.abs(samples).max() > _LOUDEST:
        raise AudioError(
            f"{name}: samples far too loud to be sound ({np.abs(samples).max():.0e})", CONVERT, kind="damaged"
        )


def is_bare(format_name: str) -> bool:
    """Whether a format is a row of frames without a container, in which tags may lie between joined files."""
    return bool(set(format_name.split(",")) & _RECKONED)


def has_sizes(format_name: str) -> bool:
    """Whether the header of a format says how much sound there is."""
    return bool(set(format_name.split(",")) & (_BY_BYTES | {"caf"}))


def _check_chunks(file: BinaryIO, magic: bytes, name: str, notes: list[str]) -> None:
    """Find the chunk of sound of a RIFF or AIFF file, and check its size."""
    size = file.seek(0, os.SEEK_END)
    order, wanted = (">", b"SSND") if magic == b"FORM" else (">" if magic == b"RIFX" else "<", b"data")
    file.seek(4)
    whole = struct.unpack(f"{order}I", file.read(4).ljust(4, b"\0"))[0]  # what follows these 8 bytes
    position, rate, large = 12, 0, None  # behind the magic, the size of the rest and the kind
    while position + 8 <= size:
        file.seek(position)
        chunk, length = struct.unpack(f"{order}4sI", file.read(8))
        position += 8
        if chunk == b"fmt ":
            rate = struct.unpack(f"{order}I", file.read(12)[8:12].ljust(4, b"\0"))[0]  # bytes a second
        elif chunk == b"COMM":
            channels, _, bits = struct.unpack(">HIH", file.read(8).ljust(8, b"\0"))
            rate = channels * bits // 8 * 8_000
        elif chunk == b"ds64":
            large = struct.unpack("<Q", file.read(16)[8:16].ljust(8, b"\0"))[0]
        if chunk == wanted:
            if length == 0xFFFFFFFF and large is not None:
                length = large
            if length == 0:  # a recorder may have filled in the size of the whole only
                _check_length(size - 8, whole, size, name, notes)
            else:
                _check_length(size - position, length, size, name, notes)
            if not _is_streamed(length) and _has_more(file, position + length, size - int(rate * _REST)):
                rest = size - position - length
                notes.append(
                    f"{name}: {rest} bytes after the end of the sound are ignored; the header says where it ends"
                )
            return
        position += length + length % 2  # chunks are padded to even lengths


def _check_wave64(file: BinaryIO, size: int, name: str, notes: list[str]) -> None:
    """Sony Wave64: a GUID, the size of the whole file and a GUID, then chunks: a GUID and a size that counts both."""
    file.seek(16)
    (whole,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
    _check_length(size, whole, size, name, notes)
    position = 40
    while position + 24 <= size:
        file.seek(position)
        chunk, length = struct.unpack("<4s12xQ", file.read(24))
        if chunk == b"data":
            if not _is_streamed(length):
                _check_length(size - position, length, size, name, notes)
            return
        position += max(length + -length % 8, 24)  # chunks are padded


def _check_length(there: int, length: int, size: int, name: str, notes: list[str]) -> None:
    """Raise AudioError where `there` bytes of sound are fewer than the `length` that the header names.

    Where it names none, as behind a pipe, a note says so.
    """
    if _is_streamed(length):
        notes.append(f"{name}: its header does not say how long it is, so whether it is whole cannot be told")
    elif length > there + _HEADER_LEFT:
        kept = f"{max(there, 0)} of {length} bytes of sound; the file has {size} bytes"
        raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")


def _is_streamed(length: int) -> bool:
    return length == 0 or length >= 1 << 62 or any(0 <= mark - length <= _HEADER for mark in _STREAMED)


def _has_more(file: BinaryIO, end: int, size: int) -> bool:
    """Whether sound goes on after the size in the header: what follows is not a chunk."""
    file.seek(end + end % 2)
    kind = file.read(4)
    return 0 < end < size and not (kind.isascii() and kind.decode("latin-1").strip().isalnum())


def _check_caf(file: BinaryIO, size: int, name: str, notes: list[str]) -> None:
    position = 8
    while position + 12 <= size:
        file.seek(position)
        chunk, length = struct.unpack(">4sq", file.read(12))
        position += 12
        if chunk == b"data":
            _check_length(size - position, max(length, 0), size, name, notes)
        if length < 0:  # to the end
            return
        position += length


def _check_voc(file: BinaryIO, size: int, name: str, notes: list[str]) -> None:
    """Follow the blocks of a Creative Voice file: a kind, then three bytes of size; kind 0, without a size, ends it."""
    file.seek(20)
    position = int.from_bytes(file.read(2), "little")
    while position < size:
        file.seek(position)
        kind, *length = file.read(4).ljust(4, b"\0")
        if not kind:
            return
        position += 4 + int.from_bytes(bytes(length), "little")
        if not any(length):
            break
    _check_length(size, position if position > size else 0, size, name, notes)


def _check_pages(file: BinaryIO, size: int, name: str) -> None:
    """Follow the pages of an Ogg file (RFC 3533): none is missing, each is whole, each stream has its end mark."""
    position, numbers, open_streams = 0, dict[int, int](), set[int]()
    while position < size:
        file.seek(position)
        head = file.read(27)
        segments = file.read(head[26]) if len(head) == 27 else b""
        length = 27 + len(segments) + sum(segments)
        if head[:4] != b"OggS" and position and not open_streams:
            return  # a tag, or padding, after the last page
        if head[:4] != b"OggS" or len(head) < 27 or len(segments) < head[26] or position + length > size:
            break
        flags, serial, number, checksum = head[5], *struct.unpack("<III", head[14:26])
        is_next = flags & 2 or number == numbers.get(serial, number - 1) + 1
        page = head[:22] + bytes(4) + head[26:] + segments + file.read(sum(segments))
        if not is_next or _ogg_checksum(page) != checksum:
            raise AudioError(f"{name}: damaged (page {number} is wrong or missing)", COPY_AGAIN, kind="damaged")
        numbers[serial] = number
        open_streams = open_streams - {serial} if flags & 4 else open_streams | {serial}
        position += length
    if position < size or open_streams:
        raise AudioError(f"{name}: cut short (the end mark is missing)", COPY_AGAIN, kind="cut short")


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of a page as Ogg has it: zlib's polynomial with the bits in the other order, from 0 on."""
    crc = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)


def _mp3_seconds(file: BinaryIO) -> float | None:
    """What the first MP3 frame says of the number of frames, in seconds; None if it says nothing.

    The table is LAME's and Xing's, or Fraunhofer's (VBRI). A coder's padding of up to 0.2 s is not counted.
    """
    file.seek(0)
    head = file.read(10)
    length = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    file.seek(10 + length if head[:3] == b"ID3" else 0)
    frame = file.read(2_048)
    at = next((frame.find(mark) for mark in (b"Xing", b"Info", b"VBRI") if mark in frame), -1)
    sync = frame.find(b"\xff")
    if at < 0 or sync < 0 or len(frame) < at + 18 or sync + 3 > len(frame):
        return None
    if frame[at : at + 4] == b"VBRI":
        (frames,) = struct.unpack_from(">I", frame, at + 14)
    elif frame[at + 7] & 1:
        (frames,) = struct.unpack_from(">I", frame, at + 8)
    else:
        return None
    version, rate = frame[sync + 1] >> 3 & 3, frame[sync + 2] >> 2 & 3  # 0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1
    if rate == 3 or version == 1:
        return None
    samples = 1_152 if version == 3 else 576
    return float(max(0, frames * samples / (_MP3_RATES[rate] << (0, 0, 1, 2)[version]) - 0.2))
