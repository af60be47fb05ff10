"""The output folder: complete files or none, and a journal of finished inputs, so that a run can continue.

In: the stem of an input's output files (filenames.py), the answers about it, and a key of everything that they
depend on. Out: files. Several processes may share a folder; any of them may be killed at any moment.

A file that this program did not write for that very input is never replaced. A file is written under a temporary name
in the same folder and then gets its own. Nothing is flushed to the disk. A killed process still loses nothing that it
wrote. After a power cut a file may be damaged; then it no longer has the hash that is in the journal. Of what was
seen to be done (seen.py) only the size, times and inode are looked at.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audio_encoder.kinds import is_recording
from cli.output.answer import Answer
from cli.output.cues import Layout
from cli.output.filenames import DIGITS, other_name
from cli.output.formats import LAYOUT, render
from cli.output.journal import Journal
from cli.output.key import KEY_VERSION, answer_key, key_of, settings_text
from cli.output.seen import ON_DISK, Seen, stamp_sounds
from cli.output.temporary import lock, remove_leftovers, temporary_file, write_all
from errors import UsageError
from models.manifest import file_sha256

JOURNAL = ".qwen_audio.jsonl"


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
        self._looked_at = set[str]()  # sub-folders
        self._written = deque[tuple[float, tuple[str, str, str, str]]]()  # when, and what `is_done` takes
        self._settings: tuple[Mapping[str, object], tuple[str, str]] = {}, ("", "")  # see _texts
        self._overwrite, self._layout = overwrite, layout
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy(folder)
            with temporary_file(folder) as probe:
                probe.write_bytes(b"\n")  # rights say little about a disk that is full or mounted to be read only
            self._journal = Journal(folder / JOURNAL)
            self._seen = Seen(folder, self.formats, self._journal)
        except (FileExistsError, NotADirectoryError):
            raise UsageError(f"--output-dir {folder}: a file is in its place", fix="name a folder") from None
        except (OSError, ValueError) as error:  # ValueError: a name that no folder can have
            reason = str(getattr(error, "strerror", None) or error).lower()
            raise UsageError(
                f"--output-dir {folder}: cannot be written ({reason})", fix="name another folder"
            ) from None

    def key(self, paths: Sequence[str], settings: Mapping[str, object]) -> str | None:
        """`content_key`; a sound that was hashed for this folder before is not read again while it is unchanged."""
        return key_of(paths, self._texts(settings)[0], self._journal.sha256)

    def stamp(self, paths: Sequence[str], settings: Mapping[str, object]) -> str | None:
        """How the sounds of an input are now, and what is asked about them: far sooner known than the key."""
        return stamp_sounds(paths, self._texts(settings)[1])

    def is_unchanged(self, stem: str, source: str, stamp: str | None) -> bool:
        """Whether an earlier run found the input with this stamp done, and all its files are as they were then."""
        self._look_below(_folder_of(stem))
        if self._overwrite or stamp is None:
            return False
        return self._seen.has(stem, stamp) or self._seen.has(other_name(stem, source), stamp)

    def are_unchanged(self, inputs: Sequence[tuple[str, Sequence[str], Mapping[str, object]]]) -> list[bool]:
        """What `is_unchanged` says of many inputs, sooner; of each the stem, the sounds and the settings.

        Those that bear their other name are not found.
        """
        for below in {_folder_of(stem) for stem, _, _ in inputs}:
            self._look_below(below)
        if self._overwrite:
            return [False] * len(inputs)
        return self._seen.have([(stem, paths, self._texts(settings)[1]) for stem, paths, settings in inputs])

    def is_done(self, stem: str, key: str | None, source: str = "", stamp: str | None = None) -> bool:
        """Whether each file of `stem`, or of the other name of `source`, is as it was written for this key.

        If so, it is noted for the `stamp` of the input.
        """
        self._look_below(_folder_of(stem))
        for name in (stem, other_name(stem, source)):
            if key is not None and all(self._is_whole(f"{name}.{fmt}", key) for fmt in self.formats):
                self._seen.add(name, stamp)
                return True
        return False

    def read(self, stem: str, key: str | None, source: str) -> list[dict[str, Any]]:
        """The records of an input from its json file, if that was written for this key; none without one.

        With a key that has no score it may be scored in any way.
        """
        for name in (stem, other_name(stem, source)):
            if key is not None and self._is_whole(f"{name}.json", key, scored_too=True):
                found = json.loads((self.folder / f"{name}.json").read_bytes())
                return found if isinstance(found, list) else [found]
        return []

    def write(
        self, stem: str, answers: Sequence[Answer], key: str | None, source: str = "", stamp: str | None = None
    ) -> list[Path]:
        """Write the answers about the input `source` in every format; unless `key` is None, the input then is done.

        A file that is not of this input, or that was changed since, is not replaced: then the answers get another
        name, the same in every run. Returns the files. Raises OSError, for a full disk too; then no file is there in
        part, and the input not done.
        """
        contents = {fmt: render(answers, fmt, self._layout).encode() for fmt in self.formats}
        if key is None:  # what can be read only once is never that very input again: its answers tell it from others
            source = hashlib.sha256(b"".join(contents.values())).hexdigest()[:DIGITS]
        written = self.write_files(stem, contents, key, source)
        if key is not None and stamp is not None:
            self._written.append((time.monotonic(), (stem, key, source, stamp)))
        self._see_written()
        return written

    def write_files(self, stem: str, contents: Mapping[str, bytes], key: str | None, source: str) -> list[Path]:
        """Write `contents`, ending -> content, as `write` writes the formats."""
        first = self.folder / f"{stem}.{next(iter(contents))}"
        try:
            first.parent.mkdir(parents=True, exist_ok=True)
            self._tidy(first.parent)
            for name in (stem, other_name(stem, source)):
                files = {f"{name}.{fmt}": content for fmt, content in contents.items()}
                targets = {self.folder / file: content for file, content in files.items()}
                own = self._own(files, source)
                if own is None:
                    continue
                self._note(files, key, source)  # first: a file that a kill leaves alone is known to be ours
                if write_all(targets, own):
                    return list(targets)
            raise FileExistsError(errno.EEXIST, "another file has this name, --overwrite replaces it")
        except OSError as error:
            error.filename, error.filename2 = str(first), None  # not the temporary name, nor none at all
            raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let one process at a time do what is inside, where the file system has locks."""
        with (self.folder / JOURNAL).open("ab") as file:
            lock(file, wait=True)
            yield

    @contextmanager
    def temporary(self, folder: Path) -> Iterator[Path]:
        """A new, empty file in one of our folders; removed unless renamed."""
        self._tidy(folder)
        with temporary_file(folder) as path:
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

    def _see_written(self) -> None:
        """Look again at what was written a while ago and is on the disk by now: the next run need not read it."""
        with suppress(IndexError, OSError):  # nothing is left, or another thread was faster
            while time.monotonic() - self._written[0][0] > ON_DISK:
                self.is_done(*self._written.popleft()[1])

    def _look_below(self, below: str) -> None:
        if below not in self._looked_at:
            self._looked_at.add(below)
            self._tidy(self.folder / below)

    def _texts(self, settings: Mapping[str, object]) -> tuple[str, str]:
        """The text of settings, and a hash of it; most inputs have those of the one before."""
        if self._settings[0] is not settings:
            text = settings_text(settings)
            self._settings = settings, (text, hashlib.sha256(f"{KEY_VERSION} {text}".encode()).hexdigest())
        return self._settings[1]

    def _may_replace(self, name: str, source: str) -> bool:
        """Whether a file is the answers about this very input as they were written, or may be replaced anyway.

        A recording never may, whatever it is called: it may be an input.
        """
        if self._overwrite:
            return not is_recording(str(self.folder / name))
        digest = self._digest(name)
        noted = [] if digest is None else self._journal.of(name)
        ours = any(one.digest == digest and one.input in ("", source) for one in noted)
        return ours and (self.folder / name).stat().st_mode & 0o222 != 0

    def _is_whole(self, name: str, key: str, *, scored_too: bool = False) -> bool:
        if self._overwrite:
            return False
        noted = self._journal.of(name)
        wanted = [one.digest for one in noted if one.key == key or (scored_too and answer_key(one.key) == key)]
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
                remove_leftovers(folder)


def _folder_of(stem: str) -> str:
    return stem.rpartition("/")[0]
