"""Memory and processor of this machine. What a system does not say is None or empty.

A container or a batch system may allow less than the machine has: the smaller number counts.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from contextlib import suppress
from pathlib import Path

from models.runtime.cpu import group_folders, read_text, usable_cores

# Processor features that ONNX Runtime's kernels use, on x86 and on ARM, the best last.
FEATURES = ("sse4_1", "avx", "avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8",
            "asimd", "asimddp", "i8mm", "bf16", "sve")  # fmt: skip
_UNLIMITED = 1 << 60  # bytes: version 1 of control groups says no limit as a number near 2^63


def memory(root: Path = Path("/")) -> tuple[int | None, int | None]:
    """Bytes of memory: (in all, available now without swapping)."""
    found = re.findall(r"^(MemTotal|MemAvailable): +(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    sizes = {name: int(size) * 1024 for name, size in found}
    total = sizes.get("MemTotal") or _mac_memory()
    limit, used = _group_limit(root)
    if limit is None or (total is not None and limit >= total):
        return total, sizes.get("MemAvailable")
    left = max(limit - used, 0)
    return limit, min(left, sizes.get("MemAvailable", left))


def processor(root: Path = Path("/")) -> tuple[str, int, list[str]]:
    """(name, physical cores that this process may use, those of FEATURES that it has)."""
    text = read_text(root / "proc/cpuinfo")
    named = re.search(r"^(?:model name|Model|Hardware)\s*: (.*)", text, re.MULTILINE)
    listed = re.search(r"^(?:flags|Features)\s*: (.*)", text, re.MULTILINE)
    words = set(listed[1].split()) if listed else set()
    name = named[1] if named else platform.processor() or platform.machine()
    cores = usable_cores(root) or os.cpu_count() or 1
    return name, cores, [feature for feature in FEATURES if feature in words]


def _group_limit(root: Path) -> tuple[int | None, int]:
    """The narrowest limit of this process's control groups, in version 2 or 1, and how much of it is in use."""
    limits = []
    for controller, limit, usage, files in (
        ("", "memory.max", "memory.current", "file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache"),
    ):
        for folder in group_folders(root, controller):
            with suppress(ValueError):  # "max" is no limit, "" no such file
                size, used = int(read_text(folder / limit)), int(read_text(folder / usage))
                cached = re.search(rf"^{files} (\d+)", read_text(folder / "memory.stat"), re.MULTILINE)
                if size < _UNLIMITED:
                    limits.append((size, used - (int(cached[1]) if cached else 0)))  # files in memory make room
    return min(limits, default=(None, 0))


def _mac_memory() -> int | None:
    """All memory; how much of it is available, macOS says in no file and no call of Python's."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if sys.platform == "darwin" else None
