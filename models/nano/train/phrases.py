"""`python3 -m models.nano.train.phrases OUT.lines TEXTS --vocabulary FILE`: a few words in a row, rich in spelled ones.

A word that the vocabulary does not have in one piece is spelled. Whisper's decoder knew such words whole, so nano must
learn each of them by examples: of those it heard less than three times half were wrong. Phrases are cut out of the
sentences of TEXTS (`texts`) and of WordNet's glosses (`--wordnet DIR`, Debian's wordnet-base), until every frequent
word (wordfreq's list) comes as often as its rank asks for. Seeded.
"""

from __future__ import annotations

import argparse
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from models.nano.train.batches import CachedTokenizer
from models.nano.train.recordings import spoken, test_runs, word_runs
from models.nano.train.texts import sentences

WORDS = (6, 10)  # of a phrase
TIMES = {5_000: 5, 10_000: 4, 30_000: 3}  # rank of a word -> how often it is to be heard
PASSES = (0.45, 0.35, 0.25, 0.15)  # share of a phrase's words that are still wanted, at least
WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
GLOSS = re.compile(r"\| (.*)$")
EASY = re.compile(r"[A-Za-z ,'-]+")  # nothing that could be read aloud in two ways


def glosses(folder: Path) -> Iterator[str]:
    """Definitions and examples of WordNet's `data.*` files, as they are said."""
    for path in sorted(folder.glob("data.*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found = GLOSS.search(line)
            for part in re.split(r"[;:]|\"", found[1]) if found else ():
                if EASY.fullmatch(part.strip()):
                    yield spoken(part)


def targets(frequent: Iterable[str], is_spelled: Callable[[str], bool]) -> Counter[str]:
    """How often each spelled word is to be heard; the most frequent come first in `frequent`."""
    found: Counter[str] = Counter()
    for rank, word in enumerate(frequent):
        times = next((times for most, times in TIMES.items() if rank < most), 0)
        if times and WORD.fullmatch(word) and is_spelled(word):
            found[word] = times
    return found


def phrases(found: list[str], wanted: Counter[str]) -> Iterator[str]:
    """The richest phrase of each sentence, as long as it has words that are wanted; takes them off `wanted`."""
    for least in PASSES:
        for sentence in found:
            words = sentence.split()
            if sum(wanted[word] > 0 for word in words) < least * WORDS[0]:
                continue
            share, phrase = max(_windows(words, wanted), default=(0.0, []))
            if share >= least:
                wanted.subtract(set(phrase))
                yield " ".join(phrase)


def _windows(words: list[str], wanted: Counter[str]) -> Iterator[tuple[float, list[str]]]:
    """Every phrase with the share of its words that are wanted, each of them once."""
    for count in range(WORDS[0], min(WORDS[1], len(words)) + 1):
        for first in range(len(words) - count + 1):
            phrase = words[first : first + count]
            yield sum(wanted[word] > 0 for word in set(phrase)) / count, phrase


def main(argv: list[str] | None = None) -> int:
    """Write the phrases, one a line."""
    import wordfreq

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT.lines")
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="books as *.txt, transcripts as *.lines")
    parser.add_argument("--wordnet", type=Path, metavar="DIR", help="WordNet's data.noun and the like")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    tokenizer, kept_out = CachedTokenizer(options.vocabulary), test_runs()
    found = [said for said, _ in sentences(options.texts)]
    found += [
        one for one in (glosses(options.wordnet) if options.wordnet else ()) if kept_out.isdisjoint(word_runs(one))
    ]
    rng = random.Random(options.seed)  # noqa: S311 - reproducible data
    rng.shuffle(found)
    frequent = wordfreq.top_n_list("en", max(TIMES))
    wanted = targets(frequent, lambda word: len(tokenizer.encode(f" {word}")) > 1)
    examples = len(wanted), sum(wanted.values())
    lines = list(phrases(found, wanted))
    rng.shuffle(lines)
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    missing = sum(count for count in wanted.values() if count > 0)
    words = sum(len(line.split()) for line in lines)
    count, asked = examples
    print(f"{len(lines)} phrases of {words} words, with {asked - missing} of {asked} examples of {count} words")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
