"""`python3 -m models.nano.train.voices_made OUT TEXTS --vocabulary FILE`: rare words, read by synthesizers of Debian.

Words that the vocabulary has in one piece are known from Whisper; others are spelled, and few of them are in the
recordings. Sentences of TEXTS (`texts`) that have many of these are read aloud by RHVoice, SVOX Pico and Flite. With
`--phrases` they read those that `phrases` chose instead. OUT gets `meta.jsonl` and 16 kHz FLAC files, so that `features
--recordings OUT` reads it. Seeded; what is there is not made again.
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

WORDS = (5, 18)  # of a sentence; longer transcripts are cut
TIMES = 2  # a spelled word counts as rare as often
SHARE = 0.2  # of a sentence's words that are rare, at least
SPEED, PITCH = (80, 125), (75, 130)  # percent of a voice's own, for phrases
RHVOICE = ("RHVoice-test", "-r", "{speed}", "-t", "{pitch}", "-o", "{wav}", "-p")
PICO = ("pico2wave", "-w", "{wav}", '<speed level="{speed}"><pitch level="{pitch}">{text}</pitch></speed>', "-l")
FLITE = ("flite", "--setf", "duration_stretch={stretch}", "-t", "{text}", "-o", "{wav}", "-voice")
VOICES: dict[str, tuple[str, ...]] = {  # name -> how it reads: {text} aloud into {wav}, or from standard input
    "rhvoice-bdl": (*RHVOICE, "bdl"),
    "rhvoice-clb": (*RHVOICE, "clb"),
    "rhvoice-slt": (*RHVOICE, "slt"),
    "pico-gb": (*PICO, "en-GB"),
    "pico-us": (*PICO, "en-US"),
    "flite-awb": (*FLITE, "awb"),
    "flite-rms": (*FLITE, "rms"),
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


def read_aloud(voice: str, text: str, wav: Path, speed: int = 100, pitch: int = 100) -> None:
    """Have a voice read into a file, with a speed and a pitch in percent of its own; Flite keeps its pitch."""
    command = [word.format(text=text, wav=wav, speed=speed, pitch=pitch, stretch=100 / speed) for word in VOICES[voice]]
    subprocess.run(command, input=text.encode(), check=True, capture_output=True)


def main(argv: list[str] | None = None) -> int:
    """Choose the sentences and have them read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="books as *.txt, transcripts as *.lines")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument("--phrases", type=Path, metavar="FILE", help="read all its lines, at other speeds and pitches")
    parser.add_argument("--most", type=int, default=5000, help="sentences at most")
    options = parser.parse_args(argv)
    tokenizer, rng = CachedTokenizer(options.vocabulary), random.Random(0)  # noqa: S311 - reproducible data
    there = len(lines_so_far(options.out))
    wav = options.out / "spoken.wav"
    options.out.mkdir(parents=True, exist_ok=True)
    picked: Iterable[Sentence]
    if options.phrases:
        lines = options.phrases.read_text(encoding="utf-8").splitlines()
        picked = [(line, None) for line in lines[: options.most]]
    else:
        chosen = list(cut(sentences(options.texts), rng))
        rng.shuffle(chosen)
        picked = rare(chosen, lambda word: len(tokenizer.encode(f" {word}")) > 1, options.most)
    for number, (spoken, written) in enumerate(picked):
        voice = list(VOICES)[number % len(VOICES)]
        ways = (rng.randint(*SPEED), rng.randint(*PITCH)) if options.phrases else (100, 100)
        if number >= there:
            read_aloud(voice, written or spoken, wav, *ways)
            audio = f"{'phrases' if options.phrases else 'made'}/{number:05}.flac"
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
