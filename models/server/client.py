"""Graphs that stay open in a process of their own between runs: what a shell loop over files opens once.

`open_kept` is `open_chain` by way of that process, the keeper (`models.server`): it is started if there is none, serves
one run at a time, later ones wait, and ends when nobody has asked for as long as the last run wished. There is one for
each user and installation; another model takes the place of the one that it holds.

The socket lies in a folder that only its owner can enter, so whoever can connect may also ask.
"""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from errors import BackendError, ModelError
from models.manifest import Graph, Manifest
from models.runtime.cpu import thread_limit
from models.runtime.session import Array, SessionOptions
from models.server.messages import Connection, receive, send

ROOT = Path(__file__).resolve().parents[2]
# What a keeper runs: one that was started by other code, or for another library, is not asked.
CODE = ("runtime/session.py", "runtime/chain.py", "server/__main__.py", "server/messages.py", "manifest.py")
LIBRARIES = ("onnxruntime", "ailia", "numpy")
STARTING = 20.0  # seconds in which a new keeper must answer: Python and numpy on a busy machine
ANSWERING = 5.0  # seconds in which a keeper says how it is: one that was stopped never does
ATTEMPTS = 3  # a keeper may end at the moment in which it is asked
GONE = "the process that kept the model open is gone (ended, or out of memory); run this again, or without --keep"
# Paths of sockets are short (108 bytes on Linux, 104 elsewhere).
LONGEST_PATH = 100

_CLIENT = uuid.uuid4().hex  # both graphs of a run are one client
_FAILURES: dict[str, Callable[[str], Exception]] = {
    "ModelError": ModelError,
    "MemoryError": MemoryError,
}


def open_kept(manifest: Manifest, graphs: Sequence[Graph], options: SessionOptions, *, rows: int = 1) -> KeptSession:
    """Graphs that go on from one another, open in the keeper; raises what opening them here would raise."""
    options = replace(options, threads=options.threads or thread_limit())  # of this run: it may be bound to some cores
    keep, options = options.keep, replace(options, keep=0.0)
    hello = {
        "do": "open",
        "client": _CLIENT,
        "keep": keep,
        "directory": str(manifest.directory.resolve()),
        "stamps": _stamps(manifest),
        "graphs": [graph.file for graph in graphs],
        "options": asdict(options),
        "rows": rows,
    }
    for _ in range(ATTEMPTS):
        line = _Line(_reach())
        try:
            line.ask(hello)
            return KeptSession(line)
        except (EOFError, OSError):
            line.close()
        except BaseException:
            line.close()
            raise
    raise BackendError(GONE)


class KeptSession:
    """A session whose graphs and state are in the keeper. Arrays that cannot be written to are sent once."""

    def __init__(self, line: _Line) -> None:
        self._line = line
        self._known: dict[str, Array] = {}
        weakref.finalize(self, line.close)

    def run(
        self, feeds: Mapping[str, Array], *, rows: Sequence[int] = (0,), lengths: Sequence[int] = ()
    ) -> list[Array]:
        """Run once; returns the outputs that are not state. Raises BackendError as the session itself does."""
        fresh = {name: array for name, array in feeds.items() if self._known.get(name) is not array}
        header = {"do": "run", "feeds": list(feeds), "rows": list(rows), "lengths": list(lengths)}
        header["known"] = constants = [name for name, array in fresh.items() if not array.flags.writeable]
        found = self._ask(header, fresh)
        self._known.update({name: fresh[name] for name in constants})
        return list(found.values())

    def rewind(self, length: int, *, row: int = 0) -> None:
        """Keep the first `length` positions of a row."""
        self._ask({"do": "rewind", "length": length, "row": row})

    def _ask(self, header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> dict[str, Array]:
        try:
            return self._line.ask(header, arrays)
        except (EOFError, OSError):
            raise BackendError(GONE) from None


class _Line:
    """A connection on which a thread of its own speaks: a caller who is interrupted leaves no half message behind."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._number = connection, 0
        self._asked: queue.SimpleQueue[tuple[int, Mapping[str, Any], Mapping[str, Array] | None] | None]
        self._asked = queue.SimpleQueue()
        self._told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._speak, name="qwen-audio kept", daemon=True).start()

    def ask(self, header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> dict[str, Array]:
        """Ask and wait for the arrays of the answer; raises what the keeper raised, EOFError or OSError without one."""
        self._number += 1
        self._asked.put((self._number, header, arrays))
        number = 0
        while number != self._number:  # an answer that an interrupted caller did not wait for is dropped
            number, found = self._told.get()
        if isinstance(found, Exception):
            raise found
        answer, values = found
        if "error" in answer:
            raise _FAILURES.get(answer["kind"], BackendError)(answer["error"])
        return values  # type: ignore[no-any-return]

    def close(self) -> None:
        """Hang up, after what is being said."""
        self._asked.put(None)

    def _speak(self) -> None:
        while asked := self._asked.get():
            number, header, arrays = asked
            try:
                send(self._connection, header, arrays)
                found: Any = receive(self._connection)
            except (EOFError, OSError) as failure:
                found = failure
            self._told.put((number, found))
        self._connection.close()


def end_kept() -> None:
    """End the keeper if there is one: a run that it serves is told that it is gone."""
    ask_keeper("end")


def ask_keeper(what: str) -> dict[str, Any]:
    """What the keeper says to "state" or "end"; {} where there is none, or none that answers. Starts nothing."""
    try:
        with closing(_connect(_folder(make=False) / _name())) as connection:
            send(connection, {"do": what})
            return receive(connection)[0] if connection.poll(ANSWERING) else {}
    except (EOFError, OSError, BackendError):
        return {}


def _reach() -> Connection:
    """A connection to the keeper, which is started if there is none."""
    folder = _folder(make=True)
    path = folder / _name()
    try:
        with _alone(folder / "lock"):
            try:
                return _connect(path)
            except OSError:
                return _start(path)
    except OSError as failure:  # no room, no more processes
        place = failure.filename or folder
        raise BackendError(f"--keep: {place}: {failure.strerror or failure}", fix="leave --keep out") from None


def _start(path: Path) -> Connection:
    """Start a keeper and connect to it; it outlives this process, and hears neither its terminal nor its signals."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "models.server", str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},  # Python may be told to look nowhere else
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        try:
            return _connect(path)
        except OSError:
            time.sleep(0.02)
    process.kill()
    said = log.read_text(errors="replace").strip().splitlines()
    raise BackendError(
        f"--keep: {path} could not be served ({said[-1] if said else 'no answer'})", fix="leave --keep out"
    )


def _connect(path: Path) -> Connection:
    from multiprocessing.connection import Client

    return Client(str(path), "AF_UNIX")


def _folder(*, make: bool) -> Path:
    """The folder of the socket, which nobody else may enter; raises BackendError for one that others could."""
    if not hasattr(os, "getuid"):
        raise BackendError("--keep: this system has no Unix sockets", fix="leave --keep out")
    named = os.environ.get("XDG_RUNTIME_DIR", "")
    folder = Path(named) / "qwen-audio" if Path(named).is_absolute() else None
    if folder is None or not folder.parent.is_dir():
        folder = Path(tempfile.gettempdir()) / f"qwen-audio-{os.getuid()}"
    try:
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as failure:
        raise BackendError(
            f"--keep: {folder}: {failure.strerror}", fix="set XDG_RUNTIME_DIR to a folder of yours"
        ) from None
    if found.st_uid != os.getuid() or found.st_mode & 0o170077 != 0o040000:
        raise BackendError(f"--keep: {folder} is not a folder of yours alone", fix="remove it, or set XDG_RUNTIME_DIR")
    if len(os.fsencode(folder / _name())) > LONGEST_PATH:
        raise BackendError(
            f"--keep: {folder} is too long a path for a socket", fix="set XDG_RUNTIME_DIR to a shorter one"
        )
    return folder


def _name() -> str:
    """The name of the socket: of this code, this Python and its libraries."""
    found = hashlib.sha256(f"{sys.executable} {sys.version}".encode())
    packages = [spec.origin for spec in map(find_spec, LIBRARIES) if spec and spec.origin]  # found, not imported
    for path in [*(str(Path(__file__).parents[1] / name) for name in CODE), *packages]:
        found.update(f"{path} {Path(path).stat().st_mtime_ns}".encode())
    return f"{found.hexdigest()[:12]}.sock"


def _stamps(manifest: Manifest) -> list[list[int]]:
    """What changes when a file of the model is written again."""
    names = sorted({*manifest.files, "manifest.json"})
    found = (manifest.path(name).stat() for name in names)
    return [[one.st_size, one.st_mtime_ns] for one in found]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two runs that begin at once start one keeper."""
    import fcntl

    with path.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
