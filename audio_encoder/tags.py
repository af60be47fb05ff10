"""What lies before the sound in a file: an ID3 tag, which FFmpeg skips before some kinds only."""

from __future__ import annotations

import os
from typing import BinaryIO, cast

_TAGGED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd", b"riff")  # of these it does not look behind


class _Behind:
    """A file that begins at a place in another one."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start, self.read, self.close = file, start, file.read, file.close
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As of any file."""
        return self._file.seek(offset + self._start * (whence == os.SEEK_SET), whence) - self._start

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell() - self._start


def behind_tag(file: BinaryIO) -> BinaryIO:
    """The file itself, or from behind the tag on where a kind of file follows that takes no tag."""
    start = after_id3(file)
    file.seek(start)
    if start and file.read(4) in _TAGGED:
        return cast(BinaryIO, _Behind(file, start))
    return file


def after_id3(file: BinaryIO) -> int:
    """Where a file goes on behind the tag that it may begin with."""
    file.seek(0)
    head = file.read(10)
    length = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=False))
    return 10 + length if head[:3] == b"ID3" else 0
