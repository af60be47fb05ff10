"""Ctrl-C, SIGTERM and SIGHUP in the commands of this room: they clean up, then end by the signal itself.

A shell's loop goes on after an exit code and stops where a command ended by the signal. A signal that the parent has
told to ignore, as `nohup` does, stays ignored.

A command imports this before all else. The module `signal`, typing and others take 20 ms, in which Ctrl-C would show a
traceback: only what Python has loaded itself is imported here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any, NoReturn
else:
    import _signal as signal

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
_caught = list[int]()


def end_at_once() -> None:
    """From now on a signal ends the process: before the work there is nothing to clean up."""
    _handle(signal.SIG_DFL)


def clean_up_first() -> None:
    """From now on the first signal raises KeyboardInterrupt in the main thread, and those that follow do nothing."""

    def stop(number: int, _: Any) -> None:
        _handle(signal.SIG_IGN)
        _caught.append(number)
        raise KeyboardInterrupt

    _handle(stop)


def first_calls(handler: Callable[[int], Any]) -> list[tuple[int, Any]]:
    """From now on the first signal calls `handler(number)`, which may end the process; returns what to put back."""

    def first(number: int, _: Any) -> None:
        _handle(signal.SIG_IGN)  # what follows would tell its line again
        handler(number)

    before = [(number, signal.getsignal(number)) for number in _numbers()]
    _handle(first)
    return before


def put_back(before: list[tuple[int, Any]]) -> None:
    """Signals do again what they did before `first_calls`."""
    for number, one in before:
        signal.signal(number, one)


def is_interrupted(failure: BaseException) -> bool:
    """Whether a failure comes of a signal: ONNX Runtime, while it is imported, makes an ImportError of it."""
    return isinstance(failure, KeyboardInterrupt) or bool(_caught)


def finish(work: Callable[[], int]) -> NoReturn:
    """Do the work of a command, which cleans up first when a signal comes, and end the process with its exit code."""
    clean_up_first()
    try:
        code = work()
    except KeyboardInterrupt:  # when it was done, and its line told
        code = 130
    leave(code)


def leave(code: int) -> NoReturn:
    """End the process by the signal that came, or with an exit code."""
    end_at_once()
    if _caught:
        end_by(_caught[0])
    raise SystemExit(code)


def end_by(number: int) -> NoReturn:
    """End the process by a signal, as if it had never been handled."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # where the system has no such end


def _handle(handler: Any) -> None:
    for number in _numbers():
        signal.signal(number, handler)


def _numbers() -> list[int]:
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
