"""What this process has too little of: memory, threads, files. The system is asked, for libraries say it in many words.

Imports nothing heavy: it is asked before numpy is imported, which ends the process where it gets no memory.
"""

from __future__ import annotations

import errno
import os

from errors import BackendError
from models.runtime.threads import can_have, can_start, too_few_threads

LEAST_MEMORY = 500 << 20  # bytes of address space: Python, numpy and ONNX Runtime with nano [measured]
LEAST_DATA = 300 << 20  # bytes of it that are written to: 212 MB with nano [measured], and the stacks of threads
LEAST_FILES = 8  # that may be opened: a model and a sound take four [measured]
LEAST_THREADS = 6  # beside those of the libraries: two that open, one that reads ahead, ONNX Runtime's own


def check_limits(threads: int) -> None:
    """Raise BackendError where the limits of this process (`ulimit`) leave too little for libraries with `threads`."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    for limit, flag, least in zip(limits, ("-v", "-d"), (LEAST_MEMORY, LEAST_DATA), strict=True):
        if 0 <= limit < least:
            raise BackendError(
                f"memory is limited to {limit >> 20} MB (ulimit {flag}), {least >> 20} MB is the least",
                "raise the limit, or run without it",
                kind="memory",
            )
    if not _can_open(LEAST_FILES):
        raise BackendError("too few files may be open", "raise the limit (ulimit -n)", kind="files")
    # Where memory is limited each thread that was tried would keep some of it.
    if all(limit == resource.RLIM_INFINITY for limit in limits) and not can_start(LEAST_THREADS + 3 * threads):
        raise too_few_threads("the threads of this program cannot be started")


def shortage(what: str, size: int = 0, *, threads: int = 1) -> BackendError | None:
    """The error to raise where `what` failed because `size` more bytes, or threads, cannot be had; else None."""
    if not can_have(size + LEAST_MEMORY // 2):
        fix = "close other programs, raise the limit (ulimit -v), or convert the model with a smaller --precision"
        return BackendError(f"{what}: not enough memory", fix, kind="memory")
    return None if can_start(threads) else too_few_threads(f"{what}: a thread cannot be started")


def _can_open(count: int) -> bool:
    """Whether so many files can be opened now."""
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    finally:
        for number in opened:
            os.close(number)
    return True
