"""`python3 -m models.nano.train.lists RECORDINGS OUT`: the test clips as lists for --score.

`words` and `telephone` are for --score wer, `labels`, `together` and `silence` for --score accuracy. The clips are
those of test_clips.json; a list names their set as the source. Sounds that are made (the telephone's, noise, two clips
joined) are written to OUT. `models.nano.train.card` has them all answered.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from models.nano.train import acoustics, wordings
from models.nano.train.answers import TASKS
from models.nano.train.corpus import Clip
from models.nano.train.recordings import Recording, recordings, test_ids

Row = dict[str, Any]
Sets = dict[str, list[Recording]]
Waveform = NDArray[np.float32]

SEED = 20261128
RATE = 16_000
MOST = 60  # clips of a set
ALL = 1_000_000
SPEECH = ("librispeech", "studio_man", "non_native_adults", "non_native_children", "librivox", "wake_words")
SPOKEN = ("librispeech", "non_native_adults", "multilingual", "wake_words_es", "mandarin_words")
WORDED = {"singing voice", "crowd of people", "screaming or yelling", "laughter", "choir", "mouth noises"}
SILENT = 30  # sounds in which nobody speaks, and as many clips of noise
NOISES = ("white", "pink", "brown", "hum", "babble", "silence")
BAND = (300, 3400)  # Hz that a telephone lets through
TELEPHONE_SNR = 10.0  # dB


def clips(folder: Path, count: int = MOST) -> Sets:
    """The fixed clips, at most `count` of each set, spread over it."""
    by_id = {row["id"]: row for row in recordings(folder)}
    sets = {}
    for name, ids in test_ids().items():
        step = max(1, len(ids) / count)
        sets[name] = [by_id[ids[int(place * step)]] for place in range(min(count, len(ids)))]
    return sets


def words(sets: Sets, _: Path) -> Iterator[Row]:
    """What is said, word by word."""
    for name in SPEECH:
        for row in sets.get(name, ()):
            yield {"audio": row["audio"], "text": row["text"], "task": "transcribe", "source": name}


def telephone(sets: Sets, out: Path) -> Iterator[Row]:
    """The same of LibriSpeech as a telephone in a noisy room gives it."""
    for row in sets.get("librispeech", ()):
        path = _write(out / "telephone" / f"{Path(row['audio']).stem}.flac", by_telephone(row))
        yield {"audio": path, "text": row["text"], "task": "transcribe", "source": "telephone"}


def labels(sets: Sets, _: Path) -> Iterator[Row]:
    """Language, gender, age, sound and instrument: a question in a wording of the tests, and the whole answer."""
    for name, rows in sets.items():
        for row in rows:
            for task in _tasks(name, row):
                rng = random.Random(f"{SEED}/{row['id']}")  # noqa: S311 - reproducible data, not secrets
                question = wordings.question(task, rng, split="test")
                answer = "".join(piece.text for piece in TASKS[task].answer(Clip(Path(), 0, 0, row)))
                yield {"audio": row["audio"], "text": answer, "question": question, "source": f"{name} {task}"}


def together(sets: Sets, out: Path) -> Iterator[Row]:
    """How many people speak, and whether two clips are of one person: pairs of people and clips from the test sets."""
    by_speaker: defaultdict[str, list[Recording]] = defaultdict(list)
    for row in sets.get("non_native_adults", []) + sets.get("non_native_children", []):
        by_speaker[row["speaker"]].append(row)
    people = sorted(name for name, rows in by_speaker.items() if len(rows) > 1)
    for number, (name, other) in enumerate(zip(people, people[1:] + people[:1], strict=True)):
        rng = random.Random(f"{SEED}/{name}")  # noqa: S311
        first, second = rng.sample(by_speaker[name], 2)
        if number % 2:
            second = rng.choice(by_speaker[other])
        is_same = number % 2 == 0
        question = wordings.question("same_speaker", rng, split="test")
        answer = "It is the same speaker." if is_same else "They are different speakers."
        audio = [first["audio"], second["audio"]]
        yield {"audio": audio, "text": answer, "question": question, "source": "two clips, same_speaker"}
        waves = [load_waveform(row["audio"]) for row in (first, second)]
        joined = np.concatenate([waves[0], np.zeros(RATE // 2, np.float32), waves[1]])
        path = _write(out / "together" / f"{number:02}.flac", joined)
        question = wordings.question("speakers", rng, split="test")
        answer = "There is one speaker." if is_same else "There are two speakers."
        yield {"audio": path, "text": answer, "question": question, "source": "two clips joined, speakers"}


def silence(sets: Sets, out: Path) -> Iterator[Row]:
    """Sounds and noise without words, whose transcript is empty."""
    others = [row for row in sets.get("sounds", ()) if row["sound"] not in WORDED]
    rng = np.random.default_rng(SEED)
    for number in range(SILENT if others else 0):
        kind = NOISES[number % len(NOISES)]
        path = _write(out / "noise" / f"{number:02}-{kind}.flac", noise_clip(kind, number, rng))
        yield {"audio": path, "text": "", "task": "transcribe", "source": "noise"}
    for row in others[:SILENT]:
        yield {"audio": row["audio"], "text": "", "task": "transcribe", "source": "sounds"}


def by_telephone(row: Recording) -> Waveform:
    """A clip in the band of a telephone, in white noise."""
    sound = load_waveform(row["audio"])
    rng = random.Random(f"{SEED}/{row['id']}")  # noqa: S311
    spectrum, hertz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(hertz < BAND[0]) | (hertz > BAND[1])] = 0
    narrow = np.fft.irfft(spectrum, len(sound)).astype(np.float32)
    return acoustics.add_noise(narrow, TELEPHONE_SNR, rng, kind="white")


def noise_clip(kind: str, number: int, rng: np.random.Generator) -> Waveform:
    """Two to six seconds."""
    samples = int(rng.uniform(2, 6) * RATE)
    if kind == "silence":
        return rng.normal(0, 1e-4, samples).astype(np.float32)
    quiet = rng.normal(0, 1e-5, samples).astype(np.float32)
    return acoustics.add_noise(quiet, -60.0, random.Random(number), kind=kind) * np.float32(0.1)  # noqa: S311


def _write(path: Path, sound: Waveform) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.clip(-1, 1), RATE, subtype="PCM_24")
    return str(path)


def _tasks(name: str, row: Recording) -> Iterator[str]:
    """What a clip can be asked."""
    if name in SPOKEN and row.get("language") in wordings.LANGUAGE_NAMES:
        yield "language"
    if name in {"librispeech", "non_native_adults"}:
        yield "gender"
    if name.startswith("non_native"):
        yield "age"
    if row.get("sound"):
        yield "event"
    if name == "instruments":
        yield "instrument"


LISTS: tuple[Callable[[Sets, Path], Iterator[Row]], ...] = (words, telephone, labels, silence)
OF_ALL = (together,)  # lists that need whole speakers, not a few clips of each


def write_lists(folder: Path, out: Path, count: int = MOST) -> dict[str, int]:
    """Write OUT/NAME.jsonl for each list; returns how many rows each has."""
    sets = clips(folder, count)
    out.mkdir(parents=True, exist_ok=True)
    made = [(make.__name__, make(sets, out)) for make in LISTS]
    made += [(make.__name__, itertools.islice(make(clips(folder, ALL), out), 2 * count)) for make in OF_ALL]
    rows = {name: [json.dumps(row, ensure_ascii=False) + "\n" for row in found] for name, found in made}
    for name, lines in rows.items():
        (out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    return {name: len(lines) for name, lines in rows.items()}


def main(argv: list[str] | None = None) -> int:
    """Write the lists."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--count", type=int, default=MOST, help=f"clips of each set at most (default: {MOST})")
    options = parser.parse_args(argv)
    for name, rows in write_lists(options.recordings, options.out, options.count).items():
        print(f"{name}.jsonl: {rows} rows")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
