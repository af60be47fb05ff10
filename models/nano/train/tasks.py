"""What nano learns: one example is clips, one or two questions about them, and the answers.

`example` gives a new one of a task each time, all by its random generator: training and test differ in sentences,
wordings and, by `voices_split`, voices. Answers are balanced within each task. How an example becomes ids or features
is not known here; how clips are made is in `clips`, the questions are in `wordings`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from models.nano.train import sound_tasks, speech_tasks
from models.nano.train.answers import Made, Piece, Turns
from models.nano.train.clips import Clip, Source

__all__ = ["TASKS", "Clip", "Example", "Piece", "example"]


@dataclass(frozen=True)
class Example:
    """All clips stand before the first question. With `base_prompt` there is one turn, with an empty question."""

    task: str
    clips: tuple[Clip, ...]
    turns: Turns
    base_prompt: str | None = None


_TABLE: dict[str, tuple[float, Callable[[Source], Made]]] = {
    "transcribe": (0.27, speech_tasks.transcribe),
    "transcribe_base": (0.18, speech_tasks.transcribe_base),
    "word_time": (0.07, speech_tasks.word_time),
    "timestamps": (0.03, speech_tasks.timestamps),
    "language": (0.06, speech_tasks.language),
    "gender": (0.04, speech_tasks.gender),
    "speakers": (0.04, speech_tasks.speakers),
    "same_speaker": (0.035, speech_tasks.same_speaker),
    "event": (0.04, sound_tasks.event),
    "events": (0.045, sound_tasks.events_mixed),
    "instrument": (0.03, sound_tasks.instrument),
    "note": (0.03, sound_tasks.note),
    "note_tags": (0.025, sound_tasks.note_tags),
    "loudness": (0.01, sound_tasks.loudness),
    "tempo": (0.01, sound_tasks.tempo),
    "caption": (0.035, sound_tasks.caption),
    "dialogue": (0.03, sound_tasks.dialogue),
    "which_audio": (0.02, sound_tasks.which_audio),
}
TASKS: dict[str, float] = {task: share for task, (share, _) in _TABLE.items()}  # task -> share of training


def example(
    rng: random.Random,
    *,
    task: str | None = None,
    split: str = "train",
    voices_split: str = "seen",
    degrade: bool = True,
) -> Example:
    """Make one example of a task, or of one by their shares."""
    if task is None:
        task = rng.choices(list(TASKS), list(TASKS.values()))[0]
    if task not in _TABLE:
        raise ValueError(f"no task {task!r}: one of {', '.join(_TABLE)}")
    clips, turns, base_prompt = _TABLE[task][1](Source(rng, split, voices_split, degrade))
    return Example(task, clips, turns, base_prompt)
