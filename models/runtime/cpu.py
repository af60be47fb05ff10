"""How many threads a backend should start on this processor, and whether its fast 8-bit kernels are exact here.

A container, a batch system or `taskset` may allow fewer cores than the machine has. A library that counts the machine's
cores starts more threads than can run at once, and they wait for one another.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

# Instructions that add four products of 8 bits in 32, as the kernel lists them.
VNNI = {"avx512_vnni", "avx_vnni"}


def thread_limit(root: Path = Path("/")) -> int:
    """How many threads a library should start; 0 leaves it to the library, which is best where all cores may be used.

    With 0, ONNX Runtime binds its threads to cores: a step is 2 % and a prompt 5 % faster [measured: 1.32].
    """
    usable = usable_cores(root)
    return usable if usable and usable < _cores(root, range(os.cpu_count() or 1)) else 0


def usable_cores(root: Path = Path("/")) -> int | None:
    """The physical cores that the process may run on, at most as many as its control groups grant it processor time.

    Two hardware threads share the arithmetic units of a core, so a core counts once. None where the system does not
    tell.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    bound = os.sched_getaffinity(0)
    return max(1, min(_cores(root, bound), math.ceil(min(_granted(root), len(bound)))))


@cache
def may_saturate(root: Path = Path("/")) -> bool:
    """Whether sums of 8-bit products may saturate at 16 bits: on x86 without VNNI, or where the system does not tell.

    There ONNX Runtime's fast kernels add two products in 16 bits, and large weights overflow silently.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not VNNI & set(read_text(root / "proc/cpuinfo").split())


def group_folders(root: Path, controller: str) -> Iterator[Path]:
    """Where the files of this process's control group lie, then those of the groups around it; "" is version 2."""
    lines = [line.split(":", 2) for line in read_text(root / "proc/self/cgroup").splitlines()]
    group = Path(next((own for _, names, own in lines if controller in names.split(",")), "/"))
    for path in (group, *group.parents):  # in a container the own one may not be there, but the topmost is
        yield root / "sys/fs/cgroup" / controller / path.relative_to("/")


def read_text(path: Path) -> str:
    """The text of a file of the system; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _cores(root: Path, processors: Iterable[int]) -> int:
    """Physical cores among some processors."""
    processors = list(processors)
    lists = {read_text(root / f"sys/devices/system/cpu/cpu{one}/topology/thread_siblings_list") for one in processors}
    return len(lists - {""}) or len(processors)


def _granted(root: Path) -> float:
    """Cores' worth of time that the narrowest control group grants; infinite without a limit."""
    limits = [math.inf]
    for folder in group_folders(root, ""):
        with suppress(ValueError):  # "max 100000" is no limit, "" no such file
            quota, period = read_text(folder / "cpu.max").split()
            limits.append(int(quota) / int(period))
    for folder in group_folders(root, "cpu"):
        with suppress(ValueError):
            quota, period = (read_text(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
            limits.append(int(quota) / int(period) if int(quota) > 0 else math.inf)  # -1 is no limit
    return min(limits)
