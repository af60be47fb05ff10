"""What was seen to be done, and is unchanged since: a run over a million done inputs reads none of their files.

An input that was found done by the contents of its files is noted in the journal: a hash of the stamps of its sounds
and outputs, their names, and the settings. While all these are the same, it is done.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cli.inputs.listing import STDIN
from cli.output.journal import SETTLED, Journal
from cli.output.stamp import is_at_rest, stamp
from cli.output.tokens import SIZE

ON_DISK = 60.0  # seconds: an output that was written since then could still be lost in a power cut


class Seen:
    """What was seen in one output folder, with files of these formats."""

    def __init__(self, folder: Path, formats: Sequence[str], journal: Journal) -> None:
        """`journal` is that of the folder."""
        self._folder, self._endings = os.path.join(folder, ""), [f".{fmt}" for fmt in formats]  # noqa: PTH118
        self._journal = journal

    def has(self, stem: str, sounds: str | None) -> bool:
        """Whether an input was seen to be done, and is unchanged; `sounds` is what `stamp_sounds` says of it."""
        return self._journal.have_seen([self._token(stem, sounds)])[0]

    def have(self, inputs: Sequence[tuple[str, Sequence[str], str]]) -> list[bool]:
        """What `has` says of each of many inputs, sooner; of each the stem, the sounds and a hash of the settings."""
        if not self._journal.has_seen_any:
            return [False] * len(inputs)
        return self._journal.have_seen(
            [self._token(stem, stamp_sounds(paths, settings)) for stem, paths, settings in inputs]
        )

    def add(self, stem: str, sounds: str | None) -> None:
        """Note that an input is done now, unless its outputs are too new."""
        token = self._token(stem, sounds, unchanged_for=ON_DISK)
        if token is not None and not self._journal.have_seen([token])[0]:
            with suppress(OSError):  # it is read again, then
                self._journal.see(token)

    def _token(self, stem: str, sounds: str | None, unchanged_for: float = 0.0) -> bytes | None:
        """A hash of how the files of an input are; None if one is no regular file, or has changed too lately."""
        if sounds is None:
            return None
        parts = [sounds]
        try:
            for ending in self._endings:
                status = os.stat(f"{self._folder}{stem}{ending}")  # noqa: PTH116 - pathlib is slow for a million
                if not stat.S_ISREG(status.st_mode) or (unchanged_for and not is_at_rest(status, unchanged_for)):
                    return None
                parts += stem, ending, stamp(status)
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return None
        return hashlib.blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=SIZE).digest()


def stamp_sounds(paths: Sequence[str], settings: str) -> str | None:
    """How the sounds of an input are; `settings` is a hash of what is asked. None if one may change unseen."""
    parts = [settings]
    try:
        for path in paths:
            status = None if path == STDIN else os.stat(path)  # noqa: PTH116 - Path("") is "."
            if status is None or not stat.S_ISREG(status.st_mode) or not is_at_rest(status, SETTLED):
                return None
            parts.append(stamp(status))
    except (OSError, ValueError):
        return None
    return "\0".join(parts)
