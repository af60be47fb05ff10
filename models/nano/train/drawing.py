"""Which clips can be asked what, and how they are drawn: groups of like labels first, so that answers are balanced."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

from models.nano.train import wordings
from models.nano.train.corpus import TOKEN_SECONDS, Clip
from models.nano.train.recordings import CHILD

VOCAL = ("singing voice", "crowd of people", "screaming or yelling", "laughter", "choir", "mouth noises", "burp")
SOURCES = {  # source of English speech -> its weight
    "librispeech": 0.16,
    "librispeech_more": 0.24,
    "asterisk": 0.03,
    "speechocean762": 0.14,
    "speech_to_intent": 0.06,
    "kathleen": 0.10,
    "lj_speech": 0.02,
    "wake_words": 0.06,
    "digits": 0.02,
    "arctic": 0.10,
    "common_voice": 0.05,
    "robotutor": 0.03,
    "an4": 0.02,
    "speech_commands": 0.03,
    "multilingual": 0.002,
    "scenes": 0.06,
    "made": 0.10,
    "phrases": 1.2,
    "passages": 1.6,
}
MIXED = "scenes"  # the source where people speak in turn or over sounds
SOFT, LOUD = 50, 100  # velocities of MIDI: at most, at least


class Balanced:
    """Clips in groups: a group is drawn first, evenly or by its size to the power of `exponent`, then a clip of it.

    A group that is a tuple is drawn level by level, evenly at each: (gender, speaker) gives as many men as women, and
    of the men each one as often.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        wanted: Callable[[Clip], object],
        group: Callable[[Clip], Hashable],
        exponent: float = 0.0,
    ) -> None:
        self.groups: defaultdict[Hashable, list[Clip]] = defaultdict(list)
        for clip in clips:
            if wanted(clip):
                self.groups[group(clip)].append(clip)
        self._names = list(self.groups)
        evenly = _even_shares(self._names)
        self._weights = [
            SOURCES.get(str(name), 1.0) * len(self.groups[name]) ** exponent * share
            for name, share in zip(self._names, evenly, strict=True)
        ]

    def draw(self, rng: random.Random) -> Clip:
        """One clip."""
        return rng.choice(self.groups[rng.choices(self._names, self._weights)[0]])

    def of(self, rng: random.Random, name: Hashable) -> Clip:
        """One clip of a group."""
        return rng.choice(self.groups[name])


def _even_shares(names: Sequence[Hashable]) -> list[float]:
    """The share of each name where every level of a tuple is drawn evenly; names that are no tuples have one level."""
    paths = [name if isinstance(name, tuple) else (name,) for name in names]
    below: defaultdict[tuple[Hashable, ...], set[Hashable]] = defaultdict(set)
    for path in paths:
        for level, part in enumerate(path):
            below[path[:level]].add(part)
    return [math.prod(1 / len(below[path[:level]]) for level in range(len(path))) for path in paths]


def is_english(clip: Clip) -> bool:
    """English speech whose words are known."""
    return clip.get("language") == "en" and bool(clip.get("text"))


def source(clip: Clip) -> str:
    """The group of English speech a clip is drawn by; raises KeyError for one without a weight: 1 would drown all."""
    name = str(clip.get("source"))
    if name not in SOURCES:
        raise KeyError(f"{name}: English speech without a weight in SOURCES")
    return name


def language(clip: Clip) -> str | None:
    """One of the eight, of a clip that is long enough to tell."""
    language = clip.get("language")
    return language if language in wordings.LANGUAGE_NAMES and clip.tokens * TOKEN_SECONDS > 0.6 else None


def spoken_by(clip: Clip) -> tuple[str, str, str] | None:
    """The language, whether one person speaks alone, and who: alike often, so that no room or voice tells it."""
    found = language(clip)
    if not found:
        return None
    return found, "mixed" if clip.get("source") == MIXED else "alone", f"{clip.get('source')} {clip.get('speaker')}"


def adult_gender(clip: Clip) -> str | None:
    """Man or woman; children have voices of their own."""
    return clip.get("gender") if (clip.get("age") or 30) > CHILD else None


def voice(clip: Clip) -> tuple[str, str] | None:
    """Man or woman, and who."""
    gender = adult_gender(clip)
    if gender is None or clip.get("source") == MIXED:
        return None
    return gender, str(clip.get("speaker") or clip.get("source"))


def aged_voice(clip: Clip) -> tuple[str, str, str] | None:
    """From which recordings, child or adult, and who: where there are both, both come alike often.

    So it is not the room that tells them apart. Recordings of adults only are drawn together.
    """
    of = age(clip)
    return ("both" if clip.get("age") else "adults", of, f"{clip.get('source')} {clip.get('speaker')}") if of else None


def age(clip: Clip) -> str | None:
    """Child or adult, where it is known."""
    if clip.get("age"):
        return "child" if clip.get("age") <= CHILD else "adult"
    return "adult" if clip.get("source") in {"librispeech", "kathleen", "lj_speech"} else None


def wordless(clip: Clip) -> str | None:
    """What kind of sound it is in which nobody says a word."""
    if clip.get("instrument"):
        return None if clip.get("instrument") == "choir" else "music"
    if clip.get("noise"):
        return "noise"
    return clip.get("sound") if clip.get("sound") not in VOCAL else None


def loudness(clip: Clip) -> str | None:
    """Soft or loud, of a note that is either."""
    velocity = clip.get("velocity") or SOFT + 1
    return "soft" if velocity <= SOFT else "loud" if velocity >= LOUD else None


def described(clip: Clip) -> str | None:
    """What kind of caption a clip can have: of speech, of speech over a sound, of music, of a sound."""
    if clip.get("background"):
        return "over" if clip.get("text") and adult_gender(clip) else None
    if clip.get("tempo"):
        return "music"
    if clip.get("sound"):
        return "sound"
    return "speech" if is_english(clip) and adult_gender(clip) else None


def instrument(clip: Clip) -> str | None:
    """What is played."""
    return clip.get("instrument")
