"""Graphs that stay open in another process between runs: what a shell loop over files opens once.

`open_remote` is `open_chain` in that process, the server (`models.server`). It is started if there is none,
serves one run at a time while later ones wait, and ends when nobody has asked for as long as the last run wished. There
is one for each user and installation; another model takes the place of the one that it holds.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import BackendError, QwenAudioError
from models.manifest import FILE_NAME, Graph, Manifest
from models.runtime.cpu import thread_limit
from models.runtime.session import Array, SessionOptions
from models.runtime.threads import Thread
from models.server import address
from models.server.address import ROOT, connect, server_pid, socket_path
from models.server.messages import receive, send

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STARTING = 20.0  # seconds in which a new server must answer: Python and numpy on a busy machine
LOOKING = 5.0  # seconds without an answer after which a run looks whether the server still answers anybody
SILENT = 20.0  # seconds of silence after which a server counts as stopped
ATTEMPTS = 3  # a server may end at the moment in which it is asked
GONE = (
    "the process that keeps the model open is gone (ended, or out of memory)",
    "run this again, or leave --keep out",
)
STOPPED = "the process that keeps the model open does not answer (stopped?)"
IN_USE = ("the process that keeps the model open is in use by another run", "wait for that run, or leave --keep out")

_CLIENT = uuid.uuid4().hex  # both graphs of a run are one client


def open_remote(
    manifest: Manifest, graphs: Sequence[Graph], options: SessionOptions, *, rows: int = 1
) -> RemoteSession:
    """Open graphs that follow one another in the server; raises what opening them here would raise.

    Raises BackendError, too, when another run has the server for longer than `options.wait`, and when it is stopped.
    """
    threads = options.threads or thread_limit()  # of this run: it may be bound to some cores
    order = {
        "do": "open",
        "directory": str(manifest.directory.resolve()),
        "stamps": _stamps(manifest),
        "graphs": [graph.file for graph in graphs],
        "options": asdict(replace(options, threads=threads, keep=0.0, wait=None)),
        "rows": rows,
    }
    channel = _begin(options)
    try:
        channel.ask(order)
    except (EOFError, OSError):
        channel.close()
        raise BackendError(*GONE) from None
    except BaseException:
        channel.close()
        raise
    return RemoteSession(channel)


class RemoteSession:
    """A session whose graphs and state are in the server. Arrays that cannot be written to are sent once."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._known: dict[str, Array] = {}
        weakref.finalize(self, channel.close)

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
            return self._channel.ask(header, arrays)
        except (EOFError, OSError):
            raise BackendError(*GONE) from None


class _Channel:
    """A connection with a thread of its own, so that an interrupted caller never leaves half a message."""

    def __init__(self, connection: Connection[Any, Any], path: Path) -> None:
        self._connection, self._path, self._number = connection, path, 0
        self._stopped = False
        self._asked: queue.SimpleQueue[tuple[int, Mapping[str, Any], Mapping[str, Array] | None] | None]
        self._asked = queue.SimpleQueue()
        self._told: queue.SimpleQueue[tuple[int, Any]] = queue.SimpleQueue()
        self._thread = Thread(self._speak, name="qwen-audio server")

    def ask(
        self, header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, *, wait: float | None = None
    ) -> dict[str, Array]:
        """Ask and wait, at most `wait` seconds, for the arrays of the answer.

        Raises what the server raised, EOFError or OSError when it is gone, BackendError when it does not answer.
        """
        self._number += 1
        self._asked.put((self._number, header, arrays))
        found = self._answer(wait)
        if isinstance(found, Exception):
            raise found
        answer, values = found
        if "error" in answer:
            raise _failure(answer["error"])
        return values  # type: ignore[no-any-return]

    def close(self) -> None:
        """Hang up, after what is being said."""
        self._asked.put(None)

    def _answer(self, wait: float | None) -> Any:
        """The answer to the last question; those that an interrupted caller did not wait for are dropped."""
        begun = heard = time.monotonic()
        while not self._stopped:
            left = LOOKING if wait is None else max(begun + wait - time.monotonic(), 0.0)
            try:
                number, found = self._told.get(timeout=min(left, LOOKING))
            except queue.Empty:
                if not self._thread.is_alive():
                    raise MemoryError("the thread that speaks to the server is gone") from None
                answers = bool(_ask(self._path, "state"))
                heard = time.monotonic() if answers else heard
                if answers and wait is not None and heard >= begun + wait:
                    raise BackendError(*IN_USE) from None
                until = heard + SILENT if wait is None else min(heard + SILENT, begun + wait)
                self._stopped = not answers and time.monotonic() >= until
            else:
                if number == self._number:
                    return found
        pid = server_pid(self._connection)
        raise BackendError(STOPPED, fix=f"end it{f' with `kill -9 {pid}`' if pid else ''}, or leave --keep out")

    def _speak(self) -> None:
        while asked := self._asked.get():
            number, header, arrays = asked
            try:
                send(self._connection, header, arrays)
                found: Any = receive(self._connection)
            except Exception as failure:  # noqa: BLE001 - raised again on the caller's side
                self._connection.close()  # half a message may have gone
                found = failure
            self._told.put((number, found))
        self._connection.close()


def end_server() -> None:
    """End the server if there is one. A run that it serves then fails with an error."""
    ask_server("end")


def ask_server(what: str) -> dict[str, Any]:
    """The server's answer to "state" or "end"; {} if there is no server or no answer. Starts nothing."""
    try:
        return _ask(socket_path(make=False), what)
    except BackendError:
        return {}


def _ask(path: Path, what: str) -> dict[str, Any]:
    try:
        with closing(connect(path)) as connection:
            send(connection, {"do": what})
            return receive(connection)[0] if connection.poll(address.ANSWERING) else {}
    except (EOFError, OSError):
        return {}


def _failure(told: Mapping[str, Any]) -> Exception:
    """What the server raised, made again from its fields."""
    if told["kind"] == "memory":
        return MemoryError(told["message"])
    kinds = {child.kind: child for child in QwenAudioError.__subclasses__()}
    error = kinds.get(told["kind"], BackendError)
    return error(told["message"], told["fix"], kind=told["kind"], exit_code=told["exit_code"])


def _begin(options: SessionOptions) -> _Channel:
    """Wait for this run's turn; returns a channel to the server, which is started if there is none."""
    for _ in range(ATTEMPTS):
        channel = _Channel(*_reach())
        try:
            channel.ask({"do": "begin", "client": _CLIENT, "keep": options.keep}, wait=options.wait)
        except (EOFError, OSError):
            channel.close()
        except BaseException:
            channel.close()
            raise
        else:
            return channel
    raise BackendError(*GONE)


def _reach() -> tuple[Connection[Any, Any], Path]:
    """A connection to the server and the path of its socket. The server is started if there is none."""
    path = socket_path(make=True)
    try:
        with _alone(path.with_name("lock")):
            try:
                return connect(path), path
            except (FileNotFoundError, ConnectionRefusedError):
                return _start(path), path
    except (BlockingIOError, TimeoutError):
        raise BackendError(STOPPED, fix="end it, or leave --keep out") from None
    except OSError as failure:  # no room, no more processes
        place = failure.filename or path.parent
        raise BackendError(f"--keep: {place}: {failure.strerror or failure}", fix="leave --keep out") from None


def _start(path: Path) -> Connection[Any, Any]:
    """Start a server and connect to it; it outlives this process, and hears neither its terminal nor its signals."""
    log = path.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "models.server", str(path)],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        try:
            connected = connect(path)
        except OSError:
            time.sleep(0.02)
        else:
            process.returncode = 0  # it lives on: Python would warn of that, where it is told to
            return connected
    process.kill()
    said = log.read_text(errors="replace").strip().splitlines()
    raise BackendError(
        f"--keep: {path} could not be served ({said[-1] if said else 'no answer'})", fix="leave --keep out"
    )


def _environment() -> dict[str, str]:
    """This run's environment, with the project on Python's path: Python may be told to look nowhere else."""
    given = os.environ.get("PYTHONPATH")
    own = [str(Path.cwd() / part) for part in given.split(os.pathsep)] if given else []  # "" is this folder
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *own])}


def _stamps(manifest: Manifest) -> list[list[int]]:
    """What changes when a file of the model is written again or replaced, even by one of the same size and time."""
    names = sorted({*manifest.files, FILE_NAME})
    found = (manifest.path(name).stat() for name in names)
    return [[one.st_size, one.st_mtime_ns, one.st_ino, one.st_ctime_ns] for one in found]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two runs that begin at once start one server; TimeoutError if it is not let go."""
    import fcntl

    until = time.monotonic() + 2 * STARTING
    with path.open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(0.001)  # both graphs of a run come at once, and the first is done in as much
        yield
