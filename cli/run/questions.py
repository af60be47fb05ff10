"""The questions about each sound: prompts as typed, or that of a task, and how to read its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

from cli.flags import LONGEST_ANSWER, PROMPT
from cli.inputs.search import Group
from cli.options import Options
from cli.output.answer import Word
from errors import QwenAudioError, UsageError
from models.manifest import FILE_NAME, file_sha256
from tokenizer.tasks import Task, TaskOptions, find_task, task_prompt

if TYPE_CHECKING:
    from cli.run.open_model import Described
    from qwen_audio import Model

STITCHED = ("transcribe", "translate", "timestamps")  # tasks whose windows join to one text


@dataclass(frozen=True)
class Question:
    """A prompt, its longest answer in tokens, and the task that it belongs to, if any."""

    prompt: str
    max_new_tokens: int
    task: Task | None = None

    @property
    def is_stitched(self) -> bool:
        """Whether the answers about the windows of a recording are parts of one text."""
        return self.task is not None and self.task.name in STITCHED

    @property
    def is_about_words(self) -> bool:
        """Whether it asks for the words that are said. Silence has none."""
        return self.is_stitched or self.prompt == PROMPT

    def read(self, text: str, offset: float) -> tuple[str, list[Word] | None]:
        """An answer about a window that starts at `offset` seconds -> its text and, where it has times, its words."""
        if self.task is None:
            return text, None
        plain, timed = self.task.parse(text)
        if timed is None:
            return plain, None
        return plain, [Word(one.word, round(one.start + offset, 3), round(one.end + offset, 3)) for one in timed]


def find_questions(options: Options, *, chat: bool) -> list[Question]:
    """The questions of a run, for a chat or a base model; raises UsageError."""
    longest = options.max_new_tokens or LONGEST_ANSWER
    if options.task is None:
        _check_unused(options)
        return [Question(prompt, longest) for prompt in options.prompts]
    task = find_task(options.task)
    prompt = task_prompt(task, chat=chat, options=_task_options(options))
    own = None if chat else task.max_new_tokens
    return [Question(prompt, options.max_new_tokens or own or LONGEST_ANSWER, task)]


def questions_of_run(options: Options, *, chat: bool) -> tuple[list[Question], UsageError | None]:
    """`find_questions`; where the rows of a list may bring what the task still needs, what is missing comes beside."""
    try:
        return find_questions(options, chat=chat), None
    except UsageError as error:
        if not options.lists or options.question or not (options.task and "question" in _slots(options, chat=chat)):
            raise
        return [Question("", options.max_new_tokens or LONGEST_ANSWER)], error


def own_questions(
    group: Group, questions: list[Question], options: Options, *, chat: bool, missing: UsageError | None = None
) -> tuple[list[Question], Exception | None]:
    """The questions of one group: its own prompt, task or language, where its list names them, else those of the run.

    What is wrong with its own comes beside those of the run; so does what is `missing` in those.
    """
    name = group.task or options.task
    if missing and not (group.task or group.prompt):
        return questions, _of_list(group, missing)
    if name is None or not (group.task or group.language or group.prompt):
        return ([Question(group.prompt, questions[0].max_new_tokens)] if group.prompt else questions), None
    try:
        slots = find_task(name).slots(chat=chat)
        if group.prompt and "question" not in slots:
            return [Question(group.prompt, questions[0].max_new_tokens)], None
        own = replace(
            options,
            task=name,
            language=(group.language or options.language) if "language" in slots else None,
            question=group.prompt or options.question,
        )
        return find_questions(own, chat=chat), None
    except UsageError as error:
        return questions, _of_list(group, error)


def _of_list(group: Group, error: UsageError) -> QwenAudioError:
    return QwenAudioError(f"{', '.join(group.paths)}: {error.message}", error.fix, kind="list")


def _slots(options: Options, *, chat: bool) -> tuple[str, ...]:
    return find_task(options.task or "").needs(chat=chat)


def settings(options: Options, questions: Sequence[Question], model: Model | Described) -> dict[str, object]:
    """Everything beside the sounds that an answer depends on, in JSON types."""
    common: dict[str, object] = {
        "choices": options.choices,
        "chat": model.chat,
        "system": options.system,
        "long": options.long,
        "window": options.window,
        "clips": options.clips,
        "subtitles": (options.max_line_width, options.max_line_count, options.highlight_words),
        "model": file_sha256(model.manifest.path(FILE_NAME)),
        "backend": model.backend,
    }
    return with_questions(common, questions)


def with_questions(settings: dict[str, object], questions: Sequence[Question]) -> dict[str, object]:
    """The same settings with other questions."""
    prompts = [(one.prompt, one.max_new_tokens, one.task.name if one.task else None) for one in questions]
    return settings | {"prompts": prompts}


def _task_options(options: Options) -> TaskOptions:
    return TaskOptions(**{one.name: getattr(options, one.name) for one in fields(TaskOptions)})


def _check_unused(options: Options) -> None:
    """An option of a task without a task would silently do nothing; --choices alone has a meaning."""
    language = None if options.score else options.language  # that of the references
    given = vars(replace(_task_options(options), choices=(), language=language))
    if unused := [name for name, value in given.items() if value]:
        raise UsageError(f"--{unused[0].replace('_', '-')} belongs to a --task", fix="name one, see --list-tasks")
