"""`python3 -m tests.benchmarks.growth --model DIR [--plots DIR]`: how cost grows with context, batch and length of sound.

Three tables: a step behind contexts of 200 to 6,000 tokens, with the memory that it needs; a folder answered with
`--batch` 1 to 32; one recording of ten minutes to three hours, answered by nano window by window. The contexts and the
batches take turns in each round; medians are printed. `--plots` draws them (`pip install matplotlib`). One JSON line
last.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile

from models.manifest import load_manifest
from tests.benchmarks.contestants import Contestant
from tests.benchmarks.start import ROOT, timed

CONTEXTS, STEPS = (200, 800, 2_000, 6_000), 16  # tokens; steps that are timed behind them
BATCHES = (1, 2, 4, 8, 16, 32)
CLIPS, SECONDS, TOKENS = 32, 6, 32  # of the folder: sounds, the length of each, new tokens of each answer
HOURS = (1 / 6, 0.5, 1, 3)
RATE = 16_000

Rows = list[dict[str, Any]]


def by_context(model: Path, rounds: int, threads: int) -> Rows:
    """Tokens a second, and the peak of a process that did nothing else, behind each context.

    One process at a time: a whole model is not in memory twice.
    """
    rates: dict[int, list[float]] = {context: [] for context in CONTEXTS}
    peaks: dict[int, list[float]] = {context: [] for context in CONTEXTS}
    for _ in range(rounds):
        for context in CONTEXTS:
            ours = Contestant("ours", model=str(model), threads=threads, encoder=False)
            rates[context].append(1 / ours.do("decode", 1, context, STEPS))
            peaks[context].append(ours.do("peak_memory") / 1e9)
            ours.close()
    return [
        {
            "context": context,
            "tokens_per_s": round(median(rates[context]), 2),
            "peak_gb": round(median(peaks[context]), 2),
        }
        for context in CONTEXTS
    ]


def by_batch(model: Path, batches: Sequence[int], rounds: int, threads: int) -> Rows:
    """Files a second and the peak of the whole command over a folder of noise, with each batch."""
    random = np.random.default_rng(0)
    found: dict[int, list[tuple[float, int]]] = {batch: [] for batch in batches}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(CLIPS):
            samples = random.normal(0, 0.1, SECONDS * RATE).astype(np.float32)
            soundfile.write(Path(folder) / f"{number}.wav", samples, RATE)
        command = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", str(model), "-q", "-i", folder]
        command += ["--max-new-tokens", str(TOKENS), "--threads", str(threads)]
        for _ in range(rounds):
            for batch in batches:
                found[batch].append(timed([*command, "--batch", str(batch)]))
    rows = []
    for batch, runs in found.items():
        seconds, peaks = zip(*runs, strict=True)
        rate = CLIPS / median(seconds)
        rows.append({"batch": batch, "files_per_s": round(rate, 3), "peak_gb": round(max(peaks) / 1e9, 2)})
    return rows


def by_length(clip: Path, threads: int) -> Rows:
    """Seconds and the peak of the whole command with nano, for one recording: a clip of speech again and again."""
    samples, rate = soundfile.read(clip, dtype="int16")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for hours in HOURS:
            path = Path(folder) / f"{hours:.2f}.flac"
            with soundfile.SoundFile(path, "w", rate, 1) as file:
                for _ in range(int(hours * 3600 * rate) // len(samples)):
                    file.write(samples)
            command = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", "nano", "-q", "-i", str(path)]
            seconds, peak = timed([*command, "--task", "transcribe", "--threads", str(threads)])
            speed = hours * 3600 / seconds
            rows.append({"hours": round(hours, 2), "times_real_time": round(speed, 1), "peak_mb": peak // 1_000_000})
    return rows


def draw(folder: Path, name: str, rows: Rows) -> None:
    """One plot: speed over the first column as a line, memory as another on an axis of its own."""
    from matplotlib import pyplot as plt

    across, speed, memory = rows[0]
    figure, left = plt.subplots(figsize=(5, 2.6), layout="constrained")
    right = left.twinx()
    xs = [row[across] for row in rows]
    left.plot(xs, [row[speed] for row in rows], "o-", color="C0")
    right.plot(xs, [row[memory] for row in rows], "s--", color="C1")
    left.set_xscale("log")
    left.set_xticks(xs, [f"{x:g}" for x in xs])
    left.minorticks_off()
    left.set_xlabel(across)
    left.set_ylabel(speed.replace("_", " "), color="C0")
    right.set_ylabel(memory.replace("_", " "), color="C1")
    left.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    figure.savefig(folder / f"growth_{name}.svg", metadata={"Date": None})
    plt.close(figure)


def main(argv: list[str] | None = None) -> int:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="a converted model that has a vocabulary")
    parser.add_argument("--clip", type=Path, default=ROOT / "tests/golden/nano/speech.flac", help="speech, for nano")
    parser.add_argument("--only", nargs="*", default=["context", "batch", "length"])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--plots", type=Path, metavar="DIR")
    options = parser.parse_args(argv)
    tables: dict[str, Rows] = {}
    if "context" in options.only:
        tables["context"] = by_context(options.model, options.rounds, options.threads)
    if "batch" in options.only:
        tables["batch"] = by_batch(options.model, options.batches, options.rounds, options.threads)
    if "length" in options.only:
        tables["length"] = by_length(options.clip, options.threads)
    for name, rows in tables.items():
        print(f"| {' | '.join(rows[0])} |\n|{'---|' * len(rows[0])}")
        print("\n".join(f"| {' | '.join(str(value) for value in row.values())} |" for row in rows), flush=True)
        if options.plots:
            draw(options.plots, name, rows)
    layers = load_manifest(options.model).decoder_sizes.n_layer
    machine = {"layers": layers, "cores": os.cpu_count(), "rounds": options.rounds}
    print(json.dumps({"benchmark": "growth", "model": options.model.name, **machine, **tables}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
