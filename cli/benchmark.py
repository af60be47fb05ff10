"""`--benchmark`: the same answer several times, timed; the first of them only warms up."""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean, median

from cli.answer import STAGES, Answer


def benchmark(again: Callable[[Answer], str], first: Answer, runs: int, say: Callable[[str], None]) -> None:
    """Answer `runs` times more as `again` does it; tells each time and, without the first, mean and median by stage."""
    rows = []
    for number in range(runs):
        timed = Answer(first.input, first.prompt)
        again(timed)
        total = sum(timed.timings.values())
        say(f"run {number + 1} of {runs}: {total:.3f} s{' (not counted)' if number == 0 else ''}")
        rows.append((len(timed.token_ids), timed.timings))
    for stage in STAGES[1:]:
        seconds = [timings[stage] for _, timings in rows[1:]]
        say(f"{stage}: mean {mean(seconds):.4f}, median {median(seconds):.4f}")
    steps = [(tokens - 1) / timings["decode_s"] for tokens, timings in rows[1:] if timings["decode_s"] and tokens > 1]
    if steps:
        say(f"decoding: median {median(steps):.2f} tokens per second")
