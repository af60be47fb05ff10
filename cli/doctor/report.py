"""`--doctor`: what is installed, what can run, which models are here and whole, and what to do next.

One line for each finding, `STATE  SECTION  NAME: TEXT`, where STATE is ok, note or bad, and at the end lines that begin
with next; with --json all of it as one object. A check that fails becomes a finding, and the others continue.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

from cli.doctor import installation, inventory
from cli.doctor.findings import Finding, Seen, reason_of
from cli.errors import NO_MODEL, OK
from cli.options import ROOT, Options
from cli.output.streams import show_piece
from errors import is_at_root, printable

NEXT_LINES = 3

Section = Callable[[Options, Seen], Iterator[Finding]]
SECTIONS: tuple[Section, ...] = (  # memory needs the models; the last word needs the models and the backends
    installation.program,
    installation.packages,
    installation.backends,
    inventory.models,
    inventory.memory,
    installation.cache,
    installation.text,
    installation.cpu,
)


def doctor(options: Options, sections: tuple[Section, ...] = SECTIONS) -> int:
    """Print the report on standard output; returns OK if something can run, NO_MODEL if nothing can.

    With --model that something is this model, with --backend it is on this backend. Raises nothing but what writing to
    standard output does.
    """
    seen, findings = Seen(), list[Finding]()
    for section in sections:
        for finding in _survived(section, options, seen):
            findings.append(finding)
            if not options.json:
                show_piece(finding.line() + "\n")
    runnable = seen.runnable(options)
    steps = _next_steps(findings, runnable, alone=options.model is None and len(seen.models) == 1)
    if options.json:
        record = {"status": "ok" if runnable else "error", "runnable": runnable, "next": steps}
        show_piece(json.dumps({**record, "findings": [vars(finding) for finding in findings]}) + "\n")
    else:
        show_piece("".join(f"next  {printable(step)}\n" for step in steps))
    return OK if runnable else NO_MODEL


def _survived(section: Section, options: Options, seen: Seen) -> Iterator[Finding]:
    """The findings of a section; what it raises is the last of them."""
    try:
        yield from section(options, seen)
    except Exception as failure:  # noqa: BLE001 - the user asks what is broken
        yield Finding(section.__name__, "check", "bad", f"failed ({reason_of(failure)})")


def _next_steps(findings: list[Finding], runnable: list[str], *, alone: bool) -> list[str]:
    """One to three lines: what mends something, how to ask, and what else would help, in this order."""
    mend, more = ([one.fix for one in findings if one.state == state and one.fix] for state in ("bad", "note"))
    ask = []
    if runnable:
        model = "" if alone else f" --model {shlex.quote(runnable[0])}"
        script = "qwen_audio.py" if is_at_root() else shlex.quote(str(ROOT / "qwen_audio.py"))
        ask = [f'python3 {script}{model} -i SOUND -p "what do you hear?"']
    steps = [*list(dict.fromkeys(mend))[: NEXT_LINES - len(ask)], *ask, *more]
    return list(dict.fromkeys(steps))[:NEXT_LINES] or ["look at the lines that begin with bad"]
