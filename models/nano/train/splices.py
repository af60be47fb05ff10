"""Parts of clips, cut between words and joined anew: speech whose words no one can know by heart.

There are few hours of real speech, and training hears each clip many times. Where a sentence is always whole, its first
words tell the rest, and the decoder learns to remember in place of hearing. The features of a part are those of the
whole clip, so it keeps a little of its surroundings.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.nano.train.corpus import TOKEN_SECONDS, Clip
from models.nano.train.drawing import Balanced

LEAST = 2  # words of a part
PARTS = (0.45, 0.4, 0.15)  # how often there are one, two and three
LONGEST = 700  # tokens in all
PIECE = (3, 10)  # tokens of what is scattered
KEPT = (0.4, 1.0)  # share of it
THIN = (8, 40)  # tokens that are left of a sound


@dataclass(frozen=True)
class Splice(Clip):
    """Tokens `first` to `first + tokens` of the features that are given."""

    joined: NDArray[np.float16]

    @property
    def features(self) -> NDArray[np.float16]:
        """[tokens, state]."""
        return self.joined


def part(clip: Clip, rng: random.Random) -> Splice:
    """A run of words of a clip whose times are known, cut in the middle of the pauses beside it."""
    words, times = clip.get("text").split(), clip.get("words")
    count = rng.randint(min(LEAST, len(words)), len(words))
    begin = rng.randint(0, len(words) - count)
    end = begin + count
    start = (times[begin - 1][1] + times[begin][0]) / 2 if begin else 0.0
    stop = (times[end - 1][1] + times[end][0]) / 2 if end < len(words) else clip.tokens * TOKEN_SECONDS
    first = min(int(start / TOKEN_SECONDS), clip.tokens - 1)
    last = max(first + 1, min(round(stop / TOKEN_SECONDS), clip.tokens))
    labels = {
        "language": clip.get("language"),
        "source": clip.get("source"),
        "text": " ".join(words[begin:end]),
        "words": _moved(times[begin:end], -first * TOKEN_SECONDS),
    }
    return Splice(clip.shard, 0, last - first, labels, clip.features[first:last])


def spliced(rng: random.Random, timed: Balanced) -> Splice:
    """One to three parts in a row, of clips that are drawn one by one."""
    found = part(timed.draw(rng), rng)
    for _ in range(rng.choices(range(3), PARTS)[0]):
        new = part(timed.draw(rng), rng)
        if found.tokens + new.tokens > LONGEST:
            break
        labels = {
            **found.labels,
            "text": f"{found.get('text')} {new.get('text')}",
            "words": [*found.get("words"), *_moved(new.get("words"), found.tokens * TOKEN_SECONDS)],
        }
        joined = np.concatenate([found.features, new.features])
        found = Splice(found.shard, 0, len(joined), labels, joined)
    return found


def begun(clip: Clip, rng: random.Random) -> Splice:
    """The first words of a clip whose times are known, cut off where the last of them ends, as it is written."""
    words, times, written = clip.get("text").split(), clip.get("words"), str(clip.get("written") or "").split()
    count = rng.randint(min(LEAST, len(words)), len(words))
    tokens = max(1, min(round(times[count - 1][1] / TOKEN_SECONDS), clip.tokens))
    labels = {"language": clip.get("language"), "source": clip.get("source"), "text": " ".join(words[:count])}
    if len(written) == len(words):
        labels["written"] = " ".join(written[:count]).rstrip(",;:-")
    return Splice(clip.shard, 0, tokens, labels, clip.features[:tokens])


def joined(rng: random.Random, draw: Callable[[], Clip], written: Callable[[Clip], str]) -> Splice:
    """Two to six whole clips in a row, and their texts as they are written: a full stop is not always the end."""
    found = [draw()]
    for _ in range(rng.choice((1, 1, 2, 3, 5))):
        if sum(clip.tokens for clip in found) + (new := draw()).tokens <= LONGEST:
            found.append(new)
    labels = {"language": found[0].get("language"), "source": found[0].get("source")}
    labels |= {"text": " ".join(clip.get("text") for clip in found), "written": " ".join(map(written, found))}
    features = np.concatenate([clip.features for clip in found])
    return Splice(found[0].shard, 0, len(features), labels, features)


def scattered(clip: Clip, rng: random.Random) -> Splice:
    """Some of a clip, cut into short pieces in another order: its sound without what it says."""
    size = rng.randint(*PIECE)
    pieces = [(first, min(first + size, clip.tokens)) for first in range(0, clip.tokens, size)]
    kept = rng.sample(pieces, max(1, round(rng.uniform(*KEPT) * len(pieces))))
    joined = np.concatenate([clip.features[first:last] for first, last in kept])
    labels = {name: value for name, value in clip.labels.items() if name not in {"text", "written", "words"}}
    return Splice(clip.shard, 0, len(joined), labels, joined)


def thinned(clip: Clip, rng: random.Random) -> Clip:
    """A few frames from all parts of a clip: what sounds, in a fraction of the rows."""
    count = rng.randint(*THIN)
    if clip.tokens <= count:
        return clip
    step = clip.tokens / count
    kept = [int((number + rng.random()) * step) for number in range(count)]
    return Splice(clip.shard, 0, count, clip.labels, np.asarray(clip.features[kept]))


def _moved(times: list[tuple[float, float]], seconds: float) -> list[tuple[float, float]]:
    return [(max(0.0, start + seconds), max(0.0, end + seconds)) for start, end in times]
