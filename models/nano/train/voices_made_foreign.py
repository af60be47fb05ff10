"""`python3 -m models.nano.train.voices_made_foreign OUT TEXTS`: eight languages, read by synthesizers of Debian.

TEXTS has Debian's descriptions of packages, `Translation-XX.bz2` or `.xz`. Sentences of them are read by eSpeak NG in
many voices, and by SVOX Pico where it speaks the language. The clips have no text: what they teach is which language it
is. OUT gets `meta.jsonl` and 16 kHz FLAC files, so that `features --recordings OUT` reads it. Seeded; what is there is
not made again.
"""

from __future__ import annotations

import argparse
import bz2
import lzma
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from models.nano.train.voices import add_line, decoded, lines_so_far, save

SOURCE = "made_foreign"
LETTERS = "A-Za-z\u00c0-\u00ff', "
KANA = "\u3041-\u3096\u30a1-\u30fa\u30fc"
SENTENCES = {  # language -> what a sentence to read is; of Japanese only what is in kana, which eSpeak NG can read
    **dict.fromkeys(("en", "de", "es", "fr", "it"), re.compile(rf"(?<![^ ])[{LETTERS}]{{20,90}}(?=[.:])")),
    "ko": re.compile(r"[\uac00-\ud7a3 ,]{12,60}(?=\.)"),
    "zh": re.compile(r"[\u4e00-\u9fff\uff0c]{8,30}(?=\u3002)"),
    "ja": re.compile(rf"[{KANA}]{{7,30}}"),
}
FILES = {"zh": "zh_CN"}  # where Debian's name of a language is another
VARIANTS = ("m1", "m3", "m7", "f1", "f2", "f4", "steph", "edward")  # of eSpeak NG's voices
VOICES = {"en": "en-gb", "fr": "fr-fr", "zh": "cmn"}  # of eSpeak NG, where the name is another
PICO = {"de": "de-DE", "es": "es-ES", "fr": "fr-FR", "it": "it-IT"}


def sentences(folder: Path, language: str) -> list[str]:
    """Different sentences of a language, in the order of the file."""
    (path,) = folder.glob(f"Translation-{FILES.get(language, language)}.*")
    text = (bz2 if path.suffix == ".bz2" else lzma).open(path, "rt", encoding="utf-8").read()
    apart = "" if language in {"ja", "zh", "ko"} else " "
    text = re.sub(r"(?m)^(Description-.*| \.)\n", r"\1\n\n", text)  # a title and a paragraph end here
    lines = re.sub(r"\n (?!\.)", apart, text)
    found = (match.group().strip(" ,") for match in SENTENCES[language].finditer(lines))
    return list(dict.fromkeys(found))


def readings(texts: list[str], language: str, count: int) -> Iterator[tuple[str, list[str], str]]:
    """Who reads, how: a command that writes {wav}, and what."""
    for number, text in enumerate(texts[:count]):
        if language in PICO and number % 3 == 0:
            yield f"pico-{language}", ["pico2wave", "-l", PICO[language], "-w", "{wav}", text], text
            continue
        variant = VARIANTS[number % len(VARIANTS)]
        voice = f"{VOICES.get(language, language)}+{variant}"
        speed = str(120 + 10 * (number % 7))
        yield f"espeak-{variant}", ["espeak-ng", "-v", voice, "-s", speed, "-w", "{wav}", text], text


def main(argv: list[str] | None = None) -> int:
    """Have sentences of all languages read."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="Translation-XX.bz2 or .xz of each language")
    parser.add_argument("--count", type=int, default=240, help="sentences of each language")
    options = parser.parse_args(argv)
    there = {row["audio"] for row in lines_so_far(options.out)}
    options.out.mkdir(parents=True, exist_ok=True)
    wav = options.out / "spoken.wav"
    for language in SENTENCES:
        texts = sentences(options.texts, language)
        random.Random(language).shuffle(texts)  # noqa: S311 - reproducible data, not secrets
        for number, (voice, command, text) in enumerate(readings(texts, language, options.count)):
            audio = f"{SOURCE}/{language}-{number:04}.flac"
            if audio not in there:
                subprocess.run([word.replace("{wav}", str(wav)) for word in command], check=True, capture_output=True)
                save(options.out / audio, decoded(wav.read_bytes(), ".wav"))
                row = {"audio": audio, "language": language, "speaker": f"{voice}-{language}", "source": text}
                add_line(options.out, row | {"licence": "no rights in what is read"})
        print(f"{language}: {min(len(texts), options.count)} sentences", flush=True)
    wav.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
