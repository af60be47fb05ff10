"""The sets of `voices_many`: where they are, who says what in them, under which licence.

A set is a repository at a commit with a function that lists its clips. What a set tells itself of its texts is trusted
where it is a data set of its own. Numbers in names of files, and lists of what people were to say, are not.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from models.nano.train.voices import Snapshot

ARCTIC_PROMPTS = ("rhasspy/dataset-voice-kathleen", "c51cb971036a"), "cmuarctic.data"
ALIKE = 0.6  # of the words of another sentence far fewer are heard; Whisper base mishears no more than these

STORIES = "English_StoriesAudio/assets/audio/en/cmu/xprize/story_reading/quality_low"
SHORTENED = re.compile(r"_(s|t|d|m|ll|re|ve)(?![a-z])")  # what follows an apostrophe
ABOUT_LETTERS = re.compile(r"letter|sound|(^|_)[b-hj-z](_|$)")  # single letters, once apostrophes are back


@dataclass(frozen=True)
class Reading:
    """One clip. `alike`: the share of words that Whisper must hear as in `text`; 0: the text is sure."""

    name: str
    speaker: str
    sound: Callable[[], bytes]
    text: str | None  # None: what Whisper hears
    gender: str | None = None  # male, female
    alike: float = 0.0


@dataclass(frozen=True)
class Set:
    """Clips of one repository. `written`: its texts have capitals and marks."""

    source: str
    repository: str
    commit: str
    licence: str
    readings: Callable[[Snapshot], Iterator[Reading]]
    written: bool = True


def arctic(pattern: str, alike: float, snapshot: Snapshot) -> Iterator[Reading]:
    """Sentences whose number is in the file's name; the prompts are those that Kathleen reads, too."""
    repository, path = ARCTIC_PROMPTS
    texts = dict(re.findall(r'\( arctic_(\w+) "(.*)" \)', snapshot.beside(*repository).read(path).decode()))
    genders = {"bdl": "male", "aew": "male", "slt": "female", "axb": "female"}
    for match in snapshot.matches(pattern):
        speaker, number = match["speaker"], match["number"]
        sound = partial(snapshot.read, match[0])
        yield Reading(f"{speaker}_{number}", f"arctic-{speaker}", sound, texts[number], genders[speaker], alike)


def common_voice(snapshot: Snapshot) -> Iterator[Reading]:
    """One clip each of many people, as they have it."""
    for row in csv.DictReader(snapshot.read("validated.csv").decode().splitlines()):
        path = f"data/{row['path']}"
        if path in snapshot.paths:
            gender = row["gender"] if row["gender"] in {"male", "female"} else None
            sound, speaker = partial(snapshot.read, path), f"cv-{row['client_id'][:12]}"
            yield Reading(Path(path).stem, speaker, sound, row["sentence"], gender)


def an4(snapshot: Snapshot) -> Iterator[Reading]:
    """Test data of NeMo, where a manifest says what is said; the f or m of a speaker's name is the gender."""
    texts: dict[str, str] = {}
    for manifest in ("tarred_an4/tarred_audio_manifest.json", "an4_train.json", "an4_val.json"):
        for line in snapshot.read(f"tests/.data/asr/{manifest}").decode().splitlines():
            row = json.loads(line)
            name = Path(row["audio_filepath"]).stem.split("_")[-1]  # in the archive folders are part of the name
            texts[name] = row["text"]
    for match in snapshot.matches(r"tests/\.data/(?:asr|an4_speaker)/.*/(?P<name>[a-z]+\d+-(?P<speaker>\w+)-b)\.wav"):
        if match["name"] in texts:
            gender = {"f": "female", "m": "male"}[match["speaker"][0]]
            sound = partial(snapshot.read, match[0])
            yield Reading(match["name"], f"an4-{match['speaker']}", sound, texts[match["name"]], gender)


def speech_commands(snapshot: Snapshot) -> Iterator[Reading]:
    """Single words; the folder is the word."""
    pattern = r"speech_commands_v0\.01/(?P<word>[a-z]+)/(?P<speaker>[0-9a-f]{8})_nohash_(?P<number>\d+)\.wav"
    for match in snapshot.matches(pattern):
        name = f"{match['word']}_{match['speaker']}_{match['number']}"
        yield Reading(name, f"commands-{match['speaker']}", partial(snapshot.read, match[0]), match["word"])


def robotutor(snapshot: Snapshot) -> Iterator[Reading]:
    """Sentences and words of a reading tutor for children; the file's name is what is said. Many stand there twice."""
    seen = set()
    for match in snapshot.matches(rf"{STORIES}/.*/(?P<name>[a-z_]+)\.mp3"):
        name = SHORTENED.sub(r"'\1", match["name"])
        if name in seen or ABOUT_LETTERS.search(name):
            continue
        seen.add(name)
        text = name.replace("_", " ").strip()
        yield Reading(match["name"][:60], "robotutor", partial(snapshot.read, match[0]), text)


ARCTIC = "CMU ARCTIC: free for any use, notice kept (festvox, BSD-like)"
SETS = (
    Set(
        "arctic",
        "andabi/deep-voice-conversion",
        "983c275d669e",
        ARCTIC,
        partial(arctic, r"datasets/arctic/(?P<speaker>bdl|slt)/arctic_(?P<number>\w+)\.wav", 0.0),
    ),
    Set(
        "arctic",
        "LCAV/pyroomacoustics",
        "6fe43fecb7c3",
        ARCTIC,
        partial(arctic, r"examples/input_samples/cmu_arctic_us_(?P<speaker>aew|axb)_(?P<number>a\d+)\.wav", ALIKE),
    ),
    Set(
        "common_voice",
        "rigved/rit-engl-682-spring-2021-project",
        "637c494f0bff",
        "CC0 (Mozilla Common Voice English 6.1)",
        common_voice,
    ),
    Set(
        "an4",
        "NVIDIA/NeMo-text-processing",
        "abcaa91e0eea",
        "CMU AN4 (Census): free; in an Apache 2.0 repository",
        an4,
        written=False,
    ),
    Set(
        "speech_commands",
        "vinsis/speech-commands-recognition",
        "53317d51bc2c",
        "CC BY 4.0 (Speech Commands 0.01, LICENSE in its folder)",
        speech_commands,
        written=False,
    ),
    Set(
        "robotutor",
        "XPRIZE/GLEXP-Team-RoboTutor-EnglishAssets",
        "8819c1826631",
        "CC BY 4.0 (Carnegie Mellon University and RoboTutor LLC)",
        robotutor,
        written=False,
    ),
)
