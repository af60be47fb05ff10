"""`python3 -m tests.benchmarks.scale [--files N]`: what a run over very many files costs beside the answering.

Tiny sounds (links to one file), a list of them, and a stub that answers at once: what is left is the list, the driver,
the journal and the file system. Two runs, each a process of its own: all files, and all of them again (a resume).
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
TEXT = "twelve words of an answer as long as those of a model are"


def make_sounds(folder: Path, count: int) -> Path:
    """`count` names of sounds of 50 ms, 1,000 in a folder, and the list of them."""
    first = folder / "first.wav"
    soundfile.write(first, np.random.default_rng(0).normal(0, 0.1, 800), 16_000)
    names = []
    for number in range(count):
        path = folder / f"{number // 1000:04}" / f"{number:07}.wav"
        if number % 1000 == 0:
            path.parent.mkdir()
        if number % 10_000 == 0:  # a file has at most 65,000 names
            first = path
            soundfile.write(first, np.random.default_rng(number).normal(0, 0.1, 800), 16_000)
        else:
            os.link(first, path)
        names.append(str(path))
    listed = folder / "list.txt"
    listed.write_text("\n".join(names) + "\n")
    return listed


def answer_at_once(arguments: list[str]) -> int:
    """The command line, with a model that says the same of every sound."""
    from cli import main
    from cli.run import run
    from decoder.generate import Event

    def answer_all(requests: Any, _: Any) -> Any:
        for request in requests:
            yield Event(request.key, 1, "stop"), TEXT

    manifest = SimpleNamespace(directory="stub", path=lambda _: ROOT / "pyproject.toml")
    model = SimpleNamespace(
        manifest=manifest, backend="stub", chat=True, encoder=SimpleNamespace(close=lambda: None), stop_ids=frozenset()
    )
    changed: Any = run
    changed.open_model = lambda _: model
    changed.listen = lambda sounds, _: [np.zeros((3, 4), np.float32) for _ in sounds]
    changed.prompt_ids = lambda *_, **__: [1, 2, 3]
    changed.answer_all = answer_all
    return main.main(arguments)


def measured(listed: Path, out: Path) -> dict[str, float]:
    """Seconds and peak memory of a run over the list."""
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.scale",
        "--run",
        "--files-from",
        str(listed),
        "-o",
        str(out),
        "-q",
    ]
    begun = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - begun
    return {"seconds": round(seconds, 1), "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
            "peak_mb": usage.ru_maxrss >> 10, "exit_code": process.returncode}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print the costs."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--run"]:
        return answer_at_once(arguments[1:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    count = parser.parse_args(arguments).files
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = make_sounds(folder, count)
        first = measured(listed, folder / "out")
        resume = measured(listed, folder / "out")
        journal = (folder / "out" / ".qwen_audio.jsonl").stat().st_size
    print(
        json.dumps({"benchmark": "scale", "files": count, "run": first, "resume": resume, "journal_mb": journal >> 20})
    )
    return max(int(first["exit_code"]), int(resume["exit_code"]))


if __name__ == "__main__":
    raise SystemExit(main())
