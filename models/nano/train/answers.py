"""Answers in weighted pieces: the words that decide an answer weigh more in the loss than those around them."""

from __future__ import annotations

from dataclasses import dataclass

from models.nano.train import wordings
from models.nano.train.clips import Clip, Source

DECIDING = 4.0  # weight of the words that decide an answer
TIME_WEIGHT = 3.0


@dataclass(frozen=True)
class Piece:
    """A part of an answer and its weight in the loss."""

    text: str
    weight: float = 1.0


Answer = tuple[Piece, ...]
Turns = tuple[tuple[str, Answer], ...]  # question, answer
Made = tuple[tuple[Clip, ...], Turns, str | None]  # clips, turns, the base model's prompt instead of a question


def asked(source: Source, task: str, clips: tuple[Clip, ...], answer: Answer, **names: str) -> Made:
    """Ask one question of a task about the clips."""
    question = wordings.question(task, source.rng, split=source.split).format(**names)
    return clips, ((question, answer),), None


def decided(before: str, deciding: str, after: str = ".") -> Answer:
    """Give an answer with one part that decides it; that part starts with its space."""
    return Piece(before), Piece(deciding, DECIDING), Piece(after)


def time_mark(seconds: float) -> str:
    """Give the token of a moment: <|2.33|>."""
    return f"<|{seconds:.2f}|>"


def said(clip: Clip) -> str:
    """Give the words of a clip."""
    return " ".join(word for word, _, _ in clip.words)
