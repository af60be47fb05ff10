"""`python3 -m models.nano.train.sounds_many OUT --snapshots DIR`: sounds of the world from many small repositories.

`sounds_many.csv.xz` has a line for each sound: repository and commit, path, what sounds, where it begins and how long
it lasts in seconds, licence and author. They are read from git snapshots (DIR/OWNER+NAME/repo). OUT gets `meta.jsonl`
and 16 kHz FLAC files, so that `features --recordings OUT` reads it. It goes on where it was cut off.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import subprocess
import sys
from pathlib import Path
from typing import Any

from errors import AudioError
from models.nano.train.voices import RATE, Snapshot, add_line, decoded, lines_so_far, save

LIST = Path(__file__).with_suffix(".csv.xz")
SOURCE = "sounds_many"  # the folder in OUT


def listed() -> list[dict[str, str]]:
    """The lines of the list, in order."""
    with lzma.open(LIST, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def labels(number: int, line: dict[str, str]) -> dict[str, Any]:
    """A line of meta.jsonl."""
    source = f"github.com/{line['repository']}@{line['commit']}"
    return {
        "audio": f"{SOURCE}/{number:04}.flac",
        "labels": {"sound": line["sound"]},
        "source": source,
        "licence": line["licence"],
        "author": line["author"],
    }


def main(argv: list[str] | None = None) -> int:
    """All sounds whose repository was fetched; the others are named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--snapshots", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(argv)
    there = {row["audio"] for row in lines_so_far(options.out)}
    snapshots: dict[tuple[str, str], Snapshot] = {}
    for number, line in enumerate(listed()):
        row = labels(number, line)
        if row["audio"] in there:
            continue
        where = line["repository"], line["commit"]
        folder = options.snapshots / where[0].replace("/", "+") / "repo"
        try:
            if where not in snapshots:
                snapshots[where] = Snapshot(folder, where[1])
            waveform = decoded(snapshots[where].read(line["path"]), Path(line["path"]).suffix)
        except (AudioError, subprocess.CalledProcessError) as error:
            print(f"{line['repository']}: {line['path']}: {error}", file=sys.stderr)
            continue
        begin = round(float(line["begin"]) * RATE)
        waveform = waveform[begin : begin + round(float(line["seconds"]) * RATE)]
        save(options.out / row["audio"], waveform)
        add_line(options.out, row | {"seconds": round(len(waveform) / RATE, 3)})
        there.add(row["audio"])
    print(f"{len(there)} sounds")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
