"""What nano answers to one question about one clip: a table of tasks, and the weighted pieces that answers are made of.

The words that decide an answer weigh more in the loss than those around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from models.nano.train import drawing, wordings
from models.nano.train.corpus import Clip

DECIDING = 8.0  # weight of the words that decide an answer


@dataclass(frozen=True)
class Piece:
    """A part of an answer and its weight in the loss."""

    text: str
    weight: float = 1.0


Answer = tuple[Piece, ...]


@dataclass(frozen=True)
class About:
    """A task about one clip: by which label clips are chosen and balanced, and the answer.

    `scattered` is the share of clips that are heard in another order, so that who speaks is not told by what is said,
    `thinned` that of clips of which a few frames are heard.
    """

    label: Callable[[Clip], Hashable]  # None where the clip cannot be asked
    answer: Callable[[Clip], Answer]
    exponent: float = 0.0  # 0: all labels alike often, 1: by the number of their clips
    scattered: float = 0.0
    thinned: float = 0.0


def decided(before: str, deciding: str, after: str = ".") -> Answer:
    """An answer with one part that decides it; that part starts with its space."""
    return Piece(before), Piece(deciding, DECIDING), Piece(after)


def transcript(clip: Clip) -> Answer:
    """What is said, as an answer."""
    return Piece('The person says: "'), Piece(written(clip)), Piece('".')


def written(clip: Clip) -> str:
    """What is said as one writes it; words without marks get the least that writing asks for."""
    return as_written(clip.get("text"), clip.get("written"))


def as_written(text: str, known: str | None) -> str:
    """`known`, or else `text` with a capital, I and a full stop."""
    if known:
        return known
    words = " ".join("I" + word[1:] if re.match(r"i\b", word) else word for word in text.split())
    return f"{words[0].upper()}{words[1:]}."


def language(clip: Clip) -> Answer:
    """Which of eight languages is spoken."""
    return decided("The language is", f" {wordings.LANGUAGE_NAMES[clip.get('language')]}")


def gender(clip: Clip) -> Answer:
    """Whether a man or a woman speaks."""
    return decided("The speaker is a", f" {clip.get('gender')}")


def age(clip: Clip) -> Answer:
    """Whether a child or an adult speaks."""
    of = drawing.age(clip)
    return decided("The speaker is", f" {'an' if of == 'adult' else 'a'} {of}")


def emotion(clip: Clip) -> Answer:
    """How the speaker feels, of seven."""
    return decided("The speaker sounds", f" {clip.get('emotion')}")


def speakers(clip: Clip) -> Answer:
    """How many people speak."""
    count = clip.get("speakers")
    verb = "is" if count == 1 else "are"
    return decided("There", f" {verb} {wordings.SPEAKER_COUNTS[count - 1]}")


def event(clip: Clip) -> Answer:
    """What sounds."""
    return decided("This is the sound of", f" {clip.get('sound')}")


def events(clip: Clip) -> Answer:
    """All that sounds."""
    return decided("I hear", f" {wordings.listed([wordings.thing(name) for name in clip.get('events')])}")


def background(clip: Clip) -> Answer:
    """What sounds behind speech."""
    return decided("I hear", f" {wordings.thing(clip.get('background'))}")


def instrument(clip: Clip) -> Answer:
    """What is played."""
    return decided("The instrument is the", f" {clip.get('instrument')}")


def note(clip: Clip) -> Answer:
    """Which note is played."""
    named = Piece(f" {wordings.note_name(clip.get('pitch'))}", DECIDING)
    return Piece("The note is"), named, Piece(" ("), Piece(f"<|midi_pitch_{clip.get('pitch')}|>", DECIDING), Piece(").")


def note_tags(clip: Clip) -> Answer:
    """A note by the base model's tags: pitch, velocity, instrument."""
    return (
        Piece("<|pitch|>"),
        Piece(f"<|midi_pitch_{clip.get('pitch')}|>", DECIDING),
        Piece("<|velocity|>"),
        Piece(f"<|midi_velocity_{clip.get('velocity')}|>"),
        Piece("<|instrument|>"),
        Piece(clip.get("instrument"), DECIDING),
    )


def loudness(clip: Clip) -> Answer:
    """Whether a note is loud or soft."""
    return decided("The note is", f" {drawing.loudness(clip)}")


def tempo(clip: Clip) -> Answer:
    """Whether music is fast or slow."""
    return decided("The music is", f" {clip.get('tempo')}")


def caption(clip: Clip) -> Answer:
    """One sentence: who says what and what sounds, what is played, or what happens."""
    kind = drawing.described(clip)
    if kind == "music":
        return _happening(f"{wordings.thing(clip.get('instrument'))} plays {clip.get('tempo')} music")
    if kind == "sound":
        return _happening(wordings.happens(clip.get("sound")))
    said = Piece("A"), Piece(f" {clip.get('gender')}", DECIDING), Piece(' says "'), Piece(clip.get("text"))
    if kind == "speech":
        return (*said, Piece('".'))
    return (*said, Piece('" while'), Piece(f" {wordings.happens(clip.get('background'))}", DECIDING), Piece("."))


def _happening(text: str) -> Answer:
    return Piece(text[0].upper() + text[1:], DECIDING), Piece(".")


def _label(name: str) -> Callable[[Clip], Hashable]:
    return lambda clip: clip.get(name)


TASKS: dict[str, About] = {
    "language": About(drawing.spoken_by, language),
    "gender": About(drawing.voice, gender, scattered=0.7),
    "age": About(drawing.aged_voice, age, scattered=0.7),
    "emotion": About(_label("emotion"), emotion, scattered=0.4),
    "speakers": About(_label("speakers"), speakers, scattered=0.4),
    "event": About(_label("sound"), event, 0.5, thinned=1.0),
    "events": About(lambda clip: clip.get("events") and ", ".join(clip.get("events")), events),
    "background": About(_label("background"), background),
    "instrument": About(drawing.instrument, instrument, scattered=0.4),
    "note": About(_label("pitch"), note),
    "note_tags": About(_label("pitch"), note_tags),
    "loudness": About(drawing.loudness, loudness),
    "tempo": About(_label("tempo"), tempo),
    "caption": About(drawing.described, caption),
}
