"""The file that a line of a list means, where none is called exactly so.

Players write addresses and old names, Windows quotation marks and backslashes, spreadsheets spaces.
"""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import unquote, urlsplit

from cli.inputs.search import exists


def find_meant(entry: str, folder: str = "") -> str | None:
    """What is there of all that `entry` may mean, None where nothing is; a playlist's own `folder` comes first."""
    found = (os.path.join(place, name) for name in _names(entry) for place in dict.fromkeys((folder, "")))  # noqa: PTH118 - Path would drop ./
    return next(filter(exists, found), None)


def _names(entry: str) -> dict[str, None]:
    """The entry, and what it may stand for; each once."""
    name = entry.strip()
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1]
    if name.startswith("file://"):
        name = unquote(urlsplit(name).path, errors="surrogateescape")
    if any("\udc80" <= char <= "\udcff" for char in name):  # not UTF-8
        name = os.fsencode(name).decode("cp1252", "replace")
    both = name, name.replace("\\", "/")
    return dict.fromkeys([entry, *both, *(unicodedata.normalize(form, one) for one in both for form in ("NFC", "NFD"))])
