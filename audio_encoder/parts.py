"""MP4, Matroska, ASF and WavPack files are made of parts that say how long they are: none may end after the file.

FFmpeg plays a cut one as far as it goes, and what it tells of the length is that of the longest stream, which is the
picture as a rule. Nothing is decoded here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from errors import AudioError

_MOST = 200_000  # parts looked at: a day of a recording that is written in pieces has fewer
_SEGMENT = b"\x18\x53\x80\x67"  # the Matroska element that holds all others
_COPY_AGAIN = "copy it again, or keep what is there: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"

_BOXES = frozenset(
    b"ftyp moov mdat moof mfra free skip wide uuid sidx ssix styp meta pdin prft emsg udta pnot PICT junk".split()
)
_UNKNOWN = 1 << 40  # bytes: what FFmpeg writes into a streamed ASF is more

_Part = tuple[bytes, int, int]  # its name, where its content starts, and where it ends


def check_parts(file: BinaryIO, size: int, name: str) -> None:
    """Raise AudioError for a file of `size` bytes that is made of parts, of which one is longer than what is there."""
    file.seek(0)
    head = file.read(8)
    if head[4:] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check(_walk(file, size, _box), size, name)
        _check_index(file, size, name)
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        _check(_walk(file, size, _element), size, name)
    elif head == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11":
        _check(_walk(file, size, _object), size, name)
    elif head[:4] == b"wvpk":
        _check(_walk(file, size, _block), size, name)


def _check(parts: Iterator[_Part], size: int, name: str) -> None:
    for _, start, end in parts:
        if end > size:
            kept = f"{max(0, size - start)} of {end - start} bytes of a part"
            raise AudioError(f"{name}: cut short ({kept})", _COPY_AGAIN, kind="cut short")


def _check_index(file: BinaryIO, size: int, name: str) -> None:
    """A recorder that was interrupted leaves an MP4 without its index."""
    found = {part for part, _, _ in _walk(file, size, _box)}
    if b"mdat" in found and not found & {b"moov", b"moof"}:
        raise AudioError(f"{name}: cut short (its index is missing)", "record or copy it again", kind="cut short")


def _walk(file: BinaryIO, size: int, parse: Callable[[bytes, int, int], _Part | None]) -> Iterator[_Part]:
    """Yield the parts of a file in order, until something else comes; of a Matroska segment its own parts."""
    place = 0
    for _ in range(_MOST):
        file.seek(place)
        head = file.read(24)
        part = parse(head, place, size) if place < size and len(head) >= 8 else None
        if part is None:
            return
        yield part
        place = part[1] if part[0] == _SEGMENT else part[2]


def _box(head: bytes, place: int, size: int) -> _Part | None:
    """MP4, MOV, M4A, 3GP: 4 bytes of size, 4 of name; size 1: 8 more bytes hold it; size 0: to the end."""
    length, part = struct.unpack(">I4s", head[:8])
    begun = 8
    if length == 1 and len(head) >= 16:
        length, begun = struct.unpack(">Q", head[8:16])[0], 16
    end = place + length if length else size
    return (part, place + begun, end) if part in _BOXES and end >= place + begun else None


def _object(head: bytes, place: int, _: int) -> _Part | None:
    """ASF (WMA, WMV): a name of 16 bytes and 8 bytes of size, both counted in."""
    if len(head) < 24:
        return None
    length = int.from_bytes(head[16:24], "little")
    return (head[:16], place + 24, place + length) if 24 <= length < _UNKNOWN else None


def _block(head: bytes, place: int, _: int) -> _Part | None:
    """WavPack: a mark, and 4 bytes of size, in which both are not counted."""
    length = int.from_bytes(head[4:8], "little")
    return (head[:4], place + 8, place + 8 + length) if head[:4] == b"wvpk" else None


def _element(head: bytes, place: int, _: int) -> _Part | None:
    """Matroska, WebM: name and size have as many bytes as their leading zero bits say; all ones: not known."""
    name_bytes = 9 - head[0].bit_length()
    if name_bytes > 4:
        return None
    size_bytes = 9 - head[name_bytes].bit_length()
    start = place + name_bytes + size_bytes
    if size_bytes > 8 or len(head) < name_bytes + size_bytes:
        return None
    unknown = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & unknown
    return head[:name_bytes], start, start if length == unknown else start + length
