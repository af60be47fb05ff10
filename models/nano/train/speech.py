"""Speech of all synthesizers that nano is trained on and tested with: `voices` lists them, `speak` makes an utterance.

The split, fixed before training:

- `seen`: trained on. espeak-ng with 12 women's and 47 men's speaker variants in six accents of English and in the
  seven other languages; flite kal, kal16, awb and rms; festival kal_diphone, and its Italian woman lp_diphone.
- `variant`: never trained on, of a seen synthesizer. Three women's and nine men's speaker variants of espeak-ng, held
  out in every language; the held-out accent (Scottish) is spoken by these alone. Listed in espeak_voices.py.
- `other`: never trained on, a voice of another kind. flite slt; festival ked_diphone, cmu_us_slt_arctic_hts (the
  speaker of flite's slt, which is why both are held out) and the Italian man pc_diphone.

No engine is opened at import: each process opens what it uses, when it uses it.
Self-check, with sample clips in /tmp/speech: `python3 -m models.nano.train.speech`.
"""

import argparse
import random
import sys
import time
import wave
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

from models.nano.train import espeak, espeak_voices, festival, flite
from models.nano.train.utterance import PHONES, SAMPLE_RATE, Mark, Utterance, Voice

__all__ = ["PHONES", "SAMPLE_RATE", "Utterance", "Voice", "speak", "voices"]

ENGINES: dict[str, Callable[[str, Voice, random.Random, float], Utterance]] = {
    "espeak": espeak.speak,
    "flite": flite.speak,
    "festival": festival.speak,
}
SENTENCES = {
    "en": "one of the dogs is not in the garden and I have been out of town",
    "zh": "今天天气很好 我们去公园",
    "de": "Heute ist das Wetter schön und wir gehen in den Garten.",
    "es": "Hoy hace buen tiempo y vamos al parque.",
    "ko": "오늘은 날씨가 좋아서 공원에 갑니다.",
    "fr": "Aujourd'hui il fait beau et nous allons au parc.",
    "ja": "きょうは てんきが いいので こうえんに いきます。",
    "it": "Oggi il tempo è bello e andiamo al parco.",
}


def voices(*, language: str | None = None, split: str | None = None) -> list[Voice]:
    """All voices in a fixed order, or those of one language or split. Men outnumber women: draw the gender first."""
    every = [*espeak_voices.voices(), *flite.voices(), *festival.voices()]
    return [voice for voice in every if language in (None, voice.language) and split in (None, voice.split)]


def speak(text: str, voice: Voice, rng: random.Random, *, slower: float = 1.0) -> Utterance:
    """Say the text; pitch, rate and pitch range are drawn around the voice's own, the durations times `slower`.

    Words of English text are its tokens between spaces, so write numbers as words. flite and festival read ASCII.
    """
    return ENGINES[voice.engine](text, voice, rng, slower)


def problems(text: str, utterance: Utterance) -> list[str]:
    """What is wrong with an utterance's samples and times; empty where all is well."""
    duration = len(utterance.waveform) / SAMPLE_RATE
    found = [] if float(np.abs(utterance.waveform).max()) <= 1 else ["samples beyond 1"]
    if not utterance.words:
        return found
    if [word for word, _, _ in utterance.words] != text.split():
        found.append("words " + " ".join(word for word, _, _ in utterance.words))
    found += [f"phone {name}" for name, _, _ in utterance.phones if name not in PHONES]
    for kind, marks in (("words", utterance.words), ("phones", utterance.phones)):
        if not _in_order(marks, duration):
            found.append(f"times of {kind} out of order")
    return found


def _in_order(marks: tuple[Mark, ...], duration: float) -> bool:
    """Each after the one before, all inside the waveform, to a microsecond."""
    times = [0.0, *(time for _, start, end in marks for time in (start, end)), duration]
    return all(before <= after + 1e-6 for before, after in pairwise(times))


def _print_table() -> None:
    counts = Counter((voice.engine, voice.language, voice.gender, voice.split) for voice in voices())
    print(f"{'engine':10}{'language':10}{'gender':8}{'split':9}voices")
    for (engine, language, gender, split), count in counts.items():
        print(f"{engine:10}{language:10}{gender:8}{split:9}{count:6}")


def _check_engine(engine: str) -> int:
    """Every voice says its language's sentence; the number of voices with problems."""
    rng, bad, seconds = random.Random(1), 0, 0.0  # noqa: S311
    chosen = [voice for voice in voices() if voice.engine == engine]
    chosen *= max(1, 60 // len(chosen))
    start = time.perf_counter()
    for voice in chosen:
        utterance = speak(SENTENCES[voice.language], voice, rng)
        seconds += len(utterance.waveform) / SAMPLE_RATE
        if found := problems(SENTENCES[voice.language], utterance):
            bad += 1
            print(f"{voice.engine} {voice.name}: {'; '.join(found)}", file=sys.stderr)
    wall = time.perf_counter() - start
    print(f"{engine}: {len(chosen) / wall:.0f} utterances/s of {seconds / len(chosen):.1f} s, {bad} with problems")
    return bad


def _write_samples(folder: Path) -> None:
    """A clip of some voices of each kind, and its words and phones beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = {(voice.engine, voice.language, voice.gender, voice.split): voice for voice in voices()}
    for voice in kinds.values():
        utterance = speak(SENTENCES[voice.language], voice, random.Random(1))  # noqa: S311
        name = folder / f"{voice.engine}-{voice.language}-{voice.gender}-{voice.split}-{voice.name.replace(' ', '_')}"
        with wave.open(f"{name}.wav", "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((utterance.waveform * 32767).astype("<i2").tobytes())
        marks = (*utterance.words, *utterance.phones)
        Path(f"{name}.txt").write_text("".join(f"{start:.3f}\t{end:.3f}\t{what}\n" for what, start, end in marks))


def main(argv: list[str] | None = None) -> int:
    """Print the voices, let each speak and check its times, write sample clips."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--samples", type=Path, default=Path("/tmp/speech"))  # noqa: S108
    folder = parser.parse_args(argv).samples
    _print_table()
    bad = sum(_check_engine(engine) for engine in ENGINES)
    _write_samples(folder)
    return min(1, bad)


if __name__ == "__main__":
    sys.exit(main())
