"""The answers about one input -> the text of one output file: txt, json, srt, vtt or tsv.

In: the record of each answer, one for each prompt. Out: a string that depends on the answers only, so that a second run
gives the same bytes. The three formats with times are laid out as openai-whisper writes them; this file opens nothing.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cli.output.answer import Answer, Window, Word

FORMATS = ("txt", "json", "srt", "vtt", "tsv")

# What a viewer can read before the words have gone.
COLUMNS = 42
LINES = 2
LONGEST_CUE = 6.0  # seconds
PAUSE = 0.6  # seconds

# A chat model's frame around what it heard: some words up to a colon or a comma, then one quotation to the very end.
_QUOTATION = re.compile(r'[^"“”]*[:,\uff1a\uff0c]\s*["“]([^"“”]+)["”]\s*[.\u3002]?', re.DOTALL)
_CLOSING = frozenset(",.;:!?%)]}'\u2019\u201d")  # what stands close behind a word, should it come alone
_ARROW = re.compile(r"-{2,}>")  # in a cue it would be taken for a line of times


@dataclass(frozen=True)
class Cue:
    """Lines of text, none of them empty, to show from `start` to `end`, in milliseconds; `end` is the later one."""

    start: int
    end: int
    lines: tuple[str, ...]


def render(answers: Sequence[Answer], fmt: str) -> str:
    """The content of the output file of `answers` (about one input, one for each prompt) in one of FORMATS.

    The text can be written as UTF-8 whatever bytes a file name holds. Raises KeyError for another format: a bug of
    ours, for the arguments were checked.
    """
    text = _WRITERS[fmt](answers)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def find_cues(answers: Iterable[Answer]) -> list[Cue]:
    """What to show when, in the order of time; the cues of several prompts stand one beside the other."""
    return sorted((cue for answer in answers for cue in _cues(answer)), key=lambda cue: (cue.start, cue.end))


def _txt(answers: Sequence[Answer]) -> str:
    """Each answer as it is, or one line for each window of a long recording; an empty line between answers."""
    return "\n".join("".join(line + "\n" for line in _text_lines(answer)) for answer in answers)


def _text_lines(answer: Answer) -> list[str]:
    if len(answer.windows) > 1:
        lines = [_one_line(_lines(window.text)) for window in answer.windows if not window.silent]
        return [line for line in lines if line]
    text = answer.text.strip()
    return [text] if text else []


def _json(answers: Sequence[Answer]) -> str:
    """One record, or an array of them where there were several prompts, on one line."""
    records = [_record(answer) for answer in answers]
    return json.dumps(records[0] if len(records) == 1 else records, ensure_ascii=False) + "\n"


def _record(answer: Answer) -> dict[str, Any]:
    """The answer's own record without its timings, which differ from run to run."""
    record = answer.record()
    del record["timings"]
    return record


def _srt(answers: Sequence[Answer]) -> str:
    cues = enumerate(find_cues(answers), start=1)
    return "".join(f"{number}\n{_times(cue, _srt_time)}\n{_cue_text(cue)}\n\n" for number, cue in cues)


def _vtt(answers: Sequence[Answer]) -> str:
    # "<" opens a tag and "&" a character reference: <|0.00|> would vanish from the screen.
    blocks = (
        f"{_times(cue, _vtt_time)}\n{_cue_text(cue).replace('&', '&amp;').replace('<', '&lt;')}\n\n"
        for cue in find_cues(answers)
    )
    return "WEBVTT\n\n" + "".join(blocks)


def _tsv(answers: Sequence[Answer]) -> str:
    rows = [(str(cue.start), str(cue.end), _one_line(cue.lines).replace("\t", " ")) for cue in find_cues(answers)]
    return "".join("\t".join(row) + "\n" for row in [("start", "end", "text"), *rows])


_WRITERS: dict[str, Callable[[Sequence[Answer]], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}


def _times(cue: Cue, clock: Callable[[int], str]) -> str:
    return f"{clock(cue.start)} --> {clock(cue.end)}"


def _srt_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{rest:03d}"


def _vtt_time(milliseconds: int) -> str:
    """Hours only where there are some, as whisper's users know it."""
    return _srt_time(milliseconds).replace(",", ".").removeprefix("00:")


def _cue_text(cue: Cue) -> str:
    return _ARROW.sub("->", "\n".join(cue.lines))


def _cues(answer: Answer) -> Iterator[Cue]:
    """Cues of the words with their times; where a window has none, one of its whole text, so that nothing is lost."""
    words = [word for word in answer.words or () if word.word.strip()]
    yield from _word_cues(words)
    heard = max((audio.seconds_used for audio in answer.audio), default=0.0)
    for window in answer.windows or [Window(0.0, heard, answer.text)]:
        timed = any(window.start <= word.start < window.end for word in words) if answer.windows else bool(words)
        lines = _lines(_unquoted(window.text))
        if lines and not timed and not window.silent:
            yield _cue(window.start, window.end, lines)


def _word_cues(words: Iterable[Word]) -> Iterator[Cue]:
    """Words in their order, as many together as can be read at once and were said without a pause."""
    group: list[Word] = []
    for word in words:
        if group and not _belongs(word, group):
            yield _group_cue(group)
            group = []
        group.append(word)
    if group:
        yield _group_cue(group)


def _belongs(word: Word, group: Sequence[Word]) -> bool:
    last = group[-1]
    return (
        last.start <= word.start <= last.end + PAUSE  # times that go back begin anew, too
        and word.end - group[0].start <= LONGEST_CUE
        and len(_laid_out([*group, word])) <= LINES
    )


def _group_cue(group: Sequence[Word]) -> Cue:
    return _cue(group[0].start, max(word.end for word in group), _laid_out(group))


def _cue(start: float, end: float, lines: Sequence[str]) -> Cue:
    """Whole milliseconds; a cue that lasts no time would never be shown."""
    first = max(round(start * 1000), 0)
    return Cue(first, max(round(end * 1000), first + 1), tuple(lines))


def _laid_out(words: Iterable[Word]) -> list[str]:
    """The words in lines of at most COLUMNS; what cannot be parted there has a line of its own."""
    lines = [""]
    for part in (part for word in words for part in word.word.split()):
        longer = _one_line([lines[-1], part])
        if lines[-1] and _columns(longer) > COLUMNS:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _lines(text: str) -> list[str]:
    """The lines of a text that are not blank: a blank one would end a cue."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _one_line(parts: Iterable[str]) -> str:
    """Parts joined by spaces, but not where Chinese or Japanese characters meet, nor before a closing mark."""
    line = ""
    for part in filter(None, parts):
        close = not line or part[0] in _CLOSING or (_is_unspaced(line[-1]) and _is_unspaced(part[0]))
        line += part if close else f" {part}"
    return line


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
