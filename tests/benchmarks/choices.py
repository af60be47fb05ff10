"""`python3 -m tests.benchmarks.choices CLIP …`: how often `--choices man,woman` agrees with the free answer.

Each clip is asked with --task gender, once freely and once with the choices. A free answer that names neither or both
is left out of the share and counted as unclear. Clips may be folders, which are searched, or a list with --files-from; other words are flags of the program.
The last line is JSON.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHOICES = ("man", "woman")


def named(text: str) -> str | None:
    """The choice that an answer names, or None for neither or both."""
    found = [one for one in CHOICES if re.search(rf"\b{one}\b", text.lower())]
    found += [one for one, other in zip(CHOICES, ("male", "female"), strict=True) if re.search(rf"\b{other}\b", text)]
    return found[0] if len(set(found)) == 1 else None


def answers(arguments: list[str], *flags: str) -> dict[str, str]:
    """File -> text of one run over the clips."""
    command = [sys.executable, str(ROOT / "qwen_audio.py"), "-q", "--json", "--each", "-r", "--task", "gender", *flags]
    done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {record["input"]: record["text"] for record in records if record["status"] == "ok"}


def main() -> int:
    """Compare both runs."""
    clips = sys.argv[1:]
    if not clips or "--help" in clips:
        print(__doc__)
        return 0 if clips else 2
    free, chosen = answers(clips), answers(clips, "--choices", ",".join(CHOICES))
    pairs = {clip: (named(text), chosen[clip]) for clip, text in free.items() if clip in chosen}
    clear = {clip: pair for clip, pair in pairs.items() if pair[0]}
    for clip, (said, choice) in clear.items():
        if said != choice:
            print(f"{clip}: said {said}, chose {choice}")
    agree = sum(said == choice for said, choice in clear.values())
    share = round(agree / len(clear), 4) if clear else None
    unclear = len(pairs) - len(clear)
    print(json.dumps({"benchmark": "choices", "clips": len(pairs), "unclear": unclear, "agree": agree, "share": share}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
