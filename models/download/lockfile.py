"""What the files of a directory were when they were verified: `download.json`, its reader and its writer.

In: a directory, and what a source publishes. Out: `Pins`, and a named error wherever a file and what is known of it
do not agree. Makes no connection, and trusts nothing that it reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from errors import ModelError
from models.download.catalog import RemoteFile
from models.metadata import regular

PINS_NAME = "download.json"
PINS_BYTES = 1 << 20  # ours has a few thousand


@dataclass(frozen=True)
class Pins:
    """The content of `download.json`."""

    model: str = ""  # its name in the catalog
    revision: str = ""  # commit of the Hugging Face repository
    names: tuple[str, ...] = ()  # every file of the model
    files: Mapping[str, RemoteFile] = field(default_factory=dict)  # those verified, with our sha256

    def __post_init__(self) -> None:
        if not all(re.fullmatch(r"[A-Za-z0-9-]{0,40}", word) for word in (self.model, self.revision)):
            raise ValueError("not a model or not a revision")


def read_pins(directory: Path) -> Pins:
    """Read `download.json`; without one nothing is pinned.

    Raises:
        ModelError: it is there, and it is not what we write.
    """
    path = directory / PINS_NAME
    if not path.exists():
        return Pins()
    try:
        with regular(path).open("rb") as file:
            raw = json.loads(file.read(PINS_BYTES))
        files = {name: RemoteFile(name, row["url"], row["size"], row["hashes"]) for name, row in raw["files"].items()}
        names = tuple(RemoteFile(name, "").name for name in raw["names"])
        return Pins(raw["model"], raw["revision"], names, files)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        fix = "delete it; the files stay and are checked again"
        raise ModelError(f"{path} cannot be read ({type(error).__name__})", fix, kind="download") from error


def write_pins(directory: Path, pins: Pins) -> None:
    """Write `download.json` in one step: whoever reads it finds the old one or the new one."""
    new = directory / f"{PINS_NAME}.new"
    new.unlink(missing_ok=True)
    with new.open("x", encoding="utf-8") as file:
        file.write(json.dumps(asdict(pins), indent=1) + "\n")
    new.replace(directory / PINS_NAME)


def check_pinned(directory: Path, pins: Pins, *, verify: bool) -> None:
    """Hold the files that are here against their pins: their sizes or, with `verify`, their content.

    Raises:
        ModelError: a file is not the pinned one.
    """
    for name, pin in pins.files.items():
        path = directory / name
        if path.exists() and (verify or regular(path).stat().st_size != pin.size):
            check_content(path, pin, fix="delete it and run again to fetch it again")


def add_pin(directory: Path, pins: Pins, file: RemoteFile, hashes: Mapping[str, str]) -> Pins:
    """Record a file that was verified and has its final name."""
    pins = replace(pins, files={**pins.files, file.name: replace(file, hashes=hashes)})
    write_pins(directory, pins)
    return pins


def check_content(path: Path, file: RemoteFile, *, fix: str) -> Mapping[str, str]:
    """Hash the file at `path`: its sha256, and the other hashes that are known of it.

    Raises:
        ModelError: it does not have the file's size and hashes; `fix` says what to do.
    """
    size = regular(path).stat().st_size
    made = {"sha256": hashlib.sha256()}
    if "md5" in file.hashes:
        made["md5"] = hashlib.md5(usedforsecurity=False)
    if "git_sha1" in file.hashes:
        made["git_sha1"] = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            for digest in made.values():
                digest.update(chunk)
    found = {kind: digest.hexdigest() for kind, digest in made.items()}
    if size != file.size or not file.hashes.items() <= found.items():
        known = f"{file.size} bytes and {dict(file.hashes)} are expected"
        raise ModelError(f"{path}: {known}, {size} bytes and {found} found", fix, kind="download")
    return found
