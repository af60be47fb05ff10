"""Draft tokens: ids that may come next, looked up in earlier answers, and how many of them save time.

A run of several ids costs little more than a run of one, and its logits are the same, bit for bit. So draft tokens are
checked in the run that makes the first of them, and change nothing but the time. The answers of a folder share their
wording, and so do a transcript and the next turn; no second model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

# How many ids at the end of an answer are looked up at most: the longest end that was met decides.
LONGEST = 16
REMEMBERED = 1 << 16  # ids; beyond that all is forgotten, so that memory is flat
# Marks in what is remembered: END stands behind an answer, OPEN behind a prompt, whose answer is not known yet.
END, OPEN = -1, -2
# If some ids were met n times, and another id followed them m times, it follows again with the chance (m - DOUBT) / n.
# The doubt is half as large where LONGEST ids agree. One id alone says less, by ALONE. [fitted to nano's answers]
DOUBT, ALONE = 0.4, 0.25
UNLIKELY = 0.1  # nobody looks further than such a draft token
# The time of a run of 2, 4, 6 and 8 ids against that of one [measured on the full model in int4, that of 6 between its
# neighbours; int8 is near]: from about there on each more costs as much. They go in pairs.
RUN_COSTS = (1.0, 1.3, 1.55, 1.8)
LONGEST_RUN = 2 * len(RUN_COSTS)
# What each draft token adds to the run of a prompt, as a share of the time of one id's run [measured], and the most.
PROMPT_COST, PROMPT_DRAFTS = 0.18, 15
# Ids that would come in the time of one run anyway: a longer run must bring more than its time does elsewhere.
WORTH = 1.8


@dataclass(frozen=True)
class Draft:
    """An id that may come next, and the chance that it and all drafts before it are right."""

    token_id: int
    chance: float


class Drafts:
    """The ids of prompts and answers so far, and what they let expect."""

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

    def for_prompt(self, ids: Sequence[int], most: int, *, rows: int) -> list[int]:
        """Ids that may answer the prompt `ids`, at most `most`, to run with it; `rows` may decode side by side."""
        return self._paying(ids, min(most, PROMPT_DRAFTS), partial(_prompt_cost, rows))

    def for_run(self, ids: Sequence[int], most: int, *, taken: int, rows: int) -> list[int]:
        """Ids that may follow `ids`, at most `most`, for a run of `rows` that has `taken` ids already."""
        return self._paying(ids, min(most, LONGEST_RUN // rows - 1), partial(_more_cost, taken))

    def _paying(self, ids: Sequence[int], most: int, cost: Callable[[int], float]) -> list[int]:
        """As many of the ids that may follow as pay for `cost(number)` runs."""
        drafts = list(self.after(ids, most))
        best, kept, gain = 0.0, 0, 0.0
        for number, draft in enumerate(drafts, 1):
            gain += draft.chance
            paid = gain - WORTH * cost(number)
            if paid >= best:
                best, kept = paid, number
        return [draft.token_id for draft in drafts[:kept]]

    def after(self, ids: Sequence[int], most: int) -> Iterator[Draft]:
        """At most `most` ids that may follow the end of `ids`, as far as they were met and are not unlikely."""
        before, chance = list(ids[-LONGEST:]), 1.0
        while most > 0 and chance >= UNLIKELY:
            draft = self._next(before)
            if draft.token_id == END:
                return
            most, chance = most - 1, chance * draft.chance
            yield Draft(draft.token_id, chance)
            before.append(draft.token_id)

    def _next(self, before: Sequence[int]) -> Draft:
        """What most often followed the longest end of `before` that was met, the last of equals; END if none was."""
        said = self._said[: self._count + 1]
        # Where the last id of `before` was met, and went on.
        places, length = np.flatnonzero((said[:-1] == before[-1]) & (said[1:] != OPEN)), 1
        if not len(places):
            return Draft(END, 0)
        while length < min(len(before), LONGEST):
            longer = places[said[places - length] == before[-1 - length]]  # every text begins after an END
            if not len(longer):
                break
            places, length = longer, length + 1
        ids, behind, times = np.unique(said[places + 1][::-1], return_index=True, return_counts=True)
        best = np.lexsort((behind, -times))[0]
        chance = (times[best] - (DOUBT if length < LONGEST else DOUBT / 2)) / len(places)
        return Draft(int(ids[best]), float(chance if length > 1 else ALONE * chance))


def _prompt_cost(rows: int, drafts: int) -> float:
    """What draft tokens add to a prompt's run; the ids of so many rows would come in less time elsewhere."""
    return drafts * PROMPT_COST * max(1, rows / _run_cost(rows) / WORTH)


def _more_cost(ids: int, more: int) -> float:
    """What `more` ids add to a run of so many."""
    return _run_cost(ids + more) - _run_cost(ids)


def _run_cost(ids: int) -> float:
    return RUN_COSTS[min((ids + 1) // 2, len(RUN_COSTS)) - 1]
