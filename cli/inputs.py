"""What was typed after --input and --files-from -> the groups of sounds to ask about, one prompt each, in stable order.

Names come in, as typed or as lines of a list; out come groups to open, problems that count as failed inputs, and notes
about what was passed over. No sound is opened here: only folders are read, and each file is looked at once or twice.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import json
import os
import stat
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Literal

EXTENSIONS = frozenset({".flac", ".wav", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff"})
STDIN = "-"

_MISSING = "no such file; check the path"
_LINE = 'write {"audio": "a.wav", "prompt": "..."}, or ./{ where a name begins with {'


class InputError(Exception):
    """Nothing to work on: no input exists, none in a folder is a sound, or a list cannot be read."""


@dataclass(frozen=True)
class Group:
    """The sounds of one prompt; `prompt` is their own question, where a list brings one."""

    paths: tuple[str, ...]
    prompt: str | None = None


@dataclass(frozen=True)
class Listing:
    """What there is to do.

    `problems` are (path, "path: reason; fix") of inputs that failed before they could be opened, `skipped` notes about
    what was passed over and is no failure. Both keep a name as it is: `cli.output.say` makes one line of it. `whole`
    are the groups of all shards, for what each shard must decide alike, such as the names of output files.
    """

    groups: tuple[Group, ...]
    problems: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...]
    whole: tuple[Group, ...] = ()


@dataclass(frozen=True)
class _Remark:
    """What is told about an input: it is absent, it has failed though something is there, or it is passed over."""

    path: str
    reason: str
    kind: Literal["absent", "failed", "skipped"]


@dataclass(frozen=True)
class _Search:
    """How folders and patterns are searched."""

    recursive: bool
    extensions: frozenset[str]


_Item = Group | _Remark


def find_inputs(
    inputs: Sequence[str],
    *,
    each: bool,
    recursive: bool,
    lists: Sequence[str],
    null: bool,
    extensions: frozenset[str] | None,
    shard: tuple[int, int] | None,
) -> Listing:
    """The groups that `inputs` and the files `lists` name: one for the typed files together, one for each other sound.

    With `each`, every typed file is a group of its own. A missing one stays in a group of several when another input
    exists, for the group's own failure to name it. `recursive` looks into the folders of a folder and gives ** its
    meaning, `extensions` (lower case, with the dot; default EXTENSIONS) are those taken from folders and patterns.
    With `null` a NUL ends each name of a list. `shard` (i, n) is the i-th of n disjoint parts, which may be empty;
    the notes belong to the first.

    Raises InputError when nothing typed exists or is a sound and no list names anything, when a list cannot be read,
    and when standard input is to be read twice.
    """
    if [*inputs, *lists].count(STDIN) > 1:
        raise InputError("standard input (-) can be read only once; save it to a file")
    search = _Search(recursive, EXTENSIONS if extensions is None else extensions)
    together = () if each else tuple(filter(_is_plain, inputs))
    apart = set(inputs) - set(together)
    items = [item for name in inputs if name in apart for item in _typed(name, search)]
    items += [item for name in lists for item in _listed(name, search, null=null)]
    due = [item for item in items if isinstance(item, Group) or item.kind == "failed"]
    if not due and not any(map(_exists, together)):
        missing = [_Remark(name, _MISSING, "absent") for name in together]
        raise InputError(_line(*missing, *(item for item in items if isinstance(item, _Remark))))
    return _listing(_without_duplicates([Group(together)] * bool(together) + items), shard)


def find_groups(inputs: tuple[str, ...]) -> list[list[str]]:
    """The paths of each group that `inputs` name; what fails unopened follows, a group each. Raises InputError."""
    found = find_inputs(inputs, each=False, recursive=False, lists=(), null=False, extensions=None, shard=None)
    return [list(group.paths) for group in found.groups] + [[path] for path, _ in found.problems]


def _listing(items: Iterable[_Item], shard: tuple[int, int] | None) -> Listing:
    """Items in order -> the listing. Problems take turns like groups, so that each is told by one shard only."""
    notes, turns = list[str](), list[_Item]()
    for item in items:
        if isinstance(item, _Remark) and item.kind == "skipped":
            notes.append(_line(item))
        else:
            turns.append(item)
    first, count = shard or (1, 1)
    ours = turns[first - 1 :: count]
    return Listing(
        groups=tuple(item for item in ours if isinstance(item, Group)),
        problems=tuple((item.path, _line(item)) for item in ours if isinstance(item, _Remark)),
        skipped=tuple(notes if first == 1 else ()),
        whole=tuple(item for item in turns if isinstance(item, Group)),
    )


def _line(*remarks: _Remark) -> str:
    """Remarks in one line: the names that share a reason stand before it."""
    names: dict[str, list[str]] = {}
    for remark in remarks:
        names.setdefault(remark.reason, []).append(remark.path or repr(remark.path))
    told = [f"{', '.join(paths)}: {reason}" for reason, paths in names.items()]
    return "; ".join(told) or "nothing to ask about; name a sound with --input"


def _without_duplicates(items: Iterable[_Item]) -> Iterator[_Item]:
    """Pass items on; a lone file that has been asked the same before becomes a remark."""
    first: dict[tuple[str | None, str], str] = {}
    folders: dict[str, str] = {}  # a folder as it is named -> the real one: one look for thousands of files in it
    for item in items:
        if isinstance(item, Group) and len(item.paths) == 1:
            (path,) = item.paths
            key = item.prompt, _real(path, folders)
            if key in first:
                named = f" as {first[key]}" if first[key] != path else ""
                yield _Remark(path, f"given before{named}; it is answered once", "skipped")
                continue
            first[key] = path
        yield item


def _real(path: str, folders: dict[str, str]) -> str:
    """What os.path.realpath says of a file; `folders` keeps what was found out about its folder."""
    if path == STDIN:
        return STDIN
    try:
        if os.path.islink(path):  # noqa: PTH114 - Path would change the name
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        return os.path.join(folders[folder], name)  # noqa: PTH118
    except ValueError:  # no file can have this name
        return path


def _is_plain(name: str) -> bool:
    """Whether a typed name is a file's or standard input, neither a folder nor a pattern."""
    return name == STDIN or not (os.path.isdir(name) or _is_pattern(name))  # noqa: PTH112 - Path("") is "."


def _typed(name: str, search: _Search) -> Iterator[_Item]:
    """A name from the command line: a pattern, a folder or a sound."""
    if _is_pattern(name):
        fix = "check the pattern" + ", and give -r for **" * ("**" in name and not search.recursive)
        nothing = _Remark(name, f"no sound matches; {fix}", "absent")
        yield from _sort_out(name, _matches(name, search), search, nothing)
    else:
        yield from _named(name, search)


def _named(name: str, search: _Search, *, by_user: bool = True) -> Iterator[_Item]:
    """A file becomes a group, whatever its extension; a folder becomes what is in it."""
    try:
        mode = stat.S_IFIFO if name == STDIN else os.stat(name).st_mode  # noqa: PTH116
    except PermissionError:  # something may be there: opening it tells what is refused
        mode = stat.S_IFREG
    except (OSError, ValueError) as error:
        yield _absence(name, error)
        return
    if stat.S_ISDIR(mode):
        fix = "convert others with ffmpeg" + ", or give -r for the folders in it" * (not search.recursive)
        nothing = _Remark(name, f"no sound in it ({' '.join(sorted(search.extensions))}); {fix}", "skipped")
        yield from _sort_out(name, _walk(name, recursive=search.recursive), search, nothing)
    elif by_user or stat.S_ISREG(mode):
        yield Group((name,))
    else:  # a pipe may keep its reader waiting for ever
        yield _Remark(name, "a pipe or a device, passed over; name it itself to have it read", "skipped")


def _absence(name: str, error: OSError | ValueError) -> _Remark:
    """Why there is no file: ValueError is a name that none can have."""
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code == errno.ELOOP:
        return _Remark(name, "a link that leads back to itself; mend or remove it", "failed")
    if os.path.islink(name):  # noqa: PTH114
        return _Remark(name, "a link to something that is not there; mend or remove it", "failed")
    if code in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return _Remark(name, _MISSING, "absent")
    return _unreadable(name, error)


def _unreadable(name: str, error: OSError | ValueError) -> _Remark:
    reason = getattr(error, "strerror", None) or error
    return _Remark(name, f"cannot be read ({reason}); check the path and its permissions", "failed")


def _sort_out(root: str, found: Iterable[str | _Remark], search: _Search, nothing: _Remark) -> Iterator[_Item]:
    """What was found under `root`, in the order of its bytes: sounds are passed on, other files counted.

    `nothing` is said where there is no sound and no failure that explains it.
    """
    others, empty = Counter[str](), True
    for item in sorted(found, key=lambda item: os.fsencode(item if isinstance(item, str) else item.path)):
        if isinstance(item, _Remark):
            yield item
            explained = item.kind == "failed"
        else:
            extension = os.path.splitext(item)[1].lower()  # noqa: PTH122 - a Path for each of thousands is slow
            explained = extension in search.extensions or os.path.isdir(item)  # noqa: PTH112
            if explained:
                yield from _named(item, search, by_user=False)
            else:
                others[extension or "without extension"] += 1
        empty = empty and not explained
    if empty:
        yield nothing
    if others:
        kinds = ", ".join(f"{count} {extension}" for extension, count in sorted(others.items()))
        yield _Remark(root, f"passed over what is no sound ({kinds})", "skipped")


def _walk(root: str, *, recursive: bool) -> Iterator[str | _Remark]:
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
            yield _unreadable(str(folder), error)
            continue
        if first is not folder:
            yield _Remark(str(folder), f"the same folder as {first}; it is read once", "skipped")
        for path in found:
            if path.name.startswith("."):
                continue
            if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises
                yield str(path)
            elif recursive:
                (pending.append if os.path.islink(path) else pending.appendleft)(path)  # noqa: PTH114


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[") and not _exists(name)


def _matches(pattern: str, search: _Search) -> Iterator[str | _Remark]:
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
                if isinstance(item, _Remark) or _fits(path.relative_to(folder).parts, parts[start:]):
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


def _listed(name: str, search: _Search, *, null: bool) -> Iterator[_Item]:
    """The items of a list, line by line. What is missing counts as failed: each line is told, even if none is good."""
    text = _read(name) if null else _read(name).removeprefix("\ufeff")
    lines = enumerate(text.split("\0" if null else "\n"), start=1)
    named = [(number, entry) for number, line in lines if (entry := line if null else line.removesuffix("\r"))]
    for number, entry in named:
        try:
            group = Group((entry,)) if null else _from_line(entry)
        except ValueError as error:
            yield _Remark(f"{'standard input' if name == STDIN else name}:{number}", str(error), "failed")
            continue
        for item in _named(group.paths[0], search) if len(group.paths) == 1 else [group]:
            if isinstance(item, Group):
                yield item if group.prompt is None else replace(item, prompt=group.prompt)
            else:
                yield replace(item, kind="failed") if item.kind == "absent" else item
    if not named:
        yield _Remark(name, "no name in this list; write one on each line", "skipped")


def _read(name: str) -> str:
    """The text of a list, whatever bytes its names have; raises InputError."""
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(_line(_unreadable(name, error))) from None
    return data.decode("utf-8", "surrogateescape")


def _from_line(line: str) -> Group:
    """A name, or JSON -> its group; raises ValueError with reason and fix."""
    if "\0" in line:
        raise ValueError("a NUL in the line; give -0 for names that end in NUL")
    return _from_json(line) if line.startswith("{") else Group((line,))


def _from_json(line: str) -> Group:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({getattr(error, 'msg', error)}); {_LINE}") from None
    paths = [record["audio"]] if isinstance(record.get("audio"), str) else record.get("audio")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f'"audio" must be a name or a list of names; {_LINE}')
    prompt = record.get("question") if record.get("prompt") is None else record["prompt"]  # null is as good as nothing
    if prompt is not None and not (isinstance(prompt, str) and prompt.strip()):
        raise ValueError(f'"prompt" must be a text that is not empty; {_LINE}')
    return Group(tuple(paths), prompt)


def _exists(name: str) -> bool:
    """Whether something is there, even if it cannot be looked at."""
    try:
        return name == STDIN or bool(os.lstat(name))
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False
