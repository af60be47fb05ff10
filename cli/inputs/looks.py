"""Whether names are those of files: a folder that many names in a row lie in is read, in place of a look at each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

_MANY = 32  # names in a row: from then on their folder is read
_MORE = 8  # of its entries, for each name that was not read yet: what lies there beside our names costs little
_MOST = 10_000  # names that are held


class Looks:
    """What was seen of the folder of the last name."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._folder, self._in_a_row, self._files = "", 0, set[str]()
        self._entries: Iterator[os.DirEntry[str]] = iter(())

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file and no link; False where that cannot be seen."""
        cut = path.rfind("/") + 1
        if path[:cut] != self._folder:
            self._folder, self._in_a_row, self._files, self._entries = path[:cut], 0, set(), iter(())
        if path[cut:] in self._files:
            return True
        self._in_a_row += 1
        if self._in_a_row >= _MANY and len(self._files) < _MOST:
            self._read_on()
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False

    def _read_on(self) -> None:
        with suppress(OSError):
            if self._in_a_row == _MANY:
                self._entries = os.scandir(self._folder or ".")
            self._files.update(
                entry.name for entry in islice(self._entries, _MORE) if entry.is_file(follow_symlinks=False)
            )
