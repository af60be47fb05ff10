"""`python3 -m tests.published answers --model DIR`, and `python3 -m tests.published --model DIR --data ROOT [TABLE…]`.

The first asks what the authors publish answers to, the second holds the model against the tables of the paper. The last
line is JSON; the exit code is 1 if something was not as published, or could not be asked.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from errors import QwenAudioError, path
from tests.published.answers import GOLDEN, WHERE, compare
from tests.published.run import run_tables
from tests.published.tables import TABLES

ABOUT = """With "answers": ask what the authors publish answers to, and show theirs beside the model's. Otherwise hold
the model against the tables of the paper, on the data sets in --data."""


def main(argv: list[str] | None = None) -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.published", description=ABOUT)
    names = f"answers, or of: {', '.join(TABLES)}"
    parser.add_argument("tables", nargs="*", metavar="TABLE", help=f"{names} (default: all tables)")
    parser.add_argument("--model", type=path, metavar="DIR", help="default: nano")
    parser.add_argument("--data", type=path, metavar="ROOT", help="the folder with the data sets, as published")
    parser.add_argument("--audio", type=path, metavar="DIR", help=f"for answers: {WHERE}")
    parser.add_argument("--limit", type=int, metavar="N", help="rows of each set, drawn at random (default: all)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of --limit: which rows are drawn (default: 0)"
    )
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="decode N answers side by side (default: 1)")
    parser.add_argument(
        "--output",
        type=path,
        default=Path("published"),
        metavar="DIR",
        help="where the answers go (default: published)",
    )
    options = parser.parse_args(argv)
    try:
        if options.tables == ["answers"]:
            counts = compare(options.model, [folder for folder in (options.audio, GOLDEN) if folder])
            print(json.dumps({"published": "answers", **counts}))
            return 0 if counts["right"] == counts["turns"] and not counts["not_asked"] else 1
        if unknown := [name for name in options.tables if name not in TABLES]:
            parser.error(f"{unknown[0]}: choose from {names}")
        if options.data is None:
            parser.error("give --data with the folder that holds the data sets")
        return run_tables(options.tables or list(TABLES), options)
    except QwenAudioError as error:
        print(error, file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
