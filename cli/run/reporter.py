"""The results of a run's jobs: taken in any order, shown in the order of the inputs, and counted.

In: segments that were heard, pieces of text, failures. Out: whole answers and failures to `Outputs`, counts to
`Progress`, and the exit code. This file decides nothing about sounds, prompts or models.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from cli.errors import INPUT_FAILED, OK, file_error, named_error
from cli.output.answer import Answer
from cli.output.streams import say
from cli.run.job import Job, Query, span
from errors import QwenAudioError

if TYPE_CHECKING:
    from cli.output.outputs import Outputs
    from cli.output.progress import Progress
    from cli.run.segments import Segment
    from decoder.generate import Event


class RunOver(Exception):  # noqa: N818 - not an error of its own: what it was has been told
    """A failure that every other input would meet too has been told."""


class Reporter:
    """The jobs in progress, in order, and what the user sees of them."""

    def __init__(
        self,
        outputs: Outputs,
        progress: Progress,
        *,
        streams: bool,
        is_alone: bool = False,
        hand_on: Callable[[Job], None] | None = None,
    ) -> None:
        """`streams`: text is shown as it is decoded, one answer at a time; `is_alone`: there is one job only.

        `hand_on` takes each job that is over, in place of showing it here.
        """
        self._outputs, self._progress, self._streams, self._is_alone = outputs, progress, streams, is_alone
        self._tell = hand_on or self._tell_here
        self._under_way: OrderedDict[Job, None] = OrderedDict()
        self._clock = time.perf_counter()
        self.code = OK
        self.answered: list[Job] | None = None  # filled for --benchmark, which asks them again

    def fail_input(self, path: str, error: QwenAudioError) -> None:
        """An input failed before it could be opened."""
        self._outputs.fail([Answer([path], "")], error)
        self._count_failure(error)

    def begin(self, job: Job) -> None:
        """A job is under way; the next calls are about it, or about others."""
        self._under_way.setdefault(job)

    @property
    def under_way(self) -> int:
        """How many jobs were begun and are not shown yet."""
        return len(self._under_way)

    def settle(self, job: Job) -> None:
        """A job is over: answered in an earlier run, elsewhere, or with the job that it is like. Raises RunOver."""
        self.begin(job)
        self._settle()

    def hear(self, job: Job, segment: Segment) -> list[Query]:
        """A segment of a job was listened to; returns what is to be asked, nothing if the job failed meanwhile."""
        self.begin(job)
        if job.is_over:
            self._settle()
            return []
        self._clock = time.perf_counter()
        return job.hear(segment)

    def take(self, event: Event, text: str) -> None:
        """An id, or the end, of one answer, and the text that is certain now."""
        query: Query = event.key
        if query.job.failure is not None:
            return
        if event.error is not None:
            self.fail(query.job, event.error)
            return
        self._add_time(query)
        if event.token_id is not None:
            query.token_ids.append(event.token_id)
            query.log_probs.append(event.log_prob)
        self._add_text(query, text, is_end=event.is_last)
        query.ends += [len(query.window.text)] * (len(query.token_ids) - len(query.ends))
        if event.finish_reason is not None:
            self._end(query, event.finish_reason)

    def choose(self, query: Query, log_probs: dict[str, float], token_ids: list[int]) -> None:
        """The log-probability of each choice; `token_ids` are those of the likeliest, which is the answer."""
        query.window.text = max(log_probs, key=lambda choice: log_probs[choice])
        query.window.choices = log_probs
        self._add_time(query)
        query.token_ids += token_ids
        self._end(query, "choice")

    def leave_silent(self, query: Query) -> None:
        """A segment without sound was not asked about: there is nothing that could be said."""
        note = f"{query.job}: silent"
        if note not in query.job.notes:
            query.job.notes.append(note)
        self._end(query, "silent")

    def fail(self, job: Job, failure: Exception) -> None:
        """A job failed; what else is known of it no longer counts. Raises RunOver."""
        self.begin(job)
        job.failure = job.failure or failure
        self._settle()

    def abort(self, failure: Exception) -> None:
        """What ends the whole run, told for the job that is being answered; raises `failure` if it is a bug."""
        answers = (self._first.answers[:1] if self._first else []) or [Answer([], "")]
        error = named_error(failure, ", ".join(answers[0].input))
        self._outputs.fail(answers, error, cause=failure)
        self.code = error.exit_code

    def close(self) -> None:
        """Write what is only written at the end."""
        self._worsen(self._outputs.close())

    def _add_time(self, query: Query) -> None:
        now, before = time.perf_counter(), self._clock
        query.answer.timings["decode_s" if query.token_ids else "prefill_s"] += now - before
        self._clock = now

    def _add_text(self, query: Query, text: str, *, is_end: bool) -> None:
        """Text of an answer: shown at once where it is certain to be how the whole answer begins."""
        job, begins = query.job, not query.window.text
        query.window.text += text
        if not (self._streams and job.is_streamed and self._first is job):
            return
        if begins and (text or is_end) and (len(query.answer.windows) > 1 or not job.is_heard):
            self._outputs.end_line()
            self._outputs.stream(span(query.window))
        if text:
            self._outputs.stream(text)

    def _end(self, query: Query, reason: str) -> None:
        query.window.finish_reason = reason
        query.job.open_queries -= 1
        if reason == "timeout":
            late = QwenAudioError(f"{query.job}: not answered in time", "raise --timeout", kind="timeout")
            query.job.failure = query.job.failure or late
        self._settle()

    def _settle(self) -> None:
        """Show all finished jobs, up to the first unfinished one."""
        while self._first and self._first.is_over:
            job, _ = self._under_way.popitem(last=False)
            self._tell(job)

    @property
    def _first(self) -> Job | None:
        return next(iter(self._under_way), None)

    def _tell_here(self, job: Job) -> None:
        job.follow()
        if job.failure is not None:
            self._tell_failure(job, job.failure)
        elif job.is_done_before:
            self._outputs.recall(job.answers, job.filename, job.key, job.source)
            self._progress.skipped(job.inputs)
        elif job.is_stored:
            self._write(job)
            self._progress.skipped()
        else:
            self._show(job)

    def _write(self, job: Job) -> None:
        self._worsen(self._outputs.show(job.answers, job.filename, job.key, job.source, job.stamp))

    def _show(self, job: Job) -> None:
        if job.like is None:
            job.finish()
        self._write(job)
        for note in job.notes:
            self._outputs.note(note)
        for warning in job.warnings():
            say(warning)
        self._progress.answered(job.seconds, answers=len(job.answers))
        if self.answered is not None:
            self.answered.append(job)

    def _tell_failure(self, job: Job, failure: Exception) -> None:
        error = file_error(failure, str(job))
        self._outputs.fail(job.answers, error, cause=failure)
        # One clip fits any context: a prompt that is too long with it is too long with every other, too.
        is_shared = job.group.prompt is None and (len(job.group.paths) == 1 or self._is_alone)
        ends_run = error.exit_code != INPUT_FAILED and is_shared
        self._count_failure(error, ends_run=ends_run)
        if ends_run:
            raise RunOver

    def _count_failure(self, error: QwenAudioError, *, ends_run: bool = False) -> None:
        self._progress.failed(error.kind)
        if ends_run:
            self.code = error.exit_code
        self._worsen(INPUT_FAILED)

    def _worsen(self, code: int) -> None:
        """Take over the code of a failure, if there was no other before."""
        self.code = self.code or code
