"""`python3 -m models.nano.train.voices_foreign OUT --packages DIR`: people who speak Spanish, French and Italian.

They are the prompts of telephone systems in Debian, unpacked below DIR (`dpkg -x PACKAGE.deb DIR`), without texts: what
they teach is which language it is. OUT gets `meta.jsonl` and 16 kHz FLAC files, so that `features --recordings OUT`
reads it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_encoder.waveform import load_waveform
from models.nano.train.voices import RATE, add_line, lines_so_far, save

SOUNDS = Path("usr/share/asterisk/sounds")
SHORTEST = 0.9  # seconds: a digit says too little
NO_SPEECH = ("beep", "silence", "tone", "monkeys", "weasels")  # in names of files


@dataclass(frozen=True)
class Speaker:
    """Whose prompts lie in a folder of a package."""

    package: str
    folder: str
    language: str
    name: str
    gender: str
    licence: str


SPEAKERS = (
    Speaker("asterisk-core-sounds-es-g722 1.6.1-1", "es_MX_f_Allison", "es", "allison", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-core-sounds-fr-g722 1.6.1-1", "fr_CA_f_June", "fr", "june", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-core-sounds-it-g722 1.6.1-1", "it_IT_m_Carlo", "it", "carlo", "male", "CC BY 3.0"),
    Speaker("asterisk-prompt-it-menardi-wav 1.4.22", "it_IT_f_Menardi", "it", "paola", "female", "CC BY-SA 3.0"),
    Speaker("asterisk-prompt-fr-armelle 20070613", "fr", "fr", "armelle", "female", "BSD 3-clause"),
)


def prompts(packages: Path, speaker: Speaker) -> Iterator[tuple[str, Path]]:
    """Name and file of each prompt."""
    folder = packages / SOUNDS / speaker.folder
    for path in sorted(folder.rglob("*.*")):
        name = str(path.relative_to(folder).with_suffix("")).replace("/", "-")
        if path.is_file() and path.suffix in {".g722", ".wav", ".gsm"} and not any(one in name for one in NO_SPEECH):
            yield name, path


def main(argv: list[str] | None = None) -> int:
    """All speakers, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(argv)
    known = {row["audio"] for row in lines_so_far(options.out)}
    for speaker in SPEAKERS:
        seconds = 0.0
        for name, path in prompts(options.packages, speaker):
            audio = f"telephone_{speaker.language}/{speaker.name}-{name}.flac"
            waveform = load_waveform(path)
            if audio in known or len(waveform) < SHORTEST * RATE:
                continue
            save(options.out / audio, waveform)
            row: dict[str, Any] = {"audio": audio, "language": speaker.language, "speaker": speaker.name}
            row |= {"labels": {"gender": speaker.gender}, "source": f"Debian {speaker.package}"}
            add_line(options.out, row | {"licence": speaker.licence})
            seconds += len(waveform) / RATE
        print(f"{speaker.folder}: {seconds / 60:.1f} minutes")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
