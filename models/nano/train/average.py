"""`python3 -m models.nano.train.average OUT CHECKPOINT…`: the mean of the weights of several checkpoints of one run.

Checkpoints along one run lie in one valley, and their mean is often better than each of them (Izmailov and others,
"Averaging Weights Leads to Wider Optima and Better Generalization", 2018).
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

WEIGHTS = "model.safetensors"


def average(out: Path, checkpoints: list[Path]) -> None:
    """Write the first checkpoint with the mean of all their weights, in the first one's type."""
    every = [load_file(checkpoint / WEIGHTS) for checkpoint in checkpoints]
    mean = {}
    for name, first in every[0].items():
        mean[name] = np.mean([one[name].astype(np.float64) for one in every], axis=0).astype(first.dtype)
    shutil.copytree(checkpoints[0], out)
    save_file(mean, out / WEIGHTS, metadata={"format": "pt"})


def main(argv: list[str] | None = None) -> int:
    """Average what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="a folder that is not there yet")
    parser.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    options = parser.parse_args(argv)
    average(options.out, options.checkpoints)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
