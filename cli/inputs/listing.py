"""What was typed after --input and --files-from -> the groups of sounds to ask about, one prompt each, in stable order.

Names come in, as typed or as lines of a list; out come groups to open, problems that count as failed inputs, and notes
about what was skipped. No sound is opened here: folders are read, and each file is looked at once or twice.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from audio_encoder.kinds import ENDINGS, begins_like_one, is_recording
from cli.inputs.meant import find_meant
from cli.inputs.playlist import NOT_READ, as_address, entries, kind_of
from cli.inputs.rows import HEAD, from_json, from_table
from cli.inputs.search import (
    STDIN,
    Group,
    Item,
    Remark,
    Search,
    bare,
    exists,
    is_plain,
    missing,
    named,
    typed,
    unreadable,
)
from cli.inputs.spool import GROUP, NOTE, PROBLEM, Picked, Spool
from cli.inputs.table import TABLES, find_form
from cli.inputs.text import MARKS, decode_pieces, split
from cli.options import Options
from errors import InputError

if TYPE_CHECKING:
    from cli.inputs.spool import Places

__all__ = ["STDIN", "Group", "InputError", "Listing", "find_inputs"]


@dataclass(frozen=True)
class Listing:
    """What there is to do. A long list is not held: each of these is read from a file, item by item.

    `problems` are (path, error) of inputs that failed before they could be opened, `skipped` notes about what was
    passed over and is no failure. Both keep a name as it is: `say` makes one line of it. `whole` are the
    groups of all shards, for what each shard must decide alike, such as the names of output files.
    """

    groups: Sequence[Group]
    problems: Sequence[tuple[str, InputError]]
    skipped: Sequence[str]
    whole: Sequence[Group] = ()


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
    spool, is_due = Spool(search.looks), any(map(exists, together))
    if together:
        spool.add(Group(together))
    listed = (_listed(name, search, null=options.null) for name in lists)
    for item in chain.from_iterable([*(typed(name, search) for name in inputs if name in apart), *listed]):
        is_due = is_due or isinstance(item, Group) or item.state == "failed"
        spool.add(item)
    search.looks.leave()
    if not is_due:
        raise _nothing(
            [*map(missing, together), *(item for item in spool.read(range(len(spool))) if isinstance(item, Remark))]
        )
    return _listing(spool, options.shard, is_scored=bool(options.score))


def _listing(spool: Spool, shard: tuple[int, int] | None, *, is_scored: bool) -> Listing:
    """Items in order -> the listing. Problems take turns like groups, so that each is told by one shard only.

    Rows that ask the same are one, unless they are scored by other references.
    """
    first_of = spool.find_duplicates()
    rows = spool.keep_apart(first_of, lambda group: json.dumps([group.references, group.source])) if is_scored else {}

    def groups(places: Places | list[int]) -> Iterator[Group]:
        for place, found in zip(places, spool.read(places), strict=True):
            if isinstance(found, Group):
                yield replace(found, row=rows[int(place)]) if rows and int(place) in rows else found

    def problems(places: Places) -> Iterator[tuple[str, InputError]]:
        return ((found.path, found.error()) for found in spool.read(places) if isinstance(found, Remark))

    def notes(places: Places) -> Iterator[str]:
        for place, found in zip(places, spool.read(places), strict=True):
            yield str((found if isinstance(found, Remark) else again(found, first_of[int(place)])).error())

    def again(found: Group, place: int) -> Remark:
        (first,) = groups([place])
        named = f" as {first.paths[0]}" if first.paths != found.paths else ""
        return Remark(found.paths[0], f"given before{named}", "skipped", "it is answered once")

    number, count = shard or (1, 1)
    first = (number - 1) % count  # 0/4 is 4/4: a job array may count from 0 or from 1
    ours = spool.places(GROUP, PROBLEM)[first::count]
    is_group = spool.is_group(ours)
    return Listing(
        groups=Picked(ours[is_group], groups),
        problems=Picked(ours[~is_group], problems),
        skipped=Picked(spool.places(NOTE) if first == 0 else ours[:0], notes),
        whole=Picked(spool.places(GROUP), groups),
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


def _listed(name: str, search: Search, *, null: bool) -> Iterator[Item]:
    """The items of a list, line by line. A missing file counts as failed, and each one is reported."""
    if name != STDIN and not null and is_recording(name):
        raise InputError(f"{name}: a sound, not a list", fix="give it to --input")
    if not null and (why := NOT_READ.get(Path(name).suffix.lower())):
        raise InputError(f"{name}: {why[0]}", fix=why[1])
    pieces = _read(name, null=null)
    head = next(pieces, "")
    if name == STDIN and begins_like_one(head[:1_000].encode("utf-8", "surrogateescape")):
        raise InputError("standard input: a sound, not a list of names", fix="leave --files-from out")
    pieces = chain([head], pieces)
    if not null and "\0" in head and not (head[1:200:2].strip("\0") and head[:200:2].strip("\0")):
        raise InputError(f"{name}: UTF-16 without a mark that says so", fix="save it as UTF-8")
    if not null and re.match(r'\s*\[\s*[{"]', head) and "\n" in head.strip():
        raise InputError(f"{name}: an array of JSON", fix="write each object on a line of its own, without [ and ]")
    end = "\0" if null else "\r" if "\r" in head and "\n" not in head else "\n"
    form = find_form(head, "" if null else Path(name).suffix)
    kind = None if null else kind_of(Path(name).suffix.lower(), head)
    if form is not None:
        rows = from_table((line + end for line in split(pieces, end)), form)
    elif kind is not None:
        rows = _played(name, kind, split(pieces, end))
    else:
        rows = _lines(name, split(pieces, end), null=null)
    items = _rows(name, rows, search, null=null)
    item = next(items, None)
    if item is None:
        yield Remark(name, "this list is empty", "skipped", "write one name on each line")
        return
    yield from chain([item], items)


def _lines(name: str, lines: Iterator[str], *, null: bool) -> Iterator[tuple[int, Group | ValueError]]:
    """(number, group or what is wrong) of each line of a list that is no table."""
    for number, line in enumerate(lines, start=1):
        entry = line if null else line.removesuffix("\r")
        is_table = number == 1 and not null and Path(name).suffix.lower() in TABLES
        if is_table and not is_recording(entry) and not find_meant(entry):
            yield number, ValueError(f"no column is called audio; {HEAD}")
            return
        if entry if null else entry.strip():
            yield number, _group(entry, null=null)


def _played(name: str, kind: str, lines: Iterator[str]) -> Iterator[tuple[int, Group | ValueError]]:
    """(number, group or what is wrong) of each name in a playlist; its own folder comes first."""
    folder = os.path.dirname(name)  # noqa: PTH120 - Path would put ./ in front
    for number, entry in entries(kind, lines):
        if isinstance(entry, ValueError):
            yield number, entry
        else:
            meant = find_meant(entry, folder) or find_meant(as_address(entry), folder)
            yield number, _group(meant or entry, null=False)


def _group(entry: str, *, null: bool) -> Group | ValueError:
    try:
        return Group((entry,)) if null else _from_line(entry)
    except ValueError as error:
        return error


def _rows(name: str, rows: Iterable[tuple[int, Group | ValueError]], search: Search, *, null: bool) -> Iterator[Item]:
    """The items that the rows of a list stand for: a folder in it is its sounds."""
    folder = os.path.dirname(name)  # noqa: PTH120
    for number, group in rows:
        if isinstance(group, ValueError):
            place = f"{'standard input' if name == STDIN else name}:{number}"
            yield Remark(place, str(group), "failed", kind="list")
        elif len(group.paths) == 1 and search.is_itself(group.paths[0]):
            yield group
        elif len(group.paths) > 1:
            paths = tuple(path if exists(path) else find_meant(path) or path for path in group.paths)
            yield replace(group, paths=paths)
        else:
            for item in _items(group.paths[0], folder, search, null=null):
                yield replace(group, paths=item.paths) if isinstance(item, Group) else item


def _items(path: str, folder: str, search: Search, *, null: bool) -> Iterator[Item]:
    """What a name in a list stands for: itself, or else what it may mean."""
    for item in named(path, search):
        if isinstance(item, Group) or item.state != "absent":
            yield item
        elif not null and (meant := find_meant(path)) is not None:
            yield from named(meant, search)
        elif path.startswith("#") and not null and Path(path).suffix.lower() not in ENDINGS:
            yield Remark(path, "taken for a comment", "skipped")
        elif folder and exists(os.path.join(folder, path)):  # noqa: PTH118
            fix = f"it lies beside the list, whose names begin at the working directory: run from {folder}"
            yield replace(item, state="failed", fix=fix)
        else:
            yield replace(item, state="failed")


def _read(name: str, *, null: bool) -> Iterator[str]:
    """The text of a list in pieces; raises InputError. Names may have any bytes; `find -print0` writes no mark."""
    try:
        opened: AbstractContextManager[BinaryIO]
        opened = nullcontext(sys.stdin.buffer) if name == STDIN else Path(name).open("rb")  # noqa: SIM115
        with opened as file:
            yield from decode_pieces(file, MARKS[:0] if null else MARKS)
    except UnicodeDecodeError as error:
        fix = "save it as UTF-8"
        raise InputError(f"{name}: begins like {error.encoding}, but is not valid {error.encoding}", fix) from None
    except (OSError, ValueError) as error:
        raise unreadable(name, error).error() from None


def _from_line(line: str) -> Group:
    """A name, or JSON -> its group; raises ValueError with reason and fix."""
    text = line.strip()  # JSON may be indented, a name may begin with a space
    if text.startswith("[{"):
        raise ValueError("an array of JSON; write each object on a line of its own, or ./[ where a name begins with [")
    if "\0" in line:
        raise ValueError("a NUL in the line; give -0 for names that end in NUL")
    return from_json(text) if text.startswith("{") else bare(line)
