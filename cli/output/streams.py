"""The two ways out: answers on standard output and, if asked for, in a file; everything else on standard error."""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from audio_encoder.kinds import is_recording
from errors import OutputError, UsageError, printable

_STDIN = "-"
_NUMBERS = {"stdout": 1, "stderr": 2}
_OPEN = re.compile("/dev/(stdout|stderr|fd/[0-9]{1,6})")


def prepare_streams() -> None:
    """Write UTF-8 in every locale. Of streams that the shell has closed, only standard output is missed, at a write."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            flags = os.O_WRONLY if name == "stderr" else os.O_RDONLY
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode, encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace" if name == "stdin" else "backslashreplace")


def show_piece(piece: str) -> None:
    """A piece of the answer on standard output, at once.

    Raises BrokenPipeError when its reader went away and OutputError when it fails otherwise; from then on what is
    written goes nowhere, so that nothing fails again when the process ends.
    """
    try:
        sys.stdout.write(piece)
        sys.stdout.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"standard output: {error.strerror}", fix="the answer there is not complete") from None


def say(message: str, *, quiet: bool = False) -> None:
    """Write one line on standard error, safe for any characters; if nobody reads it, that is no error."""
    if not quiet:
        with contextlib.suppress(OSError):
            _write_line(f"qwen_audio: {printable(message)}")


def _write_line(line: str) -> None:
    """Above the progress bar, if there is one: it is tqdm's, so it can only be there where tqdm was imported."""
    if tqdm := sys.modules.get("tqdm"):
        tqdm.tqdm.write(line, file=sys.stderr)
        sys.stderr.flush()
    else:
        print(line, file=sys.stderr, flush=True)


def check_savepath(path: Path, inputs: Iterable[str], *, flag: str = "--savepath") -> None:
    """Raise UsageError for a file that cannot be written, is an input or a recording: better now than at the end."""
    wrong = None
    try:
        if path.is_dir():
            wrong = "this is a folder", "name a file in it"
        elif not path.parent.is_dir():
            wrong = f"there is no folder {path.parent}", "make it first"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            wrong = "you may not write there", "name another file"
        elif path.is_file() and any(_is_file(path, name) for name in chain(inputs, [_STDIN])):
            wrong = "this is one of the inputs", "name another file"
        elif path.is_file() and path.stat().st_size and is_recording(str(path)):
            wrong = "this is a recording", "name another file"
        elif not path.exists():
            os.stat(path)  # noqa: PTH116 - Path swallows what is wrong with a name
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:  # ValueError: a NUL, or half a character
        wrong = getattr(error, "strerror", None) or "no file can be called so", "name another file"
    if wrong:
        raise UsageError(f"{flag} {path}: {wrong[0]}", fix=wrong[1])


def _is_file(path: Path, name: str) -> bool:
    """Whether an input is a file, also where the shell redirects it: `< FILE`."""
    if name == _STDIN:
        with contextlib.suppress(OSError, ValueError):  # closed, or none of the system's
            return os.path.samestat(path.stat(), os.fstat(sys.stdin.fileno()))
        return False
    return os.path.exists(name) and path.samefile(name)  # noqa: PTH110 - "" is no Path


def check_stdout(inputs: Iterable[str]) -> None:
    """Raise UsageError where `>> FILE` would put the answers behind an input; `> FILE` has emptied it before."""
    try:
        status = os.fstat(sys.stdout.fileno())
    except (OSError, ValueError):  # closed, or none of the system's
        return
    if not (stat.S_ISREG(status.st_mode) and status.st_size):
        return
    for name in inputs:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samestat(status, os.stat(name)):  # noqa: PTH116 - "" is no Path
                raise UsageError(f"standard output is appended to {name}, one of the inputs", "name another file")


def save_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; a device or a pipe is simply written to. Raises OSError."""
    data = text.encode("utf-8", "backslashreplace")  # a name in it may have any bytes
    if open_already := _OPEN.fullmatch(str(path)):  # /dev/stdout: by its name, what is in it would be lost
        with open(os.dup(_NUMBERS.get(open_already[1]) or int(open_already[1][3:])), "wb") as file:  # noqa: PTH123
            file.write(data)
        return
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(8)}.part")
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    try:
        with temporary.open("xb") as file:  # nothing that is there already is written to
            file.write(data)
        if mode is not None:
            temporary.chmod(mode)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
