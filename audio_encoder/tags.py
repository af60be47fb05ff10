"""Files within files: what lies behind an ID3 tag, which FFmpeg skips before some kinds only, and what was joined."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

# How files begin that are looked at from there: FFmpeg and the checks of their sizes know no tag before them.
_TAGGED = (
    b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"riff", b"fLaC", b"OggS", b"wvpk", b"TTA1",
    b"\x1aE\xdf\xa3", b"0&\xb2u",
)  # fmt: skip
_FOOTER = 0x10  # the flag of a tag that ends as it begins


class Part:
    """A file that lies within another one, from `start` to `end` or to the end of that one."""

    def __init__(self, file: BinaryIO, start: int, end: int | None = None) -> None:
        self._file, self._start, self._end, self.close = file, start, end, file.close
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        """As of any file."""
        if self._end is None:
            return self._file.read(size)
        left = max(0, self._end - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        if whence == os.SEEK_END and self._end is not None:
            return self._file.seek(self._end + offset) - self._start
        return self._file.seek(offset + self._start * (whence == os.SEEK_SET), whence) - self._start

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell() - self._start


def part_of(file: BinaryIO, start: int, end: int | None = None) -> BinaryIO:
    """A part of a file as a file; all of it is the file itself."""
    return file if not start and end is None else cast(BinaryIO, Part(file, start, end))


def behind_tag(file: BinaryIO) -> int:
    """Where a file goes on behind the tag that it may begin with, of a kind that takes no tag; 0 for all others."""
    start = after_id3(file)
    file.seek(start)
    head = file.read(8)
    return start if head[:4] in _TAGGED or head[4:] == b"ftyp" else 0


def after_id3(file: BinaryIO) -> int:
    """Where a file goes on behind the tags that it may begin with."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(10)
        if head[:3] != b"ID3" or len(head) < 10:
            return start
        size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        start += size + (20 if head[5] & _FOOTER else 10)
