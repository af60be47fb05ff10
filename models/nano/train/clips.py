"""Clips for the tasks: speech with its labels, sounds and music, laid side by side or over each other.

Waveforms are float32 [samples] at 16 kHz, at most `MAX_SECONDS`. Labels keep true to the samples: what moves or
stretches a waveform moves its words and phones. What is asked about a clip is not known here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from models.nano.train.foreign import LANGUAGES as FOREIGN
from models.nano.train.foreign import foreign
from models.nano.train.grammar import english

if TYPE_CHECKING:
    from models.nano.train.speech import Voice

RATE = 16_000
MAX_SECONDS = 8.0
CLEAN = 0.35  # of the clips of training
GENDERS = ("woman", "man")
RAISED = (1.35, 1.65)  # how much higher than a man's a woman's voice is

Waveform = npt.NDArray[np.float32]
Marks = tuple[tuple[str, float, float], ...]  # name, start s, end s


@dataclass(frozen=True)
class Clip:
    """One audio with the labels of the auxiliary losses; they are empty or None where there is no single speaker."""

    waveform: Waveform  # [samples]
    words: Marks = ()  # of English speech
    phones: Marks = ()
    gender: str | None = None
    language: str | None = None

    @property
    def seconds(self) -> float:
        """Give the duration."""
        return len(self.waveform) / RATE


@dataclass(frozen=True)
class Source:
    """Where the data of an example comes from: the generator, and which sentences and voices it may use."""

    rng: random.Random
    split: str
    voices_split: str
    degrade: bool

    def chance(self, part: float) -> bool:
        """Say yes to `part` of all."""
        return self.rng.random() < part


def pick_voice(source: Source, *, gender: str | None = None, language: str = "en") -> Voice:
    """Pick the gender first, then the engine (small ones more often than by their number), then the voice."""
    groups = _voices(language, source.voices_split)
    genders = [name for name in GENDERS if name in groups]
    if gender not in groups:  # an engine of one gender only
        gender = source.rng.choice(genders)
    engines = groups[gender]
    weights = [len(group) ** 0.5 for group in engines]
    return source.rng.choice(source.rng.choices(engines, weights)[0])


def anyone(source: Source) -> Voice:
    """Pick an English voice, the engine first: the few voices of small engines are heard as often as they must be."""
    groups = [group for engines in _voices("en", source.voices_split).values() for group in engines]
    weights = {"espeak": 0.6, "flite": 0.27, "festival": 0.13}
    shares = [weights[group[0].engine] * len(group) / _count(groups, group[0].engine) for group in groups]
    return source.rng.choice(source.rng.choices(groups, shares)[0])


def _count(groups: list[tuple[Voice, ...]], engine: str) -> int:
    return sum(len(group) for group in groups if group[0].engine == engine)


def languages(source: Source) -> tuple[str, ...]:
    """Give the languages that the voices of the source speak: held-out voices do not speak them all."""
    return _languages(source.voices_split)


@cache
def _languages(split: str) -> tuple[str, ...]:
    from models.nano.train.speech import voices

    spoken = {voice.language for voice in voices(split=split)}
    return tuple(code for code in ("en", *FOREIGN) if code in spoken)


@cache
def _voices(language: str, split: str) -> dict[str, tuple[tuple[Voice, ...], ...]]:
    from models.nano.train.speech import voices

    found = voices(language=language, split=split)
    if not found:
        raise LookupError(f"no {split} voice speaks {language}: are the synthesizers installed?")
    groups: dict[str, dict[str, list[Voice]]] = {}
    for voice in found:
        groups.setdefault(voice.gender, {}).setdefault(voice.engine, []).append(voice)
    return {gender: tuple(tuple(group) for group in engines.values()) for gender, engines in groups.items()}


def person(voice: Voice) -> str:
    """Name who speaks: a variant of espeak-ng in any accent is one person, and so are kal or slt in any engine."""
    if voice.engine == "espeak":
        return voice.name.partition("+")[2] or f"plain {voice.gender}"
    return next((name for name in ("kal", "slt") if name in voice.name), voice.name)


def count_people(source: Source) -> int:
    """Count who speaks English in the source's voices."""
    groups = _voices("en", source.voices_split)
    return len({person(voice) for engines in groups.values() for group in engines for voice in group})


def raised_man(source: Source) -> Clip:
    """A man of the small engines as high as a woman, and called one: in training those engines have no other women."""
    groups = [group for group in _voices("en", source.voices_split).get("man", ()) if group[0].engine != "espeak"]
    voice = source.rng.choice(source.rng.choice(groups))
    return replace(speech(source, voice, longest=5.0, higher=source.rng.uniform(*RAISED)), gender="woman")


def another(source: Source, *known: Voice) -> Voice:
    """Pick a voice of a person whom we have not heard yet."""
    people = {person(voice) for voice in known}
    assert len(people) < count_people(source), people
    while True:
        voice = pick_voice(source, gender=source.rng.choice(GENDERS))
        if person(voice) not in people:
            return voice


def speech(
    source: Source,
    voice: Voice,
    *,
    longest: float = MAX_SECONDS,
    most_words: int = 12,
    anyone: bool = False,
    higher: float = 1.0,
) -> Clip:
    """Speak a new sentence of the voice's language that lasts at most `longest` seconds.

    With `anyone`, it does not matter who speaks: in training some voices become other people, of no known gender.
    `higher` is how much higher the voice sounds, its formants with it; of no known gender either.
    """
    from models.nano.train.speech import speak

    while True:
        if voice.language == "en":
            sentence = english(source.rng, split=source.split)
            if len(sentence) > most_words:
                continue
            text = " ".join(sentence)
        else:
            text = foreign(source.rng, voice.language, split=source.split)
        factor = _other_person(source, voice) if anyone else higher
        said = speak(text, voice, source.rng, slower=factor)
        words = tuple(said.words) if voice.language == "en" else ()
        whole = voice.language != "en" or [word for word, _, _ in words] == sentence
        if whole and 0.2 < len(said.waveform) / RATE / factor <= longest:
            clip = Clip(said.waveform, words, tuple(said.phones), voice.gender, voice.language)
            return replace(_faster(clip, factor), gender=None) if factor != 1.0 else clip


def _other_person(source: Source, voice: Voice) -> float:
    """How much higher a voice with few sisters speaks, to be many people: slower first, then played faster."""
    if not source.degrade or voice.engine == "espeak" or source.chance(0.3):
        return 1.0
    return source.rng.uniform(0.88, 1.5)


def placed(source: Source, clip: Clip) -> Clip:
    """Put silence before a clip, often none, and at times play it a little faster or slower."""
    if source.degrade and source.chance(0.2):
        clip = _other_speed(source, clip)
    room = MAX_SECONDS - clip.seconds
    lead = min(room, source.rng.uniform(0.1, 1.5)) if source.chance(0.4) else 0.0
    tail = min(room - lead, source.rng.uniform(0.0, 0.5))
    return moved(clip, lead, tail)


def moved(clip: Clip, lead: float, tail: float = 0.0) -> Clip:
    """Put silence of so many seconds before and after."""
    before, after = (np.zeros(max(0, int(seconds * RATE)), np.float32) for seconds in (lead, tail))
    shift = len(before) / RATE
    words, phones = (tuple((name, a + shift, b + shift) for name, a, b in marks) for marks in (clip.words, clip.phones))
    return replace(clip, waveform=np.concatenate([before, clip.waveform, after]), words=words, phones=phones)


def _other_speed(source: Source, clip: Clip) -> Clip:
    if clip.seconds >= 7.5:
        return clip
    return _faster(clip, source.rng.uniform(max(0.93, clip.seconds / (MAX_SECONDS - 0.1)), 1.07))


def _faster(clip: Clip, factor: float) -> Clip:
    """Play a clip `factor` times as fast, and as high."""
    from models.nano.train.acoustics import change_speed

    waveform = np.asarray(change_speed(clip.waveform, factor), np.float32)
    scale = len(waveform) / len(clip.waveform)
    words, phones = (tuple((name, a * scale, b * scale) for name, a, b in marks) for marks in (clip.words, clip.phones))
    return replace(clip, waveform=waveform, words=words, phones=phones)


def degraded(source: Source, clip: Clip, *, strength: float = 1.0, keep_level: bool = False) -> Clip:
    """Play most clips through rooms, noise, gain and codecs, in `example(degrade=True)` only; its times stay."""
    waveform = clip.waveform[: int(MAX_SECONDS * RATE)]
    if source.degrade and not source.chance(CLEAN):
        from models.nano.train.acoustics import degrade

        waveform = np.asarray(degrade(waveform, source.rng, strength=strength, keep_level=keep_level), np.float32)
    return replace(clip, waveform=waveform[: len(clip.waveform)])


def in_turn(source: Source, clips: Sequence[Clip], *, one_speaker: bool) -> Clip:
    """Lay clips one after the other with short gaps; labels stay only where one speaker says it all."""
    whole = clips[0]
    for clip in clips[1:]:
        later = moved(clip, whole.seconds + source.rng.uniform(0.1, 0.4))
        waveform = np.concatenate([whole.waveform, later.waveform[len(whole.waveform) :]])
        whole = replace(whole, waveform=waveform, words=whole.words + later.words, phones=whole.phones + later.phones)
    return whole if one_speaker else Clip(whole.waveform)


def overlaid(waveforms: Sequence[Waveform], starts: Sequence[float]) -> Waveform:
    """Add sounds that start at so many seconds; the sum does not clip."""
    ends = [int(start * RATE) + len(waveform) for waveform, start in zip(waveforms, starts, strict=True)]
    total = np.zeros(max(ends), np.float32)
    for waveform, end in zip(waveforms, ends, strict=True):
        total[end - len(waveform) : end] += waveform
    peak = float(np.abs(total).max())
    return total / np.float32(peak / 0.95) if peak > 0.95 else total


def over(source: Source, clip: Clip, sound: Waveform, *, decibels: float) -> Clip:
    """Put a sound behind a clip, `decibels` under it; the longer of the two says how long it lasts."""
    loudness = [float(np.sqrt(np.mean(np.square(waveform)))) for waveform in (clip.waveform, sound)]
    gain = np.float32(loudness[0] / max(loudness[1], 1e-4) * 10 ** (-decibels / 20))
    late = max(0.0, (len(sound) - len(clip.waveform)) / RATE)
    clip = moved(clip, source.rng.uniform(0, late))
    start = source.rng.uniform(0, max(0.0, (len(clip.waveform) - len(sound)) / RATE))
    return replace(clip, waveform=overlaid([clip.waveform, sound * gain], [0.0, start]))
