"""Whether names are those of files: a folder that many names in a row lie in is read, in place of a look at each."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
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
        self._opened = ExitStack()
        self._last = "", False  # a name, and what it is

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file and no link; False where that cannot be seen."""
        if path == self._last[0]:
            return self._last[1]
        cut = path.rfind("/") + 1
        if path[:cut] != self._folder:
            self.leave()
            self._folder = path[:cut]
        self._last = path, path[cut:] in self._files or self._look(path)
        return self._last[1]

    def _look(self, path: str) -> bool:
        self._in_a_row += 1
        if self._in_a_row >= _MANY and len(self._files) < _MOST:
            self._read_on()
        try:
            return stat.S_ISREG(os.lstat(path).st_mode)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return False

    def leave(self) -> None:
        """Forget the folder."""
        self._opened.close()
        self._folder, self._in_a_row, self._files, self._entries = "", 0, set(), iter(())

    def _read_on(self) -> None:
        with suppress(OSError):
            if self._in_a_row == _MANY:
                self._entries = self._opened.enter_context(os.scandir(self._folder or "."))
            some = islice(self._entries, _MORE)
            self._files.update(entry.name for entry in some if entry.is_file(follow_symlinks=False))
