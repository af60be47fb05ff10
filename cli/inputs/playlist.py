"""Playlists -> the names in them: M3U has one on each line, PLS and XSPF say more about each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

PLAYLISTS = {".m3u", ".m3u8", ".pls", ".xspf"}  # that are lists
_AS_M3U = "save it as .m3u, .pls or .xspf"
_WINDOWS = "a playlist of a kind that is not read", _AS_M3U
# Other lists that people have, why they are not read, and what to do.
NOT_READ = {
    ".cue": ("a cue sheet, which names parts of a sound", "give the sound itself to --input, and its parts to --clip"),
    ".wpl": _WINDOWS, ".zpl": _WINDOWS, ".asx": _WINDOWS, ".wax": _WINDOWS, ".b4s": _WINDOWS, ".smil": _WINDOWS,
}  # fmt: skip

Named = tuple[int, str | ValueError]  # the number of a line, and the name that is there, or what is wrong


def kind_of(suffix: str, head: str) -> str | None:
    """Which playlist a list is by its ending or its beginning; None for all others."""
    start = head.lstrip()
    if start[:10].lower() == "[playlist]":
        return ".pls"
    if start.startswith("<") and "<playlist" in start and "xspf.org" in start:
        return ".xspf"
    return ".m3u" if head.startswith("#EXTM3U") else suffix if suffix in PLAYLISTS else None


def entries(kind: str, lines: Iterator[str]) -> Iterator[Named]:
    """The names in a playlist, with what they lie behind."""
    if kind == ".pls":
        return _pls(lines)
    if kind == ".xspf":
        return _xspf("\n".join(lines))
    rows = ((number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1))
    return ((number, line) for number, line in rows if line.strip() and not line.startswith("#"))


def _pls(lines: Iterator[str]) -> Iterator[Named]:
    """An ini file: File1=..., Title1=..., Length1=..., and how many there are."""
    count, said, number = 0, 0, 0
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        key, _, value = (part.strip() for part in text.partition("="))
        if re.fullmatch(r"file\d*", key, re.IGNORECASE) and value:
            count += 1
            yield number, value
        elif key.lower() == "numberofentries":
            said = int(value) if value.isdecimal() and len(value) < 10 else 0
        elif text and text[0] not in "[;#" and not re.fullmatch(r"(title|length)\d*|version", key, re.IGNORECASE):
            yield number, ValueError("not a line of a PLS playlist; write File1=NAME")
    if count < said:
        yield number, ValueError(f"{count} of {said} files are named in it; save it again")


def _xspf(text: str) -> Iterator[Named]:
    """XML: the first location of each track. Nothing that a document type could declare is followed."""
    from xml.parsers import expat

    found, path, data = list[Named](), list[str](), list[str]()
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        path.append(tag.rpartition(":")[2])
        data.clear()

    def end(_: str) -> None:
        if path[-2:] == ["track", "location"]:
            found.append((parser.CurrentLineNumber, "".join(data).strip()))
            path[-2] = "track that was named"
        path.pop()

    def refuse(*_: object) -> None:
        raise ValueError("a document type, which no playlist needs")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "surrogateescape"), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        found.append((parser.CurrentLineNumber, ValueError(f"not valid XML ({error}); {_AS_M3U}")))
    return iter(found)


def as_address(name: str) -> str:
    """What a name stands for that is written as an address: a%20b.wav is a b.wav."""
    return unquote(name, errors="surrogateescape")
