"""What an answer may go on with, looked up in what was said before.

A run of several ids costs little more than a run of one, and its logits are the same, bit for bit: so a guess of the
next ids is checked in the run that makes the first of them, and changes nothing but the time. The answers of a folder
share their wording, and so do a transcript and the next turn; no second model is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

# How many ids at the end of an answer are looked up, the longest that is known first; one id alone says little.
LONGEST = 4
# A guess, with the id before it, fills a run of an even number. It grows while guesses hold, and shrinks to what costs
# nothing, the id that would be filled up with zeros otherwise.
FIRST, LEAST, MOST = 3, 1, 7
REMEMBERED = 1 << 16  # ids; beyond that all is forgotten, so that memory is flat
END = -1


class Drafts:
    """The ids of prompts and answers so far, by what stands before each."""

    def __init__(self) -> None:
        self._said: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}  # some ids -> where the last that followed them stands

    def remember(self, ids: Sequence[int]) -> None:
        """Take in a prompt, or an answer with the end of its prompt."""
        if len(self._said) + len(ids) > REMEMBERED:
            self._said, self._places = [], {}
        first = len(self._said)
        self._said += [*ids, END]
        for place in range(first + 1, len(self._said) - 1):
            for length in range(1, min(LONGEST, place - first) + 1):
                self._places[tuple(self._said[place - length : place])] = place

    def after(self, ids: Sequence[int], most: int) -> list[int]:
        """At most `most` ids that followed the end of `ids` when it was last met; none if it never was."""
        for length in range(min(LONGEST, len(ids)), 0, -1):
            place = self._places.get(tuple(ids[-length:]))
            if place is not None:
                found = self._said[place : place + (most if length > 1 else min(most, LEAST))]
                return found[: found.index(END)] if END in found else found
        return []
