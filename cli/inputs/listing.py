"""What was typed after --input and --files-from -> the groups of sounds to ask about, one prompt each, in stable order.

Names come in, as typed or as lines of a list; out come groups to open, problems that count as failed inputs, and notes
about what was skipped. No sound is opened here: folders are read, and each file is looked at once or twice.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.inputs.rows import from_json, from_table, is_table
from cli.inputs.search import (
    CHECK_PATH,
    MISSING,
    STDIN,
    Group,
    Item,
    Remark,
    Search,
    exists,
    is_plain,
    named,
    typed,
    unreadable,
)
from cli.inputs.text import decode
from cli.options import Options
from errors import InputError

__all__ = ["STDIN", "Group", "InputError", "Listing", "find_inputs"]

PLAYLISTS = {".m3u", ".m3u8"}  # lines that begin with # are comments


@dataclass(frozen=True)
class Listing:
    """What there is to do.

    `problems` are (path, error) of inputs that failed before they could be opened, `skipped` notes about what was
    passed over and is no failure. Both keep a name as it is: `say` makes one line of it. `whole` are the
    groups of all shards, for what each shard must decide alike, such as the names of output files.
    """

    groups: tuple[Group, ...]
    problems: tuple[tuple[str, InputError], ...]
    skipped: tuple[str, ...]
    whole: tuple[Group, ...] = ()


def find_inputs(options: Options) -> Listing:
    """The groups that the inputs and lists name: one for the typed files together, one for each other sound.

    With `each`, every typed file is a group of its own. A missing one stays in a group of several when another input
    exists, for the group's own failure to name it. `recursive` looks into the folders of a folder and gives ** its
    meaning, `extensions` (lower case, with the dot) are those taken from folders and patterns, by default
    all recordings.
    With `null` a NUL ends each name of a list. `shard` (i, n) is the i-th of n disjoint parts, which may be empty;
    the notes belong to the first.

    Raises InputError when nothing typed exists or is a sound and no list names anything, when a list cannot be read,
    and when standard input is to be read twice.
    """
    inputs, lists = options.inputs, options.lists
    if [*inputs, *lists].count(STDIN) > 1:
        raise InputError("standard input (-) can be read only once", fix="save it to a file")
    search = Search(options.recursive, options.extensions)
    together = () if options.each else tuple(filter(is_plain, inputs))
    apart = set(inputs) - set(together)
    items = [item for name in inputs if name in apart for item in typed(name, search)]
    items += [item for name in lists for item in _listed(name, search, null=options.null)]
    due = [item for item in items if isinstance(item, Group) or item.state == "failed"]
    if not due and not any(map(exists, together)):
        missing = [Remark(name, MISSING, "absent", CHECK_PATH) for name in together]
        raise _nothing([*missing, *(item for item in items if isinstance(item, Remark))])
    return _listing(_without_duplicates([Group(together)] * bool(together) + items), options.shard)


def _listing(items: Iterable[Item], shard: tuple[int, int] | None) -> Listing:
    """Items in order -> the listing. Problems take turns like groups, so that each is told by one shard only."""
    notes, turns = list[str](), list[Item]()
    for item in items:
        if isinstance(item, Remark) and item.state == "skipped":
            notes.append(str(item.error()))
        else:
            turns.append(item)
    number, count = shard or (1, 1)
    first = (number - 1) % count  # 0/4 is 4/4: a job array may count from 0 or from 1
    ours = turns[first::count]
    return Listing(
        groups=tuple(item for item in ours if isinstance(item, Group)),
        problems=tuple((item.path, item.error()) for item in ours if isinstance(item, Remark)),
        skipped=tuple(notes if first == 0 else ()),
        whole=tuple(item for item in turns if isinstance(item, Group)),
    )


def _nothing(remarks: Sequence[Remark]) -> InputError:
    """Why there is nothing to do, in one line: the names that share a reason stand before it."""
    names: dict[tuple[str, str], list[str]] = {}
    for remark in remarks:
        names.setdefault((remark.reason, remark.fix), []).append(remark.path or repr(remark.path))
    if not names:
        return InputError("nothing to ask about", "name a sound with --input")
    *others, ((reason, fix), last) = names.items()
    told = "".join(f"{', '.join(paths)}: {why}; {mend}; " for (why, mend), paths in others)
    return InputError(f"{told}{', '.join(last)}: {reason}", fix, kind=remarks[-1].kind)


def _without_duplicates(items: Iterable[Item]) -> Iterator[Item]:
    """Pass items on; a lone file that has been asked the same before becomes a remark."""
    first: dict[tuple[str | None, str | None, str], str] = {}
    folders: dict[str, str] = {}  # a folder as it is named -> the real one: one look for thousands of files in it
    for item in items:
        if isinstance(item, Group) and len(item.paths) == 1:
            (path,) = item.paths
            key = item.prompt, item.task, _real(path, folders)
            if key in first:
                named = f" as {first[key]}" if first[key] != path else ""
                yield Remark(path, f"given before{named}", "skipped", "it is answered once")
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


def _listed(name: str, search: Search, *, null: bool) -> Iterator[Item]:
    """The items of a list, line by line. A missing file counts as failed, and each one is reported."""
    text = _read(name, null=null)
    suffix = "" if null else Path(name).suffix
    if is_table(text, suffix):
        yield from _rows(name, from_table(text, suffix), search)
        return
    is_playlist = not null and (text.startswith("#EXTM3U") or Path(name).suffix.lower() in PLAYLISTS)
    lines = list(enumerate(text.split("\0" if null else "\n"), start=1))
    if is_playlist:
        lines = [(number, line) for number, line in lines if not line.startswith("#")]
    entries = [(number, entry) for number, line in lines if (entry := line if null else line.removesuffix("\r"))]
    yield from _rows(name, ((number, _group(entry, null=null)) for number, entry in entries), search)
    if not entries:
        yield Remark(name, "this list is empty", "skipped", "write one name on each line")


def _group(entry: str, *, null: bool) -> Group | ValueError:
    try:
        return Group((entry,)) if null else _from_line(entry)
    except ValueError as error:
        return error


def _rows(name: str, rows: Iterable[tuple[int, Group | ValueError]], search: Search) -> Iterator[Item]:
    """The items that the rows of a list stand for: a folder in it is its sounds."""
    for number, group in rows:
        if isinstance(group, ValueError):
            place = f"{'standard input' if name == STDIN else name}:{number}"
            yield Remark(place, str(group), "failed", kind="list")
            continue
        for item in named(group.paths[0], search) if len(group.paths) == 1 else [group]:
            if isinstance(item, Group):
                yield replace(group, paths=item.paths)
            else:
                yield replace(item, state="failed") if item.state == "absent" else item


def _read(name: str, *, null: bool) -> str:
    """The text of a list; raises InputError. Names may have any bytes. `find -print0` writes no byte order mark."""
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable(name, error).error() from None
    try:
        return data.decode("utf-8", "surrogateescape") if null else decode(data)
    except UnicodeDecodeError as error:
        fix = "save it as UTF-8"
        raise InputError(f"{name}: begins like {error.encoding}, but is not valid {error.encoding}", fix) from None


def _from_line(line: str) -> Group:
    """A name, or JSON -> its group; raises ValueError with reason and fix."""
    if "\0" in line:
        raise ValueError("a NUL in the line; give -0 for names that end in NUL")
    return from_json(line) if line.startswith("{") else Group((line,))
