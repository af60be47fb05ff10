"""`python3 -m models.nano.train.align STATE --features DIR --vocabulary FILE`: when each word of real clips is said.

The letters' CTC of a trained state is forced through the transcript (Viterbi); a word lasts from its first letter's
frame to its last one's. Or the state is Whisper base: then a word lasts from where its decoder looks when it writes the
word to where it looks for the next one (OpenAI's word times are made so, too). Only the recordings as they are (variant
0) are aligned; the others have the same times at their speed.

For each shard NAME.jsonl a NAME.words.json is written: number of the clip -> [[start s, end s], ...],
which `corpus.load` reads. Clips whose letters the state does not hear (a mean above DOUBTFUL) are left out.
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

from models.nano.train import corpus
from models.nano.train import whisper_decoder as whisper
from models.nano.train.answers import Piece
from models.nano.train.batches import Encoder, letters_of
from models.nano.train.corpus import TOKEN_SECONDS, Clip
from models.nano.train.drawing import is_english
from models.nano.train.examples import Example
from models.nano.train.losses import GUIDED_LAYER
from models.nano.train.train import begin, build
from models.nano.train.whisper_pieces import whisper_ids
from models.nano.train.whisper_teacher import FIRST
from models.nano.train.wordings import TRANSCRIBE_TAGS
from tokenizer.tokenizer import Tokenizer

DOUBTFUL = 1.5  # nats a letter
UNFORESEEN = 2.0  # nats an id
SLOW = {"word": 0.2, "letter": 0.09}  # seconds: longer words have a pause before them
# Of layer, head: those that OpenAI names for base.
ALIGNED_HEADS = ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))
EARLY = 1  # frames a CTC letter tends to come late: words begin this much before it

Scores = NDArray[np.float32]
Times = list[tuple[float, float]]  # start and end of each word, seconds


def forced_path(scores: Scores, letters: Sequence[int]) -> tuple[list[tuple[int, int]], float]:
    """First and last frame of each letter on the best path, and its cost in nats a letter.

    `scores` [frames, classes] are log-probabilities, class 0 is the blank. There must be frames enough for the letters.
    """
    states = np.zeros(2 * len(letters) + 1, np.int64)
    states[1::2] = letters
    skips = np.zeros(len(states), bool)  # from two states before, over a blank
    skips[3::2] = states[3::2] != states[1:-2:2]
    best = np.full(len(states), -np.inf)
    best[:2] = scores[0, states[:2]]
    came = np.zeros((len(scores), len(states)), np.int8)
    for frame in range(1, len(scores)):
        options = np.full((3, len(states)), -np.inf)
        options[0], options[1, 1:] = best, best[:-1]
        options[2, 2:] = np.where(skips[2:], best[:-2], -np.inf)
        came[frame] = options.argmax(0)
        best = options.max(0) + scores[frame, states]
    state = len(states) - 1 if best[-1] >= best[-2] else len(states) - 2
    cost = -float(best[state]) / max(1, len(letters))
    spans = [(-1, -1)] * len(letters)
    for frame in range(len(scores) - 1, -1, -1):
        if state % 2:
            last = spans[state // 2][1]
            spans[state // 2] = (frame, frame if last < 0 else last)
        state -= int(came[frame, state])
    return spans, cost


def word_times(text: str, spans: Sequence[tuple[int, int]]) -> Times:
    """Start and end of each word, from the frames of all letters of `text`, spaces among them."""
    times, place = [], 0
    for word in text.split(" "):
        first, last = spans[place][0], spans[place + len(word) - 1][1]
        times.append((round(max(0, first - EARLY) * TOKEN_SECONDS, 3), round((last + 1) * TOKEN_SECONDS, 3)))
        place += len(word) + 1
    return times


class Aligner:
    """A trained state."""

    def __init__(self, state: Path, vocabulary: Path) -> None:
        tokenizer, self.model, self.teacher = build(vocabulary)
        begin(state, self.model, self.teacher)
        self.encoder = Encoder(tokenizer)

    @torch.inference_mode()
    def __call__(self, clip: Clip) -> Times | None:
        """Times of the words of one clip, None where they are doubtful."""
        example = Example("transcribe_base", (clip,), (("", (Piece(""),)),), TRANSCRIBE_TAGS)
        batch = self.encoder.batch([self.encoder.encode(example)], np.random.default_rng(0), augment=False)
        x = self.model.embed(batch.ids, batch.features, batch.places, batch.ends)
        middle = self.model.hidden(x, GUIDED_LAYER).middle
        scores = self.teacher.log_probabilities(middle, batch)[:, 0].numpy()
        text = clip.get("text")
        if len(text) >= 0.95 * len(scores):
            return None
        spans, cost = forced_path(scores, letters_of(text).tolist())
        return word_times(text, spans) if cost < DOUBTFUL and spans[0][0] >= 0 else None


class WhisperAligner:
    """Whisper base, which needs no training: some of its heads look at what they write down."""

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
    parser.add_argument("state", type=Path, metavar="STATE", help="a trained state, or Whisper's model.bin")
    parser.add_argument("--features", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(argv)
    aligner = (WhisperAligner if options.state.suffix == ".bin" else Aligner)(options.state, options.vocabulary)
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
