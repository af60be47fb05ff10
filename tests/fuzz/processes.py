"""Signals, limits and damage that need a process of their own, or a model that is made again."""

from __future__ import annotations

import contextlib
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from errors import ModelError
from models.convert.__main__ import main as convert_command
from models.manifest import FILE_NAME, load_manifest, verify_files
from models.nano import embedded
from tests.fuzz.place import Case, Ended, Kind, Place, run_apart, wrong

ROOT = Path(__file__).resolve().parents[2]
ENDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def _send(rng: random.Random, number: int, longest: float) -> Callable[[int], None]:
    """One to three signals after a while."""
    wait, count, pause = rng.uniform(0, longest), rng.randrange(1, 4), rng.choice([0, 0, 0.01])

    def send(pid: int) -> None:
        time.sleep(wait)
        for _ in range(count):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            time.sleep(pause)

    return send


def _ends_by(number: int, ended: Ended) -> str | None:
    if ended.code == -number:
        return None if ended.err == f"qwen_audio: {ENDS[signal.Signals(number)]}\n" else f"told {ended.err[-500:]!r}"
    return None if ended.code == 0 and not ended.err else f"code {ended.code}, told {ended.err[-500:]!r}"


def signal_in_the_work(rng: random.Random, place: Place) -> str | None:
    """Signals while answers are made and written: the process ends by them with one line, and no file is half."""
    from cli import signals

    number, folder = rng.choice(list(ENDS)), place.empty("signalled")
    (folder / "old.txt").write_text("old\n")
    outputs = rng.choice([["-s", str(folder / "old.txt")], ["-o", str(folder / "out"), "-f", "txt,json"]])
    arguments = ["-q", "--each", *outputs, "-i", *(str(place.folder / name) for name in ("a.wav", "b.flac", "c.ogg"))]

    def ready() -> None:
        for one in ENDS:
            signal.signal(one, signal.SIG_DFL)
        signals._own.clear()
        signals.take_over()

    case = Case(arguments, {0, -number}, check=lambda ended: _ends_by(number, ended))
    problem = wrong(case, run_apart(case, place, ready, _send(rng, number, 0.4)))
    left = [path.name for path in folder.rglob("*") if path.name.endswith(".part")]
    half = [path.name for path in folder.rglob("*.txt") if not path.read_text().endswith("\n")]
    return problem or (f"left {left}, half {half}" if left or half else None)


def signal_at_the_start(rng: random.Random, place: Place) -> str | None:
    """Signals to the program as it is started: from its first line on it ends by them, with one line."""
    number = rng.choice(list(ENDS))
    command = [sys.executable, str(ROOT / "qwen_audio.py"), "-q", "--model", str(place.model), "--max-new-tokens", "2"]
    process = subprocess.Popen(
        [*command, "-i", str(place.folder / "a.wav")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not _is_caught(process.pid, signal.SIGHUP) and process.poll() is None:  # the last that is taken over
        time.sleep(0.002)
    _send(rng, number, 2.0)(process.pid)
    out, err = process.communicate(timeout=600)
    return _ends_by(number, Ended(process.returncode, out, err))


def _is_caught(pid: int, number: int) -> bool:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) >> number - 1 & 1)
    return False


def little_of_everything(rng: random.Random, place: Place) -> str | None:
    """Limits of memory, files and sizes of files: an answer, or a line that says what is wrong."""
    folder = place.empty("limited")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    kind, limit = rng.choice([
        (resource.RLIMIT_AS, rng.randrange(1 << 20, 1 << 30)), (resource.RLIMIT_AS, used + rng.randrange(1 << 28)),
        (resource.RLIMIT_NOFILE, rng.randrange(3, 40)), (resource.RLIMIT_FSIZE, rng.randrange(2_000)),
        (resource.RLIMIT_DATA, rng.randrange(1 << 20, 1 << 30)),
    ])  # fmt: skip
    sound = str(place.folder / rng.choice(["a.wav", "b.flac", "e.mp3"]))
    arguments = ["--json", "-i", sound, *rng.choice([[], ["-o", str(folder)], ["-s", str(folder / "out")]])]
    case = Case(arguments, {0, 1, 2, 3}) if kind != resource.RLIMIT_FSIZE else Case(arguments[1:], {0, 1, 2, 3})
    ended = run_apart(case, place, lambda: resource.setrlimit(kind, (limit, limit)), lambda _: None)
    problem = wrong(case, ended)
    left = [path.name for path in folder.rglob("*") if path.name.endswith(".part")]
    return (problem or (left and f"left {left}") or None) and f"{problem} {left} at {kind} {limit} of {used}"


def damaged_cache(rng: random.Random, place: Place) -> str | None:
    """The embedded model's cache with a byte changed at equal size and time: it is made again."""
    shipped, embedded.CHECKPOINT = embedded.CHECKPOINT, place.checkpoint
    cache, os.environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME"), str(place.folder / "cache")
    try:
        directory = embedded.embedded_model()
        path = directory / rng.choice([*load_manifest(directory).files, "manifest.json", embedded.SEAL])
        old, data = path.stat(), bytearray(path.read_bytes())
        for _ in range(rng.choice([1, 1, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        verify_files(load_manifest(embedded.embedded_model()))
    finally:
        embedded.CHECKPOINT = shipped
        del os.environ["XDG_CACHE_HOME"]
        if cache is not None:
            os.environ["XDG_CACHE_HOME"] = cache
    return None


def killed_conversion(rng: random.Random, place: Place) -> str | None:
    """A conversion into a model that is there is killed: it is the old one, the new one, or plainly unfinished."""
    out = place.folder / "made"
    case = Case([str(place.checkpoint), str(out), "--precision", rng.choice(["fp32", "int8"])], {0, -signal.SIGKILL})

    def convert(arguments: list[str]) -> int:
        return convert_command(arguments[2:])  # without --max-new-tokens

    first = not (out / FILE_NAME).exists()
    made = Case(case.arguments, case.codes, command=convert)
    kill = (lambda _: None) if first else _send(rng, signal.SIGKILL, 0.5)
    ended = run_apart(made, place, lambda: None, kill)
    try:
        if ended.code != -signal.SIGKILL or (out / FILE_NAME).exists():
            verify_files(load_manifest(out))
    except ModelError as error:
        return f"code {ended.code}: {error} {ended.err[-300:]}"
    return wrong(case, ended)


def keeper_in_trouble(rng: random.Random, place: Place) -> str | None:
    """The process that keeps a model is stopped, killed or ended: the same answer as without it, or one line."""
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(place.empty("kept"))}
    Path(environment["XDG_RUNTIME_DIR"]).chmod(0o700)

    def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", str(place.model), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)

    question = ["-q", "--max-new-tokens", "4", "--timeout", "5", "-i", str(place.folder / "a.wav")]
    alone, first = ask(*question), ask(*question, "--keep", "1")
    if (first.returncode, first.stdout, first.stderr) != (0, alone.stdout, ""):
        return f"with a keeper {first}, without {alone}"
    told = re.search(r"kept open: .*, by process (\d+),", ask("--doctor").stdout)
    if told is None:
        return "the doctor knows of no keeper"
    number = rng.choice([signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
    os.kill(int(told[1]), number)
    time.sleep(rng.choice([0, 0.1]))
    second = ask(*question, "--keep", "1")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(told[1]), signal.SIGCONT)
    ask("--keep", "0")
    is_right = second.stdout == alone.stdout if second.returncode == 0 else second.stderr.count("\n") == 1
    return None if is_right else f"after {signal.Signals(number).name} {second}"


KINDS: tuple[Kind, ...] = (
    signal_in_the_work, little_of_everything, damaged_cache, signal_in_the_work, little_of_everything,
    killed_conversion, signal_in_the_work, signal_at_the_start, keeper_in_trouble,
)  # fmt: skip
