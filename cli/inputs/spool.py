"""What the inputs of a run stand for, kept in a temporary file: a list of a million lines needs 24 bytes a line here.

Items go in as they are found. Then `Picked` gives some of them back, in order, as often as one likes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cli.inputs.looks import Looks
from cli.inputs.search import STDIN, Group, Item, Remark, bare

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Places = npt.NDArray[np.intp]

T = TypeVar("T")

GROUP, PROBLEM, NOTE = range(3)  # kinds of items
_IN_MEMORY = 1 << 20  # bytes of items for which no file is made
_AT_ONCE = 1000  # items that are read in one go


class Spool:
    """Items in order: groups of sounds, what failed, and notes."""

    def __init__(self, looks: Looks | None = None) -> None:
        """Empty; `looks` may know of items that are added what they are."""
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - open as long as this lives
        weakref.finalize(self, self._file.close)  # else Python warns of it, where it is told to (-W, -X dev)
        self._lock = threading.Lock()
        self._ends, self._kinds, self._keys = array("Q", [0]), bytearray(), bytearray()
        self._looks, self._encode = looks or Looks(), json.encoder.encode_basestring_ascii
        self._folders: dict[str, str] = {}  # a folder as it is named -> the real one: one look for all files in it

    def add(self, item: Item) -> None:
        """Put an item behind the others."""
        if isinstance(item, Group):
            is_bare = item.is_bare
            text = self._encode(item.paths[0]) if is_bare else json.dumps(vars(item))
            same = self._real(item.paths[0])
            if not is_bare and (item.asked or len(item.paths) > 1):
                same = json.dumps([item.asked, same, *map(self._real, item.paths[1:])])  # a real name begins with /
            key = hashlib.blake2b(same.encode("utf-8", "surrogatepass"), digest_size=16).digest()
            self._kinds.append(GROUP)
        else:
            text = json.dumps(vars(item))
            key = bytes(8) + len(self._kinds).to_bytes(8)
            self._kinds.append(NOTE if item.state == "skipped" else PROBLEM)
        line = f"{text},".encode()
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))
        self._keys += key

    def _real(self, path: str) -> str:
        """What os.path.realpath says of a file; kept is what was found out about its folder."""
        if path == STDIN:
            return STDIN
        try:
            if not self._looks.is_file(path):
                return os.path.realpath(path)
            cut = max(path.rfind(os.sep), path.rfind(os.altsep or os.sep)) + 1
            folder = path[:cut]
            if folder not in self._folders:
                self._folders[folder] = os.path.join(os.path.realpath(folder), "")  # noqa: PTH118
            return self._folders[folder] + path[cut:]
        except ValueError:  # no file can have this name
            return path

    def __len__(self) -> int:
        """How many items there are."""
        return len(self._kinds)

    def read(self, places: Places | Sequence[int]) -> Iterator[Item]:
        """The items at these places, which ascend."""
        for start in range(0, len(places), _AT_ONCE):
            some = [int(place) for place in places[start : start + _AT_ONCE]]
            with self._lock:
                if some[-1] - some[0] < len(some):  # neighbours
                    lines = self._lines(some[0], some[-1])
                else:
                    lines = b"".join(self._lines(place, place) for place in some)
            yield from map(_item, json.loads(b"[%b]" % lines[:-1]))

    def _lines(self, first: int, last: int) -> bytes:
        self._file.seek(self._ends[first])
        return self._file.read(self._ends[last + 1] - self._ends[first])

    def find_duplicates(self) -> dict[int, int]:
        """A group that was asked the same before becomes a note; returns place -> place of the first.

        To be called once, when all items are in.
        """
        import numpy as np

        keys = np.frombuffer(self._keys, np.uint64).reshape(-1, 2)
        order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: the first of equal ones is the first in the list
        is_new = np.zeros(len(order), bool)
        is_new[:1] = True
        for column in keys.T:  # one after the other: less memory
            in_order = column[order]
            is_new[1:] |= in_order[1:] != in_order[:-1]
        self._keys = bytearray()
        found = dict[int, int]()
        if not is_new.all():
            firsts = order[np.maximum.accumulate(np.where(is_new, np.arange(len(order)), 0))]
            found = dict(zip(order[~is_new].tolist(), firsts[~is_new].tolist(), strict=True))
        for place in found:
            self._kinds[place] = NOTE
        return found

    def keep_apart(self, first_of: Mapping[int, int], by: Callable[[Group], str]) -> dict[int, str]:
        """Duplicates of which `by` says what it says of none before are groups again; returns place -> what it says."""
        said, kept = dict[int, set[str]](), dict[int, str]()
        for place, first in first_of.items():
            if first not in said:
                said[first] = {by(self._group(first))}
            if (own := by(self._group(place))) not in said[first]:
                said[first].add(own)
                self._kinds[place], kept[place] = GROUP, own
        return kept

    def _group(self, place: int) -> Group:
        (item,) = self.read([place])
        assert isinstance(item, Group)
        return item

    def places(self, *kinds: int) -> Places:
        """Where items of these kinds are, in order."""
        import numpy as np

        return np.flatnonzero(np.isin(np.frombuffer(bytes(self._kinds), np.uint8), kinds))

    def is_group(self, places: Places) -> npt.NDArray[np.bool_]:
        """Which of these places are of groups."""
        import numpy as np

        found: npt.NDArray[np.bool_] = np.frombuffer(bytes(self._kinds), np.uint8)[places] == GROUP
        return found


class Picked(Sequence[T]):
    """Some items of a spool, as `read` makes them of places that ascend."""

    def __init__(self, places: Places, read: Callable[[Places], Iterator[T]]) -> None:
        """`read` is called for each item or iteration."""
        self._places, self._read = places, read

    def __len__(self) -> int:
        """How many."""
        return len(self._places)

    @overload
    def __getitem__(self, number: int) -> T: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[T]: ...
    def __getitem__(self, number: int | slice) -> T | Sequence[T]:
        """One of them, or a part."""
        if isinstance(number, slice):
            return Picked(self._places[number], self._read)
        return next(self._read(self._places[[number]]))

    def __iter__(self) -> Iterator[T]:
        """All of them, in order."""
        return self._read(self._places)


def _item(found: Any) -> Item:
    """An item, from what JSON makes of its line."""
    if isinstance(found, str):
        return bare(found)
    if "reason" in found:
        return Remark(**found)
    references = found.pop("references")
    paths = tuple(found.pop("paths"))
    return Group(paths, **found, references=None if references is None else tuple(references))
