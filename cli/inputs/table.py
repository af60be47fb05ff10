"""The lines of a table (CSV or TSV) -> its records. One that cannot be read is told, and costs no other row.

A table of a million rows is not held: of what was read, only the record at hand is kept, to be read again where its
quotation marks do not fit.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

TABLES = (".csv", ".tsv")
_LONGEST = 131_072  # characters of a record on several lines, as the library's own limit of a cell


def find_form(text: str, suffix: str) -> dict[str, Any] | None:
    """How a list that begins like `text` is written, for csv.reader; None where it is no table.

    A table has the ending of one, and a head that names the sounds. The head also shows what parts the cells: Excel
    writes ; where a comma is in numbers, and may say so in a line of its own in front.
    """
    line, *rest = re.split("\r\n|[\r\n]", text.lstrip("\r\n"), maxsplit=2)
    is_tsv = suffix.lower() == ".tsv"
    delimiters = "\t" if is_tsv else ",;\t" if suffix.lower() in TABLES else ""
    if rest and delimiters and is_said(line):
        line, delimiters = rest[0], line.strip('"')[-1]
    for delimiter in delimiters:
        # In TSV a quotation mark is a letter, as LibriVox, Common Voice and CoVoST write it.
        form: dict[str, Any] = {"delimiter": delimiter, "quoting": csv.QUOTE_NONE if is_tsv else csv.QUOTE_MINIMAL}
        # A space in front belongs to the name of a file, except where the head has them too.
        form["skipinitialspace"] = any(cell.startswith(" ") for cell in next(csv.reader([line], **form), []))
        if any(plain(cell) == "audio" for cell in next(csv.reader([line], **form), [])):
            return form
    return None


def is_said(line: str) -> bool:
    """Whether a line says what parts the cells, as Excel reads and writes it: sep=; in quotation marks or without."""
    return re.fullmatch(r'"?sep=([^\w\s"]|\t)"?', line, re.IGNORECASE) is not None


def plain(name: str) -> str:
    """The name of a column without what people do not see as part of it: Prompt and prompt are one."""
    return name.strip().casefold()


def records(lines: Iterable[str], form: dict[str, Any]) -> Iterator[tuple[int, list[str] | ValueError]]:
    """(line where it begins, cells or what is wrong with them) of each record; `lines` have their ends.

    After one that is wrong, reading goes on with its second line: an open quotation mark takes no other row with it.
    """
    source = _Lines(lines)
    reader = csv.reader(source, strict=True, **form)
    while True:
        number = source.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, ValueError(_reason(str(error), is_one_line=source.is_one_line))
            source.go_back()
            reader = csv.reader(source, strict=True, **form)
        else:
            yield number, cells


class _Lines:
    """Lines that can be read again from the second of the record at hand on."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._again = iter(lines), deque[str]()
        self._taken, self._length, self._number = list[str](), 0, 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if self._length > _LONGEST:
            raise StopIteration  # within a quotation mark: to the reader it is open at the end
        line = self._again.popleft() if self._again else next(self._lines)
        self._taken.append(line)
        self._length += len(line)
        return line

    @property
    def is_one_line(self) -> bool:
        return len(self._taken) == 1

    def begin(self) -> int:
        """Begin a record; returns the number of its first line."""
        self._number += len(self._taken)
        self._taken, self._length = [], 0
        return self._number

    def go_back(self) -> None:
        """Only the first line of the record counts as read."""
        self._again.extendleft(reversed(self._taken[1:]))
        del self._taken[1:]


def _reason(told: str, *, is_one_line: bool) -> str:
    """What the library says of a record, as a reason and a fix that people know what to do with."""
    if not is_one_line or "end of data" in told:
        return 'a quotation mark is opened and not closed; close it, or write "" for one within a quoted cell'
    if "expected after" in told:
        return 'a quotation mark within a quoted cell; write it twice, as in "is it a ""man""?"'
    if "field limit" in told:
        return f"a cell of over {_LONGEST} characters; leave it out"
    return f"not a row of a table ({told.split(' - ', maxsplit=1)[0]}); end each row with a line feed"
