"""Small JSON files about models: read with suspicion, since they come from other people.

Whatever such a file holds, its reader gets a JSON object or one ModelError that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from errors import ModelError

MISSING = "missing"  # the kind of the error for a file that is not there
LONGEST = 100_000_000  # bytes: the header of a checkpoint's shard may have so many


def read_object(path: Path, fix: str = "") -> dict[str, Any]:
    """The JSON object in a file; `fix` is what to do about a damaged one. Raises ModelError."""
    return parse_object(read_regular(path), path, fix)


def parse_object(text: bytes, path: Path, fix: str = "") -> dict[str, Any]:
    """The JSON object that `text` of a file is; raises ModelError."""
    try:
        data = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: an integer of too many digits, too
        raise ModelError(f"{path}: not valid JSON ({error})", fix) from None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: not a JSON object", fix)
    return data


def read_regular(path: Path) -> bytes:
    """The bytes of a regular file that is not too long; raises ModelError."""
    try:
        with regular(path).open("rb") as file:
            text = file.read(LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        kind = MISSING if isinstance(error, FileNotFoundError) else None
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: cannot be read ({reason})", kind=kind) from None
    if len(text) > LONGEST:
        raise ModelError(f"{path}: over {LONGEST} bytes, too many for a file of this name")
    return text


def regular(path: Path) -> Path:
    """Pass on a path that may be opened: a pipe would wait for ever, a device never end; raises ModelError."""
    if path.exists() and not path.is_file():
        raise ModelError(f"{path} is no regular file", "move it away")
    return path
