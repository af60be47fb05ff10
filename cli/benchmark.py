"""`--benchmark`: the same answer several times, timed; the first of them only warms up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import mean, median

from cli.answer import STAGES, Answer
from cli.output import say


def benchmark(again: Callable[[Answer], Iterable[str]], first: Answer, runs: int) -> None:
    """Answer `runs` times more as `again` does it; tells each time and, without the first, mean and median by stage."""
    rows = []
    for number in range(1, runs + 1):
        timed = Answer(first.input, first.prompt)
        for _ in again(timed):
            pass
        say(f"run {number} of {runs}: {sum(timed.timings.values()):.3f} s{' (not counted)' if number == 1 else ''}")
        rows.append(timed)
    for stage in STAGES[1:]:
        seconds = [timed.timings[stage] for timed in rows[1:]]
        say(f"{stage}: mean {mean(seconds):.4f}, median {median(seconds):.4f}")
    speeds = [(len(timed.token_ids) - 1) / timed.timings["decode_s"] for timed in rows[1:] if len(timed.token_ids) > 1]
    if speeds:
        say(f"decoding: median {median(speeds):.2f} tokens per second")
