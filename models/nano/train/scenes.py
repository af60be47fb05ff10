"""`python3 -m models.nano.train.scenes OUT --recordings DIR --shards 12`: sounds that no single recording has.

People one after another, to count them; speech over a sound or over music; notes and melodies of an instrument; noise
in which nobody says a word. Made of the recordings for training and of synthesizers. The labels say what each is:
`speakers`, `background`, `instrument`, `pitch`, `velocity`, `tempo`, `noise`.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import acoustics, music, recordings
from models.nano.train.drawing import VOCAL
from models.nano.train.features import RATE, SHARD, Labelled, Waveform, varied, write_all
from models.nano.train.recordings import Recording

KINDS = {"speakers": 0.34, "over": 0.24, "note": 0.14, "melody": 0.14, "noise": 0.06, "event": 0.08}  # of the scenes
PIECE = (1.2, 3.5)  # seconds of one person's turn
GAP = (0.1, 0.6)  # seconds between two turns
ABOVE = (3.0, 15.0)  # dB of speech over what is behind it
VELOCITIES = (25, 50, 75, 100, 127)  # as NSynth has them
SCREENED = ("white", "pink", "brown", "hum")


@dataclass(frozen=True)
class Stock:
    """What scenes are made of: people's recordings by source and speaker, and real sounds by class."""

    people: dict[str, dict[str, list[Recording]]]
    sounds: dict[str, list[Recording]]

    @classmethod
    def of(cls, rows: Iterable[Recording]) -> Stock:
        """Of the recordings for training."""
        people: defaultdict[str, defaultdict[str, list[Recording]]] = defaultdict(lambda: defaultdict(list))
        heard: defaultdict[str, list[Recording]] = defaultdict(list)
        for row in rows:
            if row.get("speaker") and row.get("language") == "en" and row.get("text"):
                people[row["source"]][row["speaker"]].append(row)
            elif row.get("sound") and row["sound"] not in VOCAL:
                heard[row["sound"]].append(row)
        return cls({name: dict(of) for name, of in people.items()}, dict(heard))


@lru_cache(maxsize=4096)
def _load(path: str) -> Waveform:
    return load_waveform(path)[: 30 * RATE]


def turn(row: Recording, rng: random.Random) -> Waveform:
    """A few seconds of one person at one level, from where the recording is loud to start with."""
    waveform = _load(row["audio"])
    length = round(rng.uniform(*PIECE) * RATE)
    first = rng.randint(0, max(0, len(waveform) - length))
    piece = np.array(waveform[first : first + length])
    return piece * np.float32(rng.uniform(0.2, 0.5) / max(float(np.abs(piece).max()), 1e-3))


def speakers(stock: Stock, rng: random.Random) -> Labelled:
    """One to three people in turn, mostly of one corpus, so that the room does not tell them apart."""
    count = rng.randint(1, 3)
    sources = [name for name, of in stock.people.items() if len(of) >= count]
    by = stock.people[rng.choices(sources, [len(stock.people[name]) for name in sources])[0]]
    if count > 1 and rng.random() < 0.3:  # of everybody
        by = {f"{source}/{name}": rows for source, of in stock.people.items() for name, rows in of.items()}
    chosen = rng.sample(sorted(by), count)
    order = chosen + rng.choices(chosen, k=rng.randint(0 if count > 1 else 1, 4 - count))
    pieces: list[Waveform] = []
    for name in order:
        pieces += [turn(rng.choice(by[name]), rng), np.zeros(round(rng.uniform(*GAP) * RATE), np.float32)]
    return {"speakers": count, "language": "en"}, np.concatenate(pieces)


def over(stock: Stock, rng: random.Random) -> Labelled:
    """A sentence over a sound or over music."""
    source = rng.choice(sorted(stock.people))
    row = rng.choice(stock.people[source][rng.choice(sorted(stock.people[source]))])
    speech = _load(row["audio"])[: 10 * RATE]
    seconds = max(1.5, len(speech) / RATE)
    if rng.random() < 0.25:
        behind = rng.choice(tuple(music.INSTRUMENTS))
        heard = music.melody(behind, tempo=rng.choice(tuple(music.TEMPOS)), seconds=seconds, rng=rng)
    else:
        behind, heard = _sound(stock, rng)
        heard = np.resize(heard, max(len(heard), round(seconds * RATE)))[: round(seconds * RATE)]
    labels = {name: row[name] for name in ("language", "gender", "age") if row.get(name) is not None}
    if len(speech) < 10 * RATE:
        labels |= {name: row[name] for name in ("text", "written") if row.get(name)}
    return labels | {"background": behind}, acoustics.mix(speech, heard, rng.uniform(*ABOVE))


def _sound(stock: Stock, rng: random.Random) -> tuple[str, Waveform]:
    name = rng.choice(sorted(stock.sounds))
    return name, _load(rng.choice(stock.sounds[name])["audio"])


def note(stock: Stock, rng: random.Random) -> Labelled:
    """One note; its level stays."""
    del stock
    name = rng.choice(tuple(music.INSTRUMENTS))
    pitch, velocity = rng.randint(*music.RANGES[name]), rng.choice(VELOCITIES)
    waveform = music.note(name, pitch, velocity, rng.uniform(1.2, 3.0), rng)
    return {"instrument": name, "pitch": pitch, "velocity": velocity}, waveform


def melody(stock: Stock, rng: random.Random) -> Labelled:
    """A melody, fast or slow."""
    del stock
    name, tempo = rng.choice(tuple(music.INSTRUMENTS)), rng.choice(tuple(music.TEMPOS))
    return {"instrument": name, "tempo": tempo}, music.melody(name, tempo=tempo, seconds=rng.uniform(2.5, 6), rng=rng)


def noise(stock: Stock, rng: random.Random) -> Labelled:
    """Noise and nothing else, or digital silence."""
    del stock
    quiet, kind = np.zeros(round(rng.uniform(1, 8) * RATE), np.float32), rng.choice((*SCREENED, "silence"))
    if kind != "silence":
        quiet = acoustics.add_noise(quiet + np.float32(1e-3), -20.0, rng, kind=kind)
        quiet *= np.float32(10 ** rng.uniform(-2.5, -0.3) / max(float(np.abs(quiet).max()), 1e-6))
    return {"noise": kind}, quiet


def event(stock: Stock, rng: random.Random) -> Labelled:
    """Two real sounds, one after the other."""
    first, second = _sound(stock, rng), _sound(stock, rng)
    gap = np.zeros(round(rng.uniform(*GAP) * RATE), np.float32)
    joined = np.concatenate([first[1][: 4 * RATE], gap, second[1][: 4 * RATE]])
    return {"events": sorted({first[0], second[0]})}, joined


MAKERS: dict[str, Callable[[Stock, random.Random], Labelled]] = {
    "speakers": speakers,
    "over": over,
    "note": note,
    "melody": melody,
    "noise": noise,
    "event": event,
}


def clips(stock: Stock, number: int, seed: int) -> Iterator[Labelled]:
    """One shard of scenes."""
    rng = random.Random(f"scenes/{seed}/{number}")  # noqa: S311 - reproducible data, not secrets
    made = 0
    while made < SHARD:
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        try:
            labels, waveform = MAKERS[kind](stock, rng)
        except AudioError:  # `features` names what cannot be read
            continue
        if kind not in ("note", "noise"):
            waveform, _ = varied(waveform, rng, speed=kind == "over", strength=rng.choice((0.0, 0.5, 1.0)))
        yield labels | {"source": "scenes", "id": f"scenes/{seed}-{number:04}-{made:03}", "variant": 0}, waveform
        made += 1


def main(argv: list[str] | None = None) -> int:
    """Make shards of this process' share."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kathleen", type=Path, metavar="DIR")
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", metavar="I/N", help="this process does every N-th shard")
    options = parser.parse_args(argv)
    stock = Stock.of(recordings.training(recordings.recordings(options.recordings, options.kathleen)))
    jobs: list[tuple[str, Callable[[], Iterable[Labelled]]]] = []
    for number in range(options.shards):
        make = lambda number=number: clips(stock, number, options.seed)  # noqa: E731
        jobs.append((f"scenes-{options.seed}-{number:04}", make))
    share = tuple(int(part) for part in options.share.split("/"))
    write_all(options.out, jobs, (share[0], share[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
