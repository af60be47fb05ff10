"""What can go wrong, in one line and one exit code each. The only list of our named errors."""

from __future__ import annotations

import signal
import sys
import traceback

from cli.answer import Answer
from cli.arguments import UsageError
from cli.inputs import InputError
from cli.output import OutputError, say, show_piece

OK, INPUT_FAILED, WRONG_USAGE, NO_MODEL, NOTHING_TO_DO = 0, 1, 2, 3, 4
INTERRUPTED, READER_GONE, TERMINATED = 130, 141, 143  # 128 + the number of the signal


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the run as a keyboard would, finished answers kept."""


def end_on_sigterm() -> None:
    """From now on SIGTERM raises Terminated, in the main thread."""

    def end(*_: object) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


_OF_THE_SHELL: dict[type[Exception], int] = {
    UsageError: WRONG_USAGE,
    InputError: NOTHING_TO_DO,
    OutputError: INPUT_FAILED,
}


def report_failure(failure: Exception, result: Answer, *, json: bool, debug: bool) -> int:
    """One line on standard error, and with --json one on standard output; returns the exit code.

    `result` is the answer that failed, or one that could not begin. Raises `failure` again if it is not a failure that
    we know but a bug of ours.
    """
    code, line = _explain(failure, ", ".join(result.input))
    if debug:
        traceback.print_exception(failure, file=sys.stderr)
    say(line)
    if json:
        show_piece(result.as_json(line) + "\n")
    return code


def _explain(failure: Exception, inputs: str) -> tuple[int, str]:
    if isinstance(failure, ImportError):  # numpy may be what is missing: no room can be asked then
        return NO_MODEL, f"{failure}; `pip install -r requirements.txt`"
    if isinstance(failure, tuple(_OF_THE_SHELL)):  # told without the second that numpy takes to import
        return _OF_THE_SHELL[type(failure)], str(failure)
    for kind, code in _of_the_rooms().items():
        if isinstance(failure, kind):
            return code, str(failure)
    if isinstance(failure, MemoryError):
        return INPUT_FAILED, f"{inputs}: not enough memory; give shorter recordings, or close other programs"
    if isinstance(failure, TimeoutError) and not failure.errno:  # --timeout's
        return INPUT_FAILED, f"{inputs}: {failure}"
    if isinstance(failure, OSError):
        return INPUT_FAILED, f"{failure.filename or inputs}: {failure.strerror or failure}"
    raise failure


def _of_the_rooms() -> dict[type[Exception], int]:
    from audio_encoder.waveform import AudioError
    from decoder.decoder import PromptError
    from models.manifest import ManifestError
    from models.session import BackendError
    from tokenizer.chat import ChatError
    from tokenizer.tasks import TaskError
    from tokenizer.tokenizer import TokenizerError

    return {
        AudioError: INPUT_FAILED,
        PromptError: WRONG_USAGE,
        ChatError: WRONG_USAGE,
        TaskError: WRONG_USAGE,
        TokenizerError: WRONG_USAGE,  # of the prompt: an unfit vocabulary has become a ManifestError on opening
        ManifestError: NO_MODEL,
        BackendError: NO_MODEL,
    }
