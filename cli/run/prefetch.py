"""The next sounds are read and encoded in a thread of their own while the caller decodes the present one.

    for job, heard in prefetch(listen, jobs, timeout=options.timeout):  # in order; closed by `contextlib.closing`
        answer(job, heard) unless isinstance(heard, Exception)

In: `make`, which gives the results of one job one after the other (the windows of a recording; one, for a short clip),
and the jobs. Out: pairs of job and result. This module knows neither sounds nor models.

A thread cannot be ended from outside, and Python aborts when it ends while a thread of its is in ONNX Runtime or waits
for standard input (exit code 134). So a process that has used this ends by `leave`, which knows when to end it hard.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, NoReturn, TypeVar

from cli.signals import end_by
from errors import QwenAudioError

Job = TypeVar("Job")
T = TypeVar("T")

_NAME = "qwen-audio ahead"
_SLOW = "see whether its disk or pipe still answers, or give it longer with --timeout"
_STEP = 0.5  # seconds: Windows sees Ctrl-C only between two waits
_GRACE = 0.2  # seconds for threads that are told to end, when the process does


def prefetch(
    make: Callable[[Job], Iterable[T]], jobs: Iterable[Job], *, depth: int = 1, timeout: float | None = None
) -> Generator[tuple[Job, T | Exception], None, None]:
    """Every result of `make(job)`, job by job, made in a thread while the caller works on the results before.

    At most `depth` results wait for the caller, so memory is flat; `jobs` is drawn from in the thread too, one at a
    time, when there is room. With depth 0 nothing is done before it is asked for and, without a timeout, no thread.

    An Exception raised by `make` is the last result of its job, and the run goes on. What `jobs` raises ends the run:
    it is raised here after the results before it. A result that takes over `timeout` seconds (the time for which it
    waits for room, or for the caller, does not count) becomes a QwenAudioError, the last result of its job: the stuck
    thread is left behind and another goes on with the next job. A result that came late while nobody looked is taken.

    What says that a job is complete is for `make` to yield, at once and not with the next job: that may be long in
    coming. So is dropping the rest of a job: let `make` look at something that the caller sets. Closing the iterator
    ends the thread after the result that it is at.
    """
    assert depth >= 0
    if depth == 0 and timeout is None:
        for job in jobs:
            for result in _results(make, job):
                yield job, result
        return
    bench = _Bench(make, iter(jobs), room=depth, timeout=timeout)
    try:
        yield from bench.taken()
    finally:
        bench.close()


def leave(code: int, *, signal: int | None = None) -> NoReturn:
    """End the process with `code`, as sys.exit does, or by a signal.

    It ends hard, both streams flushed, if a thread of ours is still busy.
    """
    threads = [thread for thread in threading.enumerate() if thread.name == _NAME]
    for thread in threads:
        thread.join(_GRACE / len(threads))
    if signal is not None or any(thread.is_alive() for thread in threads):
        if "models.nano.embedded" in sys.modules:  # os._exit would skip its own cleaning up
            sys.modules["models.nano.embedded"].remove_temporary()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # nobody is there to read it; the exit code says what it said before
                continue
        if signal is not None:
            end_by(signal)
        os._exit(code)
    sys.exit(code)


def _results(make: Callable[[Job], Iterable[T]], job: Job) -> Iterator[T | Exception]:
    try:
        yield from make(job)
    except Exception as failure:  # noqa: BLE001 - the caller tells what it is, and raises what is a bug
        yield failure


class _Bench(Generic[Job, T]):
    """What lies between the caller and the thread: results that wait, and room for more.

    Everything is looked at and changed under `_changed` only. `_worker` is the one thread whose results count.
    """

    def __init__(
        self, make: Callable[[Job], Iterable[T]], jobs: Iterator[Job], *, room: int, timeout: float | None
    ) -> None:
        self._make, self._jobs, self._timeout = make, jobs, timeout
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Job, T | Exception]] = deque()
        self._room = room  # results that may still be begun
        self._making: tuple[Job, float] | None = None  # the job of the result in the making, and since when
        self._ended: BaseException | bool = False  # True after the last job; or what `jobs` raised
        self._worker: threading.Thread | None = None

    def taken(self) -> Iterator[tuple[Job, T | Exception]]:
        """Hand out the results, on the caller's side; raises what `jobs` raised."""
        self._hire()
        while True:
            with self._changed:
                self._room += 1  # the one that is asked for
                self._changed.notify_all()
                while not self._waiting and not self._ended:
                    self._changed.wait(self._patience())
                if not self._waiting:
                    break
                pair = self._waiting.popleft()
            yield pair
        if isinstance(self._ended, BaseException):
            raise self._ended

    def close(self) -> None:
        """Let the thread end: what it is at now goes nowhere."""
        with self._changed:
            self._worker = None
            self._waiting.clear()
            self._changed.notify_all()

    def _hire(self) -> None:
        self._worker = threading.Thread(target=self._work, name=_NAME, daemon=True)
        self._worker.start()

    def _patience(self) -> float:
        """Seconds to wait before looking again; a result that is overdue becomes an error here."""
        if self._timeout is None or self._making is None:
            return _STEP
        job, since = self._making
        left = since + self._timeout - time.monotonic()
        if left <= 0:
            late = f"{job}: not ready within {self._timeout:g} s"
            self._put(job, QwenAudioError(late, _SLOW, kind="timeout"))
            self._hire()
        return min(max(left, 0), _STEP)

    def _work(self) -> None:
        """Make results until there are no more jobs, or until this worker is no longer the one: the thread's side."""
        ended: BaseException | bool = True
        try:
            if not self._has_room():
                return
            for job in self._jobs:
                if not self._begin(job):
                    return
                for result in _results(self._make, job):
                    if not (self._hand_over(job, result) and self._has_room() and self._begin(job)):
                        return
                if not self._stop_clock():  # to wait for the next job is not to be stuck
                    return
        except BaseException as failure:  # noqa: BLE001 - raised again on the caller's side
            ended = failure
        with self._changed:
            if self._is_mine():
                self._ended = ended
                self._changed.notify_all()

    def _is_mine(self) -> bool:
        return self._worker is threading.current_thread()

    def _has_room(self) -> bool:
        """Wait until one more result may be made; False if it is not for this worker to make it."""
        with self._changed:
            self._changed.wait_for(lambda: self._room > 0 or not self._is_mine())
            return self._is_mine()

    def _begin(self, job: Job) -> bool:
        """Start the clock for a result of `job`."""
        with self._changed:
            if self._is_mine():
                self._making = (job, time.monotonic())
                self._changed.notify_all()  # a caller that waits already learns until when
            return self._is_mine()

    def _stop_clock(self) -> bool:
        with self._changed:
            if self._is_mine():
                self._making = None
            return self._is_mine()

    def _hand_over(self, job: Job, result: T | Exception) -> bool:
        with self._changed:
            if self._is_mine():
                self._put(job, result)
            return self._is_mine()

    def _put(self, job: Job, result: T | Exception) -> None:
        self._making = None
        self._room -= 1
        self._waiting.append((job, result))
        self._changed.notify_all()
