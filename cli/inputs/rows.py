"""Rows of a list -> groups of sounds: a line of JSON, or a line of a table with a head (CSV or TSV).

`audio` names the sounds; `prompt` or `question` asks about them, `task` and `language` say how. `text` or `gt` is what
a good answer says (several in a JSON array), `source` the set that the row belongs to: both are for --score.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cli.inputs.search import Group

TABLES = (".csv", ".tsv")
_LINE = 'write {"audio": "a.wav", "prompt": "..."}, or ./{ where a name begins with {'
_HEAD = "name the columns in its first line: audio, and text, question, task, language or source"


def from_json(line: str) -> Group:
    """A line of JSON -> its group; raises ValueError with reason and fix."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({getattr(error, 'msg', error)}); {_LINE}") from None
    return _from_record(record)


def is_table(text: str, suffix: str) -> bool:
    """Whether a list is a table: by the ending of its name, and a head that names the sounds."""
    if suffix.lower() not in TABLES:
        return False
    head: list[str] = next(_cells([re.split("[\r\n]", text, maxsplit=1)[0]], suffix), [])
    return "audio" in head


def from_table(lines: Iterable[str], suffix: str) -> Iterator[tuple[int, Group | ValueError]]:
    """(line, group or what is wrong with it) of each row of a table."""
    head: list[str] = []
    reader = _cells(lines, suffix)
    for row in reader:
        if not head:
            head = row
        elif any(row):
            try:
                group: Group | ValueError = _from_record(_row(head, row))
            except ValueError as error:
                group = error
            yield reader.line_num, group


def _cells(lines: Iterable[str], suffix: str) -> Any:
    # In TSV a quotation mark is a letter, as LibriVox, Common Voice and CoVoST write it.
    if suffix.lower() == ".tsv":
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines)


def _row(head: list[str], row: list[str]) -> dict[str, str | None]:
    if len(row) != len(head):
        raise ValueError(f"{len(row)} cells under {len(head)} columns; {_HEAD}")
    optional = {"prompt", "question", "task", "language", "source"}
    return {name: cell or (None if name in optional else "") for name, cell in zip(head, row, strict=True)}


def _from_record(record: Mapping[str, Any]) -> Group:
    paths = [record["audio"]] if isinstance(record.get("audio"), str) else record.get("audio")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f'"audio" must be a name or a list of names; {_LINE}')
    prompt = record.get("question") if record.get("prompt") is None else record["prompt"]  # null is as good as nothing
    if prompt is not None and not (isinstance(prompt, str) and prompt.strip()):
        raise ValueError(f'"prompt" must be a text that is not empty; {_LINE}')
    if prompt is not None and not prompt.isprintable() and any("\ud800" <= char <= "\udfff" for char in prompt):
        raise ValueError(f'"prompt" has half of a character (a lone surrogate); {_LINE}')
    return Group(
        tuple(paths),
        prompt,
        task=_text(record.get("task")),
        language=_text(record.get("language")),
        references=_references(record),
        source=_text(record.get("source")),
    )


def _references(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """What a good answer says, None where the row does not tell; "" is a reference: nothing is to be said."""
    value = record.get("text") if record.get("gt") is None else record["gt"]
    values: Iterable[Any] = value if isinstance(value, list) else [] if value is None else [value]
    found = tuple(str(one) for one in values if isinstance(one, str | int | float))
    return found or None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value.strip() else None
