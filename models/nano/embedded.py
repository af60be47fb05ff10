"""nano, the model that comes with the program: its checkpoint, converted once into the user's cache.

What is shipped is the checkpoint (`models/nano/checkpoint`), for it goes into every precision and flavour; what is
opened is a model directory made from it in a second. A directory is named after what it was made from, so a new
checkpoint or converter never meets an old conversion, and it gets its name when it is whole, so that several processes
may start at once.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from errors import ModelError
from models.manifest import FILE_NAME, Manifest, file_sha256, load_manifest, verify_files
from models.metadata import read_object

CHECKPOINT = Path(__file__).resolve().parent / "checkpoint"
_TEMPORARY: list[Path] = []  # folders of this process
SEAL = "verified.json"
# The weights are stored in 8 bits, and int8-fine keeps them. It is smaller and quicker than fp32, with the same scores.
PRECISIONS = {"fused": "int8-fine", "plain": "int8"}


def embedded_model(*, flavour: str = "fused") -> Path:
    """The model directory of nano in `flavour`; raises ModelError where the checkpoint is missing or damaged."""
    if not (CHECKPOINT / "config.json").is_file():
        raise ModelError(f"{CHECKPOINT}: not there, so this copy of the program is incomplete", fix="clone it again")
    name = f"nano-{PRECISIONS[flavour]}-{flavour}-{_digest()}"
    try:
        cache = cache_directory()
        cache.mkdir(parents=True, exist_ok=True)
        return _converted(cache / name, flavour)
    except (OSError, RuntimeError):  # no home, a read-only or a full one: for this run only
        try:
            _TEMPORARY.append(Path(tempfile.mkdtemp(prefix="qwen-audio-")))
            return _converted(_TEMPORARY[-1] / name, flavour)
        except OSError as error:
            reason = f"nano: no room for its model directory ({error.strerror or error})"
            raise ModelError(reason, fix="set TMPDIR to a folder that can be written") from None


@atexit.register
def remove_temporary() -> None:
    """Remove what was converted for this process only; a process that ends without `atexit` calls this itself."""
    while _TEMPORARY:
        shutil.rmtree(_TEMPORARY.pop(), ignore_errors=True)


def _converted(directory: Path, flavour: str) -> Path:
    """Make `directory` unless it is there and whole."""
    try:
        _check(directory)
    except ModelError:
        from models.convert.convert import convert

        shutil.rmtree(directory, ignore_errors=True)  # damaged, if it is there at all
        unfinished = Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=directory.parent))
        try:
            convert(CHECKPOINT, unfinished, precision=PRECISIONS[flavour], flavour=flavour)
            manifest = load_manifest(unfinished)
            verify_files(manifest)
            _seal(manifest)
            unfinished.replace(directory)
        except ModelError as error:
            raise ModelError(f"{error}", fix="clone the program again") from None
        except OSError:
            if not (directory / FILE_NAME).is_file():  # or another process was first
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return directory


def _check(directory: Path) -> None:
    """Raise ModelError unless `directory` is as it was made: looked into where a file's change time is another."""
    manifest, seal = load_manifest(directory), read_object(directory / SEAL)
    if seal.get("stamps") == _stamps(manifest):
        return
    if seal.get("manifest") != file_sha256(directory / FILE_NAME):
        raise ModelError(f"{directory / FILE_NAME}: damaged")
    verify_files(manifest)
    with suppress(OSError):  # a cache that cannot be written is hashed each time
        _seal(manifest)


def _seal(manifest: Manifest) -> None:
    """Note the hash of the manifest, which has those of the files, and how all of them were found on the disk."""
    seal = {"manifest": file_sha256(manifest.path(FILE_NAME)), "stamps": _stamps(manifest)}
    part = Path(tempfile.mkstemp(dir=manifest.directory)[1])
    part.write_text(json.dumps(seal), encoding="utf-8")
    part.replace(manifest.path(SEAL))


def _stamps(manifest: Manifest) -> dict[str, list[int]]:
    """File -> its size, inode and times, in ns; the change time is one that no user can set."""
    found = {name: manifest.path(name).stat() for name in (FILE_NAME, *manifest.files)}
    return {name: [one.st_size, one.st_ino, one.st_mtime_ns, one.st_ctime_ns] for name, one in found.items()}


def _digest() -> str:
    """Short hash of all that a conversion depends on: the checkpoint's bytes and the converter's."""
    whole = hashlib.sha256()
    for path in (*sorted(CHECKPOINT.iterdir()), *sorted((CHECKPOINT.parents[1] / "convert").glob("*.py"))):
        whole.update(file_sha256(path).encode())
    return whole.hexdigest()[:16]


def cache_directory() -> Path:
    """Where the XDG base directory specification puts what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "qwen-audio"
