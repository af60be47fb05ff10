"""Limits that the server inherits from the run that starts it, and that must not bind later runs."""

from __future__ import annotations

import os
from contextlib import suppress

# Not RLIMIT_CORE and RLIMIT_STACK: a dump of gigabytes and other sizes of threads help nobody.
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_NPROC")
USUALLY_NONE = LIMITS[:4]


def lift_limits() -> list[str]:
    """Set nice to 0, allow every core, and raise soft resource limits to the hard ones.

    Returns what stays, in words: a nice value, which only an administrator may lower, and hard limits. Control groups
    stay as well. Call it before threads are started, which take their nice value and cores from this one.
    """
    stays = []
    try:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    except OSError:
        stays.append(f"nice {os.getpriority(os.PRIO_PROCESS, 0)}")
    if hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, range(max(os.cpu_count() or 1, 1024)))  # the system takes those that there are
    return stays + _raise_soft_limits()


def _raise_soft_limits() -> list[str]:
    import resource

    stays = []
    for name in LIMITS:
        kind = getattr(resource, name, None)  # a system may lack one
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        with suppress(OSError, ValueError):
            resource.setrlimit(kind, (hard, hard))
        if name in USUALLY_NONE and hard != resource.RLIM_INFINITY:
            stays.append(f"{name} {hard}")
    return stays
