"""`python3 -m models.nano.train.data OUT`: examples made by the synthesizers, kept as shards of features and text.

A shard is one .npz: the log-mels of its clips side by side (float16) and a JSON text with everything else. It depends
on its seed, and on the little that a synthesizer keeps from one utterance to the next. Several processes write shards;
a shard gets its name when it is whole, so the work can be stopped and resumed at any time. The trainer reads whatever
shards there are.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float16 = npt.NDArray[np.float16]


@dataclass(frozen=True)
class Clip:
    """Features and labels of one clip: log-mel [n_mels, 2 * frames + 2], words and phones as (name, start s, end s)."""

    mel: Float16
    mel_frames: int
    words: tuple[tuple[str, float, float], ...]
    phones: tuple[tuple[str, float, float], ...]
    gender: str | None
    language: str | None


@dataclass(frozen=True)
class Sample:
    """One example ready for the tokenizer: turns of (question, pieces of the answer with their weights)."""

    task: str
    clips: tuple[Clip, ...]
    turns: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    base_prompt: str | None


def make_shard(path: Path, *, seed: int, count: int, tasks: Sequence[str] = ()) -> int:
    """Make `count` examples from `seed`, of all tasks or of some, and write them; returns the number of clips."""
    from audio_encoder.log_mel import log_mel_spectrogram
    from models.nano.train.tasks import example

    rng = random.Random(seed)  # noqa: S311 - reproducible data, not secrets
    rows: list[dict[str, Any]] = []
    mels: list[Float16] = []
    while len(rows) < count:
        made = example(rng, task=rng.choice(tasks) if tasks else None)
        clips = []
        for clip in made.clips:
            mel, mel_frames = log_mel_spectrogram(clip.waveform)
            mels.append(mel[:, : (mel_frames + 1) // 2 * 2 + 2].astype(np.float16))
            labels = {"words": clip.words, "phones": clip.phones, "gender": clip.gender, "language": clip.language}
            clips.append({"columns": mels[-1].shape[1], "mel_frames": mel_frames, **labels})
        turns = [(question, [(piece.text, piece.weight) for piece in pieces]) for question, pieces in made.turns]
        rows.append({"task": made.task, "clips": clips, "turns": turns, "base_prompt": made.base_prompt})
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        text = np.frombuffer(json.dumps(rows).encode(), np.uint8)
        np.savez(file, mels=np.concatenate(mels, axis=1), rows=text)
    temporary.replace(path)
    return len(mels)


def read_shard(path: Path) -> list[Sample]:
    """The examples of a shard."""
    with np.load(path, allow_pickle=False) as shard:
        mels, rows = shard["mels"], json.loads(shard["rows"].tobytes())
    samples, column = [], 0
    for row in rows:
        clips = []
        for clip in row["clips"]:
            mel = mels[:, column : column + clip["columns"]]
            column += clip["columns"]
            words, phones = (tuple((name, a, b) for name, a, b in clip[key]) for key in ("words", "phones"))
            clips.append(Clip(mel, clip["mel_frames"], words, phones, clip["gender"], clip["language"]))
        turns = tuple((question, tuple((text, weight) for text, weight in pieces)) for question, pieces in row["turns"])
        samples.append(Sample(row["task"], tuple(clips), turns, row["base_prompt"]))
    return samples


def main(argv: list[str] | None = None) -> int:
    """Write the shards that are not there yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--shards", type=int, default=64)
    parser.add_argument("--size", type=int, default=1000, help="examples in a shard")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", default="", help="comma-separated, in equal shares (default: all, in theirs)")
    options = parser.parse_args(argv)
    options.out.mkdir(parents=True, exist_ok=True)
    paths = {number: options.out / f"shard-{options.seed}-{number:05}.npz" for number in range(options.shards)}
    tasks = [name for name in options.tasks.split(",") if name]
    missing = {number: path for number, path in paths.items() if not path.exists()}
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = {
            pool.submit(make_shard, path, seed=options.seed * 1_000_003 + number, count=options.size, tasks=tasks): path
            for number, path in missing.items()
        }
        for done, job in enumerate(as_completed(jobs), 1):
            print(f"{jobs[job].name}: {job.result()} clips, {done} of {len(jobs)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
