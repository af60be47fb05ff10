"""`--benchmark`: the same answers several times, timed; the first of them only warms up."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median

from cli.output.answer import STAGES, Answer
from cli.output.streams import say


def benchmark(again: Callable[[], Answer], runs: int) -> None:
    """Answer `runs` times as `again` does it; tells each time and, without the first, mean and median by stage."""
    rows = []
    for number in range(1, runs + 1):
        timed = again()
        seconds = sum(timed.timings[stage] for stage in STAGES[1:])
        say(f"run {number} of {runs}: {seconds:.3f} s{' (not counted)' if number == 1 else ''}")
        rows.append(timed)
    for stage in STAGES[1:]:
        of_stage = [timed.timings[stage] for timed in rows[1:]]
        say(f"{stage}: mean {mean(of_stage):.4f}, median {median(of_stage):.4f}")
    speeds = [(len(timed.token_ids) - 1) / timed.timings["decode_s"] for timed in rows[1:] if len(timed.token_ids) > 1]
    if speeds:
        say(f"decoding: median {median(speeds):.2f} tokens per second")
