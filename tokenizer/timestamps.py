"""An answer with times in it -> its plain text and the words whose times hold together.

Two kinds of answers hold times. The base model's is nothing but segments, each between two times:
``<|0.00|><|sil|><|0.54|>mister<|0.86|>quilter<|1.20|>``, with ``<|sil|>`` for silence; the first time may be missing,
since the prompt ends in it. The chat model's is a sentence: ``The word "middle classes" starts at <|2.33|> seconds and
ends at <|3.26|> seconds.`` A sentence is known by several words in front of its first time.

Models err: times are left out, go backwards or repeat. A word without two times that fit is left out; its text stays.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LAST_TIME = 30.0  # seconds: the last of the timestamp tokens

_SILENCE = "<|sil|>"
_TIME = re.compile(r"<\|([0-9]+(?:\.[0-9]+)?)\|>")
_TAG = re.compile(r"<\|[^<>|\s]+\|>")
_QUOTED = re.compile(rf'"([^"]+)"[^"<]*{_TIME.pattern}[^"<]*{_TIME.pattern}')
# Chinese characters, kana and the wide marks, between which no space is written.
_UNSPACED = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]{2}")
# Marks that follow a word without a space: the common ones, closing quotes, and the wide ones of Chinese and Japanese.
_CLOSING = re.compile(r"[,.;:!?%)\]}'\u2019\u201d\u3001\u3002\uff01\uff09\uff0c\uff1a\uff1b\uff1f]")


@dataclass(frozen=True)
class TimedWord:
    """A word, or a few that the model gave one time to, and when it is said, in seconds from the clip's start."""

    word: str
    start: float
    end: float


def parse_words(text: str) -> tuple[str, list[TimedWord]]:
    """Read any answer: its text without tags, and the words whose times fit. Never raises.

    Of an answer in segments the words are in order and do not overlap: 0 <= start < end <= next start, all up to 30 s.
    In the text of a sentence the times stay, as plain numbers, and its words are as it gives them.
    """
    parts = _TIME.split(text)
    segments = parts[::2]
    if len(_plain(segments[0]).split()) > 1:
        return _plain(_TIME.sub(r"\1", text)), _quoted_words(text)
    # The first segment starts where the prompt ends, at 0; after the last one there is no time.
    times = [0.0, *map(_seconds, parts[1::2]), None]
    words = [word for i, segment in enumerate(segments) if (word := _timed(segment, times[i], times[i + 1]))]
    return _plain(_joined(map(_plain, segments))), _longest_forward(words)


def _quoted_words(text: str) -> list[TimedWord]:
    """Find the words of a sentence: a quotation, with the next two times as its start and end."""
    found = (_timed(word, _seconds(start), _seconds(end)) for word, start, end in _QUOTED.findall(text))
    return [word for word in found if word]


def _timed(segment: str, start: float | None, end: float | None) -> TimedWord | None:
    """Make a word of a segment; None where it has no letter or number, or no sure beginning and end."""
    word = _plain(segment)
    if start is None or end is None or start >= end or _SILENCE in segment or not any(map(str.isalnum, word)):
        return None
    return TimedWord(word, start, end)


def _seconds(digits: str) -> float | None:
    """Read a time; None for one that no timestamp token has."""
    seconds = float(digits)
    return seconds if seconds <= LAST_TIME else None


def _longest_forward(words: Sequence[TimedWord]) -> list[TimedWord]:
    """Keep as many words as possible of which each starts at or after the end of the one before.

    One wild time so costs one word, not all that follow. ``ends[n]`` is the earliest end of n + 1 such words.
    """
    ends: list[float] = []
    last: list[int] = []  # index of the word that ends there
    before: list[int | None] = []  # for each word, the one in front of it
    for index, word in enumerate(words):
        length = bisect_right(ends, word.start)
        before.append(last[length - 1] if length else None)
        if length == len(ends):
            ends.append(word.end)
            last.append(index)
        elif word.end < ends[length]:
            ends[length], last[length] = word.end, index
    kept: list[TimedWord] = []
    at = last[-1] if last else None
    while at is not None:
        kept.append(words[at])
        at = before[at]
    return kept[::-1]


def _plain(text: str) -> str:
    """Leave out the tags, and make all white space single spaces."""
    return " ".join(_TAG.sub(" ", text).split())


def _joined(pieces: Iterable[str]) -> str:
    """Write segments as one text: with spaces, but none within Chinese or Japanese and none before a closing mark."""
    text = ""
    for piece in filter(None, pieces):
        close = not text or _CLOSING.match(piece) or _UNSPACED.match(text[-1] + piece[0])
        text += piece if close else f" {piece}"
    return text
