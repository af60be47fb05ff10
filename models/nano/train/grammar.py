"""English sentences for nano: 2 to 12 words, all of them in models/nano/words.txt, no two words that sound alike.

Comes in: a random generator and the split. Goes out: a list of words. The split is by content: a sentence whose
CRC-32 leaves 0 divided by 50 is a test sentence, whoever makes it, and is never made for training.

Of homophones one is kept, and the other never said: `two` (no `to`, no `too`), `four`, `one`, `eight`, `by`, `no`,
`there`, `you`, `are` and `why` (so `u`, `r` and `y` are not spelled), `b`, `c`, `o`, `p`, `q`, `t` (so there is no
`be`, `see`, `oh`, ...). `i` and `a` are words and letters at once.
"""

from __future__ import annotations

import random
import re
import zlib
from functools import cache
from itertools import pairwise
from pathlib import Path

from models.nano.train.english_rules import RULES

WORDS: tuple[str, ...]  # the lines of words.txt, read at the first use
MIN_WORDS, MAX_WORDS = 2, 12
TEST_PART = 50
RANDOM_SHARE = 0.1  # of the sentences: strings of words without grammar, so that no word is rare

_UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
LETTERS = tuple("abcdefghijklmnopqstvwxz")


def english(rng: random.Random, *, split: str) -> list[str]:
    """Make one sentence of `split`, "train" or "test"."""
    if split not in {"train", "test"}:
        raise ValueError(f'split is "train" or "test", not {split!r}')
    while True:
        words = _random_words(rng) if rng.random() < RANDOM_SHARE else _sentence(rng)
        if MIN_WORDS <= len(words) <= MAX_WORDS and split_of(" ".join(words)) == split:
            return words


def split_of(sentence: str) -> str:
    """Say which split a text belongs to, by its content alone."""
    return "test" if zlib.crc32(sentence.encode()) % TEST_PART == 0 else "train"


def number_words(number: int) -> list[str]:
    """Spell 0 to 999,999: three hundred and five."""
    if number >= 1000:
        rest = number % 1000
        return [*number_words(number // 1000), "thousand", *(["and"] if 0 < rest < 100 else []), *_under_1000(rest)]
    return _under_1000(number) or ["zero"]


def _under_1000(number: int) -> list[str]:
    hundreds, rest = divmod(number, 100)
    words = [_UNITS[hundreds], "hundred"] if hundreds else []
    if hundreds and rest:
        words.append("and")
    if rest >= 20:
        words += [_TENS[rest // 10 - 2], *([_UNITS[rest % 10]] if rest % 10 else [])]
    elif rest:
        words.append(_UNITS[rest])
    return words


def _sentence(rng: random.Random) -> list[str]:
    words: list[str] = []
    _expand("S", rng, words)
    for place, (word, following) in enumerate(pairwise(words)):
        if word == "a" and following[0] in "aeiou" and following not in _CONSONANT:
            words[place] = "an"
    return [word.lower() for word in words]


_CONSONANT = ("one", "a", "used")


def _expand(symbol: str, rng: random.Random, words: list[str]) -> None:
    if symbol == "NUMBER":
        words += number_words(_number(rng))
    elif symbol == "CODE":
        words += _code(rng)
    elif (alternatives := _rules().get(symbol)) is None:
        words.append(symbol)
    else:
        for part in rng.choice(alternatives):
            _expand(part, rng, words)


def _number(rng: random.Random) -> int:
    top = rng.choice((20, 100, 100, 1000, 1000, 10_000, 100_000))
    return rng.randrange(2, top) if rng.random() < 0.9 else rng.randrange(top // 10, top + 1, top // 10)


def _code(rng: random.Random) -> list[str]:
    """Spell letters, digits or both; the letter a is a capital here, so that it does not become "an"."""
    names = rng.choice((LETTERS, _UNITS[:10], LETTERS + _UNITS[:10]))
    return [name if name != "a" else "A" for name in rng.choices(names, k=rng.randint(2, 6))]


def _random_words(rng: random.Random) -> list[str]:
    return rng.choices(_words(), k=rng.randint(MIN_WORDS, MAX_WORDS))


@cache
def _rules() -> dict[str, list[list[str]]]:
    """Read the rules; an alternative of weight n stands n times in its list."""
    rules: dict[str, list[list[str]]] = {}
    for line in RULES.strip().splitlines():
        if not line:
            continue
        symbol, sign, body = line.split(" ", 2)
        alternatives = rules.setdefault(symbol, [])
        if sign == "=":
            alternatives += [[word] for word in body.split()]
            continue
        for alternative in body.split("|"):
            found = re.fullmatch(r"(\d*)(.*)", alternative.strip())
            assert found, alternative
            alternatives += [found[2].split()] * int(found[1] or 1)
    return rules


@cache
def _words() -> tuple[str, ...]:
    return tuple((Path(__file__).parents[1] / "words.txt").read_text(encoding="utf-8").split())


def __getattr__(name: str) -> tuple[str, ...]:
    if name == "WORDS":
        return _words()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
