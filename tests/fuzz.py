"""`python3 -m tests.fuzz --cases 5000`: damaged sounds, manifests and lists, and flags at random, seeded.

Every case goes through the real `main` on a tiny random model. What must hold: an exit code that the case allows, no
exception, no traceback, no hang; with --json every line is an object with a status. The first violations are printed
with their seed (`--only SEED` runs one again), and the exit code is 1 if there were any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

import cli.run.open_model
import cli.run.run
from cli.main import main as run_command
from cli.options import parse_arguments
from models.convert.convert import convert
from tests.benchmarks.geometry import TINY as WITH_VOCABULARY
from tests.benchmarks.random_checkpoint import make_checkpoint

SECONDS = 20  # of processor that a case may take
WAIT = 300  # seconds after which it hangs: other programs may hold the processor meanwhile
FORMATS = {
    "a.wav": ("WAV", "PCM_16"),
    "b.flac": ("FLAC", "PCM_24"),
    "c.ogg": ("OGG", "VORBIS"),
    "d.aiff": ("AIFF", "PCM_16"),
    "e.mp3": ("MP3", "MPEG_LAYER_III"),
    "f.wav": ("WAV", "FLOAT"),
}
WORDS = [
    "",
    "0",
    "-1",
    "1",
    "2",
    "1/2",
    "9/3",
    "a",
    "*.wav",
    "missing.wav",
    "a.wav",
    "b.flac",
    "-",
    "en",
    "nano",
    "\udcff",
]


@dataclass(frozen=True)
class Place:
    """What the cases are made of."""

    folder: Path
    model: Path
    opened: Any


Case = tuple[list[str], set[int], bytes]  # arguments, exit codes that are right, standard input


def prepare(folder: Path) -> Place:
    """Sounds of each format and a tiny model, opened once."""
    sound = 0.3 * np.sin(np.arange(6_000) / 7) * np.random.default_rng(0).uniform(0.5, 1, 6_000)
    for name, (kind, subtype) in FORMATS.items():
        soundfile.write(folder / name, sound, 16_000, format=kind, subtype=subtype)
    vocabulary = Path(__file__).parent / "golden" / "qwen.tiktoken.xz"
    make_checkpoint(folder / "checkpoint", WITH_VOCABULARY, seed=1, vocab=vocabulary)
    convert(folder / "checkpoint", folder / "model", precision="fp32", flavour="fused")
    return Place(
        folder,
        folder / "model",
        cli.run.open_model.open_model(parse_arguments(["x.wav", "--model", str(folder / "model")])),
    )


def damaged_sound(rng: random.Random, place: Place) -> Case:
    """A sound with bytes changed, cut out, put in or cut off."""
    name = rng.choice(list(FORMATS))
    data = bytearray((place.folder / name).read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(min(len(data), rng.choice((64, 512, len(data)))))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            del data[max(1, at) :]
        data = data or bytearray(b"\0")
    path = place.folder / f"damaged{Path(name).suffix}"
    path.write_bytes(data)
    piped = rng.random() < 0.2
    return ["--json", "-i", "-" if piped else str(path)], {0, 1}, bytes(data) if piped else b""


def damaged_manifest(rng: random.Random, place: Place) -> Case:
    """A manifest with a key gone, added, or of another value; or with its bytes changed."""
    copy = place.folder / "copy"
    if not copy.exists():
        shutil.copytree(place.model, copy)
    text = (place.model / "manifest.json").read_text()
    if rng.random() < 0.3:
        data = bytearray(text.encode())
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (copy / "manifest.json").write_bytes(data)
    else:
        tree = json.loads(text)
        spot = tree
        while True:
            key = rng.choice(list(spot)) if isinstance(spot, dict) else rng.randrange(len(spot))
            if not isinstance(spot[key], dict | list) or not spot[key] or rng.random() < 0.2:
                break
            spot = spot[key]
        values = [None, 0, -1, 1, 2**40, 0.5, "", "x", "..", [], {}, True, "decoder.onnx", [1, 2], "fused", "plain"]
        if rng.random() < 0.25:
            del spot[key]
        else:
            spot[key] = rng.choice(values)
        (copy / "manifest.json").write_text(json.dumps(tree))
    sound = str(place.folder / "a.wav")
    return ["--json", "--backend", "onnxruntime", "--model", str(copy), "-i", sound], {0, 3}, b""


def damaged_list(rng: random.Random, place: Place) -> Case:
    """A list of lines, some of them names, some JSON, some nothing."""
    good = [str(place.folder / name) for name in FORMATS]

    def line() -> str:
        kind = rng.randrange(7)
        name = rng.choice([*good, "missing.wav", str(place.folder), "", "\0", "x" * 5000])
        if kind < 2:
            return name
        record: dict[str, Any] = {"audio": rng.choice([name, [name], [name, name], 3, None, {}, []])}
        record |= rng.choice([{}, {"prompt": "what is it?"}, {"question": 5}, {"prompt": ""}, {"id": 1}])
        text = json.dumps(record)
        return text if kind < 5 else text[: rng.randrange(len(text))] if kind == 5 else "{" + rng.choice('}]1"')

    lines = [line() for _ in range(rng.randrange(6))]
    data = rng.choice(["\n", "\r\n", "\0"]).join(lines).encode("utf-8", "surrogateescape")
    if rng.random() < 0.2:
        data += rng.randbytes(12)
    flags = rng.choice([[], ["-0"], ["--shard", "1/2"], ["-r"]])
    path = place.folder / "list.txt"
    path.write_bytes(data)
    piped = rng.random() < 0.5
    return ["--json", *flags, "--files-from", "-" if piped else str(path)], {0, 1, 2, 4}, data if piped else b""


def flags_at_random(rng: random.Random, place: Place) -> Case:
    """Some of all flags, with values that fit and values that do not."""
    from cli.flags import build_parser

    arguments: list[str] = []
    flags = [action for action in build_parser()._actions if action.option_strings]
    for action in rng.sample(flags, rng.randrange(1, 6)):
        flag = rng.choice(action.option_strings)
        if flag in {"--model", "--env_list", "-e", "--env_id", "--device", "--backend", "-b", "--benchmark", "--chat",
                    "--model_dir", "-bc", "--benchmark_count", "--keep"}:  # fmt: skip
            continue  # another model, another machine, or a long time
        arguments.append(flag)
        if action.nargs != 0:
            value = str(rng.choice([*(action.choices or []), *WORDS]))
            arguments.append("out.txt" if value == "a.wav" and action.dest == "savepath" else value)
    if rng.random() < 0.7:
        arguments += ["-i", rng.choice(["a.wav", "missing.wav", ".", "*.flac"])]
    return arguments, {0, 1, 2, 4}, b""


KINDS: tuple[Callable[[random.Random, Place], Case], ...] = (
    damaged_sound,
    damaged_manifest,
    damaged_list,
    flags_at_random,
)


class Hang(BaseException):
    """A case that does not end."""


def run(arguments: list[str], data: bytes, place: Place) -> tuple[int, str, str]:
    """`main` with these arguments and this standard input, in the folder of the sounds: exit code and both streams."""
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    own = cli.run.run.open_model
    if "--model" not in arguments:
        cli.run.run.open_model = lambda _: place.opened
    stdin, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(data), "utf-8", errors="surrogateescape")
    signal.alarm(WAIT)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(place.folder):
            code = run_command(["--max-new-tokens", "4", *arguments])
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdin, cli.run.run.open_model = stdin, own
    texts = []
    for stream in (out, err):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8", "replace"))  # type: ignore[attr-defined]
    return code, texts[0], texts[1]


def violation(seed: int, place: Place) -> str | None:
    """What a case did that it must not, or None."""
    rng = random.Random(seed)
    arguments, codes, data = KINDS[seed % len(KINDS)](rng, place)
    try:
        code, out, err = run(arguments, data, place)
    except (Exception, Hang) as failure:  # noqa: BLE001 - whatever comes out is what we look for
        return f"{type(failure).__name__}: {failure} from {arguments}"
    if code not in codes:
        bad = [line for line in out.splitlines() if line.startswith("bad")]  # of --doctor
        return f"exit code {code} from {arguments}: {err[-300:]} {bad}"
    if "Traceback" in err and "--debug" not in arguments:
        return f"traceback from {arguments}"
    if code and not err.strip():
        return f"exit code {code} without a word from {arguments}"
    if arguments[:1] == ["--json"] and not {"--version", "--list-tasks", "--completion", "-h", "--help"} & {*arguments}:
        for line in out.splitlines():
            if json.loads(line).get("status") not in {"ok", "error"}:
                return f"a line without status from {arguments}: {line[:200]}"
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the cases and tell the violations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--only", type=int, metavar="SEED")
    options = parser.parse_args(argv)

    def hang(*_: object) -> None:
        raise Hang(f"no end within {SECONDS} s of processor or {WAIT} s")

    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGPROF, hang)
    seeds = [options.only] if options.only is not None else range(options.first, options.first + options.cases)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = prepare(Path(folder))
        for seed in seeds:
            if problem := violation(seed, place):
                found[KINDS[seed % len(KINDS)].__name__] += 1
                if found.total() <= 20:
                    print(f"seed {seed}, {KINDS[seed % len(KINDS)].__name__}: {problem}", flush=True)
    print(json.dumps({"benchmark": "fuzz", "cases": len(list(seeds)), "violations": dict(found)}))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
