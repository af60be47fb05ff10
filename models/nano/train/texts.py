"""English sentences to choose a vocabulary by: public-domain books and LibriSpeech's transcripts.

A sentence is (spoken, written): what is said in small letters without marks, and as it stands in the book; a
transcript has no written form. Books are Project Gutenberg's text files (`*.txt`), transcripts are lines (`*.lines`).
Whatever has six words in a row with a test clip of books is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from models.nano.train.recordings import spoken, test_runs, word_runs

Sentence = tuple[str, str | None]

MOST_WORDS, LEAST_WORDS = 32, 2
SAID = {"mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "messrs": "messieurs"}
PLAIN = str.maketrans(  # the marks of print as those of a keyboard
    {"\u201c": '"', "\u201d": '"', "\u2018": "'", "\u2019": "'", "\u2014": ", ", "\u2013": ", ", "_": "", "\u00a0": " "}
)
ENDS = re.compile(r"(?<=[.!?][\"'])\s+|(?<=[.!?])\s+(?=[\"'A-Z])")
ABBREVIATED = re.compile(r"\b(?:Mr|Mrs|Dr|St|Messrs)\.$")
WRITTEN = re.compile(r"[A-Za-z ,.;:!?'\"-]+")


def sentences(folder: Path) -> Iterator[Sentence]:
    """All sentences of all books, then all transcripts, in the order of the file names, without those of the tests."""
    kept_out = test_runs()
    yield from (one for one in _sentences(folder) if kept_out.isdisjoint(word_runs(one[0])))


def _sentences(folder: Path) -> Iterator[Sentence]:
    for path in sorted(folder.glob("*.txt")):
        for written in book_sentences(path.read_text(encoding="utf-8", errors="replace")):
            yield said(written), written
    for path in sorted(folder.glob("*.lines")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield spoken(line), None


def said(written: str) -> str:
    """What one says who reads it: abbreviations in full."""
    return " ".join(SAID.get(word, word) for word in spoken(written).split())


def book_sentences(text: str) -> Iterator[str]:
    """Sentences of a book, without headings, tables, letters that are not English and lone quotation marks."""
    body = re.split(r"\*\*\* ?(?:START|END) OF TH[^\n]*\n", text)
    for paragraph in re.split(r"\n\s*\n", (body[1] if len(body) > 1 else text).replace("\r", "")):
        lines = " ".join(paragraph.translate(PLAIN).replace("--", ", ").split())
        lines = re.sub(r"\s+,", ",", lines)
        if not lines.endswith((".", "!", "?", '"', "'")) or lines.isupper():
            continue
        yield from (one for one in _parts(lines) if _wanted(one))


def _parts(paragraph: str) -> Iterator[str]:
    begun = ""
    for part in ENDS.split(paragraph):
        begun = f"{begun} {part}".strip()
        if not ABBREVIATED.search(begun):
            yield _unquoted(begun)
            begun = ""
    if begun:
        yield _unquoted(begun)


def _unquoted(sentence: str) -> str:
    """Without quotation marks: an answer of the model quotes the whole, and one says no marks."""
    bare = re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])|\"", "", sentence)
    return " ".join(bare.split())


def _wanted(sentence: str) -> bool:
    words = sentence.split()
    return bool(
        LEAST_WORDS <= len(words) <= MOST_WORDS
        and WRITTEN.fullmatch(sentence)
        and sentence[0].isupper()
        and sentence[-1] in ".!?"
        and not any(word.isupper() and len(word) > 1 for word in words)
    )
