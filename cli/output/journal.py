"""The journal of an output folder: which files were written, from which input, with which content.

A line of JSON for each input, added in one write. Several processes add to it; any may be killed at any moment.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Noted:
    """What is noted of a file: the hash of all that its answers depend on, its content's SHA-256, and its input.

    `input` says whose answers they are: "" in the journals of earlier versions, which did not note it.
    """

    key: str
    digest: str
    input: str


def read(path: Path) -> dict[str, list[Noted]]:
    """File name -> all that was noted of it. Raises OSError if it cannot be read and written."""
    try:
        if path.exists() and not path.is_file():  # a pipe would wait for ever
            raise OSError(errno.EINVAL, f"{path.name} is no regular file")
        file = path.open("r+b")
    except FileNotFoundError:
        return {}
    with file:
        found = dict[str, list[Noted]]()
        for line in file:
            for name, noted in _entries(line).items():
                found.setdefault(name, []).append(noted)
        return found


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
    return {}


def append(path: Path, entry: Mapping[str, object]) -> None:
    """Add a line to the journal, in one write, behind what other processes wrote meanwhile. Raises OSError.

    It begins with a line break, too: a line that was cut short before it spoils only itself.
    """
    line = b"\n" + json.dumps(entry).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(descriptor)
