"""What the files of a directory were when they were first verified: `download.json`, its reader and its writer.

In: a directory, and what a source publishes. Out: `Pins`, and a named error wherever a file, a source and a pin do not
agree. Nothing is ever repaired or replaced here; no connection is made. One process at a time holds a directory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from errors import ModelError
from models.download.catalog import RemoteFile

PINS_NAME = "download.json"
ACCEPT = (
    f"Delete the entry {{0!r}} in {PINS_NAME} to accept the new one, or give --url of a place that has the old one."
)


@dataclass(frozen=True)
class Pin:
    """What a whole file was when it was first verified."""

    size: int
    url: str
    hashes: Mapping[str, str]  # our sha256, and the md5 or git_sha1 that the source published
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Pins:
    """The content of `download.json`."""

    model: str = ""  # its name in the table of sources
    revision: str = ""  # commit of the Hugging Face repository
    names: tuple[str, ...] = ()  # every file of the model, pinned or not
    files: Mapping[str, Pin] = field(default_factory=dict)


def read_pins(directory: Path) -> Pins:
    """Read `download.json`; without one nothing is pinned.

    Raises:
        ModelError: it is there, and it is not what we write.
    """
    path = directory / PINS_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {name: _read_pin(row) for name, row in raw["files"].items()}
        return Pins(model=raw["model"], revision=raw["revision"], names=tuple(raw["names"]), files=files)
    except FileNotFoundError:
        return Pins()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} cannot be read ({error!r})", fix="delete it, the files stay and are verified anew"
        ) from error


def _read_pin(row: dict[str, Any]) -> Pin:
    pin = Pin(**row)
    if not isinstance(pin.size, int) or "sha256" not in pin.hashes:
        raise ValueError("a pin has no size or no sha256")
    return pin


def write_pins(directory: Path, pins: Pins) -> None:
    """Write `download.json` in one step: whoever reads it finds the old one or the new one."""
    path = directory / PINS_NAME
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(asdict(pins), indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def add_pin(directory: Path, file: RemoteFile, found: Mapping[str, str], pins: Pins) -> Pins:
    """Pin a file that is whole and has its final name; `found` are its digests."""
    pin = Pin(size=(directory / file.name).stat().st_size, url=file.url, hashes=found, notes=file.notes)
    pins = replace(pins, files={**pins.files, file.name: pin})
    write_pins(directory, pins)
    return pins


def check_pinned(directory: Path, pins: Pins, *, verify: bool) -> None:
    """Hold the files that are here against their pins: their sizes or, with `verify`, their content.

    Raises:
        ModelError: a file is not the pinned one.
    """
    for name, pin in pins.files.items():
        path = directory / name
        if not path.exists() or (path.stat().st_size == pin.size and not verify):
            continue
        found = digests(path)
        if found["sha256"] != pin.hashes["sha256"]:
            raise ModelError(
                f"{path} is not the file that {PINS_NAME} pins: {pin.size} bytes, {shown(pin.hashes)} pinned, "
                f"{path.stat().st_size} bytes, {shown(found)} found",
                fix="delete it and run again to fetch it anew",
            )


def bind(file: RemoteFile, pin: Pin | None) -> RemoteFile:
    """Ask of a file what was pinned of it, and refuse now what is already known to differ.

    Raises:
        ModelError: the source publishes another file under this name.
    """
    if pin is None:
        return file
    differs = any(pin.hashes.get(kind, digest) != digest for kind, digest in file.hashes.items())
    if differs or file.size not in (None, pin.size):
        raise ModelError(
            f"{file.url} is no longer the pinned file: pinned {pin.size} bytes, {shown(pin.hashes)}",
            fix=f"served {file.size} bytes, {shown(file.hashes)}. {ACCEPT.format(file.name)}",
        )
    return replace(file, size=pin.size, hashes={**file.hashes, "sha256": pin.hashes["sha256"]})


def adopt(directory: Path, remote: Sequence[RemoteFile], pins: Pins) -> Pins:
    """Pin files that someone else put here, if they are what the source publishes.

    Raises:
        ModelError: one of them is not.
    """
    for file in remote:
        path = directory / file.name
        if file.name in pins.files or not path.exists():
            continue
        found, size = digests(path, file.hashes), path.stat().st_size
        if file.size not in (None, size) or not agrees(file, found):
            raise ModelError(
                f"{path} is not what {file.url} publishes: {file.size} bytes, {shown(file.hashes)} expected, "
                f"{size} bytes, {shown(found)} found",
                fix="move it away and run the same command again",
            )
        pins = add_pin(directory, file, found, pins)
    return pins


def digests(path: Path, kinds: Iterable[str] = ()) -> dict[str, str]:
    """Hash a file in one pass: sha256, and of `git_sha1` and `md5` what is asked."""
    made = {"sha256": hashlib.sha256()}
    if "md5" in kinds:
        made["md5"] = hashlib.md5(usedforsecurity=False)
    if "git_sha1" in kinds:
        made["git_sha1"] = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in made.values():
                digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in made.items()}


def agrees(file: RemoteFile, found: Mapping[str, str]) -> bool:
    """Say whether every published digest is among those found."""
    return file.hashes.items() <= found.items()


def shown(hashes: Mapping[str, str]) -> str:
    """Format hashes for a message."""
    return ", ".join(f"{kind} {digest}" for kind, digest in hashes.items()) or "no published hash"


@contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Make the directory and hold it against a second download, which would append to the same part files.

    Raises:
        ModelError: another download holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    handle = _lock(directory)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        with suppress(OSError):
            directory.rmdir()  # only where nothing came: an empty directory would look like a model


def _lock(directory: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows: go on without
        return None
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ModelError(f"another download is writing to {directory}", fix="wait for it or give --to") from error
    except OSError:
        pass  # a file system without locks
    return handle
