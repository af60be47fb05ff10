"""The journal of an output folder: which files were written, from which input, with which content.

A line of JSON for each input, for each sound that was hashed, and for each input that was seen to be done (seen.py),
added in one write each and never changed. Several processes add to it; any may be killed at any moment.

Millions of lines are read at each start, so what was seen to be done is all that is read there: a `Journal` holds 16
bytes for each. The other lines are taken in when the first of them is asked for, at 16 bytes a name: where its line is.
Those that `add` writes are taken apart by a pattern, others by the JSON parser.
"""

from __future__ import annotations

import errno
import json
import os
import re
import threading
import weakref
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from cli.output.stamp import is_at_rest, stamp
from cli.output.tokens import SIZE, Tokens
from models.manifest import file_sha256

_STAMP = "\0"  # what the names of sounds that were hashed begin with, and none of a file can
_TAIL = 10_000  # names of own lines that wait to be sorted in
SETTLED = 2.0  # seconds: the clocks of file systems go on in steps of up to two
_BLOCK = 1 << 20  # bytes that are read at a time

# The lines that `add` writes, if their strings are ASCII without escapes: there JSON means what stands there.
_TEXT = rb'"([ !#-\[\]-~]*)"'
_FILE = re.compile(rb"%b: %b" % (_TEXT, _TEXT))
_MORE = rb"((?:, %b)*)" % _FILE.pattern.replace(b"(", b"(?:")
_PLAIN = re.compile(
    rb'\{(?:"seen": "[0-9a-f]*"|"stamp": %b, "sha256": %b|"key": %b, "files": \{%b: %b%b\}, "input": %b)\}'
    % (_TEXT, _TEXT, _TEXT, _TEXT, _TEXT, _MORE, _TEXT)
)
_PLAIN_LINES = re.compile(rb"^%b\n+" % _PLAIN.pattern, re.MULTILINE)
_SEEN_LINES = re.compile(rb'\n\{"seen": "([0-9a-f]{%d})"\}(?=\n)' % (2 * SIZE))


class Noted(NamedTuple):
    """What is noted of a file: the hash of all that its answers depend on, its content's SHA-256, and its input.

    `input` says whose answers they are: "" in the journals of earlier versions, which did not note it.
    """

    key: str
    digest: str
    input: str


class Journal:
    """The journal as it was when it was opened, read or refreshed, and what was added here."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be read and written."""
        self._path, self._lock = path, threading.Lock()
        self._opened = ExitStack()
        weakref.finalize(self, self._opened.close)  # else Python warns of the file, where it is told to (-W, -X dev)
        self._file: BinaryIO | None = None
        self._seen, self._seen_end = Tokens(), 0
        self._names, self._places = array("q"), array("q")  # hashes of names in order, and where their lines begin
        self._tail: dict[int, list[int]] = {}
        self._end: int | None = None  # nothing but what was seen is read yet
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes added. Raises OSError."""
        with self._lock:
            self._open()
            self._read_seen()
            if self._end is not None:
                self._read_names()

    def _open(self) -> None:
        self._opened.close()
        self._file = self._opened.enter_context(_open(self._path) or nullcontext())

    def _read_seen(self) -> None:
        found = bytearray()
        for start, lines in _blocks(self._file, self._seen_end):
            found += bytes.fromhex(b"".join(_SEEN_LINES.findall(b"\n" + lines)).decode())
            self._seen_end = start + len(lines)
        self._seen.extend(found)

    def _read_names(self) -> None:
        try:
            self._end = self._end or 0
            for start, lines in _blocks(self._file, self._end):
                for name, place in _index(lines, start):
                    self._names.append(hash(name))
                    self._places.append(place)
                self._end = start + len(lines)
        finally:
            self._sort()

    def of(self, name: str) -> list[Noted]:
        """All that was noted of a file, the oldest first."""
        return [noted for line in self._lines(name) if (noted := _entries(line).get(name))]

    def add(self, entry: Mapping[str, object]) -> None:
        """Add a line. Raises OSError."""
        place = append(self._path, entry)
        with self._lock:
            if self._end is None:
                return  # it is read with the others
            for name in _entries(json.dumps(entry).encode()):
                self._tail.setdefault(hash(name), []).append(place)
            if len(self._tail) > _TAIL:
                for number, places in self._tail.items():
                    self._names.extend([number] * len(places))
                    self._places.extend(places)
                self._tail = {}
                self._sort()

    def sha256(self, path: str, status: os.stat_result) -> str:
        """SHA-256 of a sound; one that was hashed before is not read while size, times and inode are the same.

        `status` is what os.stat says of it now. What changed within the last two seconds is not noted: the clock of a
        file system may stand still that long. Raises OSError.
        """
        name, sound = stamp(status), Path(path)
        if found := self.of(_STAMP + name):
            return found[-1].digest
        settled = is_at_rest(status, SETTLED)
        digest = file_sha256(sound)
        if settled and stamp(sound.stat()) == name:
            with suppress(OSError):  # it is hashed again, then
                self.add({"stamp": name, "sha256": digest})
        return digest

    def have_seen(self, tokens: Sequence[bytes | None]) -> list[bool]:
        """Whether each of these hashes of 16 bytes was noted by `see`; None never was."""
        with self._lock:
            return self._seen.have(tokens)

    @property
    def has_seen_any(self) -> bool:
        """Whether `see` noted anything, as far as is known."""
        return len(self._seen) > 0

    def see(self, token: bytes) -> None:
        """Note a hash of what was seen to be done. Raises OSError."""
        append(self._path, {"seen": token.hex()})
        with self._lock:
            self._seen.add(token)

    def _sort(self) -> None:
        import numpy as np

        if not self._names:  # numpy takes no empty buffer
            return
        names, places = (np.frombuffer(one, np.int64) for one in (self._names, self._places))
        order = np.argsort(names, kind="stable")  # stable: the oldest first
        for numbers in (names, places):
            numbers[:] = numbers[order]

    def _lines(self, name: str) -> list[bytes]:
        """The lines about a name, the oldest first, and perhaps about another that has the same hash."""
        number, found = hash(name), list[bytes]()
        with self._lock:
            if self._end is None:
                if self._file is None:
                    self._open()
                self._read_names()
            names, at = self._names, bisect_left(self._names, number)
            while at < len(names) and names[at] == number:
                found.append(self._line(self._places[at]))
                at += 1
            found += [self._line(place) for place in self._tail.get(number, ())]
        return found

    def _line(self, place: int) -> bytes:
        if self._file is None:  # it was made after the journal was opened
            self._file = self._opened.enter_context(self._path.open("rb"))
        self._file.seek(place)
        return self._file.readline().rstrip(b"\n")


def read(path: Path) -> dict[str, list[Noted]]:
    """File name -> all that was noted of it. Raises OSError if it cannot be read and written."""
    found = dict[str, list[Noted]]()
    with _open(path) or nullcontext() as file:
        for _, lines in _blocks(file, 0):
            for line in lines.split(b"\n"):
                for name, noted in _entries(line).items():
                    found.setdefault(name, []).append(noted)
    return found


def _open(path: Path) -> BinaryIO | None:
    if path.exists() and not path.is_file():  # a pipe would wait for ever
        raise OSError(errno.EINVAL, f"{path.name} is no regular file")
    try:
        return path.open("r+b")
    except FileNotFoundError:
        return None


def _blocks(file: BinaryIO | None, start: int) -> Iterator[tuple[int, bytes]]:
    """(where it begins, whole lines) of each part of a journal that is there; a line without an end is left out."""
    if file is None:
        return
    file.seek(start)
    parts = list[bytes]()
    while block := file.read(_BLOCK):
        end = block.rfind(b"\n") + 1
        if end:
            lines = b"".join([*parts, block[:end]])
            yield start, lines
            start, parts = start + len(lines), []
        parts.append(block[end:])


def _index(lines: bytes, start: int) -> Iterator[tuple[str, int]]:
    """(name, where its line begins) of all that is noted in whole lines, of which the first begins at `start`."""
    end = 0
    for found in _PLAIN_LINES.finditer(lines):
        place = found.start()
        if place > end:
            yield from _index_others(lines[end:place], start + end)
        end = found.end()
        stamped, _, _, name, _, more, _ = found.groups()
        if name is not None:
            yield name.decode(), start + place
            for other, _ in _FILE.findall(more) if more else ():
                yield other.decode(), start + place
        elif stamped is not None:
            yield _STAMP + stamped.decode(), start + place
    yield from _index_others(lines[end:], start + end)


def _index_others(lines: bytes, start: int) -> Iterator[tuple[str, int]]:
    for line in lines.split(b"\n"):
        for name in _entries(line):
            yield name, start
        start += len(line) + 1


def _entries(line: bytes) -> dict[str, Noted]:
    """What one line of the journal says of files and sounds: nothing, if it is torn or of another kind."""
    if plain := _PLAIN.fullmatch(line):
        stamped, sha256, key, name, digest, more, source = plain.groups()
        if stamped is not None:
            return {_STAMP + stamped.decode(): Noted("", sha256.decode(), "")}
        if name is None:
            return {}
        pairs = [(name, digest), *(_FILE.findall(more) if more else ())]
        return {name.decode(): Noted(key.decode(), digest.decode(), source.decode()) for name, digest in pairs}
    if not line:
        return {}
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    match entry:
        case {"key": str(key), "files": dict(files)}:
            source = entry.get("input", "")
            source = source if isinstance(source, str) else ""
            return {name: Noted(key, digest, source) for name, digest in files.items() if isinstance(digest, str)}
        case {"stamp": str(stamped), "sha256": str(digest)}:
            return {_STAMP + stamped: Noted("", digest, "")}
    return {}


def append(path: Path, entry: Mapping[str, object]) -> int:
    """Add a line to the journal, in one write, behind what other processes wrote meanwhile; returns where it begins.

    It begins with a line break, too: a line that was cut short before it spoils only itself. Raises OSError.
    """
    line = b"\n" + json.dumps(entry).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.lseek(descriptor, 0, os.SEEK_CUR) - len(line) + 1
    finally:
        os.close(descriptor)
