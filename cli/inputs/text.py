"""Bytes of a list or a file of prompts -> text, in the encodings that editors and shells write."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

# A mark at the start says which encoding it is; the longer ones first, as UTF-32's begins like UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


_PIECE = 1 << 16  # bytes that are read at a time


def decode(data: bytes) -> str:
    """UTF-8, or what the mark at the start says; bytes that are not UTF-8 become lone surrogates, as in file names.

    Raises UnicodeDecodeError for a text with a mark that does not keep to it.
    """
    encoding, errors, mark = _encoding(data, MARKS)
    return data[len(mark) :].decode(encoding, errors)


def decode_pieces(file: BinaryIO, marks: Sequence[tuple[bytes, str]] = MARKS) -> Iterator[str]:
    """What `decode` makes of a whole file, in pieces."""
    data = file.read(_PIECE)
    encoding, errors, mark = _encoding(data, marks)
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    data = data[len(mark) :]
    while data:
        yield decoder.decode(data)
        data = file.read(_PIECE)
    yield decoder.decode(b"", final=True)


def is_whole(text: str) -> bool:
    """Whether no byte in it was not UTF-8, and no character is half."""
    return text.isprintable() or not any("\ud800" <= char <= "\udfff" for char in text)


def split(pieces: Iterable[str], end: str) -> Iterator[str]:
    """The lines of a text that comes in pieces, without their ends: what str.split makes of it."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split(end)
        yield from lines
    yield rest


def _encoding(data: bytes, marks: Sequence[tuple[bytes, str]]) -> tuple[str, str, bytes]:
    """Its name, what to do with bytes that are not of it, and the mark that says so."""
    for mark, encoding in marks:
        if data.startswith(mark):
            return encoding, "surrogateescape" if encoding == "utf-8" else "strict", mark
    return "utf-8", "surrogateescape", b""
