"""The one kind of error that is raised on purpose: what is wrong, what to do, and how the run ends.

Every room may import this file; it imports nothing heavy. Whatever is shown, counted, put into JSON or turned
into an exit code is read from the fields of the error, never from its text.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROOT = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib takes long to import
LONGEST = 2_000  # characters of a message


class QwenAudioError(Exception):
    """A problem that the user can solve. As text it is one line: `message; fix`.

    `kind` is a word or two, the same for all errors of a sort: runs count by it. `exit_code` is that of a run which
    this error ends or spoils.
    """

    kind = "other"
    exit_code = 1

    def __init__(self, message: str, fix: str = "", *, kind: str | None = None, exit_code: int | None = None) -> None:
        """Say in `message` what is wrong and where, in `fix` what to do about it."""
        self.message, self.fix = _line(message), _line(fix)
        super().__init__(f"{self.message}; {self.fix}" if fix else self.message)
        self.kind = kind or self.kind
        self.exit_code = self.exit_code if exit_code is None else exit_code


def path(text: str) -> Path:
    """A path as it was typed. An empty one ("$OUT" where nothing is set) would be the working directory: ValueError."""
    from pathlib import Path

    if not text:
        raise ValueError("an empty name")
    return Path(text)


def is_at_root() -> bool:
    """Whether the user stands where this program lies."""
    try:
        return os.path.samefile(os.curdir, ROOT)  # noqa: PTH121
    except OSError:  # the folder was removed
        return False


def command(text: str) -> str:
    """A command of this program, for a hint, as it works from where the user stands."""
    return text if is_at_root() else f"cd {shlex.quote(ROOT)} && {text}"


def _line(text: str) -> str:
    """A text as one line that is safe to print: it may quote what other people wrote, of any length."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} … {text[-200:]}"


class UsageError(QwenAudioError):
    """A command line that cannot be meant."""

    kind, exit_code = "usage", 2


class PromptError(QwenAudioError):
    """A prompt that this model cannot take: empty, too long, an unknown token, or clips that do not fit it."""

    kind, exit_code = "prompt", 2


class InputError(QwenAudioError):
    """Nothing to work on: no input exists, or a list of inputs cannot be read."""

    kind, exit_code = "no input", 4


class AudioError(QwenAudioError):
    """A sound that cannot be read."""

    kind = "not a sound"


class OutputError(QwenAudioError):
    """An answer that cannot be written."""

    kind = "output"


class ModelError(QwenAudioError):
    """A model, checkpoint or download that is missing, unfinished, damaged or of another format."""

    kind, exit_code = "model", 3


class BackendError(QwenAudioError):
    """A backend that cannot start, or a graph that it cannot open or run."""

    kind, exit_code = "backend", 3


def printable(text: str) -> str:
    """One line that is safe on a terminal: control characters are written out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
