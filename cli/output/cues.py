"""Answers -> cues: lines of text with the times between which a viewer reads them.

Words with times make cues with those times. A text without times is spread over the parts of its window that are not
silent, in proportion to its letters, and parted at pauses. No cue is empty. None begins before the last one ends.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from cli.output.answer import Answer, Window, Word

LONGEST_CUE = 7.0  # seconds
PAUSE = 0.6  # seconds between words that belong to two cues
SLOWEST = 0.3  # seconds a letter: few words about a long sound are not spread over all of it

# A chat model's frame around what it heard: some words up to a colon or a comma, then one quotation to the very end.
_QUOTATION = re.compile(r'[^"“”]*[:,\uff1a\uff0c]\s*["“]([^"“”]+)["”]\s*[.\u3002]?', re.DOTALL)
_CLOSING = frozenset(",.;:!?%)]}'\u2019\u201d")  # marks that follow a word without a space


@dataclass(frozen=True)
class Layout:
    """How much text a cue holds: lines of so many columns. `highlight` shows each word as it is said."""

    columns: int = 42
    lines: int = 2
    highlight: bool = False


@dataclass(frozen=True)
class Cue:
    """Lines of text, none of them empty, to show from `start` to `end`, in milliseconds; `end` is the later one.

    `words` are those of the cue with their own times, where the answer has some.
    """

    start: int
    end: int
    lines: tuple[str, ...]
    words: tuple[Word, ...] = ()


def find_cues(answers: Iterable[Answer], layout: Layout) -> list[Cue]:
    """What to show when, in the order of time; the cues of several prompts stand one beside the other."""
    found = [cue for answer in answers for cue in _in_order(_cues(answer, layout))]
    return sorted(found, key=lambda cue: (cue.start, cue.end))


def text_lines(text: str) -> list[str]:
    """The lines of a text that are not blank: a blank one would end a cue."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def one_line(parts: Iterable[str]) -> str:
    """Parts joined by spaces, but not where Chinese or Japanese characters meet, nor before a closing mark."""
    line = ""
    for part in filter(None, parts):
        close = not line or part[0] in _CLOSING or (_is_unspaced(line[-1]) and _is_unspaced(part[0]))
        line += part if close else f" {part}"
    return line


def _in_order(cues: Iterable[Cue]) -> Iterator[Cue]:
    """Each cue ends where the next begins, at the latest, and lasts a millisecond at least."""
    end = 0
    for cue, following in _with_next(sorted(cues, key=lambda cue: (cue.start, cue.end))):
        start = max(cue.start, end)
        latest = cue.end if following is None else min(cue.end, max(following.start, start + 1))
        end = max(latest, start + 1)
        yield replace(cue, start=start, end=end)


def _with_next(cues: Sequence[Cue]) -> Iterator[tuple[Cue, Cue | None]]:
    return zip(cues, [*cues[1:], None], strict=False)


def _cues(answer: Answer, layout: Layout) -> Iterator[Cue]:
    """Cues of the words with their times; where a window has none, of its whole text, so that nothing is lost."""
    words = [word for word in answer.words or () if word.word.strip()]
    yield from _word_cues(words, layout)
    heard = max((audio.seconds_used for audio in answer.audio), default=0.0)
    for window in answer.windows or [Window(0.0, heard, answer.text)]:
        timed = any(window.start <= word.start < window.end for word in words) if answer.windows else bool(words)
        if not timed and not window.silent:
            for cue in _word_cues(_spread(window), layout):
                longest = min(cue.start + round(LONGEST_CUE * 1000), round(window.end * 1000))
                yield replace(cue, end=max(longest, cue.end), words=())  # guessed times: shown as long as can be


def _spread(window: Window) -> list[Word]:
    """The words of a window, with times that are guessed from their letters and from where the window sounds."""
    pieces = _pieces(_unquoted(window.text))
    spans = window.speech or [(window.start, window.end)]
    ends = list(accumulate(end - start for start, end in spans))
    total = sum(map(len, pieces)) or 1
    spoken = min(ends[-1], total * SLOWEST)

    def time_of(letters: int) -> tuple[float, int]:
        """The time when so many letters have been said, and the number of the span."""
        said = letters / total * spoken
        number = min(bisect_right(ends, said), len(spans) - 1)
        return spans[number][1] - (ends[number] - said), number

    words, letters, before = list[Word](), 0, 0
    for piece in pieces:
        start, number = time_of(letters)
        if number != before:  # the first word after a pause
            start, before = spans[number][0], number
        letters += len(piece)
        end, last = time_of(letters)
        end = end if last == number else spans[number][1]  # said before the pause
        words.append(Word(piece, round(start, 3), round(max(end, start), 3)))
    return words


def _pieces(text: str) -> list[str]:
    """Words; in Chinese and Japanese, which have no spaces, a few characters at a time."""
    found = []
    for part in text.split():
        wide = sum(map(_is_wide, part)) > len(part) // 2
        found += [part[i : i + 4] for i in range(0, len(part), 4)] if wide else [part]
    return found


def _word_cues(words: Iterable[Word], layout: Layout) -> Iterator[Cue]:
    """Words in their order, as many together as can be read at once and were said without a pause."""
    group: list[Word] = []
    for word in words:
        if group and not _belongs(word, group, layout):
            yield _group_cue(group, layout)
            group = []
        group.append(word)
    if group:
        yield _group_cue(group, layout)


def _belongs(word: Word, group: Sequence[Word], layout: Layout) -> bool:
    last = group[-1]
    return (
        last.start <= word.start <= last.end + PAUSE  # times that go back start a new cue
        and word.end - group[0].start <= LONGEST_CUE
        and len(_laid_out([*group, word], layout)) <= layout.lines
    )


def _group_cue(group: Sequence[Word], layout: Layout) -> Cue:
    """Whole milliseconds; a cue that lasts no time would never be shown."""
    first = max(round(group[0].start * 1000), 0)
    end = min(max(word.end for word in group), group[0].start + LONGEST_CUE)
    return Cue(first, max(round(end * 1000), first + 1), tuple(_laid_out(group, layout)), tuple(group))


def _laid_out(words: Iterable[Word], layout: Layout) -> list[str]:
    """The words in lines of at most so many columns; what cannot be parted there has a line of its own."""
    lines = [""]
    for part in (part for word in words for part in word.word.split()):
        longer = one_line([lines[-1], part])
        if lines[-1] and _columns(longer) > layout.columns:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _is_unspaced(char: str) -> bool:
    return _is_wide(char) and not unicodedata.name(char, "").startswith("HANGUL")  # Korean has spaces


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"


def _columns(text: str) -> int:
    """How wide a line is on a screen."""
    return sum(2 if _is_wide(char) else 1 for char in text)


def _unquoted(text: str) -> str:
    """What a chat model puts between quotes when its whole answer is `The person says: "…".`; else the answer."""
    match = _QUOTATION.fullmatch(text.strip())
    return match[1].strip() if match else text
