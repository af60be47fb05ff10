"""The answers about one input -> the text of one output file: txt, json, srt, vtt or tsv.

In: the record of each answer, one for each prompt. Out: a string that depends on the answers only, so that a second run
gives the same bytes. The three formats with times are laid out as openai-whisper writes them; this file opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cli.output.answer import Answer, Word, json_text
from cli.output.cues import Cue, Layout, find_cues, one_line, text_lines

FORMATS = ("txt", "json", "srt", "vtt", "tsv")
PAGE = "html"  # of the whole folder: cli.output.page, made from the json files
LAYOUT = Layout()

_ARROW = re.compile(r"-{2,}>")  # in a cue it would be taken for a line of times


def render(answers: Sequence[Answer], fmt: str, layout: Layout = LAYOUT) -> str:
    """The content of the output file of `answers` (about one input, one for each prompt) in one of FORMATS.

    The text can be written as UTF-8, whatever bytes a file name has. Raises KeyError for another format: a bug of
    ours, for the arguments were checked.
    """
    text = _WRITERS[fmt](answers, layout)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _txt(answers: Sequence[Answer], _layout: Layout) -> str:
    """Each answer as it is, or one line for each window of a long recording; an empty line between answers."""
    return "\n".join("".join(line + "\n" for line in _answer_lines(answer)) for answer in answers)


def _answer_lines(answer: Answer) -> list[str]:
    if len(answer.windows) > 1:
        lines = [one_line(text_lines(window.text)) for window in answer.windows if not window.silent]
        return [line for line in lines if line]
    text = answer.text.strip()
    return [text] if text else []


def _json(answers: Sequence[Answer], _layout: Layout) -> str:
    """One record, or an array of them where there were several prompts, on one line."""
    records = [_record(answer) for answer in answers]
    return json_text(records[0] if len(records) == 1 else records) + "\n"


def _record(answer: Answer) -> dict[str, Any]:
    """The answer's own record without its timings, which differ from run to run."""
    record = answer.record()
    del record["timings"]
    return record


def _srt(answers: Sequence[Answer], layout: Layout) -> str:
    cues = enumerate(_shown(answers, layout), start=1)
    return "".join(f"{number}\n{_times(cue, _srt_time)}\n{_cue_text(cue)}\n\n" for number, cue in cues)


def _vtt(answers: Sequence[Answer], layout: Layout) -> str:
    # "<" opens a tag and "&" a character reference: <|0.00|> would vanish from the screen.
    blocks = (f"{_times(cue, _vtt_time)}\n{_escaped(_cue_text(cue))}\n\n" for cue in _shown(answers, layout))
    return "WEBVTT\n\n" + "".join(blocks)


def _tsv(answers: Sequence[Answer], layout: Layout) -> str:
    rows = [
        (str(cue.start), str(cue.end), one_line(cue.lines).replace("\t", " ")) for cue in find_cues(answers, layout)
    ]
    return "".join("\t".join(row) + "\n" for row in [("start", "end", "text"), *rows])


_WRITERS: dict[str, Callable[[Sequence[Answer], Layout], str]] = {
    "txt": _txt,
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
}


def _shown(answers: Sequence[Answer], layout: Layout) -> Iterator[Cue]:
    """The cues, or with `highlight` one for each word as it is said, which is underlined."""
    for cue in find_cues(answers, layout):
        if not (layout.highlight and cue.words):
            yield cue
            continue
        starts = [cue.start, *(max(round(word.start * 1000), cue.start) for word in cue.words[1:])]
        for word, start, end in zip(cue.words, starts, [*starts[1:], cue.end], strict=True):
            if end > start:
                yield Cue(start, end, tuple(_underlined(cue.lines, cue.words, word)))


def _underlined(lines: Sequence[str], words: Sequence[Word], said: Word) -> Iterator[str]:
    """The lines with one of the words between the tags that players know."""
    place = sum(len(word.word.split()) for word in words[: words.index(said)])
    for line in lines:
        parts = line.split(" ")
        if 0 <= place < len(parts):
            parts[place] = f"<u>{parts[place]}</u>"
        yield " ".join(parts)
        place -= len(parts)


def _escaped(text: str) -> str:
    """As WebVTT wants it: only the tags of an underlined word stay tags."""
    safe = text.replace("&", "&amp;").replace("<", "&lt;")
    return safe.replace("&lt;u>", "<u>").replace("&lt;/u>", "</u>")


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
