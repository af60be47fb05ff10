"""One input on its way through a run: what is asked about it, and what has been answered so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from cli.inputs.listing import Group
from cli.output.answer import Answer, Window, Word, clock
from cli.run.questions import Question
from cli.run.segments import Segment

# Of the windows of an answer, the first of these counts.
REASONS = ("loop", "length", "choice", "stop", "silent")


@dataclass(eq=False)
class Job:
    """A group of sounds, with one answer for each question.

    `filename` is that of its output files, without ending; `key` is a hash of all that they depend on, `source` one of
    which input it is. `stamp` is how its sounds were when it was planned. `deadline` is a time of `time.monotonic`.
    `open_queries` counts those without an answer yet; `is_heard`: no more will come.
    `problem`: it cannot be asked. `is_last`: no job follows. `inputs`: how many it stands for, which were all done
    before; `group` is the first of them. `is_stored`: its answers are those of a file of an earlier run. `like` is the
    job before it that asks the same of the same sounds. `is_part`: only what --clip names is heard. `notes` are
    remarks about its sounds.
    """

    group: Group
    questions: list[Question]
    answers: list[Answer]
    filename: str = ""
    key: str | None = None
    source: str = ""
    stamp: str | None = None
    deadline: float | None = None
    is_last: bool = False
    problem: Exception | None = None
    is_done_before: bool = False
    is_stored: bool = False
    like: Job | None = None
    inputs: int = 1
    open_queries: int = 0
    is_heard: bool = False
    is_part: bool = False
    failure: Exception | None = None
    queries: list[Query] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """The names of its sounds."""
        return ", ".join(self.group.paths)

    @property
    def is_over(self) -> bool:
        """Whether it is finished."""
        if self.like is not None:
            return self.like.is_over
        return self.failure is not None or not self.is_to_ask or (self.is_heard and not self.open_queries)

    @property
    def is_to_ask(self) -> bool:
        """Whether its sounds are to be heard at all."""
        return not (self.is_done_before or self.is_stored or self.like)

    @property
    def is_streamed(self) -> bool:
        """Whether the pieces of text, as they come, are the answer: one prompt, no task that reads it."""
        return len(self.questions) == 1 and self.questions[0].task is None

    def scored(self, metrics: Sequence[str]) -> dict[str, object]:
        """What its JSON depends on beside the answer."""
        first = self.answers[0]
        return {"score": [metrics, first.references, first.source, first.language]}

    @property
    def seconds(self) -> float:
        """How much sound it holds, or of the parts that --clip names."""
        if self.is_part:
            return sum(window.end - window.start for window in self.answers[0].windows)
        return sum(audio.seconds for audio in self.answers[0].audio)

    def hear(self, segment: Segment) -> list[Query]:
        """Take in a segment that was listened to; returns what is to be asked about it."""
        for answer in self.answers:
            answer.audio = list(segment.audio)
            answer.timings["audio_s"] += segment.audio_s
            answer.timings["encode_s"] += segment.encode_s
            answer.windows.append(Window(segment.start, segment.end, silent=segment.is_silent, speech=segment.speech))
        self.open_queries += len(self.answers)
        self.is_heard, self.is_part = segment.is_last, segment.is_part
        pairs = zip(self.questions, self.answers, strict=True)
        queries = [Query(self, question, answer, answer.windows[-1]) for question, answer in pairs]
        self.queries += queries
        return queries

    def follow(self) -> None:
        """Take over what became of the job that it is like."""
        if self.like is not None:
            self.failure = self.like.failure
            for answer, other in zip(self.answers, self.like.answers, strict=True):
                answer.take_over(other)

    def take_over(self, copy: Job) -> None:
        """Take over what became of a copy of it that was answered elsewhere."""
        self.answers, self.queries, self.notes, self.failure = copy.answers, copy.queries, copy.notes, copy.failure
        self.is_heard, self.open_queries, self.is_part = copy.is_heard, copy.open_queries, copy.is_part

    def finish(self) -> None:
        """Put each answer together from its windows, once they are all answered."""
        for question, answer in zip(self.questions, self.answers, strict=True):
            own = [query for query in self.queries if query.answer is answer]
            read = [question.read(window.text, window.start) for window in answer.windows]
            pairs = zip(own, read, strict=True)
            timed = [query.with_log_probs(words) for query, (_, words) in pairs if words is not None]
            answer.token_ids = [one for query in own for one in query.token_ids]
            log_probs = [one for query in own for one in query.log_probs]
            answer.log_prob = round(fmean(log_probs), 4) if log_probs else None
            answer.words = [word for words in timed for word in words] if timed else None
            answer.text = _joined(question, answer.windows, [text for text, _ in read])
            for window, (text, _) in zip(answer.windows, read, strict=True):
                window.text = text
            reasons = {window.finish_reason for window in answer.windows}
            answer.finish_reason = next(reason for reason in REASONS if reason in reasons)
            answer.notes = self.notes

    def warnings(self) -> Iterator[str]:
        """Warnings: sound that was not heard, an answer that repeated itself."""
        for audio in self.answers[0].audio:
            if audio.seconds > audio.seconds_used and not self.is_part:
                left = f"the last {audio.seconds - audio.seconds_used:.1f} s of {audio.seconds:.1f} s"
                yield f"{audio.path}: {left} were left out; the model hears 30 s"
        for answer in self.answers:
            if answer.finish_reason == "loop":
                yield f"{self}: the answer repeated itself and was stopped (finish_reason: loop)"


@dataclass(eq=False)
class Query:
    """A question about one segment of a job, where its answer goes, and the ids that came so far.

    `ends` has, for each id, how many characters of the answer there are with it.
    """

    job: Job
    question: Question
    answer: Answer
    window: Window
    token_ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def with_log_probs(self, words: list[Word]) -> list[Word]:
        """Words of the answer, each with how sure the model was of the tokens that it is in."""
        found, at = list[Word](), 0
        tokens = list(zip([0, *self.ends], self.ends, self.log_probs, strict=False))
        for word in words:
            start = self.window.text.find(word.word, at)
            at = max(at, start + len(word.word))
            own = [one for first, last, one in tokens if first < start + len(word.word) and last > start >= 0]
            found.append(replace(word, log_prob=round(fmean(own), 4)) if own else word)
        return found


def span(window: Window) -> str:
    """The times before the answer about one of several windows."""
    return f"[{clock(window.start)} - {clock(window.end)}] "


def _joined(question: Question, windows: list[Window], texts: list[str]) -> str:
    if len(windows) == 1:
        return texts[0]
    if question.is_stitched:
        return " ".join(text for window, text in zip(windows, texts, strict=True) if text and not window.silent)
    return "\n".join(span(window) + text for window, text in zip(windows, texts, strict=True))
