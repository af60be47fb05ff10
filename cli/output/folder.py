"""The output folder: files that are whole or not there, and a journal of what is done, so that a run can go on.

In: the stem of an input's output files (filenames.py), the answers about it, and a key of everything that they
depend on. Out: files. Several processes may share a folder; any of them may be killed at any moment.

A file is written under a temporary name in the same folder and renamed. Nothing is flushed to the disk for that: a
killed process loses nothing that it wrote, and after a power cut a damaged file no longer has the hash in the journal.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cli.inputs.listing import STDIN
from cli.output.answer import Answer
from cli.output.formats import render
from errors import UsageError
from models.manifest import file_sha256

JOURNAL = ".qwen_audio.jsonl"
PREFIX, SUFFIX = ".qwen_audio-", ".part"  # of temporary files
KEY_VERSION = 1  # to be raised when the same settings no longer give the same files
DAY = 86_400.0


class ResultsFolder:
    """An output folder, opened for one run: for each input `is_done`, and `write` if it is not."""

    def __init__(self, folder: Path, formats: Sequence[str], *, overwrite: bool = False) -> None:
        """Make the folder, read its journal and remove what killed runs left; with `overwrite` nothing is done yet.

        `formats` are some of those of cli.output.formats. Raises UsageError for a folder that cannot be used.
        """
        self.folder = folder
        self.formats = tuple(formats)
        self._tidied: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy(folder)
            with _temporary(folder) as probe:
                probe.write_bytes(b"\n")  # rights say little about a disk that is full or mounted to be read only
            done = _read_journal(folder / JOURNAL)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"--output-dir {folder}: a file is in its place", fix="name a folder") from None
        except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise UsageError(
                f"--output-dir {folder}: cannot be written ({reason})", fix="name another folder"
            ) from None
        self._done = {} if overwrite else done

    def is_done(self, stem: str, key: str | None) -> bool:
        """Whether each file of `stem` is there as it was written for this key."""
        self._tidy((self.folder / stem).parent)
        return key is not None and all(self._is_whole(f"{stem}.{fmt}", key) for fmt in self.formats)

    def write(self, stem: str, answers: Sequence[Answer], key: str | None) -> list[Path]:
        """Write the answers about one input in every format, and note that they are done, unless `key` is None.

        Returns the files. Raises OSError, for a full disk too; then no file is there in part, and the input not done.
        """
        contents = {f"{stem}.{fmt}": render(answers, fmt).encode() for fmt in self.formats}
        targets = [self.folder / name for name in contents]
        try:
            targets[0].parent.mkdir(parents=True, exist_ok=True)
            self._tidy(targets[0].parent)
            _write_all(dict(zip(targets, contents.values(), strict=True)))
            if key is not None:
                digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
                _append(self.folder / JOURNAL, {"key": key, "files": digests})
                self._done |= {name: (key, digest) for name, digest in digests.items()}
        except OSError as error:
            error.filename, error.filename2 = str(targets[0]), None  # not the temporary name, nor none at all
            raise
        return targets

    def _is_whole(self, name: str, key: str) -> bool:
        done_key, digest = self._done.get(name, ("", ""))
        path = self.folder / name
        with suppress(OSError):
            return done_key == key and path.is_file() and file_sha256(path) == digest
        return False

    def _tidy(self, folder: Path) -> None:
        """Remove what killed runs left, once for each folder of this run."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            with suppress(OSError):  # they harm nobody
                _remove_leftovers(folder)


def content_key(paths: Sequence[str], settings: Mapping[str, object]) -> str | None:
    """A hash of what is in the files and of `settings`: all else that an answer depends on, as JSON can hold it.

    Where the files lie makes no difference. None if one of them can be read only once, such as standard input, or not
    at all: it is never done, and opening it will tell why.
    """
    try:
        if not all(path != STDIN and stat.S_ISREG(os.stat(path).st_mode) for path in paths):  # noqa: PTH116 - Path("") is "."
            return None
        sounds = [file_sha256(Path(path)) for path in paths]
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    everything = {"version": KEY_VERSION, "sounds": sounds, "settings": settings}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _write_all(contents: Mapping[Path, bytes]) -> None:
    """Write files of one folder: all are whole under temporary names before the first gets its own."""
    with ExitStack() as stack:
        temporaries = {target: stack.enter_context(_temporary(target.parent)) for target in contents}
        for target, content in contents.items():
            temporaries[target].write_bytes(content)
        for target, temporary in temporaries.items():
            temporary.replace(target)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new, empty file for as long as its lock says that somebody is at it; removed unless renamed."""
    while True:
        path = folder / f"{_own_prefix()}{secrets.token_hex(8)}{SUFFIX}"
        file = path.open("xb")
        if not _lock(file, wait=True):
            file.close()  # without locks nobody takes it for a left-over either
        elif not os.fstat(file.fileno()).st_nlink:  # a run that began just now was faster than the lock
            file.close()
            continue
        break
    with closing(file):
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove our temporary files that nobody holds; another machine's, whose locks we may not see, after a day."""
    for path in folder.glob(f"{PREFIX}{'[0-9a-f]' * 8}-{'[0-9a-f]' * 16}{SUFFIX}"):
        with suppress(OSError), path.open("r+b") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > DAY
            if (old or path.name.startswith(_own_prefix())) and _lock(file, wait=False):
                path.unlink()


def _own_prefix() -> str:
    """What the names of this machine's temporary files begin with."""
    import platform

    return f"{PREFIX}{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file until it is closed or its process dies; False where that cannot be."""
    try:
        import fcntl
    except ImportError:  # Windows: go on without
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a file system without locks
        return False
    return True


def _read_journal(path: Path) -> dict[str, tuple[str, str]]:
    """File name -> (key, SHA-256 of its content), as noted last. Raises OSError if it cannot be read and written."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return {}
    with file:
        return {name: noted for line in file for name, noted in _entries(line).items()}


def _entries(line: bytes) -> dict[str, tuple[str, str]]:
    """What one line of the journal says: nothing, if it is torn or of a kind that we do not know."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    match entry:
        case {"key": str(key), "files": dict(files)}:
            return {name: (key, digest) for name, digest in files.items() if isinstance(digest, str)}
    return {}


def _append(path: Path, entry: Mapping[str, object]) -> None:
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
