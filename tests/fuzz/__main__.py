"""`python3 -m tests.fuzz --cases 5000`: what strangers may give to the program, at random, seeded.

Every case goes through a real `main`, on a tiny random model. What must hold: an exit code that the case allows, no
exception, no traceback, no hang; with --json every line is an object with a status; what the kind of case asks for
beside. The first violations are printed with their seed (`--only SEED` runs one again), and the exit code is 1 if
there were any. A run can be cut: each thousand is told, and `--first` goes on.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.fuzz import attacks, damage, metadata, processes
from tests.fuzz.place import SECONDS, WAIT, Case, Hang, Kind, Place, prepare, run, wrong

OFTEN: tuple[Kind, ...] = (*damage.KINDS, *attacks.KINDS, *metadata.KINDS)
SELDOM: tuple[Kind, ...] = processes.KINDS  # they take a process, or seconds
ONE_IN = 40  # cases is a seldom one


def kind_of(seed: int) -> Kind:
    """The kind of a case."""
    return SELDOM[seed // ONE_IN % len(SELDOM)] if seed % ONE_IN == ONE_IN - 1 else OFTEN[seed % len(OFTEN)]


def violation(seed: int, place: Place) -> str | None:
    """What a case did that it must not, or None."""
    arguments: list[str] = []
    try:
        found = kind_of(seed)(random.Random(seed), place)
        if isinstance(found, Case):
            arguments = found.arguments
            found = wrong(found, run(found, place))
    except (Exception, Hang) as failure:  # noqa: BLE001 - whatever comes out is what we look for
        found = f"{type(failure).__name__}: {failure}"
    return found and f"{found} from {arguments}"[:2000]


def main(argv: list[str] | None = None) -> int:
    """Run the cases and tell the violations."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--only", type=int, metavar="SEED")
    parser.add_argument("--kind", help="only cases of this kind")
    options = parser.parse_args(argv)

    def hang(*_: object) -> None:
        raise Hang(f"no end within {SECONDS} s of processor or {WAIT} s")

    signal.signal(signal.SIGALRM, hang)
    signal.signal(signal.SIGPROF, hang)
    seeds = [options.only] if options.only is not None else range(options.first, options.first + options.cases)
    seeds = [seed for seed in seeds if options.kind in (None, kind_of(seed).__name__)]
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        place = prepare(Path(folder))
        for number, seed in enumerate(seeds, 1):
            if problem := violation(seed, place):
                found[kind_of(seed).__name__] += 1
                print(f"seed {seed}, {kind_of(seed).__name__}: {problem}", flush=True)
            if number % 1000 == 0:
                print(f"{number} cases, to seed {seed}: {found.total()} violations", file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps({"benchmark": "fuzz", "cases": len(seeds), "violations": dict(found), "peak_mb": peak}))
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
