"""`python3 -m models.nano.train.lists RECORDINGS OUT`: the test clips as lists for --score, one for each metric.

`words.jsonl` is for --score wer, `labels.jsonl` for --score contains, `silence.jsonl` for --score accuracy. The clips
are those of test_clips.json; a list names its set as the source.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.nano.train import wordings
from models.nano.train.recordings import CHILD, Recording, recordings, test_ids

Row = dict[str, Any]

SEED = 20261128
MOST = 60  # clips of a set
SPEECH = ("librispeech", "studio_man", "non_native_adults", "non_native_children", "librivox", "wake_words")
SPOKEN = ("librispeech", "non_native_adults", "multilingual", "wake_words_es", "mandarin_words")
WORDED = {"singing voice", "crowd of people", "screaming or yelling", "laughter", "choir", "mouth noises"}
SILENT = 30  # sounds in which nobody speaks


def clips(folder: Path, count: int = MOST) -> dict[str, list[Recording]]:
    """The fixed clips, at most `count` of each set, spread over it."""
    by_id = {row["id"]: row for row in recordings(folder)}
    sets = {}
    for name, ids in test_ids().items():
        step = max(1, len(ids) / count)
        sets[name] = [by_id[ids[int(place * step)]] for place in range(min(count, len(ids)))]
    return sets


def words(sets: dict[str, list[Recording]]) -> Iterator[Row]:
    """What is said, word by word."""
    for name in SPEECH:
        for row in sets.get(name, ()):
            yield {"audio": row["audio"], "text": row["text"], "task": "transcribe", "source": name}


def labels(sets: dict[str, list[Recording]]) -> Iterator[Row]:
    """Language, gender, age and sound: the word that must stand in the answer, and a question."""
    for name, rows in sets.items():
        for row in rows:
            for task, wanted in _wanted(name, row):
                rng = random.Random(f"{SEED}/{row['id']}")  # noqa: S311 - reproducible data, not secrets
                question = wordings.question(task, rng, split="test")
                yield {"audio": row["audio"], "text": wanted, "question": question, "source": f"{name} {task}"}


def silence(sets: dict[str, list[Recording]]) -> Iterator[Row]:
    """Sounds without words, whose transcript is empty."""
    others = [row for row in sets.get("sounds", ()) if row["sound"] not in WORDED]
    for row in others[:SILENT]:
        yield {"audio": row["audio"], "text": "", "task": "transcribe", "source": "sounds"}


def _wanted(name: str, row: Recording) -> Iterator[tuple[str, str]]:
    """Tasks and the words that must stand in their answers."""
    language = wordings.LANGUAGE_NAMES.get(row.get("language") or "")
    if language and name in SPOKEN:
        yield "language", language
    if name in {"librispeech", "non_native_adults"}:
        yield "gender", row["gender"]
    if name.startswith("non_native"):
        yield "age", "child" if row["age"] <= CHILD else "adult"
    if row.get("sound"):
        yield "event", row["sound"]


def main(argv: list[str] | None = None) -> int:
    """Write the lists."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--count", type=int, default=MOST, help=f"clips of each set at most (default: {MOST})")
    options = parser.parse_args(argv)
    sets = clips(options.recordings, options.count)
    options.out.mkdir(parents=True, exist_ok=True)
    for make in (words, labels, silence):
        rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in make(sets)]
        (options.out / f"{make.__name__}.jsonl").write_text("".join(rows), encoding="utf-8")
        print(f"{make.__name__}.jsonl: {len(rows)} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
