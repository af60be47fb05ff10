"""Rows of a list -> groups of sounds: a line of JSON, or a line of a table with a head (CSV or TSV).

`audio` names the sounds; `prompt` or `question` asks about them, `task` and `language` say how. `text` or `gt` is what
a good answer says (several in a JSON array), `source` the set that the row belongs to: both are for --score.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from cli.inputs.search import Group
from cli.inputs.table import is_said, plain, records
from cli.inputs.text import is_whole

_QUESTION = ("prompt", "question")
_ASKING = (*_QUESTION, "task", "language")  # columns that decide what is asked
_COLUMNS = ("audio", *_ASKING, "text", "gt", "source")
_LINE = 'write {"audio": "a.wav", "prompt": "..."}, or ./{ where a name begins with {'
HEAD = "name the columns in its first line: audio, and text, question, task, language or source"


def from_json(line: str) -> Group:
    """A line of JSON -> its group; raises ValueError with reason and fix."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({getattr(error, 'msg', error)}); {_LINE}") from None
    return _from_record(dict(zip(_columns(list(record)), record.values(), strict=True)))


def from_table(lines: Iterable[str], form: dict[str, Any]) -> Iterator[tuple[int, Group | ValueError]]:
    """(line, group or what is wrong with it) of each row of a table; without a head that can be read there is none."""
    head: list[str] = []
    for number, cells in records(lines, form):
        try:
            if isinstance(cells, ValueError):
                raise cells
            if head and any(cells):
                yield number, _from_record(_row(head, cells))
            head = head or ([] if is_said(form["delimiter"].join(cells)) else _columns(cells))
        except ValueError as error:
            yield number, error if head else ValueError(f"the head of this table: {error}")
            if not head:
                return


def _columns(names: list[str]) -> list[str]:
    """The names of columns, those that we read as we write them; raises ValueError where one seems to be mistyped.

    Others are left alone. But with a mistyped one of what is asked, the wrong question would be answered.
    """
    known = [plain(name) if plain(name) in _COLUMNS and plain(name) not in names else name for name in names]
    for name in known:
        if name in _COLUMNS and known.count(name) > 1:
            raise ValueError(f'two columns are called "{name}"; leave one out')
        meant = None if name in _COLUMNS else _meant(plain(name))
        same = _QUESTION if meant in _QUESTION else (meant,)
        if meant and not any(one in known for one in same):
            raise ValueError(f'the column "{name}" is not known; write "{meant}", or a name that is not so near to it')
    return known


@lru_cache(1000)
def _meant(name: str) -> str | None:
    """The column that a name is a slip away from. A longer one, such as question_id, is a column of its own."""
    near = [one for one in _ASKING if abs(len(one) - len(name)) <= 1]
    return next(iter(get_close_matches(name, near, n=1, cutoff=0.8)), None)


def _row(head: list[str], row: list[str]) -> dict[str, str | None]:
    if len(row) != len(head):
        raise ValueError(f"{len(row)} cells under {len(head)} columns; {HEAD}")
    optional = {*_ASKING, "source"}
    return {name: cell or (None if name in optional else "") for name, cell in zip(head, row, strict=True)}


def _from_record(record: Mapping[str, Any]) -> Group:
    paths = [record["audio"]] if isinstance(record.get("audio"), str) else record.get("audio")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f'"audio" must be a name or a list of names; {_LINE}')
    prompt = record.get("question") if record.get("prompt") is None else record["prompt"]  # null is as good as nothing
    if prompt is not None and not (isinstance(prompt, str) and prompt.strip()):
        raise ValueError(f'"prompt" must be a text that is not empty; {_LINE}')
    if prompt is not None and not is_whole(prompt):
        raise ValueError(f'"prompt" has half of a character (a lone surrogate); {_LINE}')
    return Group(
        tuple(paths),
        prompt,
        task=_text(record, "task"),
        language=_text(record, "language"),
        references=_references(record),
        source=_text(record, "source"),
    )


def _references(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What a good answer says, None where the row does not tell; "" is a reference: nothing is to be said."""
    name = "text" if record.get("gt") is None else "gt"
    value = record.get(name)
    values: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(one, str | int | float) and not isinstance(one, bool) for one in values):
        raise ValueError(
            f'"{name}" must be a text, a number or a list of them; write {{"audio": "a.wav", "{name}": "..."}}'
        )
    if not all(is_whole(str(one)) for one in values):
        raise ValueError(f'"{name}" is not UTF-8; save the list so')
    return tuple(map(str, values)) or None


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f'"{name}" must be a text; write {{"audio": "a.wav", "{name}": "..."}}')
    return value if value and value.strip() else None
