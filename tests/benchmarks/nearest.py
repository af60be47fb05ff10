"""`python3 -m tests.benchmarks.nearest CHECKPOINT OUT`: a model in the layout of calibrated int4, rounded to nearest.

Speed and memory depend on the layout alone: storage of each matrix, the rotation in the graph, the share of matrices in
8 bits. Calibrating the full geometry takes hours; this takes minutes. For random weights it is all the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.convert.calibrate import MATRICES, Calibration
from models.convert.checkpoint import Float32
from models.convert.convert import put_in_place, unfinished, write_model
from models.convert.job import calibration_of, check_out, plan


@dataclass
class Nearest(Calibration):
    """A calibration that found no matrix more sensitive than another, for its size, and no channel larger."""

    def chosen(self) -> frozenset[str]:
        """As `Calibration.chosen`."""
        for number in range(self.sizes.n_layer):
            for part in MATRICES:
                self.losses[f"transformer.h.{number}.{part}.weight"] = float(np.prod(self.shape(part)))
        return super().chosen()

    def _evening(self, number: int) -> Float32:
        return np.ones(self.width, np.float32)


def convert_to_nearest(source: Path, out: Path, precision: str) -> None:
    """As `convert`, with calibration, but for the values of the weights."""
    job = plan(source, out, precision=precision, flavour="fused")
    check_out(job)
    with unfinished(out) as unplaced, tempfile.TemporaryDirectory() as room:
        found = calibration_of(job, Path(room))
        nearest = Nearest(found.checkpoint, found.sizes, found.precision, found.room)
        write_model(replace(job, out=unplaced, calibration=nearest), _report, lambda numbers: numbers, None)
        put_in_place(unplaced, out)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--precision", choices=("int4", "int4-fine", "int8"), default="int4")
    options = parser.parse_args(argv)
    convert_to_nearest(options.checkpoint, options.out, options.precision)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
