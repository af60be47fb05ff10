"""`python3 -m models.nano.train.align MODEL.bin --features DIR --vocabulary FILE`: when each word is said.

A word lasts from where Whisper base's decoder looks when it writes the word to where it looks for the next one.
OpenAI makes its word times so, too. Only the recordings as they are (variant 0) are aligned; the others have the same
times at their speed.

For each shard NAME.jsonl a NAME.words.json is written: number of the clip -> [[start s, end s], ...],
which `corpus.load` reads. Clips that Whisper would not write down so (a mean above UNFORESEEN) are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.nano.train import corpus, whisper_base
from models.nano.train import whisper_decoder as whisper
from models.nano.train.corpus import TOKEN_SECONDS, Clip
from models.nano.train.drawing import is_english
from models.nano.train.whisper_pieces import whisper_ids
from models.nano.train.whisper_teacher import FIRST
from tokenizer.tokenizer import Tokenizer

UNFORESEEN = 2.0  # nats an id
SLOW = {"word": 0.2, "letter": 0.09}  # seconds: longer words have a pause before them
# Of layer, head: those that OpenAI names for base.
ALIGNED_HEADS = ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))

Scores = NDArray[np.float32]
Times = list[tuple[float, float]]  # start and end of each word, seconds


class Aligner:
    """Whisper base: some of its heads look at what they write down."""

    def __init__(self, weights: Path, vocabulary: Path) -> None:
        self.tokenizer, self.decoder = Tokenizer(vocabulary), whisper.WhisperDecoder(weights)
        self.pieces = torch.tensor(whisper_ids(self.tokenizer))

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Times | None:
        """Times of the words of one clip, None where Whisper would not write them."""
        ids = torch.tensor(self.tokenizer.encode(f" {clip.get('text')}"))
        if len(ids) >= clip.tokens:
            return None
        decoder, features = self.decoder, torch.from_numpy(clip.features.astype(np.float32))
        theirs = torch.cat([torch.tensor(whisper.PROMPT), self.pieces[ids]])
        last, streams = decoder.states(theirs, features)
        foreseen = (last[FIRST - 1 : -1] @ decoder.embeddings[self.pieces].T).log_softmax(-1)
        if len(ids) > 1 and -foreseen.gather(1, ids[:, None])[1:].mean() > UNFORESEEN:
            return None
        looks = torch.stack([_look(decoder, streams, features, *head) for head in ALIGNED_HEADS])[:, FIRST - 1 : -1]
        looks = (looks - looks.mean(1, keepdim=True)) / (looks.std(1, keepdim=True, correction=0) + 1e-6)
        firsts = steady_path(looks.mean(0).T.numpy())
        begins = [n for n, token in enumerate(ids.tolist()) if self.tokenizer.token_bytes(token).startswith(b" ")]
        edges = [firsts[number] for number in begins] + [clip.tokens]
        times = []
        for word, start, end in zip(clip.get("text").split(), edges, edges[1:], strict=False):
            longest = SLOW["word"] + SLOW["letter"] * len(word)  # Whisper looks for a word from the pause before it on
            times.append(
                (round(max(start * TOKEN_SECONDS, end * TOKEN_SECONDS - longest), 3), round(end * TOKEN_SECONDS, 3))
            )
        return times


def _look(
    decoder: whisper.WhisperDecoder, streams: list[torch.Tensor], features: torch.Tensor, layer: int, head: int
) -> torch.Tensor:
    cross = decoder.layers[layer].cross
    return whisper.attended(cross, cross.norm(streams[3 * layer + 1]), features, torch.zeros(()))[head]


def steady_path(scores: Scores) -> list[int]:
    """The first frame of each id where all follow each other: the greatest sum of `scores` [frames, ids]."""
    best, came = np.full(scores.shape[1], -np.inf), np.zeros(scores.shape, bool)
    best[0] = 0.0
    for frame, row in enumerate(scores):
        if frame:
            before = np.concatenate([[-np.inf], best[:-1]])
            came[frame] = before > best
            best = np.maximum(best, before)
        best = best + row
    firsts, number = [0] * scores.shape[1], scores.shape[1] - 1
    for frame in range(len(scores) - 1, 0, -1):
        if came[frame, number]:
            firsts[number] = frame
            number -= 1
    return firsts


def main(argv: list[str] | None = None) -> int:
    """Align the English clips of all shards that have no times yet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("whisper", type=Path, metavar="MODEL.bin", help="fetched if it is not there")
    parser.add_argument("--features", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(argv)
    aligner = Aligner(whisper_base.fetch(options.whisper), options.vocabulary)
    shards = {index: corpus.read_shard(index) for index in sorted(options.features.glob("*-*.jsonl"))}
    known: dict[str, Times] = {}  # of the recordings as they are, by id
    for index, clips in sorted(shards.items(), key=lambda item: bool(item[1][0].get("variant"))):
        out = index.with_suffix(".words.json")
        if not out.exists():
            out.write_text(json.dumps(shard_times(clips, known, aligner)) + "\n")
            print(f"{index.stem}: done", file=sys.stderr, flush=True)
        if not clips[0].get("variant"):
            known |= {clips[int(number)].get("id"): times for number, times in json.loads(out.read_text()).items()}
    return 0


def shard_times(
    clips: Sequence[Clip], known: dict[str, Times], aligner: Callable[[Clip], Times | None]
) -> dict[int, Times]:
    """Times of the words of one shard's English clips that have none yet, by number."""
    found = {}
    for number, clip in enumerate(clips):
        if not is_english(clip) or clip.get("words"):
            continue
        times = at_speed(known.get(clip.get("id")), clip) if clip.get("variant") else aligner(clip)
        if times is not None:
            found[number] = times
    return found


def at_speed(times: Times | None, clip: Clip) -> Times | None:
    """The times of a recording in a variant of it; None where the variant was cut before its end."""
    speed = clip.get("speed") or 1.0
    moved = [(round(start / speed, 3), round(end / speed, 3)) for start, end in times or ()]
    return moved if moved and moved[-1][1] <= (clip.tokens + 1) * TOKEN_SECONDS else None


if __name__ == "__main__":
    raise SystemExit(main())
