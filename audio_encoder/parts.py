"""MP4, Matroska, ASF, AVI, FLV, WavPack and True Audio files are made of parts that say how long they are.

None may end after the file. FFmpeg plays a cut one as far as it goes, and what it tells of the length is that of the
longest stream, which is the picture as a rule. Nothing is decoded here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import BinaryIO

import numpy as np

from audio_encoder.kinds import begins_another
from errors import AudioError

MOST_PARTS = 1_000_000  # parts looked at: a day of a recording that is written in pieces has fewer
_SEGMENT = b"\x18\x53\x80\x67"  # the Matroska element that holds all others
_MATROSKA = b"\x1a\x45\xdf\xa3"
_LIVE = b"a segment whose length is not known"
_ASF_DATA = b"\x36\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_ASF_HEAD = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"
_FIRST = (b"ftyp", b"FLV", b"TTA1", b"AVI ", b"wvpk", _ASF_HEAD, _MATROSKA)  # with which a file begins
_MOVIE, _RECORD = b"movi", b"rec "  # lists of an AVI file, in which the sound lies
_OPENED = (_SEGMENT, _LIVE, b"AVI ", b"AVIX", _MOVIE, _RECORD)
# Beginnings of files whose parts have no sizes.
_WTV = b"\xb7\xd8\0 7I\xda\x11\xa6N\0\x07\xe9^\xad\x8d"
_SEARCHED = (
    b'fLaC\0\0\0"', b"nut/multim", b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa", _WTV[:8], b".RMF\0\0\0",
)  # fmt: skip
# What begins a file and nothing within one: how far from its first byte, and what else must be there.
_BEGINNINGS = (
    (b'fLaC\0\0\0"', 0, b""), (b"OggS\0\2\0\0\0\0\0\0\0\0", 0, b""), (b"ftypM4A ", 4, b""), (b"ftypisom", 4, b""),
    (b"ftypmp42", 4, b""), (b"ftyp3gp", 4, b""), (b"ftypqt  ", 4, b""), (_ASF_HEAD, 0, b""), (_WTV, 0, b""),
    (b"caff\0\1\0\0desc", 0, b""), (b"nut/multimedia container", 0, b""), (b".RMF\0\0\0", 0, b""),
    (b"riff.\x91\xcf\x11\xa5\xd6(\xdb", 0, b""), (_MATROSKA, 0, b".{,48}\x42\x82.(webm|matroska)"),
    (b"WAVE", 8, b"(RIFF|RIFX|RF64|BW64)....WAVE[ -~]{4}"), (b"AIF", 8, b"FORM....AIF[FC][ -~]{4}"),
    (b".snd\0\0", 0, b".{6}..{5}\0\0\0[\1-\x1b]\0.{3}\0\0\0[\1-\x08]"),
)  # fmt: skip
_PIECE = 1 << 20  # bytes searched at a time
_LONGEST = 64  # bytes of a beginning
_MOST_TRIES = 500  # places in a piece that are looked at: no sound has so many that only seem to begin a file
_HEAD = 32  # bytes of a part that say what it is
COPY_AGAIN = "copy it again, or keep what is there: ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"

_BOXES = frozenset(
    b"ftyp moov mdat moof mfra free skip wide uuid sidx ssix styp meta pdin prft emsg udta pnot PICT junk".split()
)
_INITIAL = 0x800  # the mark of a WavPack block that has the first channels
_UNKNOWN = 1 << 40  # bytes: what FFmpeg writes into a streamed ASF is more

_NO_PART = b"what is no part, though parts go on"

_Part = tuple[bytes, int, int]  # its name, where its content starts, and where it ends


class JoinedError(Exception):
    """Another file begins at a place in this one, as `cat` joins them: FFmpeg plays the first only, or fails there."""

    def __init__(self, place: int) -> None:
        """`place`: in bytes."""
        super().__init__(place)
        self.place = place


def check_parts(file: BinaryIO, size: int, name: str) -> bool:
    """Whether a file of `size` bytes is made of parts that tell its length.

    Raises AudioError where a part is longer than what is there, JoinedError where a second file begins.
    """
    file.seek(0)
    head = file.read(12)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        found = _check(_walk(file, size, _box), size, name)
        _check_index(found, name)
        return bool(found) and (b"moof" not in found or b"mfra" in found)  # pieces without an index of them
    if head[:4] == _MATROSKA:
        found = _check(_walk(file, size, _element), size, name)
        return _SEGMENT in found and _LIVE not in found
    if head[:8] == _ASF_HEAD[:8]:
        return _ASF_DATA in _check(_walk(file, size, _object), size, name)
    if head[:4] == b"RIFF" and head[8:] == b"AVI ":
        return bool(_check(_walk(file, size, lambda head, place, _: _riff(file, head, place, size)), size, name))
    if head[:3] == b"FLV":
        return bool(_check(_walk(file, size, _tag), size, name))
    if head[:4] == b"TTA1":
        return bool(_check(_walk(file, size, lambda head, place, _: _true_audio(file, head, place)), size, name))
    if head[:4] == b"wvpk":
        return bool(_check(_walk(file, size, _block), size, name))
    if head.startswith(_SEARCHED):
        search(file)
    return False


def search(file: BinaryIO) -> None:
    """Raise JoinedError where another file begins in one without parts, or without a size."""
    file.seek(0)
    place, data = 0, file.read(_PIECE)
    while len(data) > _LONGEST:
        if found := [at for at in map(partial(_beginning, data), *zip(*_BEGINNINGS, strict=True)) if at]:
            raise JoinedError(place + min(found))
        place += len(data) - _LONGEST
        file.seek(place)
        data = file.read(_PIECE)


def _beginning(data: bytes, magic: bytes, back: int, pattern: bytes) -> int:
    """Where in some bytes the next file of a kind begins, behind the first of them; 0 where none does."""
    at = back
    for _ in range(_MOST_TRIES):
        at = data.find(magic, at + 1)
        if at < 0 or re.match(pattern, data[at - back : at - back + _LONGEST], re.DOTALL):
            return max(0, at - back)
    return 0


def _check(parts: Iterator[_Part], size: int, name: str) -> set[bytes]:
    """The names of all parts; none where there are too many to be looked at."""
    found, count = set[bytes](), 0
    for part, start, end in parts:
        if part == _NO_PART:
            raise AudioError(f"{name}: damaged (at byte {start} of {size})", COPY_AGAIN, kind="damaged")
        if end > size:
            kept = f"{max(0, size - start)} of {end - start} bytes of a part"
            raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")
        found.add(part)
        count += 1
    return found if count < MOST_PARTS else set()


def _check_index(found: set[bytes], name: str) -> None:
    """A recorder that was interrupted leaves an MP4 without its index."""
    if b"mdat" in found and not found & {b"moov", b"moof"}:
        raise AudioError(f"{name}: cut short (its index is missing)", "record or copy it again", kind="cut short")


def _walk(file: BinaryIO, size: int, parse: Callable[[bytes, int, int], _Part | None]) -> Iterator[_Part]:
    """Yield the parts of a file in order, until something else comes; of what is opened its own parts.

    Tags that players put behind a file are parts of any.
    """
    place = inside = 0  # `inside`: where the parts of a segment end
    is_begun = False
    for _ in range(MOST_PARTS):
        file.seek(place)
        head = file.read(_HEAD)
        part = (_tag_behind(head, place) or parse(head, place, size)) if place < size and len(head) >= 8 else None
        if parse is _element and 0 < inside <= place and part and part[0] != _MATROSKA:
            part = None  # any bytes look like an element
        if part is None:
            start = 4 * (parse is _tag)
            if place >= max(1, inside) and begins_another(head[start:]):
                raise JoinedError(place + start)
            if place < min(inside, size) or (parse is _tag and not any(head) and len(head) == _HEAD):
                yield _NO_PART, place, place
            return
        if part[0] in _FIRST:
            if is_begun:
                raise JoinedError(place + 4 * (parse is _tag))
            is_begun = True
        if part[0] in (_SEGMENT, b"AVI ", b"AVIX"):
            inside = part[2]
        elif part[0] == b"idx1":  # all of an AVI file that is heard lies before
            inside = 0
        yield part
        place = part[1] if part[0] in _OPENED else part[2]


def _tag_behind(head: bytes, place: int) -> _Part | None:
    """A tag of APE: 32 bytes, and what it counts; the old one of ID3, of 128 bytes."""
    if head[:8] == b"APETAGEX":
        return head[:8], place + 32, place + 32 + int.from_bytes(head[12:16], "little")
    return (head[:3], place, place + 128) if head[:3] == b"TAG" and place else None


def _box(head: bytes, place: int, size: int) -> _Part | None:
    """MP4, MOV, M4A, 3GP: 4 bytes of size, 4 of name; size 1: 8 more bytes hold it; size 0: to the end."""
    length, part = struct.unpack(">I4s", head[:8])
    begun = 8
    if length == 1 and len(head) >= 16:
        length, begun = struct.unpack(">Q", head[8:16])[0], 16
    end = place + length if length else size
    return (part, place + begun, end) if part in _BOXES and end >= place + begun else None


def _object(head: bytes, place: int, _: int) -> _Part | None:
    """ASF (WMA, WMV): a name of 16 bytes and 8 bytes of size, both counted in; of streamed sound, that of its head."""
    least, length = 51 if head[:16] == _ASF_DATA else 24, int.from_bytes(head[16:24], "little")
    return (head[:16], place + 24, place + length) if least <= length < _UNKNOWN else None


def _block(head: bytes, place: int, _: int) -> _Part | None:
    """WavPack: a mark, 4 bytes of size, in which both are not counted, the first sample: 0 where a file begins."""
    length, first, samples, flags = struct.unpack_from("<I8xIII", head.ljust(_HEAD, b"\0"), 4)
    is_first = first == 0 and samples and flags & _INITIAL
    return (b"wvpk" if is_first else b"more", place + 8, place + 8 + length) if head[:4] == b"wvpk" else None


def _true_audio(file: BinaryIO, head: bytes, place: int) -> _Part | None:
    """TTA: a header of 22 bytes, the size of each frame and a checksum, the frames. A frame lasts 256 / 245 s."""
    if head[:4] != b"TTA1" or len(head) < 22:
        return None
    rate, samples = struct.unpack("<II", head[10:18])
    frames = -(-samples // max(1, 256 * rate // 245))
    start = place + 22 + 4 * (frames + 1)
    file.seek(place + 22)
    table = file.read(4 * min(frames, MOST_PARTS))
    sizes = np.frombuffer(table[: len(table) // 4 * 4], np.dtype("<u4"))
    return head[:4], start, start + int(sizes.sum(dtype=np.uint64))


def _element(head: bytes, place: int, _: int) -> _Part | None:
    """Matroska, WebM: name and size have as many bytes as their leading zero bits say; all ones: not known."""
    name_bytes = 9 - head[0].bit_length()
    if name_bytes > 4 or (head[:4] != _MATROSKA and begins_another(head)):
        return None
    size_bytes = 9 - head[name_bytes].bit_length()
    start = place + name_bytes + size_bytes
    if size_bytes > 8 or len(head) < name_bytes + size_bytes:
        return None
    unknown = (1 << 7 * size_bytes) - 1
    length = int.from_bytes(head[name_bytes : name_bytes + size_bytes], "big") & unknown
    part = _LIVE if head[:4] == _SEGMENT and length == unknown else head[:name_bytes]
    return part, start, start if length == unknown else start + length


def _riff(file: BinaryIO, head: bytes, place: int, size: int) -> _Part | None:
    """AVI: one or several RIFF chunks; one that was interrupted has no size. Some writers count 8 bytes too many.

    Chunks have even lengths; some cameras forget that.
    """
    if place and not is_name(head[:4]) and is_name(head[:3]):
        place -= 1
        file.seek(place)
        head = file.read(_HEAD)
    part, length = head[:4], int.from_bytes(head[4:8], "little")
    if part != b"RIFF" and begins_another(head):
        return None
    end = place + 8 + length + length % 2
    end = size if size < end <= size + 9 else end
    if part == b"RIFF":
        return (head[8:12], place + 12, end) if head[8:11] == b"AVI" and 12 < length < 0xFFFF0000 else None
    if part == b"LIST" and head[8:12] in (_MOVIE, _RECORD):
        return head[8:12], place + 12, end
    return (part, place + 8, end) if is_name(part) else None


def is_name(part: bytes) -> bool:
    """Whether bytes may be the name of a chunk."""
    return part.isascii() and part.decode().isprintable()


def _tag(head: bytes, place: int, _: int) -> _Part | None:
    """FLV: a header, then tags, each with the size of the one before, 11 bytes and its content."""
    begun = 4 if place else 0
    if head[begun : begun + 3] == b"FLV":
        return b"FLV", place + begun, place + begun + int.from_bytes(head[begun + 5 : begun + 9], "big")
    if head[4] & 31 not in (8, 9, 18):  # sound, picture, words
        return None
    return head[4:5], place + 15, place + 15 + int.from_bytes(head[5:8], "big")
