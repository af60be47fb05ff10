"""What an answer may go on with, looked up in what was said before.

A run of several ids costs little more than a run of one, and its logits are the same, bit for bit: so a guess of the
next ids is checked in the run that makes the first of them, and changes nothing but the time. The answers of a folder
share their wording, and so do a transcript and the next turn; no second model is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# How many ids at the end of an answer are looked up at most: the longest end that was met decides.
LONGEST = 16
REMEMBERED = 1 << 16  # ids; beyond that all is forgotten, so that memory is flat
# Behind an answer, and behind a prompt, of which nobody knows yet how it goes on.
END, OPEN = -1, -2
# What was met n times, and m times of these went on with an id, goes on so again with a chance of (m - DOUBT) / n, with
# half the doubt where LONGEST ids are the same; one id alone says less, by ALONE. [fitted to nano's answers]
DOUBT, ALONE = 0.4, 0.25
UNLIKELY = 0.1  # nobody looks further than such a guess


@dataclass(frozen=True)
class Guess:
    """An id that may come next, and the chance that it and all guesses before it are right."""

    token_id: int
    chance: float


class Drafts:
    """The ids of prompts and answers so far."""

    def __init__(self) -> None:
        self._said = np.full(REMEMBERED, END, np.int32)
        self._count = 0
        self._prompts: set[tuple[int, ...]] = set()

    def read(self, prompt: Sequence[int]) -> None:
        """Take in a prompt, once: a folder has the same one for every file."""
        if tuple(prompt) not in self._prompts:
            self.remember([*prompt, OPEN])
            self._prompts.add(tuple(prompt))

    def remember(self, ids: Sequence[int]) -> None:
        """Take in an answer with the end of its prompt."""
        said = [END, *ids][-REMEMBERED + 1 :]
        if self._count + len(said) >= REMEMBERED:
            self._count = 0
            self._prompts.clear()
        self._said[self._count : self._count + len(said)] = said
        self._count += len(said)
        self._said[self._count] = END

    def after(self, ids: Sequence[int], most: int) -> Iterator[Guess]:
        """At most `most` ids that may follow the end of `ids`, as far as they were met and are not unlikely."""
        before, chance = list(ids[-LONGEST:]), 1.0
        while most > 0 and chance >= UNLIKELY:
            guess = self._next(before)
            if guess.token_id == END:
                return
            most, chance = most - 1, chance * guess.chance
            yield Guess(guess.token_id, chance)
            before.append(guess.token_id)

    def _next(self, before: Sequence[int]) -> Guess:
        """What most often followed the longest end of `before` that was met, the last of equals; END if none was."""
        said = self._said[: self._count + 1]
        # Where the last id of `before` was met, and went on.
        places, length = np.flatnonzero((said[:-1] == before[-1]) & (said[1:] != OPEN)), 1
        if not len(places):
            return Guess(END, 0)
        while length < min(len(before), LONGEST):
            longer = places[said[places - length] == before[-1 - length]]  # every text begins behind an END
            if not len(longer):
                break
            places, length = longer, length + 1
        ids, behind, times = np.unique(said[places + 1][::-1], return_index=True, return_counts=True)
        best = np.lexsort((behind, -times))[0]
        chance = (times[best] - (DOUBT if length < LONGEST else DOUBT / 2)) / len(places)
        return Guess(int(ids[best]), float(chance if length > 1 else ALONE * chance))
