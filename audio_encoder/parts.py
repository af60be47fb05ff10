"""MP4, Matroska, ASF, AVI, FLV, WavPack and True Audio files are made of parts that say how long they are.

None may end after the file. FFmpeg plays a cut one as far as it goes, and what it tells of the length is that of the
longest stream, which is the picture as a rule. Nothing is decoded here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from errors import AudioError

MOST_PARTS = 200_000  # parts looked at: a day of a recording that is written in pieces has fewer
_SEGMENT = b"\x18\x53\x80\x67"  # the Matroska element that holds all others
_CLUSTER = b"\x1f\x43\xb6\x75"  # some seconds of it
_LIVE = b"a segment whose length is not known"
_ASF_DATA = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_ASF_HEAD = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
# With which a file begins, of a kind of which FFmpeg plays the first of several.
_FIRST = (b"ftyp", b"FLV", b"TTA1", _ASF_HEAD)
_COPY_AGAIN = "copy it again, or keep what is there: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"

_BOXES = frozenset(
    b"ftyp moov mdat moof mfra free skip wide uuid sidx ssix styp meta pdin prft emsg udta pnot PICT junk".split()
)
_UNKNOWN = 1 << 40  # bytes: what FFmpeg writes into a streamed ASF is more

_NO_PART = b"what is no part, though parts go on"
ANOTHER = "another file follows in it, of which nothing is heard"

_Part = tuple[bytes, int, int]  # its name, where its content starts, and where it ends


def check_parts(file: BinaryIO, size: int, name: str, notes: list[str]) -> bool:
    """Whether a file of `size` bytes is made of parts that tell its length; adds to `notes` where a second one follows.

    Raises AudioError where a part is longer than what is there.
    """
    file.seek(0)
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        found = _check(_walk(file, size, _box), size, name, notes)
        _check_index(found, name)
        return bool(found) and (b"moof" not in found or b"mfra" in found)  # pieces without an index of them
    if head[:4] == b"\x1a\x45\xdf\xa3":
        found = _check(_walk(file, size, _element), size, name, notes)
        return _SEGMENT in found and _LIVE not in found
    if head[:8] == _ASF_HEAD[:8]:
        return _ASF_DATA in _check(_walk(file, size, _object), size, name, notes)
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        return bool(_check(_walk(file, size, _riff), size, name, notes))
    if head[:3] == b"FLV":
        return bool(_check(_walk(file, size, _tag), size, name, notes))
    if head[:4] == b"TTA1":
        return bool(_check(_walk(file, size, lambda head, place, _: _true_audio(file, head, place)), size, name, notes))
    return head[:4] == b"wvpk" and bool(_check(_walk(file, size, _block), size, name, notes))


def _check(parts: Iterator[_Part], size: int, name: str, notes: list[str]) -> set[bytes]:
    """The names of all parts; none where there are too many to be looked at."""
    found, count = set[bytes](), 0
    for part, start, end in parts:
        if part == _NO_PART:
            raise AudioError(f"{name}: damaged (at byte {start} of {size})", _COPY_AGAIN, kind="damaged")
        if end > size:
            kept = f"{max(0, size - start)} of {end - start} bytes of a part"
            raise AudioError(f"{name}: cut short ({kept})", _COPY_AGAIN, kind="cut short")
        if part in found and part in _FIRST:
            notes.append(f"{name}: {ANOTHER}")
            return found
        found.add(part)
        count += 1
    return found if count < MOST_PARTS else set()


def _check_index(found: set[bytes], name: str) -> None:
    """A recorder that was interrupted leaves an MP4 without its index."""
    if b"mdat" in found and not found & {b"moov", b"moof"}:
        raise AudioError(f"{name}: cut short (its index is missing)", "record or copy it again", kind="cut short")


def check_clusters(file: BinaryIO, name: str) -> None:
    """Raise AudioError where a Matroska file with a gap in its time has no block where one belongs: bytes were lost."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) == b"\x1a\x45\xdf\xa3":
        _check(_walk(file, size, _element, (_SEGMENT, _LIVE, _CLUSTER), most=size), size, name, [])


def _walk(
    file: BinaryIO,
    size: int,
    parse: Callable[[bytes, int, int], _Part | None],
    opened: tuple[bytes, ...] = (_SEGMENT, _LIVE),
    *,
    most: int = MOST_PARTS,
) -> Iterator[_Part]:
    """Yield the parts of a file in order, until something else comes; of what is `opened` its own parts."""
    place = inside = 0  # `inside`: where the parts of a segment end
    for _ in range(most):
        file.seek(place)
        head = file.read(24)
        part = parse(head, place, size) if place < size and len(head) >= 8 else None
        if part is None:
            if place < min(inside, size) or (parse is _tag and not any(head) and len(head) == 24):
                yield _NO_PART, place, place
            return
        if part[0] == _SEGMENT:
            inside = part[2]
        yield part
        place = part[1] if part[0] in opened else part[2]


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


def _true_audio(file: BinaryIO, head: bytes, place: int) -> _Part | None:
    """TTA: a header of 22 bytes, the size of each frame and a checksum, the frames. A frame lasts 256 / 245 s.

    A tag of APE may follow: 32 bytes and what it counts.
    """
    if head[:8] == b"APETAGEX":
        return head[:8], place + 32, place + 32 + int.from_bytes(head[12:16], "little")
    if head[:4] != b"TTA1" or len(head) < 22:
        return None
    rate, samples = struct.unpack("<II", head[10:18])
    frames = -(-samples // max(1, 256 * rate // 245))
    start = place + 22 + 4 * (frames + 1)
    file.seek(place + 22)
    sizes = np.frombuffer(file.read(4 * min(frames, MOST_PARTS)), np.dtype("<u4"))
    return head[:4], start, start + int(sizes.sum(dtype=np.uint64))


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
    part = _LIVE if head[:4] == _SEGMENT and length == unknown else head[:name_bytes]
    return part, start, start if length == unknown else start + length


def _riff(head: bytes, place: int, size: int) -> _Part | None:
    """AVI: one or several RIFF chunks; one that was interrupted has no size. Some writers count 8 bytes too many."""
    length = int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF" or head[8:11] != b"AVI" or not 12 < length < 0xFFFF0000:
        return None
    end = place + 8 + length + length % 2
    return head[8:12], place + 12, size if size < end <= size + 9 else end


def _tag(head: bytes, place: int, _: int) -> _Part | None:
    """FLV: a header, then tags, each with the size of the one before, 11 bytes and its content."""
    begun = 4 if place else 0
    if head[begun : begun + 3] == b"FLV":
        return b"FLV", place + begun, place + begun + int.from_bytes(head[begun + 5 : begun + 9], "big")
    if head[4] & 31 not in (8, 9, 18):  # sound, picture, words
        return None
    return head[4:5], place + 15, place + 15 + int.from_bytes(head[5:8], "big")
