"""The real recordings: what is known of each, and which of them are for tests only.

A recording is one dict: `audio` (path), `source` (its folder), `speaker`, `text` (what is said, in small letters
without marks), `written` (the same as one writes it, where that is known), and labels: gender, age, language, emotion,
sound, instrument, note. `test_clips.json` lists what training never hears; it was fixed before the first run.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Recording = dict[str, Any]

TEST_LIST = Path(__file__).parent / "test_clips.json"
TEST_RUNS = Path(__file__).parent / "test_texts.json"  # CRC-32 of the runs of words of what is read in the tests
READ = ("librispeech", "studio_man", "librivox")  # the test sets of books, which TEXTS could have too
RUN = 6  # words
SEED = 21
WRITTEN = ("lj_speech", "matthes", "kathleen", "asterisk")  # whose text has capitals and marks
CHILD = 13  # years, and below
NUMBERS = re.compile(r"\d")
UNSTATED = "not restated"  # of a licence that its source does not state: for tests at most


def spoken(text: str) -> str:
    """Text as it is said: small letters and apostrophes only."""
    plain = text.lower().replace("\u2019", "'").replace("-", " ")
    return " ".join(re.sub(r"[^a-z' ]", " ", plain).split())


def recordings(folder: Path, kathleen: Path | None = None) -> list[Recording]:
    """All of `folder` (its meta.jsonl), and the voice data set "Kathleen" as FLAC and TXT files."""
    lines = (folder / "meta.jsonl").read_text(encoding="utf-8").splitlines()
    found = [_recording(folder, json.loads(line)) for line in lines]
    for path in sorted(kathleen.glob("*.flac")) if kathleen else ():
        text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        row = {"audio": str(path), "id": f"kathleen/{path.stem}", "source": "kathleen", "speaker": "kathleen"}
        found.append(row | {"language": "en", "gender": "woman", "text": spoken(text), "written": text})
    return [row for row in found if not NUMBERS.search(row.get("written") or "")]


def _recording(folder: Path, row: dict[str, Any]) -> Recording:
    """One line of meta.jsonl under our names."""
    source, labels = row["audio"].split("/")[0], row.get("labels") or {}
    found: Recording = {"audio": str(folder / row["audio"]), "id": row["audio"].removesuffix(".opus"), "source": source}
    found["speaker"] = row.get("speaker") or labels.get("speaker")
    found["language"], found["licence"] = row.get("language"), row.get("licence") or ""
    if text := row.get("text"):
        english = row.get("language") == "en"
        found["text"] = spoken(text) if english else text
        if written := row.get("written") or (text if source in WRITTEN else None):
            found["written"] = " ".join(written.split())
    if gender := labels.get("gender"):
        found["gender"] = {"male": "man", "female": "woman"}[gender]
    for name in ("age", "emotion", "sound", "instrument", "note", "utt_id"):
        if labels.get(name) is not None:
            found[name] = labels[name]
    return found


def choose_tests(rows: Iterable[Recording]) -> dict[str, list[str]]:
    """The test list: set -> ids. Whole speakers for speech, a sixth of each class for sounds."""
    rng = random.Random(SEED)  # noqa: S311 - reproducible data, not secrets
    by_source: defaultdict[str, list[Recording]] = defaultdict(list)
    for row in rows:
        by_source[row["source"]].append(row)
    libri = _speakers(by_source["librispeech"], rng, men=20, women=20)
    readers = by_source["speechocean762"]
    adults = _speakers([row for row in readers if row["age"] > CHILD], rng, men=8, women=8)
    children = _speakers([row for row in readers if row["age"] <= CHILD], rng, men=7, women=7)
    tests = {
        "librispeech": [row["id"] for row in by_source["librispeech"] if row["speaker"] in libri],
        "studio_man": [row["id"] for row in by_source["matthes"]],
        "non_native_adults": [row["id"] for row in readers if row["speaker"] in adults],
        "non_native_children": [row["id"] for row in readers if row["speaker"] in children],
        "librivox": [row["id"] for row in by_source["librivox"]],
    }
    for source in ("wake_words", "wake_words_es", "multilingual", "mandarin_words", "digits", "speech_to_intent"):
        ids = [row["id"] for row in by_source[source]]
        tests[source] = sorted(rng.sample(ids, len(ids) // (2 if source == "multilingual" else 6)))
    tests["sounds"] = _sixths([row for row in rows if row.get("sound")], "sound", rng)
    tests["instruments"] = _sixths(by_source["instruments"], "instrument", rng)
    return tests


def _speakers(rows: list[Recording], rng: random.Random, *, men: int, women: int) -> set[str]:
    genders = {row["speaker"]: row["gender"] for row in rows}
    chosen = []
    for gender, count in (("man", men), ("woman", women)):
        chosen += rng.sample(sorted(name for name, of in genders.items() if of == gender), count)
    return set(chosen)


def _sixths(rows: list[Recording], label: str, rng: random.Random) -> list[str]:
    """A sixth of each class, at least one where there are three."""
    classes: defaultdict[str, list[str]] = defaultdict(list)
    for row in rows:
        classes[row[label]].append(row["id"])
    chosen = []
    for _, ids in sorted(classes.items()):
        chosen += rng.sample(ids, max(round(len(ids) / 6), int(len(ids) >= 3)))
    return sorted(chosen)


def test_ids() -> dict[str, list[str]]:
    """The committed list."""
    found: dict[str, list[str]] = json.loads(TEST_LIST.read_text(encoding="utf-8"))
    return found


def word_runs(text: str) -> list[int]:
    """CRC-32 of each six words in a row of what is said."""
    words = text.split()
    return [zlib.crc32(" ".join(words[first : first + RUN]).encode()) for first in range(len(words) - RUN + 1)]


def test_runs() -> frozenset[int]:
    """The committed runs: a text that has one of them is no text of training."""
    return frozenset(json.loads(TEST_RUNS.read_text(encoding="utf-8")))


def training(rows: Iterable[Recording]) -> list[Recording]:
    """What may be trained on."""
    kept = {one for ids in test_ids().values() for one in ids}
    usable = [row for row in rows if UNSTATED not in row.get("licence", "")]
    return [row for row in usable if row["id"] not in kept and row["id"] != "multilingual/00001"]


def main(argv: list[str] | None = None) -> int:
    """Write the test list and what is read in it anew: only ever before a first training run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, metavar="RECORDINGS")
    rows = recordings(parser.parse_args(argv).folder)
    tests = choose_tests(rows)
    TEST_LIST.write_text(json.dumps(tests, indent=0) + "\n")
    read = {one for name in READ for one in tests[name]}
    runs = {run for row in rows if row["id"] in read for run in word_runs(row["text"])}
    TEST_RUNS.write_text(json.dumps(sorted(runs), indent=None, separators=(",\n", ":")) + "\n")
    for name, ids in tests.items():
        print(f"{name:20} {len(ids)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
