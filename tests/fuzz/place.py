"""What the cases are made of, what a case is, and how one is run in this process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

import cli.run.chat
import cli.run.open_model
import cli.run.run
from cli.main import main as run_command
from cli.options import parse_arguments
from models.convert.convert import convert
from tests.benchmarks.geometry import TINY as WITH_VOCABULARY
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import make_tiny

SECONDS = 20  # of processor that a case may take
WAIT = 900  # seconds after which it hangs: other programs may hold the processor meanwhile
ROWS = 3  # answers side by side
FORMATS = {
    "a.wav": ("WAV", "PCM_16"),
    "b.flac": ("FLAC", "PCM_24"),
    "c.ogg": ("OGG", "VORBIS"),
    "d.aiff": ("AIFF", "PCM_16"),
    "e.mp3": ("MP3", "MPEG_LAYER_III"),
    "f.wav": ("WAV", "FLOAT"),
    "g.w64": ("W64", "PCM_16"),
    "h.caf": ("CAF", "PCM_24"),
    "i.au": ("AU", "ULAW"),
}
MEDIA = {  # name: FFmpeg's names of its container and of its coder, and the rate
    "j.m4a": ("ipod", "aac", 16_000), "k.mov": ("mov", "alac", 16_000), "l.mkv": ("matroska", "libopus", 16_000),
    "m.webm": ("webm", "libopus", 16_000), "n.wma": ("asf", "wmav2", 16_000), "o.amr": ("amr", "libopencore_amrnb", 8_000),
    "p.opus": ("ogg", "libopus", 16_000), "q.aac": ("adts", "aac", 16_000), "r.ac3": ("ac3", "ac3", 32_000),
    "s.mp2": ("mp2", "mp2", 16_000), "t.avi": ("avi", "libmp3lame", 16_000), "u.flv": ("flv", "libmp3lame", 22_050),
    "v.ts": ("mpegts", "mp2", 16_000), "w.wv": ("wv", "wavpack", 16_000), "x.tta": ("tta", "tta", 16_000),
    "y.g722": ("g722", "g722", 16_000), "z.oga": ("oga", "libopus", 16_000),
}  # fmt: skip
_HALF = re.compile(
    r"(?<!\\)(?:\\\\)*\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f][0-9a-f]{2})"
)  # of a character, in a line of JSON


class Hang(BaseException):
    """A case that does not end."""


@dataclass(frozen=True)
class Ended:
    """How a case ended."""

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The answers of a run with --json."""
        return [json.loads(line) for line in self.out.splitlines()]


def nothing_more(_ended: Ended) -> str | None:
    """Nothing is looked at beyond what every case must keep to."""


@dataclass(frozen=True)
class Case:
    """What is typed, the exit codes that are right, what is piped in, and what must hold afterwards."""

    arguments: list[str]
    codes: set[int]
    data: bytes = b""
    check: Callable[[Ended], str | None] = nothing_more  # says what is wrong
    command: Callable[[list[str]], int] = run_command


@dataclass(frozen=True)
class Place:
    """The folder of the sounds, a tiny model in it, open for one answer and for several, and its checkpoint."""

    folder: Path
    model: Path
    opened: Any
    batched: Any
    checkpoint: Path

    def empty(self, name: str) -> Path:
        """A folder in which nothing lies."""
        shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / name).mkdir()
        return self.folder / name


# A case, or one that ran in a way of its own and what was wrong.
Kind = Callable[[random.Random, Place], Case | str | None]


def prepare(folder: Path) -> Place:
    """Sounds of each format and a tiny model, opened once. One thread: its process can be forked."""
    sound = 0.3 * np.sin(np.arange(6_000) / 7) * np.random.default_rng(0).uniform(0.5, 1, 6_000)
    for name, (kind, subtype) in FORMATS.items():
        soundfile.write(folder / name, sound, 16_000, format=kind, subtype=subtype)
    for name, (container, coder, rate) in MEDIA.items():
        write_media(folder / name, container, coder, rate, sound)
    vocabulary = Path(__file__).parents[1] / "golden" / "qwen.tiktoken.xz"
    make_checkpoint(folder / "checkpoint", WITH_VOCABULARY, seed=1, vocab=vocabulary)
    convert(folder / "checkpoint", folder / "model", precision="fp32", flavour="fused")
    options = parse_arguments(["x.wav", "--model", str(folder / "model"), "--threads", "1"])
    opened, batched = (cli.run.open_model.open_model(replace(options, batch=rows)) for rows in (1, ROWS))
    return Place(folder, folder / "model", opened, batched, make_tiny(folder / "tiny"))


def write_media(path: Path, container: str, coder: str, rate: int, sound: np.ndarray[Any, Any]) -> None:
    """A sound `[samples]` at 16 kHz in a file of FFmpeg's."""
    with av.open(str(path), "w", format=container) as file:
        stream: Any = file.add_stream(coder, rate=rate, layout="mono")
        if coder in ("wmav2", "mp2", "libmp3lame"):
            stream.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray((sound * 32_767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate = 16_000
        for piece in (frame, None):
            file.mux(stream.encode(piece))


def run(case: Case, place: Place) -> Ended:
    """The command of a case in the folder of the sounds, with its standard input; what it raises is passed on."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(case.data), "utf-8", errors="surrogateescape")
    own = case.command is run_command
    try:
        with (
            _opened(case, place), _alarms(), contextlib.chdir(place.folder),
            contextlib.redirect_stdout(out), contextlib.redirect_stderr(err),
        ):  # fmt: skip
            code = case.command([*(["--max-new-tokens", "4"] if own else []), *case.arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdin = stdin
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))  # type: ignore[attr-defined]
    return Ended(code, *texts)


@contextlib.contextmanager
def _opened(case: Case, place: Place) -> Iterator[None]:
    """The open model in place of opening one, unless the case names another."""
    own = cli.run.run.open_model
    if "--model" not in case.arguments:
        batch = any(word.startswith("--batch") for word in case.arguments)
        cli.run.run.open_model = cli.run.chat.open_model = lambda _: place.batched if batch else place.opened
    try:
        yield
    finally:
        cli.run.run.open_model = cli.run.chat.open_model = own


@contextlib.contextmanager
def _alarms() -> Iterator[None]:
    """Hang is raised where the case takes too long."""
    signal.alarm(WAIT)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)


def run_apart(case: Case, place: Place, prepare_child: Callable[[], None], parent: Callable[[int], None]) -> Ended:
    """As `run`, in a process of its own: `prepare_child` is called there, `parent` with its number here.

    The code of a process that a signal ended is its negative number.
    """
    files = [place.folder / name for name in ("child.out", "child.err")]
    outputs = [os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for file in files]
    hears, tells = os.pipe()
    pid = os.fork()
    if not pid:
        code = 99
        try:
            for number, output in enumerate(outputs, 1):
                os.dup2(output, number)
            sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
            sys.stdin = io.TextIOWrapper(io.BytesIO(case.data), "utf-8", errors="surrogateescape")
            os.chdir(place.folder)
            prepare_child()
            os.write(tells, b".")
            with _opened(case, place):
                code = case.command(["--max-new-tokens", "4", *case.arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as failure:  # noqa: BLE001 - it must not go on as the parent
            code = _end_as_the_program(failure)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(code)
    os.close(tells)
    os.read(hears, 1)
    parent(pid)
    try:
        with _alarms():
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except Hang:
        os.kill(pid, signal.SIGKILL)
        raise
    for one in (hears, *outputs):
        os.close(one)
    return Ended(code, *(file.read_text(errors="replace") for file in files))


def _end_as_the_program(failure: BaseException) -> int:
    """What `cli.main.start` does with a signal; anything else is shown."""
    import traceback

    from cli.signals import Stopped, end_by

    if isinstance(failure, Stopped):
        end_by(failure.number)
    traceback.print_exception(failure)
    sys.stderr.flush()
    return 99


def wrong(case: Case, ended: Ended) -> str | None:
    """What a case did that none may do, or that this one must not; None if all is well."""
    if ended.code not in case.codes:
        bad = [line for line in ended.out.splitlines() if line.startswith("bad")]  # of --doctor
        return f"exit code {ended.code}: {ended.err[-300:]} {bad}"
    if "Traceback" in ended.err and "--debug" not in case.arguments:
        return f"traceback: {ended.err[-300:]}"
    if ended.code > 0 and not ended.err.strip():
        return f"exit code {ended.code} without a word"
    tells = {"--version", "--list-tasks", "--completion", "-h", "--help"} & {*case.arguments}
    if case.arguments[:1] == ["--json"] and not tells:
        for line in ended.out.splitlines():
            if json.loads(line).get("status") not in {"ok", "error"} or _HALF.search(line):
                return f"a line without status, or that jq refuses: {line[:200]}"
    return case.check(ended)
