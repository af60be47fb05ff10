"""What `tune_encoder` learns from: words as they are, in rooms and noise and by telephone, and what is no English.

Nothing is asked about sounds, languages or people: the decoder has their clips by heart, and the encoder would lose
what tells others apart.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import acoustics, recordings
from models.nano.train.answers import as_written
from models.nano.train.corpus import written_texts
from models.nano.train.features import RATE, Waveform
from models.nano.train.passages import WRITTEN
from models.nano.train.recordings import Recording

WORDS, SOUNDS, FOREIGN, NOISES = "words", "sounds", "foreign", "noises"
SHARES = {WORDS: 0.76, SOUNDS: 0.12, FOREIGN: 0.08, NOISES: 0.04}
BY_TELEPHONE = 0.4  # of the words; of the others half are as they are, and half in rooms and noise
OTHER_SPEED, SPEEDS = 0.4, (0.9, 1.12)  # of those in rooms
VARIED = 0.3  # of the clips without English
SHORTEST, LONGEST = 0.33, 16.0  # seconds of a clip with words
CUT = (3.0, 9.0)  # seconds of other clips
IN_A_ROW, ROW_SECONDS, PAUSES = 0.08, (10.0, 28.0), (0.1, 0.3, 0.6, 1.2, 2.0)  # several sentences as one recording
SOURCE_WEIGHTS = {  # of sentences: more where many people speak
    "librispeech": 4.0,
    "librispeech_more": 4.0,
    "common_voice": 3.0,
    "arctic": 0.5,
    "robotutor": 0.5,
    "wake_words": 0.4,
    "digits": 0.3,
}
NO_SENTENCES = ("digits", "wake_words", "lj_speech", "multilingual")  # nothing of these is said in a row
TRIES = 1000  # recordings that are drawn for one clip, until one can be read and is long enough

Sources = dict[str, list[Recording]]


@dataclass(frozen=True)
class Lesson:
    """A clip as it is and as it is heard, equally long. Without `labels` it is only to be heard as before."""

    clean: Waveform
    heard: Waveform
    labels: Recording | None  # `text`, and `written` where it is known


class Lessons:
    """The recordings of some folders that may be trained on. `telephone`: the share of words that is heard so."""

    def __init__(self, folders: Sequence[Path], telephone: float = BY_TELEPHONE) -> None:
        self.telephone = telephone
        written = written_texts(WRITTEN)
        self.words: defaultdict[str, list[Recording]] = defaultdict(list)
        self.others: dict[str, list[Recording]] = {SOUNDS: [], FOREIGN: []}
        for folder in folders:
            for row in recordings.training(recordings.recordings(folder)):
                self._sort(row, written)
        if not self.words or not all(self.others.values()):
            raise SystemExit("English words, sounds and other languages are needed; each folder has a meta.jsonl")
        self.names = sorted(self.words)
        self.weights = [len(self.words[name]) ** 0.5 * SOURCE_WEIGHTS.get(name, 1.0) for name in self.names]

    def _sort(self, row: Recording, written: dict[str, str]) -> None:
        if row.get("sound") or row.get("instrument"):
            self.others[SOUNDS].append(row)
        elif row.get("language") != "en":
            self.others[FOREIGN].append(row)
        elif row.get("text"):
            if text := written.get(row["id"]):
                row = {"text": recordings.spoken(text), "written": text} | row
            self.words[row["source"]].append(row)

    def draw(self, dice: random.Random, frames: int) -> list[Lesson]:
        """Lessons of at least so many encoder frames together."""
        found: list[Lesson] = []
        while sum(len(one.heard) for one in found) < frames * 320:
            found.append(self.lesson(dice.choices(list(SHARES), list(SHARES.values()))[0], dice))
        return found

    def lesson(self, kind: str, dice: random.Random) -> Lesson:
        """One of a kind of `SHARES`."""
        if kind == NOISES:
            noise = made_noise(dice)
            return Lesson(noise, noise, None)
        if kind == WORDS:
            labels, clean = self._in_a_row(dice) if dice.random() < IN_A_ROW else self._sentence(dice)
            heard = elsewhere(clean, dice, self.telephone)
            return Lesson(clean if len(clean) == len(heard) else heard, heard, labels)
        clip = self._cut(self.others[kind], dice)
        clip = acoustics.degrade(clip, dice) if dice.random() < VARIED else clip
        return Lesson(clip, clip, None)

    def _sentence(self, dice: random.Random) -> tuple[Recording, Waveform]:
        for _ in range(TRIES):
            row = dice.choice(self.words[dice.choices(self.names, self.weights)[0]])
            clip = read(row)
            if SHORTEST * RATE <= len(clip) <= LONGEST * RATE:
                return row, clip
        raise SystemExit("no clip with words can be read")

    def _in_a_row(self, dice: random.Random) -> tuple[Recording, Waveform]:
        """Sentences of one speaker with pauses between them."""
        sentences = [name for name in self.names if name not in NO_SENTENCES]
        rows = self.words[dice.choice(sentences)] if sentences else []
        speaker = dice.choice(rows)["speaker"] if rows else None
        own = [row for row in rows if row["speaker"] == speaker]
        said: list[Recording] = []
        parts: list[Waveform] = []
        seconds = dice.uniform(*ROW_SECONDS)
        for row in dice.sample(own, len(own)):
            clip = read(row)
            if len(clip) < SHORTEST * RATE or sum(map(len, parts)) + len(clip) > seconds * RATE:
                continue
            parts += [np.zeros(round(dice.choice(PAUSES) * RATE) * bool(said), np.float32), clip]
            said.append(row)
        if not said:
            return self._sentence(dice)
        text = " ".join(as_written(row["text"], row.get("written")) for row in said)
        return {"text": " ".join(row["text"] for row in said), "written": text}, np.concatenate(parts)

    def _cut(self, rows: list[Recording], dice: random.Random) -> Waveform:
        """A part of one of the recordings."""
        for _ in range(TRIES):
            clip = read(dice.choice(rows))
            if len(clip) >= SHORTEST * RATE:
                length = round(dice.uniform(*CUT) * RATE)
                first = dice.randint(0, max(0, len(clip) - length))
                return clip[first : first + length]
        raise SystemExit("no clip without English can be read")


def read(row: Recording) -> Waveform:
    """The samples of a recording; none where it cannot be read, which `features` names."""
    try:
        return load_waveform(row["audio"])
    except AudioError:
        return np.zeros(0, np.float32)


def elsewhere(clip: Waveform, dice: random.Random, telephone: float) -> Waveform:
    """Words as they are, by telephone (this share of them), or in a room and noise."""
    where, as_it_is = dice.random(), (1 - telephone) / 2
    if where < as_it_is:
        return clip
    if where < as_it_is + telephone:
        return acoustics.telephone(clip, dice)
    if dice.random() < OTHER_SPEED:
        clip = acoustics.change_speed(clip, dice.uniform(*SPEEDS))
    return acoustics.degrade(clip, dice)


def made_noise(dice: random.Random) -> Waveform:
    """A noise without anything in it, of any level."""
    noise = acoustics.noise_alone(round(dice.uniform(1, 8) * RATE), dice)
    return noise * np.float32(dice.uniform(0.01, 0.8) / np.abs(noise).max())


def by_length(lessons: Iterable[Lesson], most: int) -> list[list[Lesson]]:
    """Groups of at most `most` lessons of like lengths, so that little of a batch is padding."""
    groups: list[list[Lesson]] = []
    for one in sorted(lessons, key=lambda one: len(one.heard)):
        if not groups or len(groups[-1]) == most or len(one.heard) > 1.5 * len(groups[-1][0].heard) + RATE:
            groups.append([])
        groups[-1].append(one)
    return groups
