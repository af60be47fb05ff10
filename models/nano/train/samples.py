"""`python3 -m models.nano.train.samples OUT`: the clips that are committed with nano, and what nano answers about them.

Sentences, wordings and voices are those held out from training. Of each kind the first seed is taken whose answer is
right: the clips show that the program works, not how often nano is right; that is `score`'s matter. OUT gets FLAC files
and answers.json: a list of {"audio", "raw", "prompt", "text"}; with "raw" the prompt is of the base form.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np

from models.convert.convert import convert
from models.nano.embedded import CHECKPOINT
from models.nano.train.clips import RATE, Clip
from models.nano.train.score import Listener
from models.nano.train.tasks import Example, example

# name: task and voices; "other" is a synthesizer's voice of another kind, "variant" an unheard one of a known kind
KINDS = {
    "speech": ("transcribe", "variant"),
    "speech_other": ("transcribe", "other"),
    "base": ("transcribe_base", "variant"),
    "word": ("word_time", "variant"),
    "language": ("language", "variant"),
    "gender": ("gender", "other"),
    "speakers": ("speakers", "variant"),
    "same_speaker": ("same_speaker", "variant"),
    "event": ("event", "seen"),
    "events": ("events", "seen"),
    "instrument": ("instrument", "seen"),
    "note": ("note", "seen"),
    "caption": ("caption", "variant"),
}
SEEDS = range(40)
FIRST = {"speech": 2}  # the quick start's: the sentences before it are only words in a row
LONGEST = 5.0  # seconds


def as_stored(clip: Clip) -> Clip:
    """The clip as a 16-bit file gives it back."""
    steps = np.clip(np.rint(clip.waveform * 32768), -32768, 32767)
    return Clip((steps / 32768).astype(np.float32))


def find(listeners: list[Listener], task: str, voices: str, name: str) -> Example | None:
    """The first example of a kind that is short and that every listener answers rightly."""
    for seed in SEEDS[FIRST.get(name, 0) :]:
        rng = random.Random(f"sample/{name}/{seed}")  # noqa: S311 - reproducible data, not secrets
        made = example(rng, task=task, split="test", voices_split=voices, degrade=False)
        if sum(clip.seconds for clip in made.clips) > LONGEST:
            continue
        made = Example(made.task, tuple(as_stored(clip) for clip in made.clips), made.turns, made.base_prompt)
        if all(listener.ask(made, None, rng) == [answer(made)] for listener in listeners):
            return made
    return None


def answer(made: Example) -> str:
    """What is right to answer."""
    return "".join(piece.text for piece in made.turns[0][1])


def main(argv: list[str] | None = None) -> int:
    """Write the clips and answers.json."""
    import soundfile

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="for nano in each precision")
    options = parser.parse_args(argv)
    listeners, rows = [], []
    for precision in ("int8-fine", "fp32"):
        convert(options.checkpoint, options.work / precision, precision=precision, flavour="fused")
        listeners.append(Listener(options.work / precision))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (task, voices) in KINDS.items():
        made = find(listeners, task, voices, name)
        if made is None:
            print(f"{name}: none of {len(SEEDS)} is answered rightly", file=sys.stderr)
            continue
        letters = "" if len(made.clips) == 1 else "ab"
        files = [f"{name}{letters[number : number + 1]}.flac" for number in range(len(made.clips))]
        for file, clip in zip(files, made.clips, strict=True):
            soundfile.write(options.out / file, clip.waveform, RATE, subtype="PCM_16")
        raw = made.base_prompt is not None
        prompt = made.base_prompt if raw else made.turns[0][0]
        rows.append({"audio": files, "raw": raw, "prompt": prompt, "text": answer(made)})
    (options.out / "answers.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
