"""Ctrl-C, SIGTERM and SIGHUP: the process cleans up, then ends by the signal itself, as a shell's loop expects.

Until a run is under way there is nothing to clean up, so a signal ends the process at once. A signal that the parent
has told to ignore, as `nohup` and `&` do, stays ignored. This module comes before all others, and imports only what
Python has loaded itself: a signal before `take_over` shows a traceback.
"""

from __future__ import annotations

import os

from models.interrupts import end_by

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from typing import Any
else:
    import _signal as signal

WORDS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "hung up"}

_own = list[int]()  # the signals that are handled here: none before `take_over`


class Stopped(KeyboardInterrupt):
    """A signal that ends the run: its `number`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def take_over() -> None:
    """Handle the signals of this process from now on, as `end_at_once` says; without it nothing here has an effect."""
    numbers = [getattr(signal, name) for name in WORDS if hasattr(signal, name)]  # Windows has no SIGHUP
    _own.extend(number for number in numbers if signal.getsignal(number) != signal.SIG_IGN)
    end_at_once()


def end_at_once() -> None:
    """From now on a signal ends the process with one line."""
    _handle(_die)


def clean_up_first(*, again: bool = False) -> None:
    """From now on a signal raises Stopped in the main thread; with `again` each one does, else only the first."""

    def stop(number: int, _: Any) -> None:
        if not again:
            _handle(signal.SIG_IGN)  # what follows the first would cut the cleaning up short
        raise Stopped(number)

    _handle(stop)


def word_for(number: int) -> str:
    """What a signal does, in a word."""
    return next(word for name, word in WORDS.items() if getattr(signal, name, 0) == number)


def _die(number: int, _: Any) -> None:
    _handle(signal.SIG_IGN)  # what follows the first would tell its line again
    try:  # noqa: SIM105 - contextlib takes long to import
        os.write(2, f"qwen_audio: {word_for(number)}\n".encode())
    except OSError:
        pass
    end_by(number)


def _handle(handler: Any) -> None:
    for number in _own:
        signal.signal(number, handler)
