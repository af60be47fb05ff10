"""`python3 -m tests.benchmarks.scale [--files N] [--answers M]`: what a run over very many files costs beside answering.

Tiny sounds, a list of them, and a stub that answers at once: what is left is the list, the driver, the journal and the
file system. Three runs, each a process of its own: all files, all of them again (a resume), and once more after a
minute, when the last outputs are known, too. With --answers the first M files are answered by a run that is then
stopped; the outputs of all are made by a script, as a finished run leaves them. The last line is JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
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
MARKS = (1, 1000)  # answers after which time and memory are looked at
MODEL = SimpleNamespace(
    manifest=SimpleNamespace(directory="stub", path=lambda _: ROOT / "pyproject.toml"),
    backend="stub",
    chat=True,
    encoder=SimpleNamespace(close=lambda: None),
    stop_ids=frozenset(),
)


def make_sounds(folder: Path, count: int) -> Path:
    """`count` different sounds of 50 ms, 1,000 in a folder, and the list of them."""
    file = io.BytesIO()
    soundfile.write(file, np.random.default_rng(0).normal(0, 0.1, 800), 16_000, format="WAV")
    sound, listed = bytearray(file.getvalue()), folder / "list.txt"
    with listed.open("w") as lines:
        for number in range(count):
            path = folder / f"{number // 1000:04}" / f"{number:07}.wav"
            if number % 1000 == 0:
                path.parent.mkdir()
            sound[-8:] = number.to_bytes(8, "little")
            path.write_bytes(sound)
            lines.write(f"{path}\n")
    return listed


def make_outputs(listed: Path, out: Path) -> None:
    """What a finished run over the list leaves: a file and the lines of the journal for each input."""
    from cli.options import parse_arguments
    from cli.output.folder import JOURNAL, ResultsFolder
    from cli.output.key import identity, key_of, settings_text
    from cli.output.stamp import stamp
    from cli.run.questions import find_questions, settings

    options, text = parse_arguments(["--files-from", str(listed), "-o", str(out)]), f"{TEXT}\n".encode()
    model: Any = MODEL
    common = settings(options, find_questions(options, chat=True), model)
    folder, asked, digest = ResultsFolder(out, options.formats), settings_text(common), hashlib.sha256(text).hexdigest()
    with listed.open() as lines, (out / JOURNAL).open("a") as journal:
        for path in map(str.strip, lines):
            file, sha256 = out / f"{Path(path).stem}.txt", hashlib.sha256(Path(path).read_bytes()).hexdigest()
            file.write_bytes(text)
            key = key_of((path,), asked, lambda *_, sha256=sha256: sha256)
            seen = folder._seen._token(file.stem, folder.stamp((path,), common))
            assert seen
            for entry in (
                {"stamp": stamp(Path(path).stat()), "sha256": sha256},
                {"key": key, "files": {file.name: digest}, "input": identity((path,), None)},
                {"seen": seen.hex()},
            ):
                journal.write(f"\n{json.dumps(entry)}\n")


def answer_at_once(arguments: list[str], stop: int | None = None) -> int:
    """The command line, with a model that says the same of every sound; interrupted after `stop` answers."""
    from cli import main
    from cli.run import run
    from cli.signals import Stopped
    from decoder.generate import Event

    begun = time.monotonic()

    def answer_all(requests: Any, _: Any) -> Any:
        for number, request in enumerate(requests, start=1):
            yield Event(request.key, 1, "stop"), TEXT
            if number in MARKS:
                print(json.dumps({f"answer {number}": costs(begun, resource.getrusage(resource.RUSAGE_SELF))}))
            if number == stop:
                raise KeyboardInterrupt

    changed: Any = run
    changed.open_model = lambda _: MODEL
    changed.listen = lambda sounds, _: [np.zeros((3, 4), np.float32) for _ in sounds]
    changed.prompt_ids = lambda *_, **__: [1, 2, 3]
    changed.answer_all = answer_all
    try:
        return main.main(arguments)
    except (KeyboardInterrupt, Stopped):
        return 0


def costs(begun: float, usage: Any) -> dict[str, float]:
    """Seconds since `begun`, processor time, and the most memory."""
    seconds, cpu = time.monotonic() - begun, usage.ru_utime + usage.ru_stime
    return {"seconds": round(seconds, 1), "cpu_s": round(cpu, 1), "peak_mb": usage.ru_maxrss >> 10}


def measured(listed: Path, out: Path, stop: int | None = None) -> dict[str, Any]:
    """The costs of a run over the list, and of its first answers."""
    command = [sys.executable, "-m", "tests.benchmarks.scale", "--run", str(stop or 0), "--files-from", str(listed)]
    begun = time.monotonic()
    process = subprocess.Popen([*command, "-o", str(out), "-q"], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    marks = {name: mark for line in process.stdout for name, mark in json.loads(line).items()}
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return costs(begun, usage) | {"exit_code": process.returncode} | marks


def main(argv: list[str] | None = None) -> int:
    """Print the costs."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["--run"]:
        return answer_at_once(arguments[2:], int(arguments[1]) or None)
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--answers", type=int)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        out, listed = folder / "out", make_sounds(folder, given.files)
        runs = {"run": measured(listed, folder / "first" if given.answers else out, given.answers)}
        if given.answers:
            make_outputs(listed, out)
        runs["resume"] = measured(listed, out)
        time.sleep(61)
        runs["resume later"] = measured(listed, out)
        journal = (out / ".qwen_audio.jsonl").stat().st_size
    print(json.dumps({"benchmark": "scale", "files": given.files, **runs, "journal_mb": journal >> 20}))
    return max(int(run["exit_code"]) for run in runs.values())


if __name__ == "__main__":
    raise SystemExit(main())
