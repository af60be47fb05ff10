"""`python3 -m tests.benchmarks.drafts --lists FILE…`: how many runs guessing saves on a list of like answers, with nano.

The lists are JSON Lines as `--files-from` takes them, asked one answer at a time; `models.nano.train.score --keep DIR`
writes nano's scored set so. Both ways are run, with guesses and without; the ids must be the same. What must be known to
make time of it is the length of the runs: the full model's cost of each is what `tests.benchmarks.speed` measures
("run of N ids"). One JSON line last; the exit code is 1 if an answer differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import qwen_audio
from decoder.decoder import Decoder
from decoder.drafts import Drafts


def answered(path: Path, model: str, *, guessing: bool) -> tuple[list[list[int]], Counter[int]]:
    """The ids of every answer of a list, and how many runs there were of each length."""
    lengths: Counter[int] = Counter()
    extend, remember = Decoder.extend, Drafts.remember

    def counted(self: Decoder, new_ids: Mapping[int, Sequence[int]]) -> Any:
        lengths.update(len(ids) for ids in new_ids.values())
        return extend(self, new_ids)

    def learn(self: Drafts, ids: Sequence[int]) -> None:
        if guessing:  # else nothing is known, so nothing is guessed
            remember(self, ids)

    shown = io.StringIO()
    raw = ["--raw"] if path.stem.startswith("raw") else []
    command = ["--model", model, "--json", "-q", "--files-from", path.name, *raw]
    with (
        mock.patch.object(Decoder, "extend", counted),
        mock.patch.object(Drafts, "remember", learn),
        contextlib.redirect_stdout(shown),
        contextlib.chdir(path.parent),
    ):
        code = qwen_audio.main(command)
    if code:
        raise SystemExit(f"{path}: exit code {code}")
    return [json.loads(line)["token_ids"] for line in shown.getvalue().splitlines()], lengths


def main(argv: list[str] | None = None) -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--lists", type=Path, nargs="+", required=True, metavar="FILE", help="raw*.jsonl are asked --raw"
    )
    parser.add_argument("--model", default="nano")
    options = parser.parse_args(argv)
    with_guesses: Counter[int] = Counter()
    runs, differing, count, ids = 0, 0, 0, 0
    for path in options.lists:
        expected, alone = answered(path.resolve(), options.model, guessing=False)
        found, lengths = answered(path.resolve(), options.model, guessing=True)
        differing += sum(one != other for one, other in zip(expected, found, strict=True))
        with_guesses += lengths
        runs, count, ids = runs + alone.total(), count + len(expected), ids + sum(map(len, expected))
    for length, times in sorted(with_guesses.items()):
        print(f"{times:6} runs of {length} ids")
    row = {"benchmark": "drafts", "answers": count, "ids": ids, "differing": differing, "runs_without": runs}
    saved = {"runs_with": with_guesses.total(), "of_length": dict(sorted(with_guesses.items()))}
    print(json.dumps({**row, **saved}))
    return 1 if differing or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())
