"""`python3 -m tests.benchmarks.batch`: answers decoded side by side are those given alone, and come faster.

One list of sounds and prompts is answered by the command with `--batch 1` and with `--batch N`, in turns. What must
hold: the same answers, token for token, with the same counts and reasons to end. The lists are JSON Lines as
`--files-from` takes them. Without one, some sounds are made. One JSON line last; the exit code is 1 if an answer differs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.folder import ROOT, make_files

TIMED = "timings"  # the key of a record that differs from run to run


def answers(model: str, lists: list[Path], batch: int, extra: list[str]) -> tuple[list[dict[str, Any]], float]:
    """The records of all lists, without their times, and the seconds that the commands took."""
    records, start = [], time.monotonic()
    for path in lists:
        raw = ["--raw"] if path.stem.startswith("raw") else []
        command = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", model, "--json", "-q", *raw]
        run = subprocess.run(
            [*command, "--files-from", str(path), "--batch", str(batch), *extra],
            capture_output=True,
            text=True,
            check=False,
            cwd=path.parent,
        )
        if run.returncode:
            raise SystemExit(f"{path}: exit code {run.returncode}: {run.stderr[-500:]}")
        records += [json.loads(line) for line in run.stdout.splitlines()]
    seconds = time.monotonic() - start
    return [{key: value for key, value in record.items() if key != TIMED} for record in records], seconds


def make_list(folder: Path, count: int) -> Path:
    """Sounds of half a second to two and a half, and two prompts in turn."""
    make_files(folder, count, 0)
    prompts = ("what does the person say?", "Which sounds do you hear?")
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [json.dumps({"audio": str(path), "prompt": prompts[i % 2]}) for i, path in enumerate(paths)]
    (folder / "chat.jsonl").write_text("\n".join(lines) + "\n")
    return folder / "chat.jsonl"


def main(argv: list[str] | None = None) -> int:
    """Compare, and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--lists", type=Path, nargs="*", default=[], metavar="FILE", help="raw*.jsonl are asked --raw")
    parser.add_argument("--count", type=int, default=64, help="sounds to make where no list is given")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--max-new-tokens", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(argv)
    extra = ["--threads", str(options.threads)]
    extra += ["--max-new-tokens", str(options.max_new_tokens)] if options.max_new_tokens else []
    with tempfile.TemporaryDirectory() as folder:
        lists = [path.resolve() for path in options.lists] or [make_list(Path(folder), options.count)]
        differing, ratios, count, tokens = 0, [], 0, 0
        for _ in range(options.rounds):
            alone, slow = answers(options.model, lists, 1, extra)
            beside, fast = answers(options.model, lists, options.batch, extra)
            assert len(alone) == len(beside)
            count, tokens = len(alone), sum(len(record["token_ids"]) for record in alone)
            differing = max(differing, sum(one != other for one, other in zip(alone, beside, strict=True)))
            ratios.append(slow / fast)
            for one, other in zip(alone, beside, strict=True):
                if one != other:
                    print(f"alone {one}\nbeside {other}", file=sys.stderr)
    found = {"answers": count, "tokens": tokens, "batch": options.batch, "differing": differing}
    print(json.dumps({"benchmark": "batch", **found, "faster": round(statistics.median(ratios), 2)}))
    return 1 if differing or not count else 0


if __name__ == "__main__":
    raise SystemExit(main())
