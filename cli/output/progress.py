"""The progress of a run over many inputs, on standard error, and one line about them at the end.

On a terminal a bar stands in the last line, and what `say` writes goes above it; elsewhere a plain line comes every ten
seconds. A terminal that cannot move its cursor (TERM=dumb) gets the plain lines too. One input is a question, not a
run: it has no progress and no summary.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from cli.output.streams import say

EVERY = 10.0  # seconds between two plain lines


class Progress:
    """The counts of a run and how they are shown, as a context manager: the summary is said when it is left.

    `total` is the number of inputs. With `quiet` nothing is shown. `beside_answers` says that answers appear on the
    same terminal: they show the progress themselves, and a bar would be in their way.
    """

    def __init__(
        self,
        total: int,
        *,
        quiet: bool = False,
        beside_answers: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._quiet, self._beside_answers, self._clock = total, quiet, beside_answers, clock
        self._inputs = self._answers = 0  # inputs that were answered, and how many answers that were
        self._seconds = 0.0  # of sound in them
        self._failed, self._skipped = Counter[str](), 0  # failures by their kind, inputs that were done before
        self._start = self._told = clock()
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._start = self._told = self._clock()
        if not self._quiet and self._total > 1 and not self._beside_answers and _draws_bars(sys.stderr):
            with contextlib.suppress(ImportError):  # without tqdm there are lines
                self._bar = _open_bar(sys.stderr, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._total > 1 and (error is None or self._done()):  # a failure before the first input has its own message
            say(self.summary(), quiet=self._quiet)

    def answered(self, seconds: float, *, answers: int = 1) -> None:
        """An input was answered: `seconds` of sound, and as many answers as there were prompts."""
        self._inputs += 1
        self._answers += answers
        self._seconds += seconds
        self._show()

    def failed(self, kind: str) -> None:
        """An input failed, of a `kind` as errors have it."""
        self._failed[kind] += 1
        self._show()

    def skipped(self, inputs: int = 1) -> None:
        """So many inputs were answered by an earlier run."""
        self._skipped += inputs
        if not self._inputs:  # passing a million takes its time, which says nothing about the next answers
            self._start = self._clock()
        self._show()

    def line(self) -> str:
        """How far it is: `12 of 300 files, 3 failed, 41 answers per minute, about 7 min left`."""
        return ", ".join([f"{self._done()} of {self._total} files", *self._state()])

    def summary(self) -> str:
        """The results of the inputs, in one line."""
        heard = [f"{self._seconds:.1f} s of sound", *self._rate()] if self._inputs else []
        parts = [", ".join([f"{self._inputs} of {self._total} files answered", *heard])]
        if self._skipped:
            parts.append(f"{self._skipped} skipped ({self._skipped} done before)")
        if self._failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in self._failed.most_common())
            parts.append(f"{self._failed.total()} failed ({kinds})")
        left = self._total - self._done()
        return "; ".join([*parts, *[f"{left} not reached"] * (left > 0)])

    def _done(self) -> int:
        return self._inputs + self._failed.total() + self._skipped

    def _state(self) -> list[str]:
        failed = [f"{self._failed.total()} failed"] if self._failed else []
        worked, left = self._inputs + self._failed.total(), self._total - self._done()
        time_left = [_about(left * self._elapsed() / worked)] if worked and left > 0 else []
        return failed + self._rate() + time_left

    def _rate(self) -> list[str]:
        """What was skipped took no time, so it is not counted."""
        if not self._answers:
            return []
        rate = self._answers * 60 / self._elapsed()
        return [f"{rate:.0f} answers per minute" if rate >= 10 else f"{rate:.1f} answers per minute"]

    def _elapsed(self) -> float:
        return max(self._clock() - self._start, 1e-3)

    def _show(self) -> None:
        if self._bar is not None:
            # The terminal may have become wider or narrower.
            self._bar.n, self._bar.ncols = self._done(), _columns(sys.stderr)
            self._bar.set_postfix_str(", ".join(self._state()))
        elif not self._quiet and self._total > 1 and self._clock() - self._told >= EVERY:
            self._told = self._clock()
            say(self.line())


def _open_bar(terminal: TextIO, total: int) -> Any:
    from tqdm import tqdm  # type: ignore[import-untyped]

    tqdm.monitor_interval = 0  # no thread of its own: each file redraws the bar
    form = "{percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} files{postfix}"
    columns = _columns(terminal)
    return tqdm(total=total, file=terminal, bar_format=form, leave=False, mininterval=0, ncols=columns, nrows=24)


def _draws_bars(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _columns(terminal: TextIO) -> int:
    """One less than the terminal has: some wrap at the last. One without a size says 0, and tqdm would stay silent."""
    try:
        return (os.get_terminal_size(terminal.fileno()).columns or 80) - 1
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        return 79


def _about(seconds: float) -> str:
    """`about 40 s left`, `about 7 min left`, `about 2 h 10 min left`."""
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    minutes = round(seconds / 60)
    return f"about {minutes} min left" if minutes < 90 else f"about {minutes // 60} h {minutes % 60} min left"
