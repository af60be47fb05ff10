"""How far a run over many inputs is, on standard error, and what became of them in one line at its end.

On a terminal a bar stands in the last line; elsewhere a plain line comes every ten seconds. Whatever else Python writes
to standard error meanwhile (`say`, a warning, a traceback) goes above the bar. No colours, no control sequences but a
carriage return, so NO_COLOR has nothing to switch off; a terminal that cannot do that (TERM=dumb) gets the plain lines.
One input is a question, not a run: it has no progress and no summary.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from cli.output.streams import say

EVERY = 10.0  # seconds between two plain lines
DONE_BEFORE = "done before"

# What a failure is called in the summary, by what stands behind the name in its line. The last match counts: a name can
# hold anything, the reason comes after it.
_REASONS = {
    ": no such file": "missing",
    ": no sound matches": "missing",
    ": a link ": "broken link",
    ": this is a folder": "folder",
    ": cannot be read (": "unreadable",
    ": the file is empty": "empty",
    ": no samples in it": "empty",
    ": no sound that can be read": "not a sound",
    " files are not read here; ": "not read here",
    ": an MP3 of varying": "not read here",
    ": damaged header": "damaged",
    ": samples that are not finite": "damaged",
    ": cut short": "cut short",
    " is too short to be heard; ": "too short",
    ": not enough memory": "memory",
}
# By the name of the class: to import all rooms would take seconds. The first in the order of inheritance counts.
_CLASSES = {
    "TimeoutError": "timeout",
    "FileNotFoundError": "missing",
    "OSError": "unreadable",
    "MemoryError": "memory",
    "PromptError": "prompt",
    "UsageError": "prompt",
    "BackendError": "backend",
}


def cause_of(failure: Exception | str) -> str:
    """One or two words for the summary: of an exception, or of the line that tells a failure."""
    text = str(failure)
    reason = max(_REASONS, key=text.rfind)
    if reason in text:
        return _REASONS[reason]
    names = [] if isinstance(failure, str) else [kind.__name__ for kind in type(failure).__mro__]
    return next((_CLASSES[name] for name in names if name in _CLASSES), "other")


class Progress:
    """The counts of a run and how they are shown, as a context manager: the summary is said when it is left.

    `total` is the number of inputs, None where it is not known. With `quiet` nothing is shown. `beside_answers` says
    that answers appear on the same terminal: they show the progress themselves, and a bar would be in their way.
    """

    def __init__(
        self,
        total: int | None,
        *,
        quiet: bool = False,
        beside_answers: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._quiet, self._beside_answers, self._clock = total, quiet, beside_answers, clock
        self._inputs = self._answers = 0  # inputs that were answered, and how many answers that were
        self._seconds = 0.0  # of sound in them
        self._failed, self._skipped = Counter[str](), Counter[str]()
        self._start = self._told = clock()
        self._bar: _Bar | None = None

    def __enter__(self) -> Self:
        self._start = self._told = self._clock()
        if not self._quiet and self._total != 1 and not self._beside_answers and _draws_bars(sys.stderr):
            with contextlib.suppress(ImportError):  # without tqdm there are lines
                self._bar = _Bar(sys.stderr, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.close()
        if self._is_told() and (error is None or self._done()):  # what failed before the first input is told by itself
            say(self.summary(), quiet=self._quiet)

    def answered(self, seconds: float, *, answers: int = 1) -> None:
        """An input was answered: `seconds` of sound, and as many answers as there were prompts."""
        self._inputs += 1
        self._answers += answers
        self._seconds += seconds
        self._show()

    def failed(self, cause: str) -> None:
        """An input failed, for a cause as short as those of `cause_of`."""
        self._failed[cause] += 1
        self._show()

    def skipped(self, why: str = DONE_BEFORE) -> None:
        """There was nothing to do for an input."""
        self._skipped[why] += 1
        self._show()

    def line(self) -> str:
        """How far it is: `12 of 300 files, 3 failed, 41 answers per minute, about 7 min left`."""
        return ", ".join([f"{self._done()}{self._of_total()} {self._files()}", *self._state()])

    def summary(self) -> str:
        """What became of the inputs, in one line."""
        heard = [f"{self._seconds:.1f} s of sound", *self._rate()] if self._inputs else []
        parts = [", ".join([f"{self._inputs}{self._of_total()} {self._files()} answered", *heard])]
        parts += [
            f"{counts.total()} {word} ({', '.join(f'{count} {why}' for why, count in counts.most_common())})"
            for word, counts in (("skipped", self._skipped), ("failed", self._failed))
            if counts
        ]
        left = (self._total or 0) - self._done()
        return "; ".join([*parts, *[f"{left} not reached"] * (left > 0)])

    def _done(self) -> int:
        return self._inputs + self._failed.total() + self._skipped.total()

    def _of_total(self) -> str:
        return "" if self._total is None else f" of {self._total}"

    def _files(self) -> str:
        return "file" if (self._done() if self._total is None else self._total) == 1 else "files"

    def _is_told(self) -> bool:
        return (self._done() if self._total is None else self._total) > 1

    def _state(self) -> list[str]:
        failed = [f"{self._failed.total()} failed"] if self._failed else []
        worked, left = self._inputs + self._failed.total(), (self._total or 0) - self._done()
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
        if self._bar:
            self._bar.show(self._done(), ", ".join(self._state()))
        elif not self._quiet and self._total != 1 and self._clock() - self._told >= EVERY:
            self._told = self._clock()
            say(self.line())


class _Bar(io.TextIOBase):
    """A bar in the last line of a terminal; stands in for sys.stderr, so that what is written there goes above it."""

    def __init__(self, terminal: TextIO, total: int | None) -> None:
        from tqdm import tqdm  # type: ignore[import-untyped]

        tqdm.monitor_interval = 0  # no thread of its own: each file redraws the bar
        self._terminal, self._rest = terminal, ""
        form = "{percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} files{postfix}" if total else "{n_fmt} files{postfix}"
        self._tqdm: Any = tqdm(
            total=total, file=terminal, bar_format=form, leave=False, mininterval=0, ncols=_columns(terminal), nrows=24
        )
        sys.stderr = self

    def show(self, done: int, state: str) -> None:
        """Redraw the bar; the terminal may have become wider or narrower."""
        columns = _columns(self._terminal)
        self._tqdm.n, self._tqdm.ncols = done, columns
        self._tqdm.set_postfix_str(state[: max(columns - 20, 0)])  # without a total, tqdm does not cut what is too long

    def write(self, text: str) -> int:
        """Write whole lines above the bar; what has no end yet waits for it."""
        with self._tqdm.get_lock():  # a warning may come from another thread
            lines, newline, self._rest = (self._rest + text).rpartition("\n")
            if newline:
                self._tqdm.clear()
                self._terminal.write(lines + newline)
                self._tqdm.refresh()
        return len(text)

    def close(self) -> None:
        """Take the bar away, and give standard error back."""
        if sys.stderr is self:
            sys.stderr = self._terminal
            self._tqdm.close()
            self._terminal.write(self._rest)
            self._rest = ""

    def isatty(self) -> bool:
        """As the terminal says."""
        return self._terminal.isatty()

    def fileno(self) -> int:
        """As the terminal says."""
        return self._terminal.fileno()


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
