"""Choices in the words in which a model answers: its own sentence, with each choice in the named one's place."""

from __future__ import annotations

import re
from collections.abc import Sequence


def framed(said: str, choices: Sequence[str]) -> list[str]:
    """Each choice as the model would say it, in order: `The speaker is a man.` gives `The speaker is a woman.`, too.

    `said` is the model's free answer. If it names none of the choices as a whole word, they are left bare. Of several
    the one that is named first counts, of equal places the longest.
    """
    found = [(match.start(), -len(choice), match) for choice in choices if (match := _named(choice, said))]
    if not found:
        return list(choices)
    _, _, match = min(found, key=lambda one: one[:2])
    return [said[: match.start()] + choice + said[match.end() :] for choice in choices]


def _named(choice: str, said: str) -> re.Match[str] | None:
    return re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", said, re.IGNORECASE)
