"""The record of one answer, and how it looks as one line of JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from errors import QwenAudioError

_HALVES = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # of characters; no byte of a file name becomes one
STAGES = ("load_s", "audio_s", "encode_s", "prefill_s", "decode_s")


# What of an answer comes from the model and the sound.
_GIVEN = "text", "token_ids", "finish_reason", "log_prob", "prompt_tokens", "audio", "windows", "words", "notes"


@dataclass(frozen=True)
class Audio:
    """A sound of the prompt: its length in seconds and how much of it the model heard."""

    path: str
    seconds: float
    seconds_used: float


@dataclass
class Window:
    """A stretch of a recording, from `start` to `end` in seconds, and what was answered about it.

    `choices` has the natural logarithm of the probability of each option of --choices.
    """

    start: float
    end: float
    text: str = ""
    finish_reason: str | None = None
    silent: bool = False
    choices: dict[str, float] | None = None
    speech: list[tuple[float, float]] = field(default_factory=list)  # where it sounds, in seconds; not in the record


@dataclass(frozen=True)
class Word:
    """A word and when it is said, in seconds from the recording's start; `log_prob` is the mean of its tokens'."""

    word: str
    start: float
    end: float
    log_prob: float | None = None


@dataclass
class Answer:
    """One answer as it comes into being; `finish_reason` is None until it is whole.

    `log_prob` is the mean of the natural logarithms of its tokens' probabilities: how sure the model was.
    `windows` are the stretches that were asked about one by one, `words` those of an answer with times. `timings` in
    seconds by stage; `load_s` is that of the process, the same in each of its answers. `references` are what a good
    answer says, `source` and `language` their set and language, `score` has the metrics of --score. `notes` are remarks
    about its sounds, such as a gap: what standard error tells without --quiet.
    """

    input: list[str]
    prompt: str
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    log_prob: float | None = None
    prompt_tokens: int = 0
    audio: list[Audio] = field(default_factory=list)
    task: str | None = None
    windows: list[Window] = field(default_factory=list)
    words: list[Word] | None = None
    model: str | None = None
    backend: str | None = None
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    references: tuple[str, ...] | None = None
    source: str | None = None
    language: str | None = None
    score: dict[str, dict[str, Any]] | None = None
    notes: list[str] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """All that is known of it, in JSON types."""
        record = {"status": "ok", **asdict(self)}
        record["input"] = self.input[0] if len(self.input) == 1 else self.input
        for window in record["windows"]:
            del window["speech"]
        for name in ("references", "source", "language", "score"):  # of --score only
            if record[name] is None:
                del record[name]
        record["timings"] = {stage: round(seconds, 4) for stage, seconds in self.timings.items()}
        return record

    def take_over(self, other: Answer) -> None:
        """Become the answer that was given elsewhere; what a list says of this one stays."""
        for name in _GIVEN:
            setattr(self, name, getattr(other, name))

    def as_json(self, error: QwenAudioError | None = None) -> str:
        """One line: `status` is ok, or error and then `error` says why and `kind` what sort of failure it is."""
        record = self.record()
        if error is not None:
            record |= {"status": "error", "error": str(error), "kind": error.kind}
        return json_text(record)


def from_record(record: dict[str, Any], paths: Sequence[str]) -> Answer | None:
    """The answer of a record that we wrote, about sounds that now are called so; None if an old version noted less."""
    if not {"prompt", *_GIVEN} <= record.keys():
        return None
    answer = Answer(list(paths), record["prompt"], **{name: record[name] for name in _GIVEN})
    answer.audio = [Audio(**one | {"path": path}) for path, one in zip(paths, record["audio"], strict=True)]
    answer.windows = [Window(**one) for one in record["windows"]]
    answer.words = record["words"] and [Word(**one) for one in record["words"]]
    return answer


def json_text(value: Any, *, indent: int | None = None) -> str:
    r"""JSON that can be written as UTF-8 and that strict readers, such as jq, take.

    A byte of a file name that is no UTF-8 is written as \udcff and so comes back; other lone surrogates become U+FFFD.
    """
    text = _HALVES.sub("\ufffd", json.dumps(value, ensure_ascii=False, indent=indent))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
