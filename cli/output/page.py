"""The page of an output folder, index.html: each sound with a player, its waveform, and the answers about it.

In: the JSON files that the journal knows, of this run, of earlier ones and of other processes, and what
`Waveforms` knows of their sounds. Out: one file that needs no network and no server; sounds are linked. Names,
prompts and answers are strangers' text: the template escapes all that it is given, and no script runs but ours.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from cli.inputs.listing import STDIN
from cli.output import journal
from cli.output.answer import Answer, Window, Word, clock
from cli.output.cues import one_line
from cli.output.folder import JOURNAL, ResultsFolder
from cli.output.formats import PAGE
from cli.output.waveforms import COLUMNS, Sound, Waveforms, fewer
from models.manifest import file_sha256

NAME = "index"
HERE = Path(__file__).parent

_MOST_COLUMNS = 200_000  # of all waveforms together: those of many sounds are coarser
_FEWEST_COLUMNS = 100
_HEIGHT = 100  # of a waveform
_ERRORS = ("wer", "cer", "word-times")  # metrics of --score of which less is better
_NOTES = {"loop": "stopped, for it repeated itself", "length": "cut off, for it was too long"}
# What is wrong with a record that another program wrote.
_WRONG = (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Player:
    """A sound on the page: `href` leads to it, `src` to what is played.

    `outline` is the upper half of its waveform as an SVG path of steps, `scale` seconds each. Where its answers were
    made without a page it has a name only.
    """

    name: str
    href: str = ""
    src: str = ""
    seconds: float = 0.0
    outline: str = ""
    scale: float = 1.0


@dataclass(frozen=True)
class Passage:
    """What was answered about a window: its text, or its words as (what stands before it, the word)."""

    window: Window
    words: list[tuple[str, Word]]
    choices: list[tuple[str, float]]  # and how likely each is, in percent


@dataclass(frozen=True)
class Card:
    """An input: its sounds, and each prompt with what was answered."""

    players: list[Player]
    answers: list[tuple[Answer, list[Passage]]]

    @property
    def windows(self) -> list[Window]:
        """The windows of its only sound, if there are several."""
        windows = self.answers[0][0].windows
        return windows if len(self.players) == 1 and len(windows) > 1 else []

    @property
    def badness(self) -> tuple[float, ...]:
        """How bad the worst of its answers is, by each metric of --score in turn; nothing without one."""
        scores = [answer.score or {} for answer, _ in self.answers]
        return max((tuple(_bad(name, one["value"]) for name, one in score.items()) for score in scores), default=())

    @property
    def words(self) -> list[Word]:
        """The words of its only sound."""
        timed = [answer.words for answer, _ in self.answers if answer.words]
        return timed[0] if timed and len(self.players) == 1 else []


class Page:
    """The page of a folder: `add` for each input, when its turn comes, then `write`."""

    def __init__(self, folder: ResultsFolder) -> None:
        """Read the template, so that what is missing shows before the first answer. Raises ImportError and OSError."""
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["clock"] = clock
        self._template = environment.get_template("page.html")
        self._folder = folder
        self._waveforms = Waveforms(folder)

    def add(self, paths: Sequence[str], source: str) -> None:
        """Look at the sounds of an input; `source` is its identity."""
        self._waveforms.add(paths, source)

    def write(self) -> Path | None:
        """Write the page of all that is answered; returns where, or None if nothing is. Raises OSError."""
        if not (self._folder.folder / JOURNAL).exists():
            return None
        with self._folder.alone():  # else a process that began earlier could write less over more
            cards = self._cards()
            if not cards:
                return None
            content = self._render(cards).encode("utf-8", "backslashreplace")
            (path,) = self._folder.write_files(NAME, {PAGE: content}, None, PAGE)
        return path

    def _render(self, cards: Sequence[Card]) -> str:
        style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        given = {"cards": cards, "style": style, "script": script, "digest": digest, "height": _HEIGHT, "notes": _NOTES}
        return self._template.render(given)

    def _cards(self) -> list[Card]:
        """A card for each input, the worst first by their scores, else in the order of the files.

        Of several files about one input, the newest counts.
        """
        newest = dict[str, tuple[int, str]]()
        for file, source in self._files():
            changed = (self._folder.folder / file).stat().st_mtime_ns
            newest[source or file] = max(newest.get(source or file, (0, "")), (changed, file))
        sounds, inputs = self._waveforms.read()
        drawn = {name for source in newest for name in inputs.get(source, ()) if name in sounds}
        columns = min(max(_MOST_COLUMNS // max(len(drawn), 1), _FEWEST_COLUMNS), COLUMNS)
        cards = []
        for source, (_, file) in sorted(newest.items(), key=lambda item: item[1][1]):
            if answers := _answers(self._folder.folder / file):
                names = answers[0][0].input
                found = [sounds.get(path) for path in inputs.get(source, ())] or [None] * len(names)
                players = [self._player(*pair, columns) for pair in zip(names, found, strict=False)]
                cards.append(Card(players, answers))
        return sorted(cards, key=lambda card: card.badness, reverse=True)  # stable

    def _files(self) -> Iterator[tuple[str, str]]:
        """The JSON files that are as the journal says, and the identity of the input of each."""
        for file, notes in journal.read(self._folder.folder / JOURNAL).items():
            path = self._folder.folder / file
            if PurePath(file).suffix == ".json" and path.is_file():
                digest = file_sha256(path)
                sources = [noted.input for noted in notes if noted.digest == digest]
                if sources:
                    yield file, sources[-1]

    def _player(self, name: str, sound: Sound | None, columns: int) -> Player:
        if sound is None:
            return Player("standard input" if name == STDIN else name)
        href, copy = _url(sound.path), self._waveforms.copy_path(sound)
        peaks = fewer(np.frombuffer(sound.peaks, np.uint8), columns)
        scale = sound.seconds / max(len(peaks), 1)
        return Player(name, href, _url(copy) if copy else href, sound.seconds, _outline(peaks), round(scale, 6))


def _url(path: str) -> str:
    """A path, from the page on, as its address."""
    if os.path.isabs(path):  # noqa: PTH117
        return Path(path).as_uri()
    return quote(os.fsencode(PurePath(path).as_posix()))


def _outline(peaks: Any) -> str:
    """Peaks, 0 to 255, [columns] -> an SVG path: the upper half of a waveform, in whole units."""
    parts, before = [f"M0 {_HEIGHT // 2}"], _HEIGHT // 2
    tops = before - np.round(peaks.astype(float) * (before - 1) / 255).astype(int)
    for top, run in groupby(tops.tolist()):
        parts.append(f"v{top - before}h{len(list(run))}")
        before = top
    return "".join([*parts, f"V{_HEIGHT // 2}z"])


def _answers(path: Path) -> list[tuple[Answer, list[Passage]]]:
    """The answers in a JSON file, taken apart into passages; none where it does not hold what we write."""
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
        answers = [_answer(record) for record in (records if isinstance(records, list) else [records])]
        return [(answer, list(_passages(answer))) for answer in answers]
    except _WRONG:
        return []


def _answer(record: dict[str, Any]) -> Answer:
    names = [record["input"]] if isinstance(record["input"], str) else list(record["input"])
    windows = [
        Window(
            _seconds(one["start"]),
            _seconds(one["end"]),
            one["text"].strip(),
            str(one.get("finish_reason")),
            bool(one.get("silent")),
            one.get("choices"),
        )
        for one in record.get("windows", ())
    ]
    words = [
        Word(one["word"].strip(), _seconds(one["start"]), _seconds(one["end"])) for one in record.get("words") or ()
    ]
    return Answer(
        [str(name) for name in names],
        str(record["prompt"]),
        text=record["text"].strip(),
        windows=windows or [Window(0.0, 0.0, record["text"].strip())],
        words=words,
        references=tuple(str(one) for one in record.get("references") or ()),
        score={str(name): _scored(one) for name, one in (record.get("score") or {}).items()} or None,
    )


def _scored(one: dict[str, Any]) -> dict[str, Any]:
    """What a metric says of an answer: its value, and pairs of wanted and heard words."""
    value = one["value"] if one["value"] is None else float(one["value"])
    if value is not None and not math.isfinite(value):
        raise ValueError(f"a score of {value}")
    return {"value": value, "alignment": [(str(wanted), str(heard)) for wanted, heard in one.get("alignment", ())]}


def _bad(metric: str, value: float | None) -> float:
    """What is not scored is not bad."""
    if value is None:
        return -math.inf
    return value if metric in _ERRORS else -value


def _seconds(number: Any) -> float:
    """A time; raises ValueError for what is none."""
    seconds = float(number)
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} s")
    return seconds


def _passages(answer: Answer) -> Iterator[Passage]:
    """The windows of an answer, each with the words that begin in it."""
    words = [word for word in answer.words or () if word.word]
    ends = [after.start for _, after in pairwise(answer.windows)]
    for window, end in zip(answer.windows, [*ends, float("inf")], strict=True):
        own = [word for word in words if window.start <= word.start < end]
        choices = sorted((window.choices or {}).items(), key=lambda item: -item[1])
        yield Passage(window, _spaced(own), [(choice, 100 * math.exp(log_prob)) for choice, log_prob in choices])


def _spaced(words: Sequence[Word]) -> list[tuple[str, Word]]:
    """Each word with what parts it from the one before: a space, but not between Chinese or Japanese characters."""
    befores = ["" if one_line([a.word, b.word]) == a.word + b.word else " " for a, b in pairwise(words)]
    return list(zip(["", *befores], words, strict=True)) if words else []
