"""A stamp of a file: what os.stat says of it. While it is the same, so is the content, if the file was at rest."""

from __future__ import annotations

import os
import time


def stamp(status: os.stat_result) -> str:
    """Size, times and inode."""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"


def is_at_rest(status: os.stat_result, seconds: float) -> bool:
    """Whether a file was not changed in the last seconds; what was may change again without another stamp."""
    latest = time.time() - seconds
    return status.st_mtime < latest and status.st_ctime < latest
