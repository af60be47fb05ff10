"""`python3 -m models.nano.train.bpe TEXTS OUT`: a vocabulary in `qwen.tiktoken`'s format, learned from real English.

Byte-level; the pieces are those of the real tokenizer; merges are taken most frequent first (ties: the lower bytes).
The 3,522 special tokens stand behind the ranks, as in the real vocabulary.
"""

from __future__ import annotations

import argparse
import base64
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

Pair = tuple[bytes, bytes]
FRAME = 300  # how often the texts around a clip count: questions, answers, the frame of a chat


def train_ranks(texts: Iterable[str], size: int) -> list[bytes]:
    """At most `size` byte strings in rank order: the 256 bytes, then the merges."""
    import regex

    from tokenizer.special_tokens import special_tokens
    from tokenizer.tokenizer import PIECES

    special = regex.compile("|".join(regex.escape(token) for token in special_tokens()))
    counts: Counter[bytes] = Counter()
    for text in texts:
        for part in special.split(text) if "<" in text else (text,):
            counts.update(piece.encode() for piece in regex.findall(PIECES, part))
    words = [([bytes([byte]) for byte in piece], count) for piece, count in counts.items()]
    pairs: Counter[Pair] = Counter()
    where: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (word, count) in enumerate(words):
        for pair in pairwise(word):
            pairs[pair] += count
            where[pair].add(number)
    ranks = [bytes([byte]) for byte in range(256)]
    heap = [(-count, pair) for pair, count in pairs.items()]
    heapq.heapify(heap)
    while len(ranks) < size and heap:
        count, best = heapq.heappop(heap)
        if pairs[best] != -count:
            continue  # an old count
        if best[0] + best[1] not in ranks:
            ranks.append(best[0] + best[1])
        changed: Counter[Pair] = Counter()
        for number in where.pop(best):
            _merge_in(words[number], best, number, changed, where)
        pairs.pop(best)
        for pair, difference in changed.items():
            if pair != best and difference:
                pairs[pair] += difference
                heapq.heappush(heap, (-pairs[pair], pair))
    return ranks


def _merge_in(
    entry: tuple[list[bytes], int], best: Pair, number: int, changed: Counter[Pair], where: defaultdict[Pair, set[int]]
) -> None:
    """Join the pair in one word, and count which pairs come and go."""
    word, count = entry
    for pair in pairwise(word):
        changed[pair] -= count
    position = 0
    while position < len(word) - 1:
        if (word[position], word[position + 1]) == best:
            word[position : position + 2] = [best[0] + best[1]]
        position += 1
    for pair in pairwise(word):
        changed[pair] += count
        where[pair].add(number)


def texts_of(folder: Path) -> Iterator[str]:
    """Everything that nano reads and writes: sentences in both forms, questions and answers, other languages."""
    from models.nano.train import foreign, wordings
    from models.nano.train.texts import sentences
    from tokenizer.chat import SYSTEM

    for spoken, written in sentences(folder):
        yield spoken
        if written:
            yield written
            yield f" {written}"
    frame = ["system", SYSTEM, "user", "assistant", "Audio 1:", "\nAudio 2:", 'The person says: "', '".', "\n"]
    frame += [f"\n{asked}" for task in wordings.tasks_asked() for asked in wordings.wordings(task)["train"]]
    frame += list(wordings.LANGUAGE_NAMES.values())
    for text in frame:
        for _ in range(FRAME):
            yield text
    for path in (Path(foreign.__file__),):
        yield from (line for line in path.read_text(encoding="utf-8").splitlines() if not line.isascii())


def write_ranks(ranks: list[bytes], path: Path) -> None:
    """One base64 token and its rank a line."""
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)))


def main(argv: list[str] | None = None) -> int:
    """Learn from TEXTS and write OUT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="folder of *.txt (books) and *.lines")
    parser.add_argument("out", type=Path, metavar="OUT", help="qwen.tiktoken to write")
    parser.add_argument("--size", type=int, default=3500, help="ranks at most")
    options = parser.parse_args(argv)
    write_ranks(train_ranks(texts_of(options.texts), options.size), options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
