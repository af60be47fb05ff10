"""`python3 -m tests.benchmarks.start`: the whole command, from the shell to the answer, on a clip of some 5 s with nano.

Each run is a new process with a warm disk. Prints wall time and peak memory of each, the slowest imports, and one JSON
line with the medians. The import profile is Python's own (`-X importtime`), of a run apart.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "tests" / "golden" / "1272-128104-0000.flac"


def command(clip: Path, *flags: str) -> list[str]:
    """The command line of one run."""
    return [sys.executable, *flags, str(ROOT / "qwen_audio.py"), "--model", "nano", "--input", str(clip), "--quiet"]


def timed(line: list[str]) -> tuple[float, int]:
    """Seconds of wall time and the peak resident memory in bytes of one run of a command line."""
    start = time.perf_counter()
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the command failed with exit code {process.returncode}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def slowest_imports(clip: Path, count: int) -> list[tuple[float, str]]:
    """(milliseconds of the module itself, name) of the slowest."""
    # Python writes the profile to the descriptor that we hide from C libraries unless --debug is given.
    profiled = [*command(clip, "-X", "importtime"), "--debug"]
    run = subprocess.run(profiled, capture_output=True, text=True, check=True)
    found = re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", run.stderr)
    return sorted(((int(microseconds) / 1000, name) for microseconds, name in found), reverse=True)[:count]


def main(argv: list[str] | None = None) -> int:
    """Print the runs and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--input", type=Path, default=CLIP)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args(argv)
    timed(command(options.input))  # the first run converts nano
    runs = [timed(command(options.input)) for _ in range(options.runs)]
    for took, peak in runs:
        print(f"{took:.3f} s, {peak / 1e6:.0f} MB")
    imports = slowest_imports(options.input, 12)
    for milliseconds, name in imports:
        print(f"{milliseconds:7.1f} ms  {name}")
    seconds, peaks = zip(*runs, strict=True)
    row = {"benchmark": "start", "runs": len(runs), "median_s": round(median(seconds), 3), "worst_s": max(seconds)}
    print(json.dumps({**row, "peak_mb": max(peaks) // 1_000_000, "cores": os.cpu_count()}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
