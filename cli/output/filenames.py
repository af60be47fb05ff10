"""What the output files of each input are called, decided from the whole list of inputs at once.

In: the groups of sounds and the folders that they were found in. Out: for each group a relative path without ending,
the stem, that no other group has and that every file system takes. No file is opened.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path, PurePath

from cli.inputs.listing import STDIN, Group
from cli.output.formats import FORMATS

LONGEST = 255 - len(".json")  # bytes of a name: what file systems take, less the longest ending
DIGITS = 12  # of a hash in a name: enough for 100,000 files that are all called audio.wav


def plan_filenames(
    groups: Sequence[Group], folders: Sequence[str] = (), *, reserved: Collection[str] = ()
) -> dict[Group, str]:
    """The stem of each group's output files; `folders` are the inputs as typed, for those that are folders.

    `talk.flac` gets `talk`; below one of `folders` it keeps its sub-folders; standard input is `stdin`, and several
    sounds of one prompt are called after the first: `talk+1`. Where two would be the same, also for a file system that
    ignores case, both get the full name, `talk.flac`, and a hash of path and prompt after it if that is not enough.

    `reserved` are stems of files that are not of one input.

    The order of the groups makes no difference, but which there are does: plan the whole list, then take a shard of it.
    """
    roots = frozenset(map(PurePath, folders))
    chosen = {group: _stem(group, roots, level=0) for group in groups}
    for level in (1, 2):
        taken = Counter(map(_folded, chosen.values()))
        # A sound called talk.txt is never short: in its own folder the answers about it, or talk.wav, would replace it.
        unsure = [
            group
            for group, stem in chosen.items()
            if taken[_folded(stem)] > 1 or _folded(stem) in reserved or (level == 1 and _ends_like_ours(group.paths[0]))
        ]
        chosen |= {group: _stem(group, roots, level=level) for group in unsure}
    return chosen


def _stem(group: Group, roots: frozenset[PurePath], *, level: int) -> str:
    """From the shortest to the surest: 0 talk, 1 talk.flac, 2 talk.flac-0123456789ab; each below its sub-folders."""
    first, *others = group.paths
    *parents, name = ("stdin",) if first == STDIN else _relative(PurePath(first), roots)
    parents = [part + "_" if _ends_like_ours(part) else part for part in parents]  # a.txt may be one of our files
    if level == 0:
        name = PurePath(name).stem
    if others:
        name += f"+{len(others)}"
    if level == 2 or _size(name) > LONGEST:
        name = _hashed(name, group)
    return "/".join([*parents, name])


def _relative(path: PurePath, roots: frozenset[PurePath]) -> tuple[str, ...]:
    """The sub-folders and the name of a file: those below the outermost of `roots`, never out of it again."""
    for root in reversed(path.parents):
        parts = path.relative_to(root).parts
        if root in roots and ".." not in parts:
            return parts
    return (path.name or "unnamed",)


def _ends_like_ours(name: str) -> bool:
    return PurePath(name).suffix.lower().removeprefix(".") in FORMATS


def _hashed(name: str, group: Group) -> str:
    """The name, cut to what a file system takes, with a hash of what makes this group another one."""
    identity = "\0".join([*(str(Path(path).absolute()) for path in group.paths), group.prompt or ""])
    digest = hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]
    while _size(name) + 1 + DIGITS > LONGEST:
        name = name[:-1]
    return f"{name}-{digest}"


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogatepass"))


def _folded(stem: str) -> str:
    """The same for names that some file systems cannot tell apart."""
    return unicodedata.normalize("NFD", stem.casefold())
