"""How a failure is reported: a line on standard error, a line of JSON with --json, and an exit code."""

from __future__ import annotations

import errno
import sys
import traceback
from typing import TYPE_CHECKING

from cli.output.streams import say, show_piece
from errors import QwenAudioError, command
from models.runtime.shortage import shortage

if TYPE_CHECKING:
    from cli.output.answer import Answer

OK, INPUT_FAILED, WRONG_USAGE, NO_MODEL, NOTHING_TO_DO = 0, 1, 2, 3, 4
READER_GONE = 141  # 128 + the number of SIGPIPE


def named_error(failure: Exception, inputs: str) -> QwenAudioError:
    """An error of a library or the system about `inputs`, as a QwenAudioError. Raises `failure` if it is a bug."""
    match failure:
        case QwenAudioError():
            return failure
        case ImportError():
            if lack := shortage(str(failure)):  # a library for which there is no room
                return lack
            fix = f"`{command('pip install -r requirements.txt')}`"
            return QwenAudioError(str(failure), fix, kind="package", exit_code=NO_MODEL)
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            fix = "raise the limit (ulimit -n), or close other programs"
            return QwenAudioError(f"{failure.filename or inputs}: {failure.strerror}", fix, kind="files")
        case MemoryError() | OSError(errno=errno.ENOMEM):
            fix = "give shorter recordings, or close other programs"
            return QwenAudioError(f"{inputs}: not enough memory", fix, kind="memory")
        case FileNotFoundError():
            place = failure.filename or inputs or "the working directory"  # os.getcwd names none
            return QwenAudioError(f"{place}: {failure.strerror}", kind="missing")
        case OSError():
            return QwenAudioError(f"{failure.filename or inputs}: {failure.strerror or failure}", kind="unreadable")
    raise failure


def file_error(failure: Exception, inputs: str) -> QwenAudioError:
    """The error of one input. A bug in this program is reported as one, and the other inputs are answered."""
    try:
        return named_error(failure, inputs)
    except Exception as bug:  # noqa: BLE001 - the same failure, which is not known
        text = f"{inputs}: {type(bug).__name__} in this program ({bug})"
        return QwenAudioError(text, "report it with what --debug shows", kind="bug")


def report_failure(failure: Exception, result: Answer, *, json: bool, debug: bool) -> QwenAudioError:
    """One line on standard error, and with --json one on standard output; returns the error that was told.

    `result` is the answer that failed, or one that could not begin. Raises `failure` again if it is not a failure that
    we know but a bug of ours.
    """
    error = named_error(failure, ", ".join(result.input))
    if debug:
        traceback.print_exception(failure, file=sys.stderr)
    say(str(error))
    if json:
        show_piece(result.as_json(error) + "\n")
    return error
