"""Files that are there whole or not at all: they are written under temporary names. Later runs remove what is left."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

PREFIX, SUFFIX = ".qwen_audio-", ".part"
DAY = 86_400.0
_LEFTOVER = re.compile(rf"{re.escape(PREFIX)}[0-9a-f]{{8}}-[0-9a-f]{{16}}{re.escape(SUFFIX)}")


def write_all(contents: Mapping[Path, bytes], own: Collection[Path]) -> bool:
    """Write files of one folder: all are whole under temporary names before the first gets its own.

    Files that are not in `own` must not exist: False if one appeared meanwhile, and then none of them is written.
    """
    with ExitStack() as stack:
        temporaries = {target: stack.enter_context(temporary_file(target.parent)) for target in contents}
        for target, content in contents.items():
            temporaries[target].write_bytes(content)
        made = list[Path]()
        for target, temporary in temporaries.items():
            if target in own:
                temporary.replace(target)
                continue
            try:
                _link(temporary, target)
            except FileExistsError:
                for path in made:
                    path.unlink(missing_ok=True)
                return False
            made.append(target)
    return True


def _link(temporary: Path, target: Path) -> None:
    """Give a file its name if no other has it; raises FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(target)


@contextmanager
def temporary_file(folder: Path) -> Iterator[Path]:
    """A new, empty file, locked while it is in use; removed unless renamed."""
    while True:
        path = folder / f"{own_prefix()}{secrets.token_hex(8)}{SUFFIX}"
        file = path.open("xb")
        if not lock(file, wait=True):
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


def remove_leftovers(folder: Path) -> None:
    """Remove our temporary files that nobody holds; another machine's, whose locks we may not see, after a day."""
    with os.scandir(folder) as entries:  # one name at a time: glob would hold all of a million
        found = [entry.name for entry in entries if entry.name.startswith(PREFIX) and _LEFTOVER.fullmatch(entry.name)]
    for name in found:
        with suppress(OSError), (folder / name).open("r+b") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > DAY
            if (old or name.startswith(own_prefix())) and lock(file, wait=False):
                (folder / name).unlink()


def own_prefix() -> str:
    """What the names of this machine's temporary files begin with."""
    import platform

    return f"{PREFIX}{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"


def lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file until it is closed or its process dies; False where that cannot be."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a file system without locks
        return False
    return True
