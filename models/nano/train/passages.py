"""`python3 -m models.nano.train.passages OUT --recordings DIR... --shards 4`: sentences in a row, in one recording.

What people record lasts half a minute and has pauses in it; most clips last a few seconds. Features that are joined
(`splices.joined`) are those of the beginning of a recording again and again. These are recordings of their own: English
sentences, mostly of one person, with pauses between them, encoded as a whole. A label `text` is all that is said.
"""

from __future__ import annotations

import argparse
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import acoustics, recordings
from models.nano.train.answers import as_written
from models.nano.train.corpus import written_texts
from models.nano.train.drawing import SOURCES
from models.nano.train.features import RATE, SHARD, Labelled, Waveform, write_all
from models.nano.train.recordings import Recording

SECONDS = (5.0, 29.5)  # of a passage
BEFORE = (0.0, 0.8)  # seconds of the pause before the first word
PAUSE = (0.05, 1.4)  # between two sentences
LONG_PAUSE = (1.4, 4.0)
LONG = 0.15  # of the pauses
ALONE = 0.75  # of the passages are of one speaker, as far as his sentences go
ELSEWHERE = 0.5  # are heard in a room, noise, bands or codecs, as a whole
BY_TELEPHONE = 0.1
LEVEL = (0.15, 0.6)  # the peak of a speaker's first sentence
LONGEST = 28  # seconds of a sentence
WORDS = ("wake_words", "digits", "speech_commands")  # no one says these again and again
FRAME = RATE // 50
WRITTEN = Path(__file__).parent / "whisper_texts.jsonl.xz"

Speakers = dict[str, dict[str, list[Recording]]]  # source -> speaker -> sentences


def by_speaker(rows: Iterable[Recording]) -> Speakers:
    """English sentences whose words are known."""
    found: defaultdict[str, defaultdict[str, list[Recording]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("language") == "en" and row.get("text"):
            found[row["source"]][str(row.get("speaker"))].append(row)
    return {source: dict(speakers) for source, speakers in found.items()}


def passage(speakers: Speakers, written: dict[str, str], rng: random.Random) -> Labelled:
    """One passage with its labels."""
    parts, left = [pause(rng, BEFORE)], round(rng.uniform(*SECONDS) * RATE)
    texts: list[str] = []
    for row, sound in sentences(speakers, rng):
        if texts and len(sound) > left:
            break
        parts += [sound, pause(rng, LONG_PAUSE if rng.random() < LONG else PAUSE)]
        texts.append(as_written(row["text"], row.get("written") or written.get(row["id"])))
        left -= len(parts[-2]) + len(parts[-1])
    waveform = np.concatenate(parts)[: 30 * RATE]
    hiss = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(waveform), np.float32)
    text = " ".join(texts)
    labels = {"source": "passages", "language": "en", "text": recordings.spoken(text), "written": text}
    return labels, heard(waveform + floor(waveform) * hiss, rng)


def sentences(speakers: Speakers, rng: random.Random) -> Iterator[tuple[Recording, Waveform]]:
    """Without end: all of one speaker, none of them twice, or one of each; a speaker keeps a level of his own."""
    sources, alone = sorted(speakers), rng.random() < ALONE
    while True:
        source = rng.choices(sources, [SOURCES[name] for name in sources])[0]
        rows = speakers[source][rng.choice(sorted(speakers[source]))]
        count = len(rows) if alone and source not in WORDS else 1
        gain = 0.0
        for row in rng.sample(rows, count):
            sound = load_waveform(row["audio"])
            gain = gain or rng.uniform(*LEVEL) / max(float(np.abs(sound).max()), 1e-3)
            yield row, np.clip(sound[: LONGEST * RATE] * np.float32(gain), -1, 1)


def pause(rng: random.Random, seconds: tuple[float, float]) -> Waveform:
    """Digital silence."""
    return np.zeros(round(rng.uniform(*seconds) * RATE), np.float32)


def floor(waveform: Waveform) -> np.float32:
    """How loud (rms) the recordings are where nobody speaks: the quietest tenth of their frames."""
    frames = waveform[: len(waveform) // FRAME * FRAME].reshape(-1, FRAME)
    sizes = np.sqrt(np.square(frames).mean(axis=1))
    return np.float32(np.quantile(sizes[sizes > 0], 0.1)) if sizes.any() else np.float32(0)


def heard(waveform: Waveform, rng: random.Random) -> Waveform:
    """A passage as it is, elsewhere or by telephone."""
    where = rng.random()
    if where < BY_TELEPHONE:
        return acoustics.telephone(waveform, rng)
    return acoustics.degrade(waveform, rng) if where < BY_TELEPHONE + ELSEWHERE else waveform


def clips(speakers: Speakers, written: dict[str, str], number: int, seed: int) -> Iterator[Labelled]:
    """One shard of passages."""
    rng = random.Random(f"passages/{seed}/{number}")  # noqa: S311 - reproducible data, not secrets
    made = 0
    while made < SHARD:
        try:
            found = passage(speakers, written, rng)
        except AudioError:  # `features` names what cannot be read
            continue
        made += 1
        yield found


def main(argv: list[str] | None = None) -> int:
    """Write this process' share of the shards."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--recordings", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--kathleen", type=Path, metavar="DIR", help="FLAC and TXT files of that data set")
    parser.add_argument("--shards", type=int, default=4, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", metavar="I/N", help="this process does every N-th shard")
    options = parser.parse_args(argv)
    first, *others = options.recordings
    rows = recordings.recordings(first, options.kathleen)
    rows += [row for folder in others for row in recordings.recordings(folder)]
    speakers, written = by_speaker(recordings.training(rows)), written_texts(WRITTEN)
    jobs = [
        (f"passages-{options.seed}-{number:03}", lambda number=number: clips(speakers, written, number, options.seed))
        for number in range(options.shards)
    ]
    share = tuple(int(part) for part in options.share.split("/"))
    write_all(options.out, jobs, (share[0], share[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
