"""`python3 -m models.nano.train.synthetic OUT --texts DIR --shards 40`: English sentences read by synthesizers.

Whisper's features of a synthesizer's speech are near enough to those of people to teach which features are which
letters, for every word of English; how people speak is learned from people. One shard is 500 utterances. Most are
heard through rooms, noise and bands; seven other languages are spoken for telling languages apart.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from models.nano.train import foreign
from models.nano.train.features import RATE, SHARD, Labelled, varied, write_all
from models.nano.train.speech import speak, voices
from models.nano.train.texts import Sentence, sentences
from models.nano.train.utterance import Voice

ENGINES = {"flite": 0.45, "festival": 0.3, "espeak": 0.25}
LONGEST = 24  # seconds
FOREIGN = 0.06  # of the utterances
CLEAN = 0.3


@lru_cache(maxsize=64)
def _choices(language: str, engine: str, gender: str) -> tuple[Voice, ...]:
    return tuple(
        voice for voice in voices(language=language) if voice.engine == engine and voice.gender in (gender, "")
    )


def pick(rng: random.Random, language: str) -> Voice:
    """A voice of either gender, where the engine has both."""
    engine = "espeak"
    if language == "en":
        engine = rng.choices(list(ENGINES), list(ENGINES.values()))[0]
    first, second = rng.sample(("man", "woman"), 2)
    return rng.choice(_choices(language, engine, first) or _choices(language, engine, second))


def utterance(rng: random.Random, every: list[Sentence], others: float) -> Labelled:
    """One sentence by one voice, as heard somewhere; in other languages than English in that share."""
    language = rng.choice(tuple(foreign.LANGUAGES)) if rng.random() < others else "en"
    voice = pick(rng, language)
    labels: dict[str, object] = {"source": "synthetic", "language": language, "gender": voice.gender}
    labels["speaker"] = f"{voice.engine}/{voice.name}"
    if language == "en":
        spoken, written = rng.choice(every)
        labels |= {"text": spoken} | ({"written": written} if written else {})
        text = (written if written and voice.engine != "espeak" else spoken).replace('"', "")
    else:
        text = foreign.foreign(rng, language, split="train")
    said = speak(text, voice, rng)
    waveform, factor = said.waveform, 1.0
    if len(waveform) > LONGEST * RATE:
        return utterance(rng, every, others)
    if rng.random() > CLEAN:
        waveform, factor = varied(waveform, rng)
    if len(said.words) == len(text.split()) == len(str(labels.get("text", "")).split()):
        labels["words"] = [(round(start / factor, 3), round(end / factor, 3)) for _, start, end in said.words]
    return labels, waveform


def clips(texts: Path, number: int, seed: int, others: float) -> Iterator[Labelled]:
    """One shard of utterances."""
    rng, every = random.Random(f"{seed}/{number}"), _sentences(texts)  # noqa: S311 - reproducible data, not secrets
    made = 0
    while made < SHARD:
        try:
            labels, waveform = utterance(rng, every, others)
        except (RuntimeError, ValueError, KeyError, UnicodeError, IndexError) as error:  # of a synthesizer
            print(f"left out: {error!r}", file=sys.stderr)
            continue
        yield labels | {"id": f"synthetic/{seed}-{number:04}-{made:03}", "variant": 0}, waveform
        made += 1


@lru_cache(maxsize=1)
def _sentences(texts: Path) -> list[Sentence]:
    return list(sentences(texts))


def main(argv: list[str] | None = None) -> int:
    """Make shards of this process' share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--texts", type=Path, required=True, metavar="DIR")
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--others", type=float, default=FOREIGN, help="share of other languages than English")
    parser.add_argument("--share", default="0/1", metavar="I/N", help="this process does every N-th shard")
    options = parser.parse_args(argv)
    jobs: list[tuple[str, Callable[[], Iterable[Labelled]]]] = []
    for number in range(options.shards):
        make = lambda number=number: clips(options.texts, number, options.seed, options.others)  # noqa: E731
        jobs.append((f"synthetic-{options.seed}-{number:04}", make))
    share = tuple(int(part) for part in options.share.split("/"))
    write_all(options.out, jobs, (share[0], share[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
