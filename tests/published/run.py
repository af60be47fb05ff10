"""Ask the rows of each published number on the command line, and hold its --score against the paper's."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.main import main as ask
from tests.published.tables import TABLES, Row, Split, Table


def run_tables(names: Sequence[str], options: argparse.Namespace) -> int:
    """Every split of these tables: a line each, and all as JSON in the last. 1 if one is below, or not there."""
    results = [run_split(name, TABLES[name], split, options) for name in names for split in TABLES[name].splits]
    print(json.dumps({"published": "tables", "results": results}))
    return 0 if all(one["verdict"] == "within" for one in results) else 1


def run_split(table: str, where: Table, split: Split, options: argparse.Namespace) -> dict[str, Any]:
    """One number: ours, the interval, the published one and the verdict."""
    result: dict[str, Any] = {"table": table, "split": split.name, "metric": split.metric, "published": split.published}
    title = f"{table} {split.name} {split.metric}"
    try:
        rows, missing = gather(split.rows(options.data))
    except FileNotFoundError as error:
        print(f"{title}: not there: {error}; from {where.source} ({where.size or 'not to be had'})")
        return {**result, "verdict": "no data"}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        print(f"{title}: not as published ({type(error).__name__}: {error}); from {where.source}")
        return {**result, "verdict": "no data"}
    expected = "" if split.files is None else f" of {split.files}"
    print(f"{title}: {len(rows)}{expected} sounds are there, {len(missing)} that are listed are not" + listed(missing))
    chosen = random.Random(options.seed).sample(rows, options.limit) if 0 < (options.limit or 0) < len(rows) else rows
    score = answered(table, split, chosen, options) if chosen else None
    if score is None:
        return {**result, "verdict": "no answer", "sounds": len(rows), "missing": len(missing)}
    result |= {name: score[name] for name in ("value", "low", "high", "answers")}
    result |= {"verdict": verdict(score, split), "sounds": len(rows), "missing": len(missing)}
    complete = not missing and len(chosen) == split.files
    print(
        f"{title}: {score['value']:.4g} ({score['low']:.4g} to {score['high']:.4g}), published {split.published:g}: "
        f"{result['verdict']}{'' if complete else ', on a part of the set'}"
    )
    return result


def gather(rows: Any) -> tuple[list[Row], list[str]]:
    """The rows whose sound is there, each once, and the names of the sounds that are not."""
    kept: dict[tuple[str, str], Row] = {}
    missing: dict[str, None] = {}
    for row in rows:
        if Path(row["audio"]).is_file():
            kept.setdefault((row["audio"], row.get("question", "")), row)
        else:
            missing[row["audio"]] = None
    return list(kept.values()), list(missing)


def listed(missing: Sequence[str]) -> str:
    """The first of them."""
    return f" ({', '.join(missing[:3])}{', …' if len(missing) > 3 else ''})" if missing else ""


def verdict(score: dict[str, Any], split: Split) -> str:
    """Within if the published score lies in our interval, or we are better; else below."""
    better = score["low"] <= split.published if split.lower else score["high"] >= split.published
    return "within" if better else "below"


def answered(table: str, split: Split, rows: list[Row], options: argparse.Namespace) -> dict[str, Any] | None:
    """The answers to these rows, in a folder of their own, where a second run goes on; returns the total."""
    folder = options.output / table / split.name
    folder.mkdir(parents=True, exist_ok=True)
    rows_file = folder / "rows.jsonl"
    rows_file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="ascii")  # half characters, too
    arguments = ["--raw", "--files-from", str(rows_file), "--score", split.metric, "-o", str(folder / "answers")]
    arguments += ["--batch", str(options.batch), *split.flags]
    found = folder / "answers" / "score.json"
    found.unlink(missing_ok=True)  # an earlier run's: this one may end without scores
    ask([*arguments, *(["--model", str(options.model)] if options.model else [])])
    if not found.is_file():
        return None
    score: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))["metrics"][split.metric]
    return score if score["answers"] else None
