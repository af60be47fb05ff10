"""The next sounds are read and encoded in a thread while the caller decodes the present one.

    for job, heard in prefetch(listen, jobs, timeout=options.timeout):  # in order; closed by `contextlib.closing`
        answer(job, heard) unless isinstance(heard, Exception)

This module knows neither sounds nor models.

Python aborts (exit code 134) when it ends while a thread is in ONNX Runtime or waits for standard input. So a process
that has used this ends by `leave`. `concurrent.futures` cannot do this: it waits for each of its threads.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

from errors import QwenAudioError
from models.interrupts import end_by
from models.runtime.threads import Thread, running

Job = TypeVar("Job")
T = TypeVar("T")

_SLOW = "check its disk or pipe, or raise --timeout"
_STEP = 0.5  # seconds: Windows sees Ctrl-C only between two waits
_GRACE = 0.2  # seconds for threads that are told to end, when the process does


def prefetch(
    make: Callable[[Job], Iterable[T]], jobs: Iterable[Job], *, timeout: float | None = None
) -> Generator[tuple[Job, T | Exception], None, None]:
    """Every result of `make(job)`, job by job, made in a thread while the caller works on the results before.

    At most one result waits for the caller, so memory is flat. The thread draws from `jobs` too, one at a time, when
    there is room.

    What `make` raises is the last result of its job. What `jobs` raises is raised here, after the results before it.
    A result that takes more than `timeout` seconds becomes a QwenAudioError, the last result of its job. Only the time
    in `make` counts. The stuck thread is left behind, and another goes on with the next job.

    To say that a job is complete, `make` must yield it at once: the next job may be long in coming. To drop the rest
    of a job, let `make` look at something that the caller sets. Closing the iterator ends the thread after its result.
    """
    room, waiting = threading.Semaphore(1), iter(jobs)  # room for results that may still be begun
    worker = _Worker(make, waiting, room)
    try:
        while True:
            room.release()  # for the one that is asked for
            found = worker.take(timeout)
            if isinstance(found, _End):
                break
            yield found
            if worker.is_dismissed:
                worker = _Worker(make, waiting, room)
    finally:
        worker.dismiss()
        room.release()
    if found.failure:
        raise found.failure


def leave(code: int, *, signal: int | None = None) -> NoReturn:
    """End the process with `code`, as sys.exit does, or by a signal.

    It ends hard, both streams flushed, if a thread of ours is still busy.
    """
    threads = running()
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


@dataclass
class _End:
    """There are no more jobs, or `jobs` raised `failure`."""

    failure: BaseException | None = None


class _Worker(Generic[Job, T]):
    """One thread and what it has made; a dismissed one hands over nothing more and draws no further job."""

    def __init__(self, make: Callable[[Job], Iterable[T]], jobs: Iterator[Job], room: threading.Semaphore) -> None:
        self._make, self._jobs, self._room = make, jobs, room
        self._made: queue.SimpleQueue[tuple[Job, T | Exception] | _End] = queue.SimpleQueue()
        self._lock = threading.Lock()  # over the next two
        self.is_dismissed = False
        self._making: tuple[Job, float] | None = None  # the job of the result in the making, and since when
        self._thread = Thread(self._work)

    def take(self, timeout: float | None) -> tuple[Job, T | Exception] | _End:
        """Wait for the next result; one that takes more than `timeout` seconds is an error, and dismisses this."""
        left = timeout or _STEP
        while True:
            try:
                return self._made.get(timeout=max(min(left, _STEP), 0))
            except queue.Empty:
                if not self._thread.is_alive() and self._made.empty():  # it had no memory to say how it ended
                    return _End(MemoryError("the thread that reads ahead is gone"))
            with self._lock:
                if timeout is None or self._making is None:
                    continue
                job, since = self._making
                left = since + timeout - time.monotonic()
                if left <= 0 and self._made.empty():
                    self.is_dismissed = True
                    late = f"{job}: not ready within {timeout:g} s"
                    return job, QwenAudioError(late, _SLOW, kind="timeout")

    def dismiss(self) -> None:
        """Let the thread end after the result that it is at."""
        with self._lock:
            self.is_dismissed = True

    def _work(self) -> None:
        end = _End()
        try:
            self._room.acquire()
            while self._is_wanted(None):  # to wait for the next job is not to be stuck
                job = next(self._jobs)
                if not self._is_wanted(job):
                    return
                for result in _results(self._make, job):
                    if not self._hand_over((job, result)):
                        return
                    self._room.acquire()
                    if not self._is_wanted(job):
                        return
        except StopIteration:
            pass
        except BaseException as failure:  # noqa: BLE001 - raised again on the caller's side
            end = _End(failure)
        self._hand_over(end)

    def _is_wanted(self, job: Job | None) -> bool:
        """Whether to go on; if so, the clock starts for a result of `job`, or stops where there is none."""
        with self._lock:
            if not self.is_dismissed:
                self._making = None if job is None else (job, time.monotonic())
            return not self.is_dismissed

    def _hand_over(self, made: tuple[Job, T | Exception] | _End) -> bool:
        with self._lock:
            if not self.is_dismissed:
                self._making = None
                self._made.put(made)
            return not self.is_dismissed
