"""`python3 -m models.server SOCKET`: the process that keeps graphs open for later runs; `client` starts it.

One run at a time has its turn: its connections, one for each graph or chain of graphs, open what is not open yet and
then run it. What a run does not use is closed when its turn ends, or as soon as it opens something else, so two models
never lie in memory together.

The environment is that of the run that started this process; nice value, cores and soft limits are not (see `limits`).
It ends when nobody has asked for long enough, and, between two runs, when its code or its libraries were updated.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import BackendError, QwenAudioError
from models.manifest import load_manifest
from models.runtime.chain import open_chain
from models.runtime.session import Array, Session, SessionOptions
from models.runtime.threads import Thread
from models.server.address import fingerprint
from models.server.limits import lift_limits
from models.server.messages import receive, send

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

FIRST = 60.0  # seconds that a server waits for its first run
LOOK = 0.5
CLOSING = 5.0  # seconds in which a connection that was hung up is noticed


@dataclass(frozen=True)
class Key:
    """What was opened: graphs of a model as its files were then, with these options, for so many rows."""

    directory: str
    stamps: tuple[tuple[int, ...], ...]
    graphs: tuple[str, ...]
    options: SessionOptions
    rows: int

    @staticmethod
    def of(order: Mapping[str, Any]) -> Key:
        """The key that a run asks for."""
        stamps = tuple(tuple(stamp) for stamp in order["stamps"])
        options = SessionOptions(**order["options"])
        return Key(order["directory"], stamps, tuple(order["graphs"]), options, order["rows"])

    def open(self) -> Session:
        """Open it; raises ModelError or BackendError."""
        manifest = load_manifest(Path(self.directory))
        known = {graph.file: graph for graph in manifest.graphs}
        return open_chain(manifest, [known[file] for file in self.graphs], self.options, rows=self.rows)


class Server:
    """Open sessions, whose turn it is to use them, and how long they are kept. All under `_changed`."""

    def __init__(self, limits: Sequence[str] = ()) -> None:
        self._limits = list(limits)  # that it could not lift
        self._changed = threading.Condition()
        self._sessions: dict[Key, Session] = {}
        self._used: set[Key] = set()  # in this turn, to be kept after it
        self._busy: set[Key] = set()  # by a connection of this turn
        self._client = ""  # whose turn it is
        self._connections = 0  # that it has
        self._keep = FIRST
        self._until = time.monotonic() + FIRST
        self._ended = self._retired = False

    def is_over(self) -> bool:
        """Whether it was told to end, or is between two runs and either retired or not asked for long enough."""
        with self._changed:
            return self._ended or (not self._connections and (self._retired or time.monotonic() > self._until))

    def retire(self) -> None:
        """End after the run that has its turn."""
        with self._changed:
            self._retired = True

    def serve(self, connection: Connection[Any, Any]) -> None:
        """Answer one connection until the other side is gone."""
        with closing(connection), suppress(EOFError, OSError):  # of the other side
            asked, _ = receive(connection)
            if asked["do"] == "begin":
                with self._turn(asked["client"], asked["keep"]):
                    send(connection, {})  # fails for a run that went away while it waited
                    self._work(connection, Key.of(receive(connection)[0]))
            elif asked["do"] == "state":
                send(connection, self._state())
            elif asked["do"] == "end":
                send(connection, {"pid": os.getpid()})
                with self._changed:
                    self._ended = True

    def _work(self, connection: Connection[Any, Any], key: Key) -> None:
        """Open what the run asks for, and run it until the run ends."""
        try:
            session = self._opened(key)
        except Exception as failure:  # noqa: BLE001 - told to the run, which tells its user
            send(connection, {"error": _fields(failure)})
            return
        try:
            send(connection, {})
            self._run(connection, session)
        finally:
            with self._changed:
                self._busy.discard(key)
                self._changed.notify_all()

    @staticmethod
    def _run(connection: Connection[Any, Any], session: Session) -> None:
        known: dict[str, Array] = {}
        while True:
            order, arrays = receive(connection)
            known.update({name: arrays[name] for name in order.get("known", ())})
            try:
                found = _obey(session, order, {**known, **arrays})
            except Exception as failure:  # noqa: BLE001 - as above
                send(connection, {"error": _fields(failure)})
            else:
                send(connection, {}, {str(number): array for number, array in enumerate(found)})

    def _opened(self, key: Key) -> Session:
        """The session of a key with an empty state, opened if it is not."""
        with self._changed:
            # A run that closed it a moment ago may open it again.
            if not self._changed.wait_for(lambda: key not in self._busy, CLOSING):
                raise BackendError("--keep: one run cannot open the same graph twice", fix="leave --keep out")
            self._busy.add(key)
            self._used.add(key)
            session = self._sessions.get(key)
            if session is None:
                self._close_unused()
        try:
            if session is None:
                session = key.open()
                with self._changed:
                    self._sessions[key] = session
            for row in range(key.rows):
                session.rewind(0, row=row)
        except BaseException:
            with self._changed:
                self._busy.discard(key)
                self._used.discard(key)
            raise
        return session

    def _close_unused(self) -> None:
        for key in self._sessions.keys() - self._used:
            del self._sessions[key]

    @contextmanager
    def _turn(self, client: str, keep: float) -> Iterator[None]:
        """Wait until it is this client's turn, and hold it for one more connection."""
        with self._changed:
            self._changed.wait_for(lambda: self._client in ("", client))
            self._client, self._keep = client, keep
            self._connections += 1
        try:
            yield
        finally:
            with self._changed:
                self._connections -= 1
                if not self._connections:
                    self._close_unused()
                    self._used.clear()
                    self._client, self._until = "", time.monotonic() + self._keep
                self._changed.notify_all()

    def _state(self) -> dict[str, Any]:
        with self._changed:
            left = None if self._connections else max(self._until - time.monotonic(), 0)
            models = sorted({key.directory for key in self._sessions})
            return {"pid": os.getpid(), "models": models, "left": left, "limits": self._limits}


def _obey(session: Session, order: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Array]:
    if order["do"] == "rewind":
        session.rewind(order["length"], row=order["row"])
        return []
    feeds = {name: arrays[name] for name in order["feeds"]}
    return session.run(feeds, rows=order["rows"], lengths=order["lengths"])


def _fields(failure: Exception) -> dict[str, str | int]:
    """The fields of an error, which is raised again on the other side; one that is not ours counts as the backend's."""
    if not isinstance(failure, QwenAudioError):
        kind = "memory" if isinstance(failure, MemoryError) else None
        failure = BackendError(str(failure) or type(failure).__name__, kind=kind)
    return {"message": failure.message, "fix": failure.fix, "kind": failure.kind, "exit_code": failure.exit_code}


def main(path: Path) -> int:
    """Serve until nobody asks any more; the socket's name is taken over from a server that was killed."""
    from multiprocessing.connection import Listener

    code, server = fingerprint(), Server(lift_limits())
    part = path.with_suffix(f".{os.getpid()}")  # nobody finds a socket that does not listen yet
    listener = Listener(str(part), "AF_UNIX", backlog=64)
    part.rename(path)
    own = path.stat().st_ino

    def accept() -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:  # as many are open as may be
                time.sleep(LOOK)
                continue
            try:
                Thread(partial(server.serve, connection))
            except (BackendError, MemoryError):
                connection.close()  # which tells the run

    Thread(accept)
    while not server.is_over():
        time.sleep(LOOK)
        if fingerprint() != code:
            server.retire()
    with suppress(OSError):
        if path.stat().st_ino == own:
            path.unlink()
            log = path.with_suffix(".log")  # made by who started this
            if not log.stat().st_size:
                log.unlink()
    os._exit(0)  # hard: a thread may be in a library that cannot be interrupted


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
