"""`python3 -m tests.benchmarks.speculation --lists FILE…`: how many runs guessing saves on a list of like answers, with nano.

The lists are JSON Lines as `--files-from` takes them, asked one answer at a time.
Both ways are run, with guesses and without; the ids must be the same. Time is made of it with
`--costs`, what runs of 2, 4 and 8 ids and a guess in a prompt take on the full model, a step being 1: `tests.benchmarks.speed`
measures that ("run of N ids", "guess in a prompt"). One JSON line last; the exit code is 1 if an answer differs.
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

import numpy as np

from cli.main import main as run_command
from decoder.decoder import Decoder
from decoder.speculation import Drafts

PROMPT = 0  # stands for guesses in prompts, where lengths of runs are counted


def answered(path: Path, model: str, *, guessing: bool) -> tuple[list[list[int]], Counter[int]]:
    """The ids of every answer of a list, and how many runs there were of each length, or guesses in prompts."""
    lengths: Counter[int] = Counter()
    begin, extend, remember = Decoder.begin, Decoder.extend, Drafts.remember

    def begun(self: Decoder, ids: Sequence[int], clips: Any, guesses: Sequence[int], **options: Any) -> Any:
        lengths[PROMPT] += len(guesses)
        return begin(self, ids, clips, guesses, **options)

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
        mock.patch.object(Decoder, "begin", begun),
        mock.patch.object(Decoder, "extend", counted),
        mock.patch.object(Drafts, "remember", learn),
        contextlib.redirect_stdout(shown),
        contextlib.chdir(path.parent),
    ):
        code = run_command(command)
    if code:
        raise SystemExit(f"{path}: exit code {code}")
    return [json.loads(line)["token_ids"] for line in shown.getvalue().splitlines()], lengths


def times_as_fast(lengths: Counter[int], runs: int, costs: Sequence[float]) -> float:
    """What as many single steps as `runs` take, over what runs of these lengths and guesses in prompts do."""
    *known, in_prompt = costs
    spent = sum(np.interp(length, (1, 2, 4, 8), (1, *known)) * n for length, n in lengths.items() if length != PROMPT)
    return float(runs / (spent + lengths[PROMPT] * in_prompt))


def main(argv: list[str] | None = None) -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--lists", type=Path, nargs="+", required=True, metavar="FILE", help="raw*.jsonl are asked --raw"
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument(
        "--costs", type=float, nargs=4, default=(1.02, 1.29, 1.89, 0.19), metavar="STEPS", help="int4's on the EPYC"
    )
    options = parser.parse_args(argv)
    with_guesses: Counter[int] = Counter()
    without, differing, count, ids = 0, 0, 0, 0
    for path in options.lists:
        expected, alone = answered(path.resolve(), options.model, guessing=False)
        found, lengths = answered(path.resolve(), options.model, guessing=True)
        differing += sum(one != other for one, other in zip(expected, found, strict=True))
        fast = times_as_fast(lengths, alone.total(), options.costs)
        print(f"{path.name}: {len(expected)} answers, {fast:.2f} times as fast")
        with_guesses += lengths
        without, count, ids = without + alone.total(), count + len(expected), ids + sum(map(len, expected))
    for length, n in sorted(with_guesses.items()):
        print(f"{n:6} {f'runs of {length} ids' if length != PROMPT else 'guesses in prompts'}")
    fast = times_as_fast(with_guesses, without, options.costs)
    row = {"benchmark": "drafts", "answers": count, "ids": ids, "differing": differing, "runs_without": without}
    in_prompts = with_guesses.pop(PROMPT, 0)
    saved = {"runs_with": with_guesses.total(), "guesses_in_prompts": in_prompts}
    result = {**row, **saved, "of_length": dict(sorted(with_guesses.items())), "costs": options.costs}
    print(json.dumps({**result, "times_as_fast": round(fast, 3)}))
    return 1 if differing or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())
