"""`python3 -m tests.benchmarks.speed --model DIR`: how fast the full model is, beside llama.cpp, CTranslate2 and PyTorch.

Every contestant runs in a process of its own and all are measured in turns, so that a busy machine hits them alike: what
counts are the ratios, of medians over `--rounds`. The read bandwidth of the machine is measured in the same rounds. The
random model and the peers' files are made in `--work` if they are missing (24 GB for a while, some 8 minutes). A peer
that no `--python` has installed is left out, and said to be. Prints a table and, last, one JSON line. `--short`: one
round after the warm one, of one row, without the long prompt and the long clip: under five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from models.manifest import Manifest, load_manifest
from models.server.client import end_server
from tests.benchmarks import weights as weight_errors
from tests.benchmarks.contestants import Contestant

CONTEXT, STEPS = 64, 16  # tokens before the steps that are timed, and how many
WORDS = 24  # of a prompt beside its clip
ROWS, ROWS_CONTEXT, ROWS_STEPS = (2, 4, 8, 16), 16, 8
# What a peer's interpreter must have: to run it, and gguf to write llama.cpp's file.
MODULES = {"llama.cpp": ("llama_cpp", "gguf"), "CTranslate2": ("ctranslate2",), "PyTorch": ("torch",)}
HAS = "import sys; from importlib.util import find_spec; print(*(one for one in sys.argv[1:] if not find_spec(one)))"


@dataclass(frozen=True)
class Measure:
    """One line of the table: what each contestant does for it; `per` tokens make a rate of the seconds."""

    name: str
    calls: dict[str, tuple[Any, ...]]
    per: int = 0


OPENING = Measure("opening", {"ours": ("opened",), "llama.cpp": ("opened",)})
# From the second run on, when --keep holds the model; llama.cpp opens its own as before.
KEPT, KEEP = Measure("opening, kept", OPENING.calls), 600.0  # seconds


def measures(*, rows: bool, ratio: int = 25) -> list[Measure]:
    """Every figure of a phase; the batch phase needs sessions with many rows."""
    if rows:
        return [
            Measure(
                f"decode, {n} rows", dict.fromkeys(("ours", "llama.cpp"), ("decode", n, ROWS_CONTEXT, ROWS_STEPS)), n
            )
            for n in ROWS
        ]
    found = [Measure("decode, 1 row", dict.fromkeys(("ours", "llama.cpp"), ("decode", 1, CONTEXT, STEPS)), 1)]
    found += [Measure(f"run of {n} ids", {"ours": ("extend", n, CONTEXT, 8)}) for n in (2, 4, 8)]
    found += [Measure("guess in a prompt", {"ours": ("guess", 6, CONTEXT, 3)})]
    found += [Measure(f"prefill {n}", dict.fromkeys(("ours", "llama.cpp"), ("prefill", n)), n) for n in (200, 770)]
    encoders = ("ours", "CTranslate2", "PyTorch float32", "PyTorch bfloat16")
    found += [Measure(f"encoder, {n} s", dict.fromkeys(encoders, ("encode", n))) for n in (6, 30)]
    prompt = 6 * ratio + 2 + WORDS
    whole = {"ours": ("answer", 6, WORDS, 32), "llama.cpp": ("answer", prompt, 32), "CTranslate2": ("encode", 6)}
    return [*found, Measure("6 s clip, 32 tokens", whole)]


def interpreters(candidates: list[str], peers: Sequence[str] = tuple(MODULES)) -> dict[str, str]:
    """For each peer, the first Python that has all it needs; a line says what is missing where none has."""
    found = {}
    for peer in peers:
        modules = MODULES[peer]
        missing = {python: missing_modules(python, modules) for python in candidates}
        complete = [python for python, names in missing.items() if not names]
        if complete:
            found[peer] = complete[0]
        else:
            lacks = "; ".join(f"{python} lacks {', '.join(names)}" for python, names in missing.items())
            print(f"{peer}: left out: {lacks}", file=sys.stderr)
    return found


def missing_modules(python: str, modules: tuple[str, ...]) -> list[str]:
    """Which of some modules an interpreter does not have: all of them when it does not start."""
    try:
        run = subprocess.run([python, "-c", HAS, *modules], capture_output=True, text=True, check=False)
    except OSError:
        return list(modules)
    return list(modules) if run.returncode else run.stdout.split()


def prepare(work: Path, model: Path | None, pythons: dict[str, str]) -> Path:
    """Make what is missing: the random model, converted, and the peers' files; returns the model's directory."""
    model = model or work / "int4"
    if not (model / "manifest.json").exists():
        checkpoint = work / "checkpoint"
        _call(sys.executable, "-m", "tests.benchmarks.random_checkpoint", str(checkpoint))
        _call(sys.executable, "-m", "tests.benchmarks.nearest", str(checkpoint), str(model))
        shutil.rmtree(checkpoint)
    code = "from pathlib import Path; from models.manifest import load_manifest; from tests.benchmarks import peer_models; "
    code += f"m = load_manifest(Path({str(model)!r})); "
    if "llama.cpp" in pythons and not (work / "q4_0.gguf").exists():
        made = f"peer_models.make_gguf(Path({str(work / 'part.gguf')!r}), m.decoder_sizes, 11008)"
        _call(pythons["llama.cpp"], "-c", code + made)
        (work / "part.gguf").replace(work / "q4_0.gguf")
    if "CTranslate2" in pythons and not (work / "whisper-ct2" / "model.bin").exists():
        _call(
            pythons["CTranslate2"],
            "-c",
            code + f"peer_models.make_whisper(Path({str(work / 'part')!r}), m.encoder_sizes)",
        )
        (work / "part").replace(work / "whisper-ct2")
    return model


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=Path(__file__).resolve().parents[2])


def speakers(
    work: Path,
    model: Path,
    manifest: Manifest,
    pythons: dict[str, str],
    threads: int,
    *,
    rows: int,
    keep: float = 0.0,
) -> dict[str, Callable[[], Contestant]]:
    """How to start those who decode."""
    own: dict[str, Any] = {"model": str(model), "threads": threads, "rows": rows, "encoder": rows == 1, "keep": keep}
    found = {"ours": lambda: Contestant("ours", **own)}
    if "llama.cpp" in pythons:
        context = 1024 if rows == 1 else 256
        config: dict[str, Any] = {"model": str(work / "q4_0.gguf"), "rows": rows, "context": context}
        config["vocabulary"] = manifest.decoder_sizes.vocab_size
        config["threads"] = threads or os.cpu_count()
        found["llama.cpp"] = lambda: Contestant("llama.cpp", pythons["llama.cpp"], **config)
    return found


def encoders(work: Path, manifest: Manifest, pythons: dict[str, str], threads: int) -> list[Contestant]:
    """Start the peers that only encode."""
    found = []
    if "CTranslate2" in pythons:
        found.append(
            Contestant("CTranslate2", pythons["CTranslate2"], model=str(work / "whisper-ct2"), threads=threads)
        )
    if "PyTorch" in pythons:
        sizes = manifest.encoder_sizes
        geometry = {"audio_state": sizes.n_state, "audio_layer": sizes.n_layer, "audio_head": sizes.n_head}
        geometry["d_model"] = sizes.d_model
        flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        fast = "bf16" in flags  # elsewhere it is emulated, seven times as slow as float32
        for dtype in ("float32", "bfloat16") if fast else ("float32",):
            one = Contestant("PyTorch", pythons["PyTorch"], sizes=geometry, threads=threads, dtype=dtype)
            one.name = f"PyTorch {dtype}"
            found.append(one)
    return found


def run_phase(contestants: list[Contestant], wanted: list[Measure], rounds: int) -> dict[tuple[str, str], list[float]]:
    """(measure, contestant) -> seconds of each round, all in turns; the order turns round from one round to the next."""
    by_name = {one.name: one for one in contestants}
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):  # the first round warms up
        for measure in wanted:
            pairs = [(name, call) for name, call in measure.calls.items() if name in by_name]
            for name, call in pairs if number % 2 else pairs[::-1]:
                seconds = by_name[name].do(*call)
                if number:
                    found[measure.name, name].append(seconds)
            if number and measure is wanted[0]:
                found["read bandwidth", "memory"].append(by_name["memory"].do("read"))
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    for name, one in by_name.items():
        if name in ("ours", "llama.cpp"):
            found["peak memory", name].append(one.do("peak_memory"))
        one.close()
    return found


def run_openings(
    starts: dict[str, Callable[[], Contestant]], measure: Measure, rounds: int
) -> dict[tuple[str, str], list[float]]:
    """As `run_phase`: seconds from nothing to an open model, each in a process of its own and alone, with a warm disk."""
    found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for name in [*starts] if number % 2 else [*starts][::-1]:
            one = starts[name]()
            seconds = one.do("opened")
            one.close()
            if number:
                found[measure.name, name].append(seconds)
        print(f"{measure.name} {number} of {rounds}", file=sys.stderr, flush=True)
    return found


def table(found: dict[tuple[str, str], list[float]], wanted: list[Measure], weights: int) -> list[dict[str, Any]]:
    """Rows of the table: medians, and how many times as fast as each peer ours is (over 1: faster)."""
    rows = []
    for measure in wanted:
        seconds = {name: median(found[measure.name, name]) for name in measure.calls if (measure.name, name) in found}
        row: dict[str, Any] = {"measure": measure.name, "seconds": {n: round(s, 4) for n, s in seconds.items()}}
        if measure.per:
            row["tokens_per_s"] = {name: round(measure.per / value, 2) for name, value in seconds.items()}
        peers = {name: value for name, value in seconds.items() if name != "ours"}
        if measure.name.startswith("6 s") and len(peers) == 2:
            both = [sum(pair) for pair in zip(*(found[measure.name, name] for name in peers), strict=True)]
            row["ratio"] = {"both": round(median(both) / seconds["ours"], 2)}
        else:
            row["ratio"] = {name: _ratio(found[measure.name, "ours"], found[measure.name, name]) for name in peers}
        if measure.name == "decode, 1 row":
            bandwidth = median(found["read bandwidth", "memory"])
            row["of_bandwidth"] = round(weights / seconds["ours"] / bandwidth, 2)
        rows.append(row)
    return rows


def _ratio(ours: list[float], peer: list[float]) -> float:
    """The median over rounds of what the peer took against ours in the same round."""
    return round(median(theirs / mine for mine, theirs in zip(ours, peer, strict=True)), 2)


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    for row in rows:
        values = row.get("tokens_per_s") or row["seconds"]
        unit = "tok/s" if "tokens_per_s" in row else "s"
        cells = ", ".join(f"{name} {value:g}" for name, value in values.items())
        ratios = ", ".join(f"{value:g} of {name}" for name, value in row["ratio"].items())
        limit = f"; {row['of_bandwidth']:g} of the bandwidth" if "of_bandwidth" in row else ""
        print(f"{row['measure']:22} {unit:6} {cells}  ->  {ratios or 'no peer'}{limit}")


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, help="a converted model (default: made in --work)")
    parser.add_argument("--work", type=Path, required=True, help="where the random model and the peers' files are kept")
    parser.add_argument("--python", nargs="*", default=[], metavar="PATH", help="interpreters that have the peers")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="*", default=[""], metavar="WORDS", help="measures whose names begin so")
    parser.add_argument("--threads", type=int, default=0, help="default: our own default, a peer's thread a processor")
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    pythons = interpreters([sys.executable, *options.python])
    model = prepare(options.work, options.model, pythons)
    manifest = load_manifest(model)
    weights = manifest.files[Path(manifest.decoder[0].file).with_suffix(".data").name].size
    rounds = 1 if options.short else options.rounds
    if options.short:
        options.only = ["decode, 1", "prefill 200", "encoder, 6", "opening"]
    rows: list[dict[str, Any]] = []
    report: dict[str, Any] = {}
    kinds = {"work": options.work, "model": model, "manifest": manifest, "pythons": pythons, "threads": options.threads}
    for several in (False,) if options.short else (False, True):
        wanted = [one for one in measures(rows=several) if one.name.startswith(tuple(options.only))]
        if not wanted:
            continue
        most = max(one.per for one in wanted) if several else 1
        every = options.threads or os.cpu_count() or 1
        contestants = [Contestant("memory", threads=every)]
        contestants += [start() for start in speakers(**kinds, rows=most).values()]
        if not several:
            contestants += encoders(options.work, manifest, pythons, every)
        found = run_phase(contestants, wanted, rounds)
        rows += table(found, wanted, weights)
        values = {name: values[0] for (measure, name), values in found.items() if measure == "peak memory"}
        report[f"peak memory, {most} rows"] = {name: round(value / 1e9, 2) for name, value in values.items()}
        report.setdefault("read bandwidth", round(median(found["read bandwidth", "memory"]) / 1e9, 1))
    for measure, keep in ((OPENING, 0.0), (KEPT, KEEP)):
        if measure.name.startswith(tuple(options.only)):
            rows += table(run_openings(speakers(**kinds, rows=1, keep=keep), measure, rounds), [measure], weights)
            end_server()
    show(rows)
    report["weight errors"] = {row["checkpoint"]: row["errors"] for row in weight_errors.measure([])}
    print(", ".join(f"{name}: {value}" for name, value in report.items()))
    row = {"benchmark": "speed", "model": manifest.precision, "rounds": rounds, "threads": options.threads}
    print(json.dumps({**row, "rows": rows, **report}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
