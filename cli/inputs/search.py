"""Names of files, folders and patterns -> the sounds that they stand for, and remarks about what is not one.

Folders are read here; of a file only the first bytes, and only where its ending does not tell what it is. Everything
comes in the order of its bytes.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Literal

from audio_encoder.kinds import absence, is_recording
from cli.inputs.looks import Looks
from cli.inputs.playlist import NOT_READ, PLAYLISTS
from errors import InputError

STDIN = "-"
_NOTHING = (None,) * 5
_PLAYLISTS = (*PLAYLISTS, *NOT_READ)
MEND_LINK = "repair or remove it"


@dataclass(frozen=True)
class Group:
    """The sounds of one prompt, and what a list says about them: `prompt` is their own question.

    `references` are what a good answer says, `source` is the set that they belong to. `row` is not empty where a row
    before asks the same of the same sounds, but with another reference or set.
    """

    paths: tuple[str, ...]
    prompt: str | None = None
    task: str | None = None
    language: str | None = None
    references: tuple[str, ...] | None = field(default=None, compare=False)
    source: str | None = field(default=None, compare=False)
    row: str = ""

    @property
    def asked(self) -> str:
        """What its list asks of it, as one text: two questions about one sound are two inputs."""
        if self.task is None and self.language is None and not self.row:
            return self.prompt or ""
        return "\0".join(part or "" for part in (self.prompt, self.task, self.language, *[self.row] * bool(self.row)))

    @property
    def is_bare(self) -> bool:
        """Whether it is one sound, of which nothing is said: most of a long list are."""
        said = (self.prompt, self.task, self.language, self.references, self.source)
        return len(self.paths) == 1 and said == _NOTHING


def bare(path: str) -> Group:
    """Group((path,)), made sooner: what is not said of it is as in the class."""
    group = object.__new__(Group)
    group.__dict__["paths"] = (path,)
    return group


@dataclass(frozen=True)
class Remark:
    """A note about an input: it is absent, it failed though something is there, or it is skipped.

    `kind` is that of the error which it becomes.
    """

    path: str
    reason: str
    state: Literal["absent", "failed", "skipped"]
    fix: str = ""
    kind: str = "missing"

    def error(self) -> InputError:
        """What is raised or told for it."""
        return InputError(f"{self.path or repr(self.path)}: {self.reason}", self.fix, kind=self.kind)


@dataclass(frozen=True)
class Search:
    """How folders and patterns are searched; `endings` are those of --ftype, None for every recording."""

    recursive: bool
    endings: frozenset[str] | None
    looks: Looks = field(default_factory=Looks)

    def is_itself(self, name: str) -> bool:
        """Whether a name is just that of a file: no link, folder or playlist, nor standard input."""
        return name != STDIN and not name.lower().endswith(_PLAYLISTS) and self.looks.is_file(name)

    def takes(self, path: str) -> bool:
        """Whether a file is one of those that are looked for."""
        return is_recording(path) if self.endings is None else _ending(path) in self.endings


Item = Group | Remark


def is_plain(name: str) -> bool:
    """Whether a typed name is a file's or standard input, neither a folder, a pattern nor a playlist."""
    return name == STDIN or not (os.path.isdir(name) or _is_pattern(name) or _ending(name) in {*PLAYLISTS, *NOT_READ})  # noqa: PTH112 - Path("") is "."


def typed(name: str, search: Search) -> Iterator[Item]:
    """A name from the command line: a pattern, a folder or a sound."""
    if _is_pattern(name):
        fix = "check the pattern" + ", and give -r for **" * ("**" in name and not search.recursive)
        nothing = Remark(name, "no sound matches", "absent", fix)
        yield from _sort_out(name, _matches(name, search), search, nothing)
    else:
        yield from named(name, search)


def named(name: str, search: Search, *, by_user: bool = True) -> Iterator[Item]:
    """A file of any extension becomes a group; a folder becomes the sounds in it."""
    if search.is_itself(name):
        yield bare(name)
        return
    try:
        mode = stat.S_IFIFO if name == STDIN else os.stat(name).st_mode  # noqa: PTH116
    except PermissionError:  # something may be there: opening it tells what is refused
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        yield _absence(name, error)
        return
    if stat.S_ISDIR(mode):
        fix = "name another folder" + ", or give -r for the folders in it" * (not search.recursive)
        kinds = f" ({' '.join(sorted(search.endings))})" if search.endings else ""
        nothing = Remark(name, f"no sound files in it{kinds}", "skipped", fix)
        yield from _sort_out(name, _walk(name, recursive=search.recursive), search, nothing)
    elif by_user and _ending(name) in PLAYLISTS:
        yield Remark(name, "a playlist, not a sound", "failed", "give it to --files-from", "not a sound")
    elif by_user and (why := NOT_READ.get(_ending(name))):
        yield Remark(name, why[0], "failed", why[1], "not a sound")
    elif by_user or stat.S_ISREG(mode):
        yield Group((name,))
    else:  # a pipe may keep its reader waiting for ever
        yield Remark(name, "a pipe or a device", "failed", "name it on the command line to read it", "not a file")


def _absence(name: str, error: OSError | ValueError) -> Remark:
    """Why there is no file; ValueError comes from a name that no file can have."""
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code == errno.ELOOP:
        return Remark(name, "a link that leads back to itself", "failed", MEND_LINK, "broken link")
    if os.path.islink(name):  # noqa: PTH114
        return Remark(name, "a broken link", "failed", MEND_LINK, "broken link")
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return missing(name)
    return unreadable(name, error)


def missing(name: str) -> Remark:
    """No file is called so."""
    reason, fix = absence(name)
    return Remark(name, reason, "absent", fix)


def unreadable(name: str, error: OSError | ValueError) -> Remark:
    reason = getattr(error, "strerror", None) or error
    return Remark(name, f"cannot be read ({reason})", "failed", "check the path and its permissions", "unreadable")


def _sort_out(root: str, found: Iterable[str | Remark], search: Search, nothing: Remark) -> Iterator[Item]:
    """What was found under `root`, in the order of its bytes: sounds are passed on, other files counted.

    `nothing` is yielded if there is no sound, and no failure that explains why.
    """
    others, empty = Counter[str](), True
    for item in sorted(found, key=lambda item: os.fsencode(item if isinstance(item, str) else item.path)):
        if isinstance(item, Remark):
            yield item
            explained = item.state == "failed"
        else:
            explained = search.takes(item) or os.path.isdir(item)  # noqa: PTH112
            if explained:
                yield from named(item, search, by_user=False)
            else:
                others[_ending(item) or "without extension"] += 1
        empty = empty and not explained
    if empty:
        yield nothing
    if others:
        kinds = ", ".join(f"{count} {extension}" for extension, count in sorted(others.items()))
        yield Remark(root, f"skipped files that are not sound ({kinds})", "skipped")


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path for each of thousands is slow


def _walk(root: str, *, recursive: bool) -> Iterator[str | Remark]:
    """The files in a folder and, if `recursive`, below it, but nothing hidden: every real folder once.

    Links to folders are followed after all that lies there itself, so that a file goes by its own name.
    """
    pending, seen = deque([Path(root)]), dict[tuple[int, int], Path]()
    while pending:
        folder = pending.popleft()
        try:
            status = folder.stat()
            first = seen.setdefault((status.st_dev, status.st_ino), folder)
            found = sorted(folder.iterdir(), key=str) if first is folder else []
        except OSError as error:
            yield unreadable(str(folder), error)
            continue
        if first is not folder:
            yield Remark(str(folder), f"the same folder as {first}; it is read once", "skipped")
        for path in found:
            if path.name.startswith("."):
                continue
            if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises
                yield str(path)
            elif recursive:
                (pending.append if os.path.islink(path) else pending.appendleft)(path)  # noqa: PTH114


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[") and not exists(name)


def _matches(pattern: str, search: Search) -> Iterator[str | Remark]:
    """What is there under a pattern. `**` is walked, as the library's own would follow links round in circles."""
    parts = PurePath(pattern).parts
    try:
        if not search.recursive or "**" not in parts:
            yield from glob.iglob(pattern)  # noqa: PTH207 - Path.glob takes no absolute pattern
            return
        start = parts.index("**")
        for folder in filter(os.path.isdir, glob.iglob(str(PurePath(*parts[:start])))):  # noqa: PTH207
            for item in _walk(folder, recursive=True):
                path = PurePath(item if isinstance(item, str) else item.path)
                if isinstance(item, Remark) or _fits(path.relative_to(folder).parts, parts[start:]):
                    yield item
    except ValueError:  # no file can have such a name
        return


def _fits(parts: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    """Whether the parts of a path are those of a pattern, where `**` is any number of them."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return _fits(parts, patterns[1:]) or (bool(parts) and _fits(parts[1:], patterns))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _fits(parts[1:], patterns[1:])


def exists(name: str) -> bool:
    """Whether something is there, even if it cannot be looked at."""
    try:
        return name == STDIN or bool(os.lstat(name))
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
