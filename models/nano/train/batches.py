"""Examples -> batches of tensors: ids with their loss weights, features, and where the transcripts are.

Prompts are built by the run-time tokenizer and `encode_chat`, so that nano learns exactly the ids that it will be asked
with. All examples of a batch are of similar length.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nano.train.answers import Piece
from models.nano.train.examples import Example
from models.nano.train.heard_anew import EXCHANGED, augmented, exchanged
from models.nano.train.wordings import TRANSCRIBE_TAGS
from tokenizer.chat import Turn, encode_base, encode_chat
from tokenizer.tokenizer import Special, Tokenizer

POOL = 1024  # examples sorted by length at a time
STYLE_FROM = 25  # tokens: of less, mean and spread are what is said, not how
SAID = ("transcribe", "transcribe_base", "timestamps")
SOUND_TASKS = ("event",)
RESTYLED_TASKS = (*SAID, "language")
MISHEARD = 0.1  # at most this share of a transcript's ids, as the decoder reads them back
STUTTERED = 0.2  # of the transcripts: the decoder reads a phrase two or three times, and goes on as it should
STUTTER_ENDS = 0.4  # of these phrases: the last words
STUTTER_IDS = (1, 1, 2, 3, 4, 5, 6, 8, 10, 14, 20)  # how long they are
CIRCLES = 0.4  # of them: read again and again, until there are up to CIRCLE_IDS ids more
CIRCLE_IDS = 24
NEVER_SAID = 0.5  # of the circles: up to three ids that nobody said
STUTTER_WEIGHT = 2.0  # of the id behind them
SPELLED_WEIGHT = 2.0  # times that of other ids of a transcript: what a word that is spelled goes on with, and ends at


@dataclass
class Batch:
    """One training step. `targets` [batch, t] is the next id, `weights` [batch, t] its weight in the loss."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    features: Tensor  # [tokens, state], all clips one behind the other
    places: Tensor  # flat positions of `features`
    ends: tuple[Tensor, Tensor]  # flat positions of both boundary rows of each clip
    clips: Tensor  # tokens of each clip
    clean: Tensor  # as `features`, without masks
    read: Tensor  # [transcripts, 5]: row, clip, first id, the one behind the last, whether it is without marks
    tasks: list[str]


@dataclass
class Encoded:
    """One example as ids, with the places of its clips."""

    example: Example
    ids: list[int]
    weights: list[float]  # of each id as a target
    said: int  # position of a transcript's first id; the length where nothing is written down
    starts: list[int]  # position of each clip's <audio>
    read: tuple[int, int, bool] | None  # a transcript's first id, the one behind its last, whether without marks


class CachedTokenizer(Tokenizer):
    """Remembers the ids of short texts: most of a prompt come again and again."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__(vocabulary)
        self._known: dict[tuple[str, Special], list[int]] = {}

    def encode(self, text: str, *, special: Special = "none") -> list[int]:
        """As `Tokenizer.encode`."""
        if (text, special) not in self._known:
            if len(self._known) > 20_000:
                self._known.clear()
            self._known[text, special] = super().encode(text, special=special)
        return list(self._known[text, special])


class Encoder:
    """Turns examples into ids and batches."""

    def __init__(self, tokenizer: Tokenizer, channels: NDArray[np.float32] | None = None) -> None:
        """`channels` [n, state]: the rows of the projection that say what sounds (`sound_channels`)."""
        self.tokenizer = tokenizer
        self.channels: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None
        if channels is not None and channels.any():
            self.channels = (channels, np.linalg.pinv(channels, 1e-3).astype(np.float32))

    def encode(self, example: Example) -> Encoded:
        """Ids of the whole dialogue, with weights on the answers and the ids that end them."""
        spans = tuple(clip.tokens + 2 for clip in example.clips)
        turns: list[Turn] = []
        ids: list[int] = []
        weights: list[float] = []
        for number, (question, pieces) in enumerate(example.turns):
            text = "".join(piece.text for piece in pieces)
            if example.base_prompt is not None:
                prompt = encode_base(self.tokenizer, example.base_prompt, audio_spans=spans)
                end = self.tokenizer.endoftext
            else:
                prompt = encode_chat(self.tokenizer, [*turns, Turn(question, audio_spans=() if number else spans)])
                end = self.tokenizer.im_end
                turns.append(Turn(question, audio_spans=() if number else spans, reply=text))
            new = self.tokenizer.encode(text, special="audio")
            own = self._piece_weights(new, pieces, is_read=example.task in SAID[:2])
            weights += [0.0] * (len(prompt) - len(ids)) + own + [1.0]
            ids = [*prompt, *new, end]
        starts = [position for position, token in enumerate(ids) if token == self.tokenizer.audio_start]
        said = len(prompt) if example.task in SAID[:2] else len(ids)
        sizes = [len(self.tokenizer.token_bytes(token)) for token in ids[said:-1]]
        inside = _inside(sizes, pieces, said)
        read = (*inside, example.base_prompt == TRANSCRIBE_TAGS) if inside else None
        return Encoded(example, ids, weights, said, starts, read)

    def _piece_weights(self, ids: list[int], pieces: Sequence[Piece], *, is_read: bool) -> list[float]:
        """The weight of each id: that of the piece of its last byte. In a transcript spelling counts more."""
        ends = np.cumsum([len(piece.text.encode()) for piece in pieces])
        own = [self.tokenizer.token_bytes(token) for token in ids]
        reached = np.cumsum([len(one) for one in own])
        weights = [pieces[min(int(np.searchsorted(ends, end)), len(pieces) - 1)].weight for end in reached]
        if not is_read:
            return weights
        return [weight * (SPELLED_WEIGHT if on else 1) for weight, on in zip(weights, spelled(own), strict=True)]

    def batch(self, encoded: list[Encoded], rng: np.random.Generator, *, augment: bool) -> Batch:
        """Pad and stack; `augment` masks stripes of the features and mishears words."""
        length = max(len(one.ids) for one in encoded)
        as_read = torch.full((len(encoded), length), self.tokenizer.endoftext)
        ids = torch.full((len(encoded), length), self.tokenizer.endoftext)
        weights = torch.zeros(len(encoded), length)
        features: list[NDArray[np.float16]] = []
        places, begins, finishes, read = [], [], [], []
        restyling: list[bool] = []
        sounding: list[int] = []
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            as_read[row, : len(one.ids)] = torch.tensor(
                misheard(one.ids, one.said, self.tokenizer.endoftext, rng) if augment else one.ids
            )
            weights[row, : len(one.ids) - 1] = torch.tensor(one.weights[1:])
            if one.read:
                read.append((row, len(features), *one.read))
            for start, clip in zip(one.starts, one.example.clips, strict=True):
                flat = row * length + start
                begins.append(flat)
                finishes.append(flat + clip.tokens + 1)
                places.append(np.arange(flat + 1, flat + 1 + clip.tokens))
                if one.example.task in SOUND_TASKS:
                    sounding.append(len(features))
                features.append(clip.features)
                restyling.append(one.example.task in RESTYLED_TASKS and clip.tokens >= STYLE_FROM)
        clean = _joined(features)
        if augment:
            whole, features = features, augmented(features, restyling, rng)
            if self.channels:
                for number in sounding:
                    other = whole[sounding[rng.integers(len(sounding))]] if rng.random() < EXCHANGED else whole[number]
                    features[number] = exchanged(whole[number], other, self.channels)
        return Batch(
            ids=as_read,
            targets=ids.roll(-1, 1),
            weights=weights,
            features=_joined(features),
            places=torch.from_numpy(np.concatenate(places)),
            ends=(torch.tensor(begins, dtype=torch.int64), torch.tensor(finishes, dtype=torch.int64)),
            clips=torch.tensor([len(one) for one in features], dtype=torch.int64),
            clean=clean,
            read=torch.tensor(read, dtype=torch.int64).reshape(-1, 5),
            tasks=[one.example.task for one in encoded],
        )


def going_on(pieces: list[bytes]) -> list[bool]:
    """Of each piece whether it goes on with a word of Latin letters."""
    return [b[:1].isalpha() and a[-1:].isalpha() for a, b in itertools.pairwise([b"", *pieces])]


def spelled(pieces: list[bytes]) -> list[bool]:
    """Of each piece whether it goes on with a word, or comes right behind one that did."""
    inside = going_on(pieces)
    return [on or before for on, before in zip(inside, [False, *inside], strict=False)]


def _joined(features: list[NDArray[np.float16]]) -> Tensor:
    return torch.from_numpy(np.concatenate(features).astype(np.float32))


def _inside(sizes: list[int], pieces: Sequence[Piece], first: int) -> tuple[int, int] | None:
    """Ids (first, behind the last) of a transcript's own piece, the second of three or the only one; `sizes`: bytes."""
    if not sizes:
        return None
    bounds = [0, *np.cumsum([len(piece.text.encode()) for piece in pieces])]
    begin, end = bounds[:2] if len(pieces) < 3 else bounds[1:3]
    ends = np.cumsum(sizes)
    inside = ((ends - sizes >= begin) & (ends <= end)).nonzero()[0]
    return (first + int(inside[0]), first + int(inside[-1]) + 1) if len(inside) else None


def misheard(ids: list[int], said: int, texts: int, rng: np.random.Generator) -> list[int]:
    """A copy with some ids from `said` on replaced by any of the first `texts`: what was heard, not written, counts.

    So the decoder learns to go on after a mistake, and to listen where it knows the sentence by heart.
    """
    rate = rng.uniform(0, MISHEARD)
    return [
        int(rng.integers(texts)) if place >= said and rng.random() < rate else token for place, token in enumerate(ids)
    ]


def stuttered(one: Encoded, rng: random.Random, texts: int) -> Encoded:
    """Some transcripts with a phrase that is read again; what weighs is how it goes on, not that it was said again.

    So the decoder learns to leave a circle, which may be of any of the first `texts` ids. Whisper itself would go round
    in it: nothing is asked of it.
    """
    if not one.read or rng.random() >= STUTTERED:
        return one
    first, last, _ = one.read
    end = last if rng.random() < STUTTER_ENDS else rng.randint(first + 1, last)
    if rng.random() < CIRCLES:
        never_said = [rng.randrange(texts) for _ in range(rng.randint(1, 3))]
        phrase = never_said if rng.random() < NEVER_SAID else one.ids[max(first, end - rng.randint(1, 6)) : end]
        again = phrase * max(1, rng.randint(1, CIRCLE_IDS) // len(phrase))
    else:
        again = one.ids[end - min(rng.choice(STUTTER_IDS), end - first) : end] * rng.choice((1, 1, 2))
    ids = [*one.ids[:end], *again, *one.ids[end:]]
    weights = [*one.weights[:end], *(0.0 for _ in again), STUTTER_WEIGHT, *one.weights[end + 1 :]]
    return replace(one, ids=ids, weights=weights, read=None)


class Drawing(Protocol):
    """What examples are drawn from."""

    def example(self, rng: random.Random) -> Example:
        """A new one."""


def batches(source: Drawing, encoder: Encoder, seed: int, *, size: int, augment: bool = True) -> Iterator[Batch]:
    """Endless batches of at most `size` ids, padding included, from pools sorted by length."""
    rng, generator = random.Random(seed), np.random.default_rng(seed)  # noqa: S311 - reproducible data, not secrets
    while True:
        pool = [encoder.encode(source.example(rng)) for _ in range(POOL)]
        if augment:
            pool = [stuttered(one, rng, encoder.tokenizer.endoftext) for one in pool]
        pool.sort(key=lambda one: len(one.ids))
        groups: list[list[Encoded]] = [[]]
        for one in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(one.ids) > size:
                groups.append([])
            groups[-1].append(one)
        rng.shuffle(groups)
        for group in groups:
            yield encoder.batch(group, generator, augment=augment)
