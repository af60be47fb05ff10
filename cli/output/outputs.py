"""Where complete answers and failures go: standard output, the file of --savepath, the folder of --output-dir.

Each method returns the exit code that a failure of the output itself costs the run, or OK.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from cli.errors import INPUT_FAILED, OK
from cli.output.answer import Answer, Word, json_text
from cli.output.folder import ResultsFolder
from cli.output.streams import save_text, say, show_piece
from errors import QwenAudioError

if TYPE_CHECKING:
    from cli.output.page import Page
    from cli.score.scorer import Scorer


SCORES = "score"  # the file of the scores, without ending
FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}  # what room would mend


class Outputs:
    """The outputs of one run; `show` writes to standard output."""

    def __init__(
        self,
        *,
        json: bool = False,
        debug: bool = False,
        quiet: bool = False,
        savepath: Path | None = None,
        folder: ResultsFolder | None = None,
        page: Page | None = None,
        scorer: Scorer | None = None,
        shard: tuple[int, int] | None = None,
        show: Callable[[str], None] = show_piece,
    ) -> None:
        """`shard`: this run answers the i-th of n parts, whose scores get a file of their own."""
        self.folder, self.page, self._json, self._savepath, self._show = folder, page, json, savepath, show
        self._debug, self._quiet, self._scorer = debug, quiet, scorer
        self._scores = f"{SCORES}-{shard[0] or shard[1]}of{shard[1]}" if shard else SCORES
        self._saved: list[str] = []  # lines of --savepath
        self._line_is_open = False

    @property
    def shows_text(self) -> bool:
        """Whether answers are shown as plain text, which may be streamed."""
        return not self._json and self.folder is None

    def stream(self, text: str) -> None:
        """A piece of an answer that is not whole yet."""
        self._line_is_open = True  # first: an interrupt may come with the first letter
        self._show(text)

    def end_line(self) -> None:
        """End a line that was streamed."""
        if self._line_is_open:
            self._line_is_open = False
            self._show("\n")

    def show(
        self, answers: Sequence[Answer], filename: str, key: str | None, source: str, stamp: str | None = None
    ) -> int:
        """The whole answers about one input: what of them was not streamed, and their files."""
        streamed = self._line_is_open
        self.end_line()
        for answer in answers:
            if self._scorer:
                self._scorer.add(answer)
        code = self._write_files(answers, filename, key, source, stamp)  # first: nobody may read what is shown
        for answer in answers:
            line = answer.as_json() if self._json else answer.text
            if self._savepath:
                self._saved.append(line)
            if self._json or (self.shows_text and not streamed):
                self._show(line + "\n")
        return code

    def recall(self, answers: Sequence[Answer], filename: str, key: str | None, source: str) -> None:
        """Answers of an earlier run: they are scored and shown as lines of JSON, too."""
        found = self.folder.read(filename, key, source) if self.folder and (self._scorer or self._json) else []
        for answer, record in zip(answers, found, strict=False):
            if self._scorer:
                words = record.get("words")
                answer.text, answer.words = record["text"], words and [Word(**word) for word in words]
                self._scorer.add(answer)
            if self._json:
                own = answer.record()  # with timings, and the name that the sound has now
                self._show(json_text(own | record | {"input": own["input"]}) + "\n")

    def fail(self, answers: Sequence[Answer], error: QwenAudioError, cause: Exception | None = None) -> None:
        """An input failed: one line on standard error, and with --json a line for each answer that is missing."""
        self.end_line()
        if self._scorer:
            self._scorer.fail(answers)
        if self._debug and cause is not None:
            traceback.print_exception(cause, file=sys.stderr)
        say(str(error))
        for line in [answer.as_json(error) for answer in answers] if self._json else []:
            if self._savepath:
                self._saved.append(line)
            self._show(line + "\n")

    def note(self, text: str) -> None:
        """A remark about an input that was answered."""
        say(text, quiet=self._quiet)

    def close(self) -> int:
        """End the open line, tell the scores, and write what is whole to --savepath and to the page."""
        self.end_line()
        return max(self._save(), self._close_scores(), self._write_page())

    def _close_scores(self) -> int:
        if self._scorer is None or not self._scorer.has_begun:
            return OK
        code = INPUT_FAILED if self._scorer.is_empty else OK
        for line in self._scorer.lines():
            say(line, quiet=self._quiet and self.folder is not None and not code)  # there score.json has them
        if self.folder is None:
            return code
        try:
            (path,) = self.folder.write_files(self._scores, {"json": self._scorer.as_json().encode()}, None, "score")
        except OSError as error:
            return _not_written(error)
        of_part = "" if self._scores == SCORES else " of this part; without --shard the same command counts all"
        say(f"{path} has the scores{of_part}", quiet=self._quiet)
        return code

    def _save(self) -> int:
        if not (self._savepath and self._saved):
            return OK
        try:
            save_text(self._savepath, "".join(line + "\n" for line in self._saved))
        except OSError as error:
            reason = error.strerror or error
            say(f"--savepath {self._savepath}: not written ({reason}); the answers are on standard output")
            return INPUT_FAILED
        return OK

    def _write_page(self) -> int:
        try:
            path = self.page.write() if self.page else None
        except OSError as error:
            return _not_written(error)
        if path and path.stem != "index":
            say(f"{path.with_stem('index')} is not of this program and is kept; {path} shows the answers")
        elif path:
            say(f"{path} shows the answers", quiet=self._quiet)
        return OK

    def _write_files(
        self, answers: Sequence[Answer], filename: str, key: str | None, source: str, stamp: str | None
    ) -> int:
        if self.folder is None:
            return OK
        try:
            written = self.folder.write(filename, answers, key, source, stamp)
        except OSError as error:
            return _not_written(error)
        if written[0].stem != PurePath(f"{filename}.x").stem:
            others = self.folder.folder / f"{filename}{written[0].suffix}"
            about = ", ".join(answers[0].input)
            say(f"{others} holds something else and is kept; the answers about {about} are in {written[0]}")
        return OK


def _not_written(error: OSError) -> int:
    fix = "make room, then run again" if error.errno in FULL else "name another folder, or rename what is in the way"
    say(f"{error.filename}: not written ({error.strerror or error}); {fix}")
    return INPUT_FAILED
