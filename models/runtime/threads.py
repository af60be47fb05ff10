"""Threads that begin or raise: `threading.Thread.start` waits for ever for one that gets no memory to begin.

Imports nothing heavy: it is used before numpy is imported.
"""

from __future__ import annotations

import _thread
import mmap
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from errors import BackendError

PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}  # else Windows
STACK = 9 << 20  # bytes of a thread's stack, as Linux gives it, and of what is around it
Item = TypeVar("Item")
Made = TypeVar("Made")

AHEAD = "qwen-audio ahead"  # threads that may be in a library, or wait for standard input
STEP = 0.5  # seconds: Windows sees Ctrl-C only between two waits

_one = threading.Lock()  # begins at a time
_all: weakref.WeakSet[Thread] = weakref.WeakSet()


class _Mark:
    """Held by one thread alone, so that it is gone when the thread is."""


class Thread:
    """A thread that has begun. The process may end without it.

    Raises BackendError where it cannot begin, for want of memory or of processes.
    """

    def __init__(self, work: Callable[[], object], *, name: str = AHEAD) -> None:
        self.name = name
        self._begun, self._over = threading.Event(), threading.Event()
        mark = _Mark()
        self._mark = weakref.ref(mark)
        with _silent_death():
            try:
                _thread.start_new_thread(self._run, (mark, work))
            except RuntimeError:  # no stack, or one process too many
                raise too_few_threads(_NO_THREAD) if can_have(STACK) else _too_little_memory() from None
            del mark
            while not self._begun.wait(STEP):
                if not self.is_alive():
                    raise _too_little_memory()
        _all.add(self)

    def is_alive(self) -> bool:
        """Whether it is at work. One that died without a word is not."""
        return self._mark() is not None and not self._over.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end, at most `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.is_alive():
            left = STEP if until is None else min(until - time.monotonic(), STEP)
            if left <= 0:
                return
            self._over.wait(left)

    def _run(self, _mark: _Mark, work: Callable[[], object]) -> None:
        self._begun.set()
        try:
            work()
        except MemoryError:
            pass  # who waits for it sees that it is gone
        finally:
            self._over.set()


@contextmanager
def _silent_death() -> Iterator[None]:
    """Python shows nothing of a thread that dies, as one does that has no memory for its first frame."""
    with _one:
        hook, sys.unraisablehook = sys.unraisablehook, id  # in C: a function of Python would need a frame as well
        try:
            yield
        finally:
            sys.unraisablehook = hook


def running(name: str = AHEAD) -> list[Thread]:
    """The threads of this name that are at work."""
    return [thread for thread in list(_all) if thread.name == name and thread.is_alive()]


def together(*works: Callable[[], Any]) -> list[Any]:
    """Do several things at the same time, each in a thread.

    Returns what they gave, in order; raises what the first of them raised. Ctrl-C reaches the caller meanwhile.
    """
    found: dict[int, Any] = {}
    failures: dict[int, BaseException] = {}

    def work(number: int) -> None:
        try:
            found[number] = works[number]()
        except BaseException as failure:  # noqa: BLE001 - raised again on the caller's side
            failures[number] = failure

    threads = [Thread(partial(work, number)) for number in range(len(works))]
    for thread in threads:
        thread.join()
    if failures:
        raise failures[min(failures)]
    if len(found) < len(works):  # there was no memory to say how it failed
        raise _too_little_memory()
    return [found[number] for number in range(len(works))]


def in_threads(work: Callable[[Item], Made], items: Iterable[Item], count: int) -> Iterator[Made]:
    """What `work` makes of each item, in order; `count` are made at a time."""
    left = iter(items)
    while some := list(islice(left, count)):
        yield from together(*(partial(work, item) for item in some))


def can_start(count: int) -> bool:
    """Whether so many threads can be started now."""
    end = threading.Event()
    started: list[Thread] = []
    try:
        started.extend(Thread(end.wait) for _ in range(count))
    except (BackendError, MemoryError):
        return False
    finally:
        end.set()
        for thread in started:
            thread.join()
    return True


def can_have(size: int) -> bool:
    """Whether so much address space can be had; nothing is written to it."""
    try:
        mmap.mmap(-1, size, **PRIVATE).close()
    except (OSError, MemoryError):
        return False
    return True


def too_few_threads(message: str) -> BackendError:
    """The error of a process that may not start the threads that it needs."""
    fix = "raise the limit of processes (ulimit -u), end other programs, or give --threads 1"
    return BackendError(message, fix, kind="processes")


_NO_THREAD = "a thread cannot be started"


def _too_little_memory() -> BackendError:
    fix = "close other programs, or raise the limit (ulimit -v)"
    return BackendError(f"{_NO_THREAD}: not enough memory", fix, kind="memory")
