"""Choices in the words in which a model answers: its own sentence, with each choice in the named one's place."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence


def framed(said: str, choices: Sequence[str]) -> list[str]:
    """Each choice as the model would say it, in order: `The speaker is a man.` gives `The speaker is a woman.`, too.

    `said` is the model's free answer. If it names none of the choices as a whole word, they are left bare. Of several
    the one that is named first counts, of equal places the longest. Where it is said in other capitals than it was
    given, so are the others.
    """
    found = [(match.start(), -len(choice), choice, match) for choice in choices if (match := _named(choice, said))]
    if not found:
        return list(choices)
    _, _, named, match = min(found, key=lambda one: one[:2])
    spell = str if match[0] == named else _spelling(match[0])
    spelled = [match[0] if choice == named else spell(choice) for choice in choices]
    return [said[: match.start()] + choice + said[match.end() :] for choice in spelled]


def _spelling(said: str) -> Callable[[str], str]:
    """What gives a choice the capitals of another that was `said`."""
    if said.islower():
        return str.lower
    if said.isupper() and len(said) > 1:
        return str.upper
    return lambda choice: choice[:1].upper() + choice[1:].lower()


def _named(choice: str, said: str) -> re.Match[str] | None:
    return re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", said, re.IGNORECASE)
