"""One input on its way through the run: its sounds, what was asked about them, and what has been answered so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cli.inputs.listing import Group
from cli.output.answer import Answer, Window
from cli.run.questions import Question
from cli.run.segments import Piece


@dataclass(eq=False)
class Case:
    """A group of sounds with one answer for each question; `stem` names its output files, `key` what they depend on.

    `waiting` counts the requests that are not answered yet; `is_heard` says that no more will come.
    """

    group: Group
    questions: list[Question]
    answers: list[Answer]
    stem: str = ""
    key: str | None = None
    deadline: float | None = None
    waiting: int = 0
    is_heard: bool = False
    is_done_before: bool = False
    is_begun: bool = False
    failure: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more can become of it."""
        return self.failure is not None or self.is_done_before or (self.is_heard and not self.waiting)

    @property
    def is_streamed(self) -> bool:
        """Whether the pieces of text, as they come, are the answer: one raw prompt, no choices."""
        return len(self.questions) == 1 and self.questions[0].task is None

    def warnings(self) -> Iterator[str]:
        """What its reader must know: sound that was not heard, an answer that went round in circles."""
        for audio in self.answers[0].audio:
            if audio.seconds > audio.seconds_used:
                left = f"the last {audio.seconds - audio.seconds_used:.1f} s of {audio.seconds:.1f} s"
                yield f"{audio.path}: {left} were left out; the model hears 30 s"
        for answer in self.answers:
            if answer.finish_reason == "loop":
                yield f"{', '.join(answer.input)}: the answer repeated itself and was stopped (finish_reason: loop)"

    @property
    def seconds(self) -> float:
        """How much sound it holds."""
        return sum(audio.seconds for audio in self.answers[0].audio)

    def hear(self, piece: Piece) -> list[tuple[Question, Answer, Window]]:
        """Note what was listened to; returns each question with its answer and the window that is to be filled."""
        for answer in self.answers:
            answer.audio = list(piece.audio)
            for stage, seconds in piece.timings.items():
                answer.timings[stage] += seconds
            answer.windows.append(Window(piece.start, piece.end, silent=piece.is_silent))
        self.waiting += len(self.answers)
        self.is_heard = piece.is_last
        windows = [answer.windows[-1] for answer in self.answers]
        return list(zip(self.questions, self.answers, windows, strict=True))

    def finish(self) -> None:
        """Put each answer together from its windows, once they are all answered."""
        for question, answer in zip(self.questions, self.answers, strict=True):
            read = [question.read(window.text, window.start) for window in answer.windows]
            timed = [words for _, words in read if words is not None]
            answer.words = [word for words in timed for word in words] if timed else None
            answer.text = _joined(question, answer.windows, [text for text, _ in read])
            for window, (text, _) in zip(answer.windows, read, strict=True):
                window.text = text
            reasons = {window.finish_reason for window in answer.windows}
            answer.finish_reason = next(reason for reason in ("loop", "length", "choice", "stop") if reason in reasons)


def clock(seconds: float) -> str:
    """0:07, 12:34, 1:02:03."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def span(window: Window) -> str:
    """What stands before the answer about one of several windows."""
    return f"[{clock(window.start)} - {clock(window.end)}] "


def _joined(question: Question, windows: list[Window], texts: list[str]) -> str:
    if len(windows) == 1:
        return texts[0]
    if question.is_stitched:
        return " ".join(text for window, text in zip(windows, texts, strict=True) if text and not window.silent)
    return "\n".join(span(window) + text for window, text in zip(windows, texts, strict=True))
