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
VCTK_PROMPTS = """Please call Stella. Ask her to bring these things with her from the store. Six spoons of fresh snow
peas, five thick slabs of blue cheese, and maybe a snack for her brother Bob. We also need a small plastic snake and a
big toy frog for the kids. She can scoop these things into three red bags, and we will go meet her Wednesday at the
train station. When the sunlight strikes raindrops in the air, they act as a prism and form a rainbow. The rainbow is a
division of white light into many beautiful colors. These take the shape of a long round arch, with its path high above,
and its two ends apparently beyond the horizon. There is, according to legend, a boiling pot of gold at one end. People
look, but no one ever finds it. When a man looks for something beyond his reach, his friends say he is looking for the
pot of gold at the end of the rainbow. Throughout the centuries people have explained the rainbow in various ways. Some
have accepted it as a miracle without physical explanation. To the Hebrews it was a token that there would be no more
universal floods. The Greeks used to imagine that it was a sign from the gods to foretell war or heavy rain. The
Norsemen considered the rainbow as a bridge over which the gods passed from earth to their home in the sky. Others have
tried to explain the phenomenon physically. Aristotle thought that the rainbow was caused by reflection of the sun's
rays by the rain. Since then physicists have found that it is not reflection, but refraction by the raindrops which
causes the rainbows. Many complicated ideas about the rainbow have been formed. The difference in the rainbow depends
considerably upon the size of the drops, and the width of the colored band increases as the size of the drops increases.
The actual primary rainbow observed is said to be the effect of superimposition of a number of bows. If the red of the
second bow falls upon the green of the first, the result is to give a bow with an abnormally wide yellow band, since red
and green light when mixed form yellow. This is a very common type of bow, one showing mainly red and yellow, with
little or no green or blue."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ALIKE = 0.6  # of the words of another sentence far fewer are heard; Whisper base mishears no more than these
SPELLED = 0.7  # of the letters of a name: Whisper takes B for P


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


def vctk(pattern: str, snapshot: Snapshot) -> Iterator[Reading]:
    """Clips with VCTK's numbers: its first sentences are the same for all speakers, the others are not told."""
    prompts = re.split(r"(?<=\.)\s+", VCTK_PROMPTS)
    for match in snapshot.matches(pattern):
        number = int(match["number"])
        text = " ".join(prompts[number - 1].split()) if number <= len(prompts) else None
        name, sound = f"{match['speaker']}_{number:03d}", partial(snapshot.read, match[0])
        yield Reading(name, f"vctk-{match['speaker']}", sound, text, alike=ALIKE)  # some copies count otherwise


def duke(snapshot: Snapshot) -> Iterator[Reading]:
    """Names that were to be spelled and numbers that were to be read digit by digit."""
    for row in csv.DictReader(snapshot.read("metadata.csv").decode().splitlines()):
        path, gender = row["file_name"], row["Gender"].strip().lower()
        kind, name = path.split("/")[1].lower(), Path(path).stem
        letters = re.sub("[^a-z]", "", row["Name"].lower())
        numbers = [DIGITS[int(digit)] for digit in re.sub(r"\D", "", row["Number"])]
        text, alike = {"names": (" ".join(letters), SPELLED), "numbers": (" ".join(numbers), 1.0)}.get(kind, ("", 0.0))
        if text and path in snapshot.paths:
            known = gender if gender in {"male", "female"} else None
            yield Reading(f"{kind}_{name}", f"duke-{name}", partial(snapshot.read, path), text, known, alike)


ARCTIC = "CMU ARCTIC: free for any use, notice kept (festvox, BSD-like)"
VCTK = "CC BY 4.0 (CSTR VCTK Corpus, doi 10.7488/ds/2645)"
VCTK_COPIES = {  # repository, its commit -> its files
    ("auspicious3000/autovc", "c1827a60e83e"): r"wavs/p\d+/(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("yl4579/StarGANv2-VC", "985df557acad"): r"Demo/VCTK-corpus/p\d+/(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("OlaWod/FreeVC-demo", "3bc03ab2f077"): r"data/wavs/[FM]_(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("facebookresearch/denoiser", "8afd7c166699"): r"dataset/debug/clean/(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("maum-ai/cotatron", "2d0254399a30"): (
        r"docs/audio/.*/(?:source|target)_(?P<speaker>p\d+)_(?P<number>\d+)-22k\.wav"
    ),
    ("jacky-chan666/jacky-chan666.github.io", "e2457cd1f9c8"): (
        r"diffattack/display_audio/.*/CLEAN/(?P<speaker>p\d+)_(?P<number>\d+)\.wav"
    ),
    ("siplabiith/siplabiith.github.io", "857a7cab590f"): r"clean/(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("Frederikravnborg/Frederikravnborg.github.io", "43291a29919a"): (
        r"clean/(?:gb|img|mask)?p?(?P<speaker>p\d+)_(?P<number>\d+)\.wav"
    ),
    ("archieb1999/AutoVC-experiments", "e94941c332be"): r"audio/(?P<speaker>p\d+)_(?P<number>\d+)\.wav",
    ("iver56/audiomentations", "73b94488279f"): r"demo/(?P<speaker>p286)_(?P<number>011)\.wav",
}
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
    *(Set("vctk", *copy, VCTK, partial(vctk, pattern)) for copy, pattern in VCTK_COPIES.items()),
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
        "duke",
        "Sakshee5/alphanumeric-audio-dataset",
        "6c9a38ed7e59",
        "MIT (Sakshee Patil, LICENSE of the repository)",
        duke,
        written=False,
    ),
)
