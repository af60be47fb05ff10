"""The journal of an output folder: which files were written, from which input, with which content.

A line of JSON for each input, and one for each sound that was hashed, added in one write each and never changed.
Several processes add to it; any may be killed at any moment. A `Journal` holds 16 bytes for a name: where its line is.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from array import array
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cli.output.filenames import hash64
from models.manifest import file_sha256

_STAMP = "\0"  # what the name of a stamp begins with, and none of a file can
_TAIL = 10_000  # names of own lines that wait to be sorted in
_SETTLED = 2_000_000_000  # ns: file systems count time in steps of up to two seconds


@dataclass(frozen=True)
class Noted:
    """What is noted of a file: the hash of all that its answers depend on, its content's SHA-256, and its input.

    `input` says whose answers they are: "" in the journals of earlier versions, which did not note it.
    """

    key: str
    digest: str
    input: str


class Journal:
    """The journal as it was when it was opened or refreshed, and what was added here."""

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be read and written."""
        import numpy as np

        self._path, self._lock = path, threading.Lock()
        self._file: BinaryIO | None = None
        self._names = self._places = np.zeros(0, np.uint64)  # hashes of names in order, and where their lines begin
        self._tail: dict[int, list[int]] = {}
        self._end = 0
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes added. Raises OSError."""
        names, places = array("Q"), array("Q")
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = _open(self._path)
            if self._file is None:
                return
            for place, line in _lines(self._file, self._end):
                self._end = place + len(line)
                for name in _entries(line):
                    names.append(hash64(name))
                    places.append(place)
            self._sort_in(names, places)

    def of(self, name: str) -> list[Noted]:
        """All that was noted of a file, the oldest first."""
        import numpy as np

        number = hash64(name)  # two names that share one are told apart by their lines
        with self._lock:
            first = np.searchsorted(self._names, np.uint64(number))
            last = np.searchsorted(self._names, np.uint64(number), "right")
            places = [*self._places[first:last].tolist(), *self._tail.get(number, ())]
            lines = [self._line(place) for place in places]
        return [noted for line in lines if (noted := _entries(line).get(name))]

    def add(self, entry: Mapping[str, object]) -> None:
        """Add a line. Raises OSError."""
        place = append(self._path, entry)
        with self._lock:
            for name in _names_of(entry):
                self._tail.setdefault(hash64(name), []).append(place)
            if len(self._tail) > _TAIL:
                pairs = [(number, place) for number, found in self._tail.items() for place in found]
                self._tail = {}
                self._sort_in(array("Q", [one for one, _ in pairs]), array("Q", [one for _, one in pairs]))

    def sha256(self, path: Path) -> str:
        """SHA-256 of a sound; one that was hashed before is not read while size, times and inode are the same.

        What changed within the last two seconds is not noted: the clock of a file system may stand still that long.
        Raises OSError.
        """
        begun, status = time.time_ns(), path.stat()
        stamp = _stamp(status)
        if found := self.of(_STAMP + stamp):
            return found[-1].digest
        digest = file_sha256(path)
        if begun - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED and _stamp(path.stat()) == stamp:
            with suppress(OSError):  # it is hashed again, then
                self.add({"stamp": stamp, "sha256": digest})
        return digest

    def _sort_in(self, names: array[int], places: array[int]) -> None:
        import numpy as np

        both = np.concatenate([self._names, names]), np.concatenate([self._places, places])
        order = np.argsort(both[0], kind="stable")
        self._names, self._places = (one.astype(np.uint64)[order] for one in both)

    def _line(self, place: int) -> bytes:
        if self._file is None:  # it was made after the journal was opened
            self._file = self._path.open("rb")
        self._file.seek(place)
        return self._file.readline()


def read(path: Path) -> dict[str, list[Noted]]:
    """File name -> all that was noted of it. Raises OSError if it cannot be read and written."""
    found = dict[str, list[Noted]]()
    if file := _open(path):
        with file:
            for _, line in _lines(file, 0):
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


def _lines(file: BinaryIO, start: int) -> Iterator[tuple[int, bytes]]:
    """(where it begins, line) of each whole line."""
    file.seek(start)
    for line in file:
        if line.endswith(b"\n"):
            yield start, line
        start += len(line)


def _entries(line: bytes) -> dict[str, Noted]:
    """What one line of the journal says: nothing, if it is torn or of a kind that we do not know."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    match entry:
        case {"key": str(key), "files": dict(files)}:
            source = entry.get("input", "")
            source = source if isinstance(source, str) else ""
            return {name: Noted(key, digest, source) for name, digest in files.items() if isinstance(digest, str)}
        case {"stamp": str(stamp), "sha256": str(digest)}:
            return {_STAMP + stamp: Noted("", digest, "")}
    return {}


def _names_of(entry: Mapping[str, object]) -> Iterator[str]:
    yield from _entries(json.dumps(entry).encode())


def _stamp(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


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
