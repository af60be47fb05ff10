"""The task table: what can be asked by name, as a sentence for the chat model and as tags for the base model.

Adding a task is adding one entry to the table below. Nothing of a model is known here: a task and its options go in, a
prompt comes out, and ``task.parse`` reads the answer.

In a prompt {slot} is the value of the command line option --slot, and a part in [ ] is left out unless its slots are
given. The tags are those of the model's own evaluation, to the letter: it was trained on no other order of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING

from errors import UsageError
from tokenizer.timestamps import TimedWord, parse_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Parse = Callable[[str], tuple[str, list[TimedWord] | None]]

LANGUAGES = {
    "en": "English",
    "zh": "Chinese",
    "de": "German",
    "es": "Spanish",
    "ko": "Korean",
    "fr": "French",
    "ja": "Japanese",
    "it": "Italian",
}
CAPTION_STYLES = ("plain", "audiocaps", "clotho")

_SLOT = re.compile(r"\{(\w+)\}")
_OPTIONAL = re.compile(r"\[([^\]]*)\]")
_CHOOSE = " Choose one of: {choices}."
_SAID = re.compile(r'(?:The person says: |The (?:speech|sound) is of [^"]*, saying, )"(.*?)(?:"\.?)?', re.DOTALL)


@dataclass(frozen=True)
class TaskOptions:
    """What the command line says about a task, as typed; None, False or () where it says nothing.

    ``language`` is spoken in the clip, ``to`` is that of the answer; ``itn`` asks for punctuation and digits.
    """

    language: str | None = None
    to: str | None = None
    question: str | None = None
    choices: tuple[str, ...] = ()
    word: str | None = None
    itn: bool = False
    caption_style: str | None = None


def _as_it_is(text: str) -> tuple[str, None]:
    return text.strip(), None


def _said(text: str) -> tuple[str, None]:
    """Take the words out of the sentence that the chat model wraps them in; the base model's answer is bare."""
    text = text.strip()
    wrapped = _SAID.fullmatch(text)
    return (wrapped[1].strip() if wrapped else text), None


@dataclass(frozen=True)
class Task:
    """One entry of the table.

    ``chat`` and ``base`` are the prompts; ``base`` is None where no official one exists. ``max_new_tokens`` is the
    limit of the base model's own evaluation, None without a base prompt: a chat model answers in sentences, for which
    the caller's limit holds. ``labels`` are the choices that the chat model is given when the user gives none.
    ``parse`` reads an answer as plain text and, for a task about times, the words with their times, else None.
    """

    name: str
    help: str
    chat: str
    base: str | None = None
    max_new_tokens: int | None = None
    labels: tuple[str, ...] = ()
    parse: Parse = _as_it_is

    def slots(self, *, chat: bool) -> tuple[str, ...]:
        """Give the options that the task takes with a chat or a base model, as fields of ``TaskOptions``."""
        named = _slots(self.chat if chat else self.base or "")
        # Choosing needs no words in the prompt: it constrains the answer.
        return named if chat or "choices" not in _slots(self.chat) else (*named, "choices")

    def needs(self, *, chat: bool) -> tuple[str, ...]:
        """Give those of them that it cannot be asked without."""
        defaults = {"choices"} if chat and self.labels else set() if chat else {"language", "itn", "caption_style"}
        template = _OPTIONAL.sub("", self.chat if chat else self.base or "")
        return tuple(slot for slot in _slots(template) if slot not in defaults)


def _slots(template: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_SLOT.findall(template)))


_TABLE = (
    Task(
        "transcribe",
        "what is said, word by word",
        chat="[The person speaks {language}. ]what does the person say?",
        base="<|startoftranscript|><|{language}|><|transcribe|><|{language}|><|notimestamps|><|{itn}|>",
        max_new_tokens=256,
        parse=_said,
    ),
    Task(
        "translate",
        "what is said, in another language",
        chat="Translate the speech[ from {language}] into {to}.",
        base="<|startoftranscript|><|{language}|><|translate|><|{to}|><|notimestamps|><|itn|>",
        max_new_tokens=256,
    ),
    Task(
        "timestamps",
        "when words are said: all of them (base model) or one (chat model)",
        chat='Find the start time and end time of the word "{word}"',
        base="<|startoftranscript|><|{language}|><|transcribe|><|{language}|><|timestamps|><|0.00|>",
        max_new_tokens=256,
        parse=parse_words,
    ),
    Task(
        "caption",
        "what is heard, in one sentence",
        chat="Describe the audio.",
        base="<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|caption_{caption_style}|>",
        max_new_tokens=30,
    ),
    Task("sound-events", "which sounds are heard", chat=f"Which sounds do you hear?[{_CHOOSE}]"),
    Task(
        "scene",
        "where it was recorded",
        chat=f"In which scene was this recorded?[{_CHOOSE}]",
        base="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|scene|>",
        max_new_tokens=10,
    ),
    Task(
        "emotion",
        "how the speaker feels",
        chat=f"What is the emotion of the speaker?{_CHOOSE}",
        base="<|startofanalysis|><|{language}|><|keyword|><|en|><|notimestamps|><|emotion_recognition|>",
        max_new_tokens=4,
        labels=("neutral", "happy", "sad", "angry", "surprised", "afraid", "disgusted"),
    ),
    Task("gender", "whether a man or a woman speaks", chat=f"Is the speaker a man or a woman?[{_CHOOSE}]"),
    Task("speaker", "gender, age and accent of the speaker", chat="Describe the speaker: gender, age and accent."),
    Task("language", "which language is spoken", chat=f"What language is spoken?[{_CHOOSE}]"),
    Task("instrument", "which instrument plays", chat=f"what is the instrument[?{_CHOOSE}]"),
    Task("genre", "the genre of music", chat=f"What is the genre of the music?[{_CHOOSE}]"),
    Task(
        "note",
        "pitch, loudness, sound and instrument of one note",
        chat="What note is played?",
        base="<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|note_analysis|>",
        max_new_tokens=30,
    ),
    Task(
        "question",
        "an answer to --question",
        chat=f"{{question}}[{_CHOOSE}]",
        base="<|startofanalysis|><|en|><|question|>{question}<|answer|>",
        max_new_tokens=4,
    ),
    Task(
        "understanding",
        "what the speaker wants: scenario, action, entities",
        chat="What does the person want? Name the scenario, the action and the entities.",
    ),
    Task(
        "vocal-sound",
        "a laugh, a cough, a sigh, ...",
        chat=f"What vocal sound does the person make?{_CHOOSE}",
        base="<|startofanalysis|><|en|><|keyword|><|en|><|notimestamps|><|vocal_classification|>",
        max_new_tokens=4,
        labels=("laughter", "sigh", "cough", "throat clearing", "sneeze", "sniff"),
    ),
)
TASKS = {task.name: task for task in _TABLE}


def find_task(name: str) -> Task:
    """Look a task up by its name. Raises UsageError for an unknown one, with the names that are close to it."""
    if name in TASKS:
        return TASKS[name]
    close = " or ".join(get_close_matches(name, TASKS, n=2))
    raise UsageError(f"no task {name!r}", fix=f"{f'did you mean {close}? ' if close else ''}--list-tasks shows all")


def language_code(name: str) -> str:
    """Give the code of a language by its code or English name, in any case. Raises UsageError for an unknown one."""
    for code, english in LANGUAGES.items():
        if name.strip().casefold() in (code, english.casefold()):
            return code
    known = ", ".join(f"{code} ({english})" for code, english in LANGUAGES.items())
    raise UsageError(f"unknown language {name!r}", fix=f"the model knows {known}")


def parse_choices(text: str) -> tuple[str, ...]:
    """Split ``a,b,c`` into options, without the space around them. Raises UsageError for fewer than two, or twins."""
    choices = tuple(part.strip() for part in text.split(","))
    if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
        raise UsageError(f"--choices {text!r}: give two or more different options with commas between, as in yes,no")
    return choices


def task_prompt(task: Task, *, chat: bool, options: TaskOptions) -> str:
    """Give the prompt of a task for a chat model, or for a base model.

    What is spoken is taken to be English where a base model must be told and the options do not say it. Raises
    UsageError where there is no prompt, an option is missing, is not of this task, or has an unknown value.
    """
    template = task.chat if chat else task.base
    if template is None:
        raise UsageError(
            f"--task {task.name} has no tags for a base model", fix="take a chat model, or write a --prompt"
        )
    _refuse_others(task, options, chat=chat)
    values = _values(task, options, chat=chat)
    for slot in task.needs(chat=chat):
        if slot not in values:
            only = "" if task.base is None or slot in task.needs(chat=not chat) else f" with a {_kind(chat=chat)} model"
            raise UsageError(f"--task {task.name} needs {_flag(slot)}{only}", fix="see --list-tasks")
    bare = _SLOT.sub(lambda slot: values[slot[1]], _OPTIONAL.sub("", template))
    names_all = all(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", bare) for one in options.choices or ("\0",))
    known = set() if names_all else set(values)
    template = _OPTIONAL.sub(lambda part: part[1] if set(_slots(part[1])) <= known else "", template)
    return _SLOT.sub(lambda slot: values[slot[1]], template)  # once: a {word} in the user's own text is not a slot


def _refuse_others(task: Task, options: TaskOptions, *, chat: bool) -> None:
    taken = task.slots(chat=chat)
    takes = f"it takes {', '.join(map(_flag, taken))}" if taken else "it takes no option"
    for slot in (field.name for field in fields(options) if getattr(options, field.name)):
        if slot not in taken:
            only = f" with a {_kind(chat=chat)} model" if task.base and slot in task.slots(chat=not chat) else ""
            raise UsageError(f"--task {task.name} takes no {_flag(slot)}{only}", fix=takes)


def _values(task: Task, options: TaskOptions, *, chat: bool) -> dict[str, str]:
    """The values of the slots; a slot without a value is left out. Tags have those of the model's own evaluation."""
    style = options.caption_style or "clotho"
    if style not in CAPTION_STYLES:
        raise UsageError(f"unknown --caption-style {style!r}", fix=f"the model knows {', '.join(CAPTION_STYLES)}")
    spoken, to = options.language or ("" if chat else "en"), options.to or ""
    if to and spoken and language_code(to) == language_code(spoken):
        english = LANGUAGES[language_code(to)]
        raise UsageError(f"--task {task.name} from {english} into {english}: name what is spoken with --language")
    values = {
        "language": _language(spoken, chat=chat) if spoken else "",
        "to": _language(to, chat=chat) if to else "",
        "question": (options.question or "").strip(),
        "word": (options.word or "").strip(),
        "choices": ", ".join(options.choices or task.labels),
        "itn": "itn" if options.itn else "wo_itn",
        "caption_style": style,
    }
    return {slot: value for slot, value in values.items() if value}


def _language(name: str, *, chat: bool) -> str:
    code = language_code(name)
    return LANGUAGES[code] if chat else code


def list_tasks() -> str:
    """Show every task with both prompts and its options, as text of several lines without the last line end."""
    lines = ["{option} is what the option says; a part in [ ] is left out unless its option is given", ""]
    for task in TASKS.values():
        lines.append(f"{task.name:<15}{task.help}")
        lines.append(f"  chat   {task.chat}".replace("{choices}", ", ".join(task.labels) or "{choices}"))
        lines.append(f"  base   {task.base or 'no official prompt: needs a chat model'}")
        if options := ", ".join(_option_notes(task)):
            lines.append(f"  takes  {options}")
    return "\n".join(lines)


def _option_notes(task: Task) -> Iterable[str]:
    """Name the options of a task, those that it needs, and those that only one kind of model takes."""
    kinds = (True, False) if task.base else (True,)
    for slot in (field.name for field in fields(TaskOptions)):
        taking = [chat for chat in kinds if slot in task.slots(chat=chat)]
        notes = [] if taking == list(kinds) else [f"{_kind(chat=chat)} only" for chat in taking]
        notes += ["needed"] if any(slot in task.needs(chat=chat) for chat in taking) else []
        if taking:
            yield _flag(slot) + (f" ({', '.join(notes)})" if notes else "")


def _flag(slot: str) -> str:
    return "--" + slot.replace("_", "-")


def _kind(*, chat: bool) -> str:
    return "chat" if chat else "base"
