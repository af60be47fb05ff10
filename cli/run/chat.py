"""`--chat`: a dialogue about sounds, a line in and an answer out, on a terminal or through a pipe.

Lines that begin with a slash are commands, the others are questions. On a terminal there is line editing and a history;
through a pipe each question gives exactly one line on standard output, and nothing else goes there. What was said
before stays in the decoder's cache, so a turn costs only its new tokens.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cli.errors import INPUT_FAILED, OK, report_failure
from cli.flags import LONGEST_ANSWER
from cli.inputs.text import decode_pieces, is_whole, split
from cli.options import Options
from cli.output.answer import Answer, json_text
from cli.output.streams import check_savepath, save_text, say, show_piece
from cli.run.open_model import open_model
from cli.run.segments import Segment, segments
from cli.signals import clean_up_first
from decoder.generate import Request
from errors import UsageError
from qwen_audio import answer_all, listen, prompt_ids
from tokenizer.chat import Turn, dropped_turns

COMMANDS = """\
/audio FILE…   hear these sounds; the next question is about them too
/reset         forget what was said and heard
/save FILE     write the dialogue, as JSON if FILE ends in .json
/help          this list
/quit          end, as Ctrl-D does\
"""


@dataclass
class Dialogue:
    """What was said and heard: `turns` with their clips, and sounds that wait for the next question."""

    turns: list[Turn] = field(default_factory=list)
    clips: list[list[Any]] = field(default_factory=list)  # of each turn, [audio_tokens + 2, d_model] each
    heard: list[list[str]] = field(default_factory=list)  # the names of each turn's sounds
    waiting: list[tuple[str, Any]] = field(default_factory=list)  # name and clip

    def ask(self, question: str) -> None:
        """Add a turn with the sounds that wait."""
        self.heard.append([name for name, _ in self.waiting])
        self.clips.append([clip for _, clip in self.waiting])
        self.turns.append(Turn(question, audio_spans=tuple(len(clip) for _, clip in self.waiting)))
        self.waiting = []

    def take_back(self) -> None:
        """Remove the last turn, which could not be answered; its sounds wait again."""
        self.turns.pop()
        self.waiting = list(zip(self.heard.pop(), self.clips.pop(), strict=True)) + self.waiting

    def as_text(self, *, as_json: bool) -> str:
        """The dialogue for a file: a line for each sound, question and answer, or a JSON list of turns."""
        said = list(zip(self.heard, self.turns, strict=True))
        if as_json:
            rows = [{"audio": names, "question": turn.text, "answer": turn.reply} for names, turn in said]
            return json_text(rows, indent=1) + "\n"
        lines = []
        for names, turn in said:
            lines += [f"[{name}]" for name in names] + [f"> {turn.text}", str(turn.reply), ""]
        return "\n".join(lines)


class Talk:
    """A dialogue with an open model."""

    def __init__(self, options: Options) -> None:
        """Open the model; raises UsageError for a base model, which knows no dialogue."""
        self._options, self._model = options, open_model(options)
        if not self._model.chat:
            raise UsageError(f"--chat: {self._model.manifest.directory} is a base model", fix="ask it with --task")
        self.dialogue, self.code = Dialogue(), OK
        self._sounds: list[str] = []  # all that were heard, before a /reset, too

    def line(self, line: str) -> bool:
        """Do what one line says; returns False if it ends the talk. A failure is reported, and the talk continues."""
        words = line.split(maxsplit=1)
        argument = words[1] if len(words) > 1 else ""
        if line == "/quit":
            return False
        try:
            if line.startswith("/"):
                self._command(words[0], argument)
            elif line:
                self._ask(line)
        except (BrokenPipeError, KeyboardInterrupt):
            raise
        except Exception as failure:  # noqa: BLE001 - report_failure raises bugs again
            asked = Answer([argument] if line.startswith("/") else [], line)
            report_failure(failure, asked, json=self._options.json, debug=self._options.debug)
            self.code = INPUT_FAILED
        return True

    def hear(self, names: list[str]) -> None:
        """Listen to sounds, for the next question. Raises AudioError."""
        for name in names:
            notes: list[str] = []
            (segment,) = segments([name], notes, long="first")
            (clip,) = listen(segment.waveforms, self._model)
            self.dialogue.waiting.append((name, clip))
            self._sounds.append(name)
            for note in [*notes, f"{name}: {_heard(segment)}"]:
                say(note, quiet=self._options.quiet)

    def _command(self, name: str, argument: str) -> None:
        if name == "/audio" and argument:
            self.hear([argument] if os.path.exists(argument) else argument.split())  # noqa: PTH110 - Path("") is "."
        elif name == "/reset":
            self.dialogue = Dialogue()
        elif name == "/save" and argument:
            check_savepath(Path(argument), self._sounds, flag="/save")
            save_text(Path(argument), self.dialogue.as_text(as_json=argument.endswith(".json")))
        elif name == "/help":
            sys.stderr.write(COMMANDS + "\n")
        else:
            raise UsageError(f"{name}: not a command", fix="/help lists them")

    def _ask(self, question: str) -> None:
        """Answer a question; Ctrl-C ends the answer, and what was said of it stays."""
        if "\0" in question or not is_whole(question):
            raise UsageError("standard input: not a text", fix="save it as UTF-8")
        dialogue, start = self.dialogue, Answer([name for name, _ in self.dialogue.waiting], question)
        dialogue.ask(question)
        try:
            for piece in self._pieces(start):
                start.text += piece
                if sys.stdout.isatty() and not self._options.json:
                    show_piece(piece)
        except KeyboardInterrupt:
            start.finish_reason = "interrupted"
        except Exception:
            dialogue.take_back()
            raise
        dialogue.turns[-1] = replace(dialogue.turns[-1], reply=start.text)
        if self._options.json:
            show_piece(start.as_json() + "\n")
        elif sys.stdout.isatty():
            show_piece("\n")
        else:
            show_piece(" ".join(start.text.split("\n")) + "\n")

    def _pieces(self, answer: Answer) -> Iterator[str]:
        tokenizer, turns, options = self._model.tokenizer, self.dialogue.turns, self._options
        window = self._model.manifest.max_window_size
        dropped = dropped_turns(tokenizer, turns, system=options.system, max_window_size=window)
        clips = [clip for of_turn in self.dialogue.clips[dropped:] for clip in of_turn]
        ids = prompt_ids(turns[-1].text, clips, self._model, history=turns[dropped:-1], system=options.system)
        answer.prompt_tokens, answer.model = len(ids), str(self._model.manifest.directory)
        answer.backend = self._model.backend
        longest = options.max_new_tokens or LONGEST_ANSWER
        request = Request("answer", ids, clips, self._model.stop_ids, longest, group="dialogue")
        for event, text in answer_all(iter([request]), self._model):
            if event.error:
                raise event.error
            if event.token_id is not None:
                answer.token_ids.append(event.token_id)
            answer.finish_reason = event.finish_reason
            yield text


def chat(options: Options) -> int:
    """Talk until the lines end; returns OK, or INPUT_FAILED if something failed on the way."""
    talk = Talk(options)
    clean_up_first(again=True)
    talk.hear(list(options.inputs))
    if sys.stdin.isatty():
        say("a question, or /help; Ctrl-D ends", quiet=options.quiet)
    for line in _lines():
        if not talk.line(line):
            break
    return talk.code


def _lines() -> Iterator[str]:
    """The user's lines: edited on a terminal, where Ctrl-C takes back the line; else those of standard input."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        # The raw file gives what is there at once, so that a question is answered before the next one comes.
        for line in split(decode_pieces(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)), "\n"):
            yield line.strip()
        return
    with _history():
        while True:
            try:
                yield input("> ").strip()
            except EOFError:
                show_piece("\n")
                return
            except KeyboardInterrupt:
                show_piece("\n")


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, with the lines of earlier talks."""
    try:
        import readline
    except ImportError:  # Windows
        yield
        return
    state = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    path = Path(state) / "qwen-audio" / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(path)


def _heard(segment: Segment) -> str:
    audio = segment.audio[0]
    if audio.seconds > audio.seconds_used:
        return f"the first {audio.seconds_used:.1f} s of {audio.seconds:.1f} s heard; a dialogue takes 30 s of a sound"
    return f"{audio.seconds:.1f} s heard"
