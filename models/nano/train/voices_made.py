"""`python3 -m models.nano.train.voices_made OUT TEXTS --vocabulary FILE`: rare words, read by synthesizers of Debian.

Words that the vocabulary has in one piece are known from Whisper; others are spelled, and few of them are in the
recordings. Sentences of TEXTS (`texts`) that have many of these are read aloud by RHVoice, SVOX Pico and Flite. OUT
gets `meta.jsonl` and 16 kHz FLAC files, so that `features --recordings OUT` reads it. Seeded; what is there is not made
again.
"""

from __future__ import annotations

import argparse
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from models.nano.train.batches import CachedTokenizer
from models.nano.train.texts import Sentence, sentences
from models.nano.train.voices import add_line, decoded, lines_so_far, save

SOURCE = "made"
WORDS = (5, 18)  # of a sentence; longer transcripts are cut
TIMES = 2  # a spelled word counts as rare as often
SHARE = 0.2  # of a sentence's words that are rare, at least
VOICES: dict[str, tuple[str, ...]] = {  # name -> how it reads: {text} aloud into {wav}, or from standard input
    "rhvoice-bdl": ("RHVoice-test", "-p", "bdl", "-o", "{wav}"),
    "rhvoice-clb": ("RHVoice-test", "-p", "clb", "-o", "{wav}"),
    "rhvoice-slt": ("RHVoice-test", "-p", "slt", "-o", "{wav}"),
    "pico-gb": ("pico2wave", "-l", "en-GB", "-w", "{wav}", "{text}"),
    "pico-us": ("pico2wave", "-l", "en-US", "-w", "{wav}", "{text}"),
    "flite-awb": ("flite", "-voice", "awb", "-t", "{text}", "-o", "{wav}"),
    "flite-rms": ("flite", "-voice", "rms", "-t", "{text}", "-o", "{wav}"),
}


def cut(found: Iterable[Sentence], rng: random.Random) -> Iterator[Sentence]:
    """Sentences of a length to read; of a longer transcript some words in a row."""
    for spoken, written in found:
        words = spoken.split()
        if written is None and len(words) > WORDS[1]:
            count = rng.randint(*WORDS)
            first = rng.randint(0, len(words) - count)
            words = words[first : first + count]
        if WORDS[0] <= len(words) <= WORDS[1]:
            yield " ".join(words), written


def rare(found: list[Sentence], is_spelled: Callable[[str], bool], most: int) -> Iterator[Sentence]:
    """At most `most` sentences of whose words many are spelled and were not in two sentences before."""
    seen: Counter[str] = Counter()
    taken = 0
    for spoken, written in found:
        words = spoken.split()
        new = {word for word in words if seen[word] < TIMES and is_spelled(word)}
        if len(new) >= SHARE * len(words) and taken < most:
            seen.update(new)
            taken += 1
            yield spoken, written


def read_aloud(voice: str, text: str, wav: Path) -> None:
    """Have a voice read into a file."""
    command = [word.format(text=text, wav=wav) for word in VOICES[voice]]
    subprocess.run(command, input=text.encode(), check=True, capture_output=True)


def main(argv: list[str] | None = None) -> int:
    """Choose the sentences and have them read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="books as *.txt, transcripts as *.lines")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument("--most", type=int, default=5000, help="sentences at most")
    options = parser.parse_args(argv)
    tokenizer, rng = CachedTokenizer(options.vocabulary), random.Random(0)  # noqa: S311 - reproducible data
    chosen = list(cut(sentences(options.texts), rng))
    rng.shuffle(chosen)
    there = len(lines_so_far(options.out))
    wav = options.out / "spoken.wav"
    options.out.mkdir(parents=True, exist_ok=True)
    picked = rare(chosen, lambda word: len(tokenizer.encode(f" {word}")) > 1, options.most)
    for number, (spoken, written) in enumerate(picked):
        voice = list(VOICES)[number % len(VOICES)]
        if number >= there:
            read_aloud(voice, written or spoken, wav)
            audio = f"{SOURCE}/{number:05}.flac"
            save(options.out / audio, decoded(wav.read_bytes(), ".wav"))
            row = {"audio": audio, "text": spoken, "language": "en", "speaker": voice, "source": voice}
            add_line(
                options.out, row | ({"written": written} if written else {}) | {"licence": "no rights in what is read"}
            )
    wav.unlink(missing_ok=True)
    print(f"{len(lines_so_far(options.out))} sentences")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
