"""The server's socket. Only its owner can enter its folder, so whoever can connect may also ask.

The socket is named after the installation and its code. A run therefore never meets a server that runs other code or
other libraries, and every way to start Python in one environment leads to the same server.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import BackendError
from models.manifest import BACKENDS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ROOT = Path(__file__).resolve().parents[2]
ANSWERING = 5.0  # seconds in which a server that is not stopped answers, on a busy machine
LONGEST_PATH = 100  # the path of a socket has at most 108 bytes on Linux, 104 elsewhere


def socket_path(*, make: bool) -> Path:
    """The path of the socket; `make` makes its folder. Raises BackendError for a folder that others can enter."""
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
    path = folder / f"{fingerprint()}.sock"
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise BackendError(
            f"--keep: {folder} is too long a path for a socket", fix="set XDG_RUNTIME_DIR to a shorter one"
        )
    return path


def fingerprint() -> str:
    """12 characters that change with the environment, with a file of the server's code, and with its libraries."""
    code = [ROOT / "errors.py", *(ROOT / "models").glob("*.py")]
    code += [path for room in ("runtime", "server") for path in (ROOT / "models" / room).glob("*.py")]
    specs = (find_spec(name) for name in ("numpy", *BACKENDS))  # found, not imported
    code += [Path(spec.origin) for spec in specs if spec and spec.origin]
    # Not sys.executable: `python` and `python3` of one environment are the same.
    found = hashlib.sha256(f"{os.path.realpath(sys.prefix)} {sys.version}".encode())
    for path in sorted(path.resolve() for path in code):
        found.update(f"{path} {_written(path)}".encode())
    return found.hexdigest()[:12]


def connect(path: Path) -> Connection[Any, Any]:
    """Connect to a server.

    Raises FileNotFoundError or ConnectionRefusedError if there is none, BlockingIOError if it does not accept.
    """
    from multiprocessing import connection

    until = time.monotonic() + ANSWERING
    with socket.socket(socket.AF_UNIX) as caller:
        caller.setblocking(False)
        while True:
            try:
                caller.connect(str(path))
                break
            except BlockingIOError:  # as many wait as may; a server that runs takes the first of them soon
                if time.monotonic() > until:
                    raise
                time.sleep(0.02)
        caller.setblocking(True)
        return connection.Connection(caller.detach())


def server_pid(connection: Connection[Any, Any]) -> int | None:
    """The number of the process at the other end of a connection; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    with socket.socket(fileno=os.dup(connection.fileno())) as caller:
        told = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", told)[0]
    return pid


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # removed at this moment, by an update
        return 0
