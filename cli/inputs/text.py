"""Bytes of a list or a file of prompts -> text, in the encodings that editors and shells write."""

from __future__ import annotations

import codecs

# A mark at the start says which encoding it is; the longer ones first, as UTF-32's begins like UTF-16's.
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def decode(data: bytes) -> str:
    """UTF-8, or what the mark at the start says; bytes that are not UTF-8 become lone surrogates, as in file names.

    Raises UnicodeDecodeError for a text with a mark that does not keep to it.
    """
    for mark, encoding in MARKS:
        if data.startswith(mark):
            errors = "surrogateescape" if encoding == "utf-8" else "strict"
            return data[len(mark) :].decode(encoding, errors)
    return data.decode("utf-8", "surrogateescape")
