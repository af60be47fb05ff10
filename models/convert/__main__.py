"""`python3 -m models.convert CHECKPOINT OUT`: a Hugging Face checkpoint becomes a model directory.

Out: encoder and decoder graphs with their weights, boundary rows, embedding table, vocabulary, and, last of all, the
manifest; a directory without a manifest is not a model, so an interrupted conversion is never taken for one.
"""

from __future__ import annotations

if __name__ == "__main__":  # before all else
    from models.interrupts import end_at_once

    end_at_once()

import argparse
import errno
import shutil
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from errors import QwenAudioError, command, path
from models.interrupts import finish, is_interrupted
from models.runtime.shortage import shortage


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m models.convert", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "checkpoint", type=path, metavar="CHECKPOINT", help="directory with config.json and *.safetensors"
    )
    parser.add_argument("out", type=path, metavar="OUT", help="model directory to write")
    parser.add_argument(
        "--precision",
        choices=("fp32", "fp16", "int8-fine", "int8", "int4-fine", "int4"),
        help="default: int4 for fused and cuda, fp16 for plain",
    )
    parser.add_argument(
        "--precise",
        dest="precision",
        action="store_const",
        const="int8-fine",
        help="the same as --precision int8-fine: of those with 8 bits the nearest to the original, and slower",
    )
    parser.add_argument(
        "--flavour",
        choices=("fused", "plain", "cuda"),
        default="fused",
        help="fused: ONNX Runtime's own operators, fast (default); plain: standard operators, for ailia too; "
        "cuda: as fused, in float16, for an NVIDIA GPU",
    )
    parser.add_argument(
        "--calibrate",
        choices=("shipped", "none"),
        help="how int8, int4-fine and int4 of --flavour fused are rounded: by what the exact model makes of texts and "
        "clips that come with the program (shipped, the default; an hour or two for Qwen-Audio), or by the weights "
        "alone (none; minutes, and more is lost)",
    )
    parser.add_argument(
        "--calibration", type=path, nargs="+", metavar="FILE", help="sounds and texts of yours in place of those"
    )
    return parser


def _bar(numbers: Iterable[int]) -> Iterable[int]:
    from tqdm import tqdm  # type: ignore[import-untyped]

    bar: Iterable[int] = tqdm(numbers, "calibrating", unit="layer", leave=False, disable=None)
    return bar


def main(argv: list[str] | None = None) -> int:
    """Convert as the arguments say; returns 0, 2 for wrong usage, 3 for a checkpoint that cannot be converted.

    130 if it was interrupted.
    """
    return _convert(_options(argv))


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(argv)
    if options.calibration and options.calibrate:
        parser.error("--calibration and --calibrate contradict each other; leave one out")
    return options


def _convert(options: argparse.Namespace) -> int:
    try:
        from models.convert.convert import convert

        precision = options.precision or ("fp16" if options.flavour == "plain" else "int4")
        convert(
            options.checkpoint,
            options.out,
            precision=precision,
            flavour=options.flavour,
            calibration=options.calibration or {"shipped": (), "none": None}.get(options.calibrate, "if it can be"),
            progress=_bar,
            report=lambda line: print(line, file=sys.stderr),
        )
    except BaseException as failure:
        reason = _reason(failure, options.out)
        if reason is None:
            raise
        print(f"models.convert: {reason}", file=sys.stderr)
        return 130 if is_interrupted(failure) else 3
    print(options.out)
    return 0


def _reason(failure: BaseException, out: Path) -> str | None:
    """Why there is no model, and what to do; None for a bug."""
    if is_interrupted(failure):
        return f"interrupted; {out} is as it was. Run again, a calibration goes on"
    if isinstance(failure, QwenAudioError):
        return str(failure)
    if isinstance(failure, OSError):
        free = f"; {shutil.disk_usage(out).free >> 20} MB free" if failure.errno == errno.ENOSPC else ""
        return f"{failure.filename or out}: {failure.strerror}{free}"
    if isinstance(failure, MemoryError):
        return "not enough memory; close other programs, or raise the limit (ulimit -v)"
    if isinstance(failure, ImportError):
        install = f"{failure}; install it with `{command('pip install -r requirements.txt')}`"
        return str(shortage(str(failure)) or install)  # a library for which there is no room
    return None


if __name__ == "__main__":
    finish(partial(_convert, _options(None)))
