"""`python3 -m models.nano.train.neural OUT --texts DIR --shards 40`: sentences of books, read by a small neural voice.

hibari-tts is a student of Kokoro's voice af_heart: one woman, sixty times as fast as real time. She is played at nine
speeds, and told to speak so much slower or faster that the pace stays: pitch and throat are those of nine made-up
speakers. One shard is 500 sentences, half of them heard through rooms, noise and bands.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.nano.train.acoustics import change_speed, degrade
from models.nano.train.features import RATE, SHARD, Labelled, write_all
from models.nano.train.texts import SAID, Sentence, sentences

VOICE_RATE = 24_000
SIZES = (0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)  # how many times as fast she is played
PACES = (0.85, 1.2)
LEAST_WORDS, MOST_WORDS = 4, 25
LEAST_PHONEMES = 5
PLAUSIBLE = (0.035, 0.2)  # seconds a phoneme at pace 1; anything else is no reading of the text
CLEAN = 0.5
ABBREVIATED = re.compile(rf"\b({'|'.join(short.capitalize() for short in SAID)})\b\.?")


class Voice(Protocol):
    """What is used of hibari.Hibari."""

    def phonemize(self, text: str) -> list[str]:
        """Phonemes of each sentence of a text."""

    def from_phonemes(self, phonemes: str, speed: float, seed: int) -> NDArray[np.float32]:
        """Samples at 24 kHz."""


@lru_cache(maxsize=1)
def book_lines(texts: Path) -> list[Sentence]:
    """What is said and how it is written of each sentence of the books that is neither short nor long."""
    return [line for line in sentences(texts) if line[1] and LEAST_WORDS <= len(line[0].split()) <= MOST_WORDS]


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


def clips(voice: Voice, lines: list[Sentence], number: int, seed: int, size: int = SHARD) -> Iterator[Labelled]:
    """One shard of sentences."""
    rng, made = random.Random(f"{seed}/{number}"), 0  # noqa: S311 - reproducible data, not secrets
    while made < size:
        said, written = rng.choice(lines)
        heard = utterance(voice, str(written), rng)
        if heard is None:
            print(f"left out: {written}", file=sys.stderr)
            continue
        played, waveform = heard
        labels = {"source": "tts", "language": "en", "text": said, "written": written, "variant": 0}
        labels |= {"id": f"tts/{seed}-{number:04}-{made:03}", "speaker": f"hibari-heart-x{played}"}
        labels |= {"gender": "female"} if played == 1 else {}  # at other speeds she may be taken for either
        yield labels, waveform if rng.random() < CLEAN else degrade(waveform, rng)
        made += 1


def main(argv: list[str] | None = None) -> int:
    """Make shards of this process' share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--texts", type=Path, required=True, metavar="DIR")
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--seed", type=int, default=22)
    parser.add_argument("--share", default="0/1", metavar="I/N", help="this process does every N-th shard")
    options = parser.parse_args(argv)
    from hibari import Hibari

    voice = Hibari()
    jobs: list[tuple[str, Callable[[], Iterable[Labelled]]]] = []
    for number in range(options.shards):
        make = lambda number=number: clips(voice, book_lines(options.texts), number, options.seed)  # noqa: E731
        jobs.append((f"neural-{options.seed}-{number:04}", make))
    share = tuple(int(part) for part in options.share.split("/"))
    write_all(options.out, jobs, (share[0], share[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
