"""The pages of an Ogg file (RFC 3533), each with its number and a checksum. Nothing is decoded here."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

from audio_encoder.kinds import begins_another
from audio_encoder.parts import COPY_AGAIN, JoinedError
from errors import AudioError

_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def check_pages(file: BinaryIO, size: int, name: str) -> bool:
    """Follow the pages: none is missing, each is whole, each stream has its end mark."""
    position, numbers, open_streams, first = 0, dict[int, int](), set[int](), b""
    while position < size:
        file.seek(position)
        head = file.read(27)
        segments = file.read(head[26]) if len(head) == 27 else b""
        length = 27 + len(segments) + sum(segments)
        if position and not open_streams and head[:4] != b"OggS":
            if begins_another(head):
                raise JoinedError(position)
            return True  # a tag, or padding, after the last page
        if head[:4] != b"OggS" or len(head) < 27 or len(segments) < head[26] or position + length > size:
            break
        flags, serial, number, checksum = head[5], *struct.unpack("<III", head[14:26])
        is_next = flags & 2 or number == numbers.get(serial, number - 1) + 1
        content = file.read(sum(segments))
        first = first or content
        if flags & 2 and position and not open_streams and not (content == first and content.startswith(b"Opus")):
            raise JoinedError(position)  # a link of a chain: FFmpeg plays those of Opus that begin alike
        page = head[:22] + bytes(4) + head[26:] + segments + content
        if not is_next or _ogg_checksum(page) != checksum:
            raise AudioError(f"{name}: damaged (page {number} is wrong or missing)", COPY_AGAIN, kind="damaged")
        numbers[serial] = number
        open_streams = open_streams - {serial} if flags & 4 else open_streams | {serial}
        position += length
    if position < size or open_streams:
        raise AudioError(f"{name}: cut short (the end mark is missing)", COPY_AGAIN, kind="cut short")
    return True


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of a page as Ogg has it: zlib's polynomial with the bits in the other order, from 0 on."""
    crc = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{crc:032b}"[::-1], 2)
