"""What a file is that was given as a sound and cannot be heard: the reason and the fix that fit it."""

from __future__ import annotations

import os
import re
from typing import BinaryIO

from audio_encoder.kinds import is_text

_HEAD = 4_096  # bytes
_INDEX = 1 << 20  # bytes at either end of an MP4 file, in which its index begins
_ARCHIVE = "an archive, not a sound", "unpack it, and give the files in it"
_BEGINNINGS = (
    (rb"PK\x03\x04|Rar!\x1a\x07|7z\xbc\xaf\x27\x1c|.{257}ustar", _ARCHIVE),
    (rb"\x1f\x8b\x08|BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd", ("compressed", "unpack it, and give the file in it")),
    (rb"version https://git-lfs\.github\.com/", ("a pointer of Git LFS, not the sound itself", "run git lfs pull")),
    (rb"\s*<(!doctype html|html|head|body|\?xml)", ("a web page, not a sound", "download the sound itself")),
    (rb"\s*[{\[]\s*[\"{\[]", ("JSON, not a sound", "download the sound itself; a list is for --files-from")),
    (rb"%PDF-", ("a PDF, not a sound", "give a recording")),
    (rb"\0{%d}" % _HEAD, ("it begins with zeros, as a copy that was not finished", "copy it again")),
)  # fmt: skip
_TEXT = "a text, not a sound", "give a recording; a list of names is for --files-from"
_LOCKED = "its sound is encrypted", "give a recording without copy protection"
_LOCKED_MP4 = re.compile(rb"\0\0..(enca|drms|aavd)\0{6}", re.DOTALL)  # the size of a box, its name, and what follows
_LOCKED_ASF = b"\xfb\xb3\x11\x22\x23\xbd\xd2\x11\xb4\xb7\x00\xa0\xc9\x55\xfc\x6e"  # its header names the licence


def what_it_is(file: BinaryIO) -> tuple[str, str] | None:
    """(what a file is, what to do), None where nothing says so."""
    file.seek(0)
    head = file.read(_HEAD)
    if head[4:8] == b"ftyp":
        size = file.seek(0, os.SEEK_END)
        for place in (0, max(0, size - _INDEX)):
            file.seek(place)
            if _LOCKED_MP4.search(file.read(_INDEX)):
                return _LOCKED
        return None
    if head[:4] == b"0&\xb2u" and _LOCKED_ASF in head:
        return _LOCKED
    known = (told for pattern, told in _BEGINNINGS if re.match(pattern, head, re.DOTALL | re.IGNORECASE))
    return next(known, _TEXT if is_text(head) else None)
