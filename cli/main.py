"""The command line from start to end: signals, streams, and every failure as one line and an exit code."""

from __future__ import annotations

import sys

from cli.errors import OK, READER_GONE, report_failure
from cli.options import Options, parse_arguments
from cli.output.answer import Answer
from cli.output.streams import prepare_streams, say
from cli.run.prefetch import leave
from cli.signals import Stopped, word_for
from models.runtime.cpu import thread_limit
from models.runtime.shortage import check_limits


def start() -> None:
    """Run the process's own command line and end the process, by the signal that stopped it if one did."""
    try:
        code = main()
    except Stopped as stop:
        leave(0, signal=stop.number)
    leave(code)


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's own); returns the exit code, but --help exits with 0.

    A signal that stops the run is reported and raised again.
    """
    prepare_streams()
    try:
        return _attempt(sys.argv[1:] if argv is None else argv)
    except Stopped as stop:
        say(word_for(stop.number))
        raise
    except BrokenPipeError:
        return READER_GONE


def _attempt(argv: list[str]) -> int:
    """Do what the arguments say. The only place that catches all exceptions; a bug is raised again."""
    asked, json, debug = Answer([], ""), "--json" in argv, "--debug" in argv
    try:
        options = parse_arguments(argv)
        asked = Answer(list(options.inputs), options.prompts[0] if options.prompts else "")
        return _do(options)
    except BrokenPipeError:
        raise
    except Exception as failure:  # noqa: BLE001
        return report_failure(failure, asked, json=json, debug=debug).exit_code


def _do(options: Options) -> int:
    """One of the things that the program can do."""
    check_limits(options.threads or thread_limit())
    if options.doctor:
        from cli.doctor.report import doctor

        return doctor(options)
    if options.ends_kept_model:
        from models.server.client import end_server

        end_server()
        return OK
    if options.chat:
        from cli.run.chat import chat

        return chat(options)
    from cli.run.run import run

    return run(options)
