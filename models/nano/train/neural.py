"""`python3 -m models.nano.train.neural OUT --texts TEXTS --hours 1`: sentences of books, read by a small neural voice.

hibari-tts is a student of Kokoro's voice af_heart: one woman, sixty times as fast as real time. She is played at nine
speeds, and told to speak so much slower or faster that the pace stays: pitch and throat are those of nine made-up
speakers. OUT gets `meta.jsonl` and 16 kHz FLAC files in OUT/tts, so that `features --recordings OUT` reads it. It goes
on where it stopped, and a clip is the same whatever was made before it.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.nano.train.acoustics import change_speed
from models.nano.train.texts import SAID, sentences
from models.nano.train.voices import RATE, add_line, lines_so_far, save

VOICE_RATE = 24_000
SIZES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)  # how many times as fast she is played
PACES = (0.85, 1.2)
LEAST_WORDS, MOST_WORDS = 4, 25
LEAST_PHONEMES = 5
PLAUSIBLE = (0.035, 0.2)  # seconds a phoneme at pace 1; anything else is no reading of the text
ABBREVIATED = re.compile(rf"\b({'|'.join(short.capitalize() for short in SAID)})\b\.?")
SOURCE = "hibari-tts 0.2.1 (PyPI)"
LICENCE = "Apache 2.0 (hibari-tts by M. Williams, distilled from Kokoro-82M by hexgrad); texts: public domain"


class Voice(Protocol):
    """What is used of hibari.Hibari."""

    def phonemize(self, text: str) -> list[str]:
        """Phonemes of each sentence of a text."""

    def from_phonemes(self, phonemes: str, speed: float, seed: int) -> NDArray[np.float32]:
        """Samples at 24 kHz."""


def book_lines(texts: Path, seed: int) -> list[tuple[str, str]]:
    """What is said and how it is written of each sentence of the books, in the order in which they are read."""
    every = {(said, written) for said, written in sentences(texts) if written}
    kept = sorted(line for line in every if LEAST_WORDS <= len(line[0].split()) <= MOST_WORDS)
    random.Random(seed).shuffle(kept)  # noqa: S311 - reproducible data, not secrets
    return kept


def utterance(voice: Voice, written: str, rng: random.Random) -> tuple[float, NDArray[np.float32]] | None:
    """How many times as fast she was played, and the samples; None if she did not read the text."""
    size, pace, seed = rng.choice(SIZES), rng.uniform(*PACES), rng.randrange(1 << 31)
    phonemes = voice.phonemize(ABBREVIATED.sub(lambda match: SAID[match[1].lower()].capitalize(), written))
    if len(phonemes) != 1 or len(phonemes[0]) < LEAST_PHONEMES:
        return None
    waveform = change_speed(voice.from_phonemes(phonemes[0], pace / size, seed), size * VOICE_RATE / RATE)
    shortest, longest = PLAUSIBLE
    if not np.isfinite(waveform).all() or not shortest < len(waveform) / RATE * pace / len(phonemes[0]) < longest:
        return None
    return size, waveform


def read(out: Path, voice: Voice, lines: Sequence[tuple[str, str]], *, hours: float, seed: int) -> float:
    """Sentence after sentence until there are so many hours; gives the hours that there are."""
    rows = lines_so_far(out)
    seconds = sum(row["seconds"] for row in rows)
    for number in range(1 + max((int(Path(row["audio"]).stem) for row in rows), default=-1), len(lines)):
        if seconds >= 3600 * hours:
            break
        said, written = lines[number]
        made = utterance(voice, written, random.Random(f"{seed}-{number}"))  # noqa: S311
        if made is None:
            print(f"left out: {written}", file=sys.stderr)
            continue
        size, waveform = made
        audio = f"tts/{number:06d}.flac"
        save(out / audio, waveform)
        row: dict[str, Any] = {"audio": audio, "text": said, "written": written, "speaker": f"hibari-heart-x{size}"}
        row |= {"source": SOURCE, "licence": LICENCE, "language": "en", "seconds": round(len(waveform) / RATE, 3)}
        row["labels"] = {"gender": "female"} if size == 1 else {}  # at other speeds she may be taken for either
        add_line(out, row)
        seconds += row["seconds"]
    return seconds / 3600


def main(argv: list[str] | None = None) -> int:
    """Read on until there are --hours."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--texts", type=Path, required=True, metavar="TEXTS")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args(argv)
    from hibari import Hibari

    lines = book_lines(options.texts, options.seed)
    hours = read(options.out, Hibari(), lines, hours=options.hours, seed=options.seed)
    print(f"{hours:.2f} h")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
