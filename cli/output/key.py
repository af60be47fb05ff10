"""What tells one input and its answers from others: hashes of what the answers depend on, and of where it lies."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cli.inputs.listing import STDIN
from cli.output.filenames import DIGITS
from models.manifest import file_sha256

KEY_VERSION = 1  # to be raised when the same settings no longer give the same files

Sha256 = Callable[[str, os.stat_result], str]  # of a file, and what os.stat says of it


def content_key(paths: Sequence[str], settings: Mapping[str, object]) -> str | None:
    """A hash of what is in the files and of `settings`: all else that an answer depends on, in JSON types.

    Where the files lie makes no difference. None if one of them can be read only once, such as standard input, or not
    at all: it is never done, and opening it will tell why.
    """
    return key_of(paths, settings_text(settings), lambda path, _: file_sha256(Path(path)))


def settings_text(settings: Mapping[str, object]) -> str:
    """What `key_of` takes: the same for the same settings."""
    return json.dumps(settings, sort_keys=True)


def key_of(paths: Sequence[str], settings: str, sha256: Sha256) -> str | None:
    """`content_key` of one of many inputs with the same settings; `sha256` hashes a sound."""
    try:
        found = [os.stat(path) for path in paths if path != STDIN]  # noqa: PTH116 - Path("") is "."
        if len(found) < len(paths) or not all(stat.S_ISREG(status.st_mode) for status in found):
            return None
        sounds = [sha256(path, status) for path, status in zip(paths, found, strict=True)]
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    listed = ", ".join(f'"{sound}"' for sound in sounds)
    everything = f'{{"settings": {settings}, "sounds": [{listed}], "version": {KEY_VERSION}}}'  # sorted
    return hashlib.sha256(everything.encode()).hexdigest()


def scored_key(key: str, scored: Mapping[str, object]) -> str:
    """The key of answers that are scored, so `scored` is in their JSON, too."""
    return f"{key}+{hashlib.sha256(settings_text(scored).encode()).hexdigest()}"


def answer_key(key: str) -> str:
    """The key of the same answers without a score."""
    return key.partition("+")[0]


def identity(paths: Sequence[str], asked: str | None) -> str:
    """Which input it is: a hash of where its files lie and of what its list asks of it, if anything."""
    parts = [*map(_absolute, paths), asked or ""]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def _absolute(path: str) -> str:
    """The path as pathlib writes it, which takes its time for each of a million: most paths have nothing to mend."""
    if path == STDIN:
        return path
    whole = path if path.startswith("/") else f"/{path}"
    if os.sep != "/" or "//" in f"{whole}/" or "/./" in f"{whole}/":
        return str(Path(path).absolute())
    return path if path is whole else os.getcwd().removesuffix("/") + whole  # noqa: PTH109 - as above
