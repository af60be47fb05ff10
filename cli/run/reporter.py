"""The run as a whole: its inputs, where the answers go (standard output, --output-dir, --savepath), and how it went.

In: the command line, then what became of each case: sounds that were heard, pieces of text, failures. Out: lines and
files in the order of the inputs, and the exit code. This file decides nothing about sounds, prompts or models.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cli.errors import INPUT_FAILED, OK, report_failure
from cli.output.answer import Answer, Window
from cli.output.progress import Progress, cause_of
from cli.output.streams import check_savepath, save_text, say, show_piece
from cli.run.job import Case, span
from errors import QwenAudioError

if TYPE_CHECKING:
    from cli.inputs.listing import Group, Listing
    from cli.options import Options
    from cli.output.folder import ResultsFolder
    from cli.run.open_model import Model
    from cli.run.questions import Question
    from cli.run.segments import Piece
    from decoder.generate import Event


class RunOver(Exception):  # noqa: N818 - not an error of its own: what it was has been told
    """A failure that every other input would meet too, a prompt that is too long say, has been told."""


@dataclass(frozen=True, eq=False)
class Key:
    """What one request is about: a question about one window of a case, and where its answer goes."""

    case: Case
    question: Question
    answer: Answer
    window: Window


class Board:
    """Takes what happens, in any order between cases, and shows it in the order of the inputs."""

    def __init__(
        self,
        options: Options,
        listing: Listing,
        progress: Progress,
        folder: ResultsFolder | None,
        show: Callable[[str], None] = show_piece,
    ) -> None:
        self.listing, self.code, self._show_piece = listing, OK, show
        self._options, self._progress, self._folder = options, progress, folder
        self._open: deque[Case] = deque()
        self._saved: list[str] = []
        self._line_is_open = False
        self._clock = time.perf_counter()
        self.answered: list[Case] = []  # for --benchmark, which asks them again

    def cases(self, model: Model, load_s: float) -> Iterator[Case]:
        """All inputs as cases, in order; each is made when there is room for it."""
        from cli.output.filenames import plan_stems
        from cli.output.folder import content_key
        from cli.run.questions import Question, find_questions, settings

        questions = find_questions(self._options, chat=model.chat)
        stems = plan_stems(self.listing.whole, self._options.inputs) if self._folder else {}
        for group in self.listing.groups:
            asked = [Question(group.prompt, questions[0].max_new_tokens)] if group.prompt else questions
            case = Case(group, asked, [_blank(group, question, model, load_s) for question in asked])
            if self._folder:
                case.stem = stems[group]
                case.key = content_key(group.paths, settings(self._options, asked, model))
                case.is_done_before = self._folder.is_done(case.stem, case.key)
            if self._options.timeout is not None:
                case.deadline = time.monotonic() + self._options.timeout
            yield case

    def hear(self, case: Case, piece: Piece) -> list[Key]:
        """Sounds of a case have been listened to: what is to be asked about them, nothing if it failed meanwhile."""
        self._begin(case)
        if case.is_over:
            self._settle()
            return []
        self._clock = time.perf_counter()
        return [Key(case, *one) for one in case.hear(piece)]

    def take(self, event: Event, text: str) -> None:
        """An id, or the end, of one answer, and the text that it makes certain."""
        key: Key = event.key
        if key.case.failure is not None:
            return
        if event.error is not None:
            self.fail(key.case, event.error)
            return
        now, before = time.perf_counter(), self._clock
        stage = "decode_s" if key.answer.token_ids else "prefill_s"
        key.answer.timings[stage] += now - before
        self._clock = now
        if event.token_id is not None:
            key.answer.token_ids.append(event.token_id)
        self._add(key, text, is_end=event.finish_reason is not None)
        if event.finish_reason is not None:
            self._end(key, event.finish_reason)

    def choose(self, key: Key, found: dict[str, float], token_ids: dict[str, list[int]]) -> None:
        """The log-probability of each of --choices: the likeliest, of equal ones the first, is the answer."""
        if key.case.failure is not None:
            return
        key.window.text = max(found, key=lambda choice: found[choice])
        key.window.choices = found
        key.answer.token_ids += token_ids[key.window.text]
        key.answer.timings["prefill_s"] += time.perf_counter() - self._clock
        self._end(key, "choice")

    def fail(self, case: Case, failure: Exception) -> None:
        """A case failed; what else is known of it no longer counts."""
        self._begin(case)
        case.failure = case.failure or failure
        self._settle()

    def abort(self, failure: Exception) -> None:
        """What ends the whole run, told for the case that was being answered; raises what is a bug of ours."""
        self._end_line()
        answer = self._open[0].answers[0] if self._open else Answer(list(self._options.inputs), "")
        self.code = report_failure(failure, answer, json=self._options.json, debug=self._options.debug).exit_code

    def problem(self, path: str, line: str) -> None:
        """An input that failed before it could be opened."""
        say(line)
        if self._options.json:
            self._show_piece(Answer([path], "").as_json(QwenAudioError(line)) + "\n")
        self._progress.failed(cause_of(line))
        self.code = INPUT_FAILED

    def again(self, case: Case) -> tuple[Board, Case]:
        """The same case, not answered yet, on a board that shows nothing: for --benchmark."""
        options = replace(self._options, savepath=None, output_dir=None, json=False, benchmark_count=0)
        silent = Board(options, self.listing, Progress(1, quiet=True), None, show=lambda _: None)
        return silent, Case(case.group, case.questions, [Answer(one.input, one.prompt) for one in case.answers])

    def close(self) -> None:
        """End the line that is open and write --savepath with what is whole."""
        self._end_line()
        path = self._options.savepath
        if path and self._saved:
            try:
                save_text(path, "".join(line + "\n" for line in self._saved))
            except OSError as error:
                say(f"--savepath {path}: not written ({error.strerror or error}); the answers are on stdout")
                self.code = self.code or INPUT_FAILED

    def _begin(self, case: Case) -> None:
        if not case.is_begun:
            case.is_begun = True
            self._open.append(case)

    def _end(self, key: Key, reason: str) -> None:
        key.window.finish_reason = reason
        key.case.waiting -= 1
        if reason == "timeout":
            self.fail(key.case, TimeoutError(f"not answered within {self._options.timeout:g} s; raise --timeout"))
        self._settle()

    def _add(self, key: Key, text: str, *, is_end: bool) -> None:
        """Text of an answer: shown at once where it is certain to be how the whole answer begins."""
        case, begins = key.case, not key.window.text
        key.window.text += text
        if not (self._shows_text and self._options.batch == 1 and case.is_streamed and self._open[0] is case):
            return
        if begins and (text or is_end) and (len(key.answer.windows) > 1 or not case.is_heard):
            self._end_line()
            self._line_is_open = True
            self._show_piece(span(key.window))
        if text:
            self._line_is_open = True  # first: an interrupt may come with the first letter
            self._show_piece(text)

    @property
    def _shows_text(self) -> bool:
        """Text goes to standard output unless it goes to a folder."""
        return not self._options.json and self._folder is None

    def _settle(self) -> None:
        """Show all cases that are over, up to the first that is not."""
        while self._open and self._open[0].is_over:
            case = self._open.popleft()
            if case.failure is not None:
                self._tell_failure(case, case.failure)
            elif case.is_done_before:
                self._progress.skipped()
            else:
                case.finish()
                self._show(case)
                self._progress.answered(case.seconds, answers=len(case.answers))

    def _tell_failure(self, case: Case, failure: Exception) -> None:
        self._end_line()
        for number, answer in enumerate(case.answers):
            if number == 0:
                code = report_failure(failure, answer, json=self._options.json, debug=self._options.debug).exit_code
            elif self._options.json:
                self._show_piece(answer.as_json(QwenAudioError(str(failure))) + "\n")
        self._progress.failed(cause_of(failure))
        self.code = code if code != INPUT_FAILED else self.code or code
        if code != INPUT_FAILED and case.group.prompt is None:
            raise RunOver

    def _show(self, case: Case) -> None:
        """A whole answer: what of it is not on standard output yet, the file, and the warnings."""
        streamed, self._line_is_open = self._line_is_open, False
        for answer in case.answers:
            line = answer.as_json() if self._options.json else answer.text
            if self._options.json or (self._shows_text and not streamed):
                self._show_piece(line + "\n")
            if self._options.savepath:
                self._saved.append(line)
        if streamed:
            self._show_piece("\n")
        for warning in case.warnings():
            say(warning)
        if self._options.benchmark_count:
            self.answered.append(case)
        if self._folder is not None:
            try:
                self._folder.write(case.stem, case.answers, case.key)
            except OSError as error:
                say(f"{error.filename}: not written ({error.strerror or error}); make room, then run again")
                self.code = self.code or INPUT_FAILED

    def _end_line(self) -> None:
        if self._line_is_open:
            self._line_is_open = False
            self._show_piece("\n")


@contextmanager
def open_board(options: Options) -> Iterator[Board]:
    """Look for the inputs and open the outputs, before any model is; at the end close them, whatever happened.

    Raises InputError where there is nothing to work on, UsageError for an output that cannot be.
    """
    from cli.inputs.listing import find_inputs
    from cli.output.folder import ResultsFolder

    if options.savepath:
        check_savepath(options.savepath)
    listing = find_inputs(
        options.inputs,
        each=options.each,
        recursive=options.recursive,
        lists=options.lists,
        null=options.null,
        extensions=options.extensions,
        shard=options.shard,
    )
    directory = options.output_dir
    folder = ResultsFolder(directory, options.formats, overwrite=options.overwrite) if directory else None
    beside = folder is None and sys.stdout.isatty()
    total = len(listing.groups) + len(listing.problems)
    with Progress(total, quiet=options.quiet, beside_answers=beside) as progress:
        board = Board(options, listing, progress, folder)
        for note in listing.skipped:
            say(note, quiet=options.quiet)
        for path, line in listing.problems:
            board.problem(path, line)
        try:
            yield board
        finally:  # interrupted, too: the answers that are whole are kept
            board.close()


def _blank(group: Group, question: Question, model: Model, load_s: float) -> Answer:
    answer = Answer(list(group.paths), question.prompt, model=str(model.manifest.directory), backend=model.backend)
    answer.task = question.task.name if question.task else None
    answer.timings["load_s"] = load_s
    return answer
