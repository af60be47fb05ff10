"""`python3 -m tests.benchmarks.memory --model DIR…`: the most memory that the whole command has resident at once.

Each run is a new process that answers clips of noise with a model of one's own, which needs a vocabulary
(`random_checkpoint --vocab`). Prints a line a run, then one JSON line. Linux counts pages of mapped files, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.start import ROOT, timed

RATE = 16_000
# What is answered: clips, seconds of each, new tokens of each answer.
RUNS = {
    "6 s, 200 tokens": (1, 6, 200),
    "30 s, 32 tokens": (1, 30, 32),
    "two of 30 s, one after the other": (2, 30, 32),
    "8 of 6 s side by side": (8, 6, 32),
}


def measure(model: Path, clips: int, seconds: int, tokens: int) -> int:
    """Peak resident bytes of the command with so many clips, all answers side by side if there are over two."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(clips):
            samples = random.normal(0, 0.1, seconds * RATE).astype(np.float32)
            soundfile.write(Path(folder) / f"{number}.wav", samples, RATE)
        command = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", str(model), "--quiet", "--input", folder]
        return timed([*command, "--max-new-tokens", str(tokens), "--batch", str(clips if clips > 2 else 1)])[1]


def main(argv: list[str] | None = None) -> int:
    """Print a line for each model and run, and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="converted models that have a vocabulary")
    parser.add_argument("--only", nargs="*", default=[""], metavar="WORDS", help="runs whose names begin so")
    options = parser.parse_args(argv)
    rows = []
    for model in options.model:
        for name, run in RUNS.items():
            if name.startswith(tuple(options.only)):
                peak = measure(model, *run)
                print(f"{model.name}: {name}: {peak / 1e9:.2f} GB", flush=True)
                rows.append({"model": model.name, "run": name, "peak_gb": round(peak / 1e9, 2)})
    print(json.dumps({"benchmark": "memory", "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
