"""`python3 -m models.nano.train.bpe DATA OUT`: a vocabulary in `qwen.tiktoken`'s format, trained on nano's own texts.

Byte-level; the pieces are those of the real tokenizer; merges are taken most frequent first (ties: the lower bytes), so
that every common word is one token. The 3,522 special tokens stand behind the ranks, as in the real vocabulary.
"""

from __future__ import annotations

import argparse
import base64
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

Word = tuple[bytes, ...]


def train_ranks(texts: Iterable[str], size: int) -> list[bytes]:
    """At most `size` byte strings in rank order: the 256 bytes, then the merges."""
    import regex

    from tokenizer.special_tokens import special_tokens
    from tokenizer.tokenizer import PIECES

    special = regex.compile("|".join(regex.escape(token) for token in special_tokens()))
    pieces: Counter[bytes] = Counter()
    for text in texts:
        for part in special.split(text):
            pieces.update(piece.encode() for piece in regex.findall(PIECES, part))
    words = {tuple(bytes([byte]) for byte in piece): count for piece, count in pieces.items()}
    ranks = [bytes([byte]) for byte in range(256)]
    while len(ranks) < size:
        pairs: Counter[tuple[bytes, bytes]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        ranks.append(best[0] + best[1])
        words = {_merge(word, best): count for word, count in words.items()}
    return ranks


def texts_of(data: Path) -> Iterator[str]:
    """Everything that is said around the clips of a folder of shards: questions, answers, the frame of a chat."""
    from models.nano.train.data import read_shard
    from models.nano.train.grammar import WORDS
    from tokenizer.chat import SYSTEM

    for path in sorted(data.glob("shard-*.npz")):
        for sample in read_shard(path):
            yield from ("system", SYSTEM, "user", "assistant", "Audio 1:", "\nAudio 2:", sample.base_prompt or "")
            for question, pieces in sample.turns:
                yield from (f"\n{question}", "".join(text for text, _ in pieces))
    yield from (f" {word}" for word in WORDS)  # each at least once


def write_ranks(ranks: list[bytes], path: Path) -> None:
    """One base64 token and its rank a line."""
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)))


def _merge(word: Word, pair: tuple[bytes, bytes]) -> Word:
    if len(word) < 2:
        return word
    out: list[bytes] = []
    position = 0
    while position < len(word):
        if word[position : position + 2] == pair:
            out.append(pair[0] + pair[1])
            position += 2
        else:
            out.append(word[position])
            position += 1
    return tuple(out)


def main(argv: list[str] | None = None) -> int:
    """Train on the texts of DATA and write OUT."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of shards")
    parser.add_argument("out", type=Path, metavar="OUT", help="qwen.tiktoken to write")
    parser.add_argument("--size", type=int, default=1400, help="ranks at most")
    options = parser.parse_args(argv)
    write_ranks(train_ranks(texts_of(options.data), options.size), options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
