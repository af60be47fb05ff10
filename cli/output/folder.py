"""The output folder: complete files or none, and a journal of finished inputs, so that a run can continue.

In: the stem of an input's output files (filenames.py), the answers about it, and a key of everything that they
depend on. Out: files. Several processes may share a folder; any of them may be killed at any moment.

A file that this program did not write for that very input is never replaced. A file is written under a temporary name
in the same folder and then gets its own. Nothing is flushed to the disk. A killed process still loses nothing that it
wrote. After a power cut a file may be damaged; then it no longer has the hash that is in the journal.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from cli.inputs.listing import STDIN
from cli.output.answer import Answer
from cli.output.cues import Layout
from cli.output.filenames import DIGITS, LONGEST
from cli.output.formats import LAYOUT, render
from cli.output.journal import Journal
from errors import UsageError
from models.manifest import file_sha256

JOURNAL = ".qwen_audio.jsonl"
PREFIX, SUFFIX = ".qwen_audio-", ".part"  # of temporary files
KEY_VERSION = 1  # to be raised when the same settings no longer give the same files
DAY = 86_400.0


class ResultsFolder:
    """An output folder, opened for one run: for each input `is_done`, and `write` if it is not."""

    def __init__(
        self, folder: Path, formats: Sequence[str], *, overwrite: bool = False, layout: Layout = LAYOUT
    ) -> None:
        """Make the folder, read its journal and remove what killed runs left; with `overwrite` nothing is done yet.

        `formats` are some of those of cli.output.formats, `layout` is that of subtitles.
        Raises UsageError for a folder that cannot be used.
        """
        self.folder = folder
        self.formats = tuple(formats)
        self._tidied: set[Path] = set()
        self._looked_at: str | None = None  # the sub-folder of the last input
        self._overwrite, self._layout = overwrite, layout
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy(folder)
            with _temporary(folder) as probe:
                probe.write_bytes(b"\n")  # rights say little about a disk that is full or mounted to be read only
            self._journal = Journal(folder / JOURNAL)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"--output-dir {folder}: a file is in its place", fix="name a folder") from None
        except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise UsageError(
                f"--output-dir {folder}: cannot be written ({reason})", fix="name another folder"
            ) from None

    def key(self, paths: Sequence[str], settings: Mapping[str, object]) -> str | None:
        """`content_key`; a sound that was hashed for this folder before is not read again while it is unchanged."""
        return content_key(paths, settings, self._journal.sha256)

    def is_done(self, stem: str, key: str | None, source: str = "") -> bool:
        """Whether each file of `stem`, or of the other name of `source`, is as it was written for this key."""
        if (below := stem.rpartition("/")[0]) != self._looked_at:
            self._looked_at = below
            self._tidy((self.folder / stem).parent)
        names = (stem, _other_name(stem, source))
        return key is not None and any(
            all(self._is_whole(f"{one}.{fmt}", key) for fmt in self.formats) for one in names
        )

    def read(self, stem: str, key: str | None, source: str) -> list[dict[str, Any]]:
        """The records of an input that is done, from its json file; none without one."""
        for name in (stem, _other_name(stem, source)):
            if key is not None and self._is_whole(f"{name}.json", key):
                found = json.loads((self.folder / f"{name}.json").read_bytes())
                return found if isinstance(found, list) else [found]
        return []

    def write(self, stem: str, answers: Sequence[Answer], key: str | None, source: str = "") -> list[Path]:
        """Write the answers about the input `source` in every format; unless `key` is None, the input then is done.

        A file that is not of this input, or that was changed since, is not replaced: then the answers get another
        name, the same in every run. Returns the files. Raises OSError, for a full disk too; then no file is there in
        part, and the input not done.
        """
        contents = {fmt: render(answers, fmt, self._layout).encode() for fmt in self.formats}
        return self.write_files(stem, contents, key, source)

    def write_files(self, stem: str, contents: Mapping[str, bytes], key: str | None, source: str) -> list[Path]:
        """Write `contents`, ending -> content, as `write` writes the formats."""
        first = self.folder / f"{stem}.{next(iter(contents))}"
        try:
            first.parent.mkdir(parents=True, exist_ok=True)
            self._tidy(first.parent)
            for name in (stem, _other_name(stem, source)):
                files = {f"{name}.{fmt}": content for fmt, content in contents.items()}
                targets = {self.folder / file: content for file, content in files.items()}
                own = self._own(files, source)
                if own is None:
                    continue
                self._note(files, key, source)  # first: a file that a kill leaves alone is known to be ours
                if _write_all(targets, own):
                    return list(targets)
            raise FileExistsError(errno.EEXIST, "another file has this name, --overwrite replaces it")
        except OSError as error:
            error.filename, error.filename2 = str(first), None  # not the temporary name, nor none at all
            raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time do what is inside, where the file system has locks."""
        with (self.folder / JOURNAL).open("ab") as file:
            _lock(file, wait=True)
            yield

    @contextmanager
    def temporary(self, folder: Path) -> Iterator[Path]:
        """A new, empty file in one of our folders; removed unless renamed."""
        self._tidy(folder)
        with _temporary(folder) as path:
            yield path

    def _own(self, files: Collection[str], source: str) -> set[Path] | None:
        """The files that may be replaced; None if one of the names is taken by another file."""
        for _ in range(2):
            own = {self.folder / file for file in files if self._may_replace(file, source)}
            if all(self.folder / file in own or not os.path.lexists(self.folder / file) for file in files):
                return own
            self._journal.refresh()  # another process may have written it for us
        return None

    def _note(self, files: Mapping[str, bytes], key: str | None, source: str) -> None:
        digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        self._journal.add({"key": key or "", "files": digests, "input": source})

    def _may_replace(self, name: str, source: str) -> bool:
        """Whether a file is the answers about this very input as they were written, or may be replaced anyway."""
        if self._overwrite:
            return True
        digest = self._digest(name)
        noted = [] if digest is None else self._journal.of(name)
        ours = any(one.digest == digest and one.input in ("", source) for one in noted)
        return ours and (self.folder / name).stat().st_mode & 0o222 != 0

    def _is_whole(self, name: str, key: str) -> bool:
        if self._overwrite:
            return False
        wanted = [one.digest for one in self._journal.of(name) if one.key == key]
        return bool(wanted) and self._digest(name) in wanted

    def _digest(self, name: str) -> str | None:
        path = self.folder / name
        with suppress(OSError):
            return file_sha256(path) if path.is_file() else None
        return None

    def _tidy(self, folder: Path) -> None:
        """Remove what killed runs left, once for each folder of this run."""
        if folder not in self._tidied:
            self._tidied.add(folder)
            with suppress(OSError):  # they harm nobody
                _remove_leftovers(folder)


def content_key(
    paths: Sequence[str], settings: Mapping[str, object], sha256: Callable[[Path], str] = file_sha256
) -> str | None:
    """A hash of what is in the files and of `settings`: all else that an answer depends on, in JSON types.

    Where the files lie makes no difference. None if one of them can be read only once, such as standard input, or not
    at all: it is never done, and opening it will tell why.
    """
    try:
        if not all(path != STDIN and stat.S_ISREG(os.stat(path).st_mode) for path in paths):  # noqa: PTH116 - Path("") is "."
            return None
        sounds = [sha256(Path(path)) for path in paths]
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return None
    everything = {"version": KEY_VERSION, "sounds": sounds, "settings": settings}
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def identity(paths: Sequence[str], prompt: str | None) -> str:
    """Which input it is: a hash of where its files lie and of its own prompt, if it has one."""
    parts = [*(str(Path(path).absolute()) for path in paths), prompt or ""]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def _other_name(stem: str, source: str) -> str:
    """The name of the answers about an input whose own name is taken by another's."""
    folder, _, name = stem.rpartition("/")
    return f"{folder}/" * bool(folder) + f"{name[: LONGEST - DIGITS - 1]}-{source}"


def _write_all(contents: Mapping[Path, bytes], own: Collection[Path]) -> bool:
    """Write files of one folder: all are whole under temporary names before the first gets its own.

    Files that are not in `own` must not exist: False if one appeared meanwhile, and then none of them is written.
    """
    with ExitStack() as stack:
        temporaries = {target: stack.enter_context(_temporary(target.parent)) for target in contents}
        for target, content in contents.items():
            temporaries[target].write_bytes(content)
        made = list[Path]()
        for target, temporary in temporaries.items():
            if target in own:
                temporary.replace(target)
                continue
            try:
                _link(temporary, target)
            except FileExistsError:
                for path in made:
                    path.unlink(missing_ok=True)
                return False
            made.append(target)
    return True


def _link(temporary: Path, target: Path) -> None:
    """Give a file its name if no other has it; raises FileExistsError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(target)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new, empty file, locked while it is in use; removed unless renamed."""
    while True:
        path = folder / f"{_own_prefix()}{secrets.token_hex(8)}{SUFFIX}"
        file = path.open("xb")
        if not _lock(file, wait=True):
            file.close()  # without locks nobody takes it for a left-over either
        elif not os.fstat(file.fileno()).st_nlink:  # a run that began just now was faster than the lock
            file.close()
            continue
        break
    with closing(file):
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove our temporary files that nobody holds; another machine's, whose locks we may not see, after a day."""
    for path in folder.glob(f"{PREFIX}{'[0-9a-f]' * 8}-{'[0-9a-f]' * 16}{SUFFIX}"):
        with suppress(OSError), path.open("r+b") as file:
            old = time.time() - os.fstat(file.fileno()).st_mtime > DAY
            if (old or path.name.startswith(_own_prefix())) and _lock(file, wait=False):
                path.unlink()


def _own_prefix() -> str:
    """What the names of this machine's temporary files begin with."""
    import platform

    return f"{PREFIX}{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"


def _lock(file: BinaryIO, *, wait: bool) -> bool:
    """Lock an open file until it is closed or its process dies; False where that cannot be."""
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:  # held by another, or a file system without locks
        return False
    return True
