"""What the output files of each input are called, decided from the whole list of inputs at once.

In: the groups of sounds and the folders that they were found in. Out: for each group a relative path without ending,
the stem, that no other group has and that every file system takes. No file is opened.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path, PurePath

from cli.inputs.listing import STDIN, Group
from cli.output.formats import FORMATS

LONGEST = 255 - len(".json")  # bytes of a name: what file systems take, less the longest ending
_ENDINGS = tuple(f".{name}" for name in FORMATS)
DIGITS = 12  # of a hash in a name: enough for 100,000 files that are all called audio.wav


class Filenames:
    """The stem of each group's output files, from the whole list of groups; it is read twice and not held."""

    def __init__(self, groups: Sequence[Group], folders: Sequence[str] = (), *, reserved: Collection[str] = ()) -> None:
        """`folders` are the inputs as typed, for those that are folders; `reserved` are stems of other files.

        `talk.flac` gets `talk`; below one of `folders` it keeps its sub-folders; standard input is `stdin`, and several
        sounds of one prompt are called after the first: `talk+1`. Where two would be the same, also for a file system
        that ignores case, both get the full name, `talk.flac`, and a hash of path and question after it if that is not
        enough.

        The order of the groups makes no difference, but which there are does: give the whole list, not a shard of it.
        """
        self._roots, self._reserved = frozenset(map(PurePath, folders)), reserved
        self._taken: list[frozenset[int]] = []  # at each level, hashes of the stems that several groups would have
        is_unsure = bool(reserved)
        for _ in range(2):
            taken, are_like_ours = _several(groups, self.stem)
            self._taken.append(taken)
            is_unsure = is_unsure or are_like_ours
            if not (taken or is_unsure):
                break  # no name grew longer, so none is another's

    def stem(self, group: Group) -> str:
        """Relative path without ending."""
        stem = _stem(group, self._roots, level=0)
        for level, taken in enumerate(self._taken, start=1):
            # Never short is a sound called talk.txt: beside it the answers about it, or talk.wav, would replace it.
            is_unsure = level == 1 and _ends_like_ours(group.paths[0])
            if is_unsure or ((taken or self._reserved) and self._is_taken(stem, taken)):
                stem = _stem(group, self._roots, level=level)
        return stem

    def _is_taken(self, stem: str, taken: frozenset[int]) -> bool:
        folded = _folded(stem)
        return folded in self._reserved or hash64(folded) in taken


def other_name(stem: str, source: str) -> str:
    """The name of the answers about an input whose own name is taken by another's."""
    folder, _, name = stem.rpartition("/")
    return f"{folder}/" * bool(folder) + _with(name, source)


def hash64(text: str) -> int:
    """A hash of 64 bits, the same in each process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _several(groups: Iterable[Group], stem_of: Callable[[Group], str]) -> tuple[frozenset[int], bool]:
    """Hashes of the stems that different groups would have; 16 bytes are held for each group.

    And whether one of them ends as our files do.
    """
    import numpy as np

    stems, own, are_like_ours = array("Q"), array("q"), False
    for group in groups:
        are_like_ours = are_like_ours or _ends_like_ours(group.paths[0])
        stems.append(hash64(_folded(stem_of(group))))
        own.append(hash(group))
    order = np.lexsort((own, stems))
    first, second = np.asarray(stems)[order], np.asarray(own)[order]
    is_again = (first[1:] == first[:-1]) & (second[1:] != second[:-1])
    return frozenset(first[1:][is_again].tolist()), are_like_ours


def _stem(group: Group, roots: frozenset[PurePath], *, level: int) -> str:
    """From the shortest to the surest: 0 talk, 1 talk.flac, 2 talk.flac-0123456789ab; each below its sub-folders."""
    first = group.paths[0]
    *parents, name = ("stdin",) if first == STDIN else _relative(first, roots)
    parents = [part + "_" if _ends_like_ours(part) else part for part in parents]  # a.txt may be one of our files
    if level == 0:
        dot = name.rfind(".")
        name = name[:dot] if 0 < dot < len(name) - 1 else name
    if len(group.paths) > 1:
        name += f"+{len(group.paths) - 1}"
    if level == 2 or (4 * len(name) > LONGEST and _size(name) > LONGEST):
        name = _hashed(name, group)
    return "/".join([*parents, name]) if parents else name


def _relative(first: str, roots: frozenset[PurePath]) -> tuple[str, ...]:
    """The sub-folders and the name of a file: those below the outermost of `roots`, never out of it again."""
    if not roots and (name := first[first.rfind("/") + 1 :]) not in ("", ".") and os.sep == "/":
        return (name,)  # a PurePath for each of a million takes its time
    path = PurePath(first)
    for root in reversed(path.parents) if roots else ():
        if root in roots and ".." not in (parts := path.relative_to(root).parts):
            return parts
    return (path.name or "unnamed",)


def _ends_like_ours(name: str) -> bool:
    return name.lower().endswith(_ENDINGS) and PurePath(name).suffix != ""


def _hashed(name: str, group: Group) -> str:
    """The name with a hash of what makes this group another one."""
    identity = "\0".join(
        [*(path if path == STDIN else str(Path(path).absolute()) for path in group.paths), group.asked]
    )
    return _with(name, hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS])


def _with(name: str, digest: str) -> str:
    """The name, cut to what a file system takes, and a hash behind it."""
    while name and _size(name) + 1 + len(digest) > LONGEST:
        name = name[:-1]
    return f"{name}-{digest}"


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


def _folded(stem: str) -> str:
    """The same for names that some file systems cannot tell apart."""
    return stem.lower() if stem.isascii() else unicodedata.normalize("NFD", stem.casefold())
