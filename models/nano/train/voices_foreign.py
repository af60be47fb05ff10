"""`python3 -m models.nano.train.voices_foreign OUT --packages DIR --snapshots DIR`: people who speak other languages.

Prompts of telephone systems in Debian, unpacked below the first DIR (`dpkg -x PACKAGE.deb DIR`), and sounds of git
snapshots (DIR/OWNER+NAME/repo), all without texts: what they teach is which language it is. OUT gets `meta.jsonl` and
16 kHz FLAC files, so that `features --recordings OUT` reads it. What is there is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from models.nano.train.voices import RATE, Snapshot, add_line, decoded, lines_so_far, save

SOUNDS = Path("usr/share/asterisk/sounds")
SHORTEST = 0.9  # seconds: a digit says too little
NO_SPEECH = ("beep", "silence", "tone", "monkeys", "weasels")  # in names of files
PAUSE = 0.15  # seconds between words that are joined
HISS = 1e-4  # of the pauses: digital silence would tell the language that is joined


@dataclass(frozen=True)
class Speaker:
    """Whose sounds lie in a folder of a Debian package, or match a pattern in a repository.

    Of a repository every `step`-th is taken; single words are joined until they last `joined` seconds. With `each`
    every sound is of another person, as far as is known.
    """

    source: str
    place: str
    language: str
    name: str
    gender: str | None
    licence: str
    step: int = 1
    joined: float = 0.0
    each: bool = False
    emotion: str | None = None


ACTORS = {  # of Emo-DB: number -> gender; 09 and 15 are kept for tests
    "03": "male", "10": "male", "11": "male", "12": "male", "08": "female", "13": "female", "14": "female",
    "16": "female",
}  # fmt: skip
EMOTIONS = {"W": "angry", "L": "bored", "E": "disgusted", "A": "afraid", "F": "happy", "T": "sad", "N": "neutral"}
PACKAGES = (
    Speaker("asterisk-core-sounds-es-g722 1.6.1-1", "es_MX_f_Allison", "es", "allison", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-core-sounds-fr-g722 1.6.1-1", "fr_CA_f_June", "fr", "june", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-core-sounds-it-g722 1.6.1-1", "it_IT_m_Carlo", "it", "carlo", "male", "CC BY 3.0"),
    Speaker("asterisk-prompt-it-menardi-wav 1.4.22", "it_IT_f_Menardi", "it", "paola", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-prompt-fr-armelle 20070613", "fr", "fr", "armelle", "female", "BSD 3-clause"),
)
REPOSITORIES = (
    Speaker("rhasspy/dataset-voice-kerstin", r"verified/.*\.flac", "de", "kerstin", "female", "CC0 1.0", step=5),
    Speaker(
        "tofugu/japanese-vocabulary-pronunciation-audio", r"lib/mp3/.*\.mp3", "ja", "tofugu", None,
        "CC BY-SA 4.0 (Tofugu and WaniKani)", step=10, joined=8.0,
    ),
    *(
        Speaker(
            "sylaschacko/voice-emotion-analysis", rf"wav/{number}...{letter}.\.wav", "de", f"emodb{number}", gender,
            "CC0 1.0 (Emo-DB, as audEERING states)", emotion=emotion,
        )
        for number, gender in ACTORS.items() for letter, emotion in EMOTIONS.items()
    ),
    *(
        Speaker(
            "sebastian-software/cuttledoc", rf"packages/cuttledoc/fixtures/fleurs-{language}-.*\.ogg", language,
            "fleurs", None, "CC BY 4.0 (FLEURS, Google)", each=True,
        )
        for language in ("de", "es", "fr", "en")
    ),
    *(
        Speaker(
            "victorchentw/WhisperSTT", rf"WhisperiOS/Models/benchmark-clips/fleurs_{language}_\d+_clip\d\.wav",
            language, "fleurs", None, "CC BY 4.0 (FLEURS, Google)", each=True,
        )
        for language in ("ja", "zh")
    ),
    Speaker(
        "baikaishui-ks/beatrice-trainer", r"assets/test/common_voice_ja_.*\.wav", "ja", "common_voice", None, "CC0 1.0",
        each=True,
    ),
    *(
        Speaker(
            "Kyubyong/css10", rf"MOS/ref/{folder}/.*\.wav", language, "librivox", None, "public domain (LibriVox)",
        )
        for folder, language in (("de", "de"), ("es", "es"), ("fr", "fr"), ("jp", "ja"), ("zh", "zh"))
    ),
    Speaker(
        "gcompris/GCompris-voices", r"es/words/.*\.(ogg|aac|mp3|opus)", "es", "smart4kids", None,
        "CC BY-SA (Smart4Kids.com)", step=2, joined=6.0,
    ),
)  # fmt: skip
Sound = tuple[str, NDArray[np.float32]]  # its name, samples at 16 kHz


def prompts(packages: Path, speaker: Speaker) -> Iterator[Sound]:
    """Each prompt of a package."""
    folder = packages / SOUNDS / speaker.place
    for path in sorted(folder.rglob("*.*")):
        name = str(path.relative_to(folder).with_suffix("")).replace("/", "-")
        if path.is_file() and path.suffix in {".g722", ".wav", ".gsm"} and not any(one in name for one in NO_SPEECH):
            yield name, load_waveform(path)


def clips(snapshot: Snapshot, speaker: Speaker) -> Iterator[Sound]:
    """Sounds of a repository, joined if they are single words."""
    pause = np.random.default_rng(0).normal(0, HISS, round(PAUSE * RATE)).astype(np.float32)
    held = list[NDArray[np.float32]]()
    for number, match in enumerate(sorted(snapshot.matches(speaker.place), key=lambda one: one[0])):
        if number % speaker.step:
            continue
        held += decoded(snapshot.read(match[0]), Path(match[0]).suffix), pause
        if sum(map(len, held)) >= speaker.joined * RATE:
            yield f"{number:05}", np.concatenate(held[:-1])
            held.clear()


def keep(out: Path, speaker: Speaker, sounds: Iterator[Sound], source: str) -> float:
    """Write what is new; gives the seconds."""
    known, seconds = {row["audio"] for row in lines_so_far(out)}, 0.0
    for name, waveform in sounds:
        person = f"{speaker.name}-{name}" if speaker.each else speaker.name
        audio = f"foreign_{speaker.language}/{speaker.name}-{speaker.emotion or ''}{name}.flac"
        if audio in known or len(waveform) < SHORTEST * RATE:
            continue
        save(out / audio, waveform)
        row = {"audio": audio, "language": speaker.language, "speaker": person, "source": source}
        labels = {"gender": speaker.gender, "emotion": speaker.emotion}
        add_line(out, row | {"labels": labels, "licence": speaker.licence})
        seconds += len(waveform) / RATE
    return seconds


def main(argv: list[str] | None = None) -> int:
    """All speakers, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    parser.add_argument("--snapshots", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(argv)
    for speaker in PACKAGES:
        seconds = keep(options.out, speaker, prompts(options.packages, speaker), f"Debian {speaker.source}")
        print(f"{speaker.name}: {seconds / 60:.1f} minutes")
    for speaker in REPOSITORIES:
        snapshot = Snapshot(options.snapshots / speaker.source.replace("/", "+") / "repo")
        seconds = keep(options.out, speaker, clips(snapshot, speaker), snapshot.source)
        print(f"{speaker.name}: {seconds / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
