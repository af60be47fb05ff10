"""`python3 -m models.nano.train.score MODEL`: what a converted nano gets right, task by task, on sounds it never heard.

The sets: unseen sentences and wordings (split "test") with seen voices, with held-out variants of a seen synthesizer,
with held-out voices of another kind, and with seen voices in 10 dB of noise. Everything goes the run-time way: log-mel,
AudioEncoder, encode_chat or encode_base, generate. Prints a table, then one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audio_encoder.encoder import AudioEncoder
from audio_encoder.log_mel import log_mel_spectrogram
from decoder.decoder import Decoder
from decoder.generate import generate
from models.manifest import load_manifest
from tokenizer.chat import Turn, encode_base, encode_chat
from tokenizer.stream import stream_text
from tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from models.nano.train.tasks import Example

SETS = {"seen": ("seen", None), "variant": ("variant", None), "other": ("other", None), "noise": ("seen", 10.0)}
SPOKEN = ("transcribe", "transcribe_base", "timestamps")
SEED = 20261122
MAX_NEW_TOKENS = 96


class Listener:
    """An open model that answers an example's questions."""

    def __init__(self, directory: Path) -> None:
        manifest = load_manifest(directory)
        self.encoder, self.decoder = AudioEncoder(manifest), Decoder(manifest)
        self.tokenizer = Tokenizer(manifest.path(manifest.vocabulary or ""))

    def ask(self, example: Example, noise_db: float | None, rng: random.Random) -> list[str]:
        """The answers to all turns; earlier answers of a dialogue are given as they should have been."""
        from models.nano.train.acoustics import add_noise

        sounds = [add_noise(c.waveform, noise_db, rng) if noise_db is not None else c.waveform for c in example.clips]
        clips = self.encoder.encode([log_mel_spectrogram(sound) for sound in sounds])
        spans = tuple(len(clip) for clip in clips)
        answers, turns = [], list[Turn]()
        for number, (question, pieces) in enumerate(example.turns):
            if example.base_prompt is not None:
                ids = encode_base(self.tokenizer, example.base_prompt, audio_spans=spans)
            else:
                ids = encode_chat(self.tokenizer, [*turns, Turn(question, audio_spans=() if number else spans)])
            new = generate(self.decoder, ids, clips, stop_ids=self.tokenizer.stop_ids, max_new_tokens=MAX_NEW_TOKENS)
            answers.append("".join(stream_text(self.tokenizer, new)))
            reply = "".join(piece.text for piece in pieces)
            turns.append(Turn(question, audio_spans=() if number else spans, reply=reply))
        return answers


def distance(found: Sequence[str], wanted: Sequence[str]) -> int:
    """Least number of words to insert, delete or replace."""
    row = list(range(len(wanted) + 1))
    for i, left in enumerate(found, 1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(wanted, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def spoken(text: str) -> list[str]:
    """The words of a transcript, out of its quotes where it has some."""
    quoted = re.search(r'"(.*)"', text)
    return re.findall(r"[a-z']+", (quoted.group(1) if quoted else text).lower())


def judge(task: str, found: str, wanted: str) -> dict[str, tuple[float, float]]:
    """Measures of one answer as (amount, out of)."""
    if task in SPOKEN:
        return {"word errors": (distance(spoken(found), spoken(wanted)), len(spoken(wanted)))}
    if task == "word_time":
        times = [[float(time) for time in re.findall(r"<\|(\d+\.\d\d)\|>", text)] for text in (found, wanted)]
        known = len(times[0]) == len(times[1]) == 2
        gap = sum(abs(a - b) for a, b in zip(*times, strict=True)) / 2 if known else 1.0
        return {"seconds off": (gap, 1), "within 0.1 s": (float(gap <= 0.1), 1)}
    if task in {"note", "note_tags"}:
        pitches = [re.search(r"midi_pitch_(\d+)", text) for text in (found, wanted)]
        numbers = [int(pitch.group(1)) for pitch in pitches if pitch]
        near = len(numbers) == 2 and abs(numbers[0] - numbers[1]) <= 1
        return {"right": (float(found == wanted), 1), "within a semitone": (float(near), 1)}
    return {"right": (float(found == wanted), 1)}


def score(directory: Path, count: int, *, show: int = 0) -> list[dict[str, object]]:
    """`count` examples of each task in each set; `show` prints that many answers of each."""
    from models.nano.train.tasks import TASKS, example

    listener = Listener(directory)
    rows: list[dict[str, object]] = []
    for name, (voices, noise_db) in SETS.items():
        for task in TASKS:
            rng = random.Random(f"{SEED}/{name}/{task}")  # noqa: S311 - reproducible data, not secrets
            sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for number in range(count):
                made = example(rng, task=task, split="test", voices_split=voices, degrade=False)
                answers = listener.ask(made, noise_db, rng)
                for turn, ((question, pieces), found) in enumerate(zip(made.turns, answers, strict=True)):
                    wanted = "".join(piece.text for piece in pieces)
                    spoken_first = task == "dialogue" and turn == 0
                    for measure, (amount, out_of) in judge(
                        "transcribe" if spoken_first else task, found, wanted
                    ).items():
                        sums[measure][0] += amount
                        sums[measure][1] += out_of
                    if number < show:
                        print(f"{name} {task}: {question!r} -> {found!r} (wanted {wanted!r})", file=sys.stderr)
            for measure, (amount, out_of) in sums.items():
                value = round(amount / max(out_of, 1), 4)
                rows.append({"set": name, "task": task, "measure": measure, "value": value})
                print(f"{name:8} {task:16} {measure:18} {value:8.3f}", flush=True)
    return rows


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="converted model directory")
    parser.add_argument("--count", type=int, default=100, help="examples of each task in each set")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of each task")
    options = parser.parse_args(argv)
    rows = score(options.model, options.count, show=options.show)
    print(json.dumps({"benchmark": "nano", "count": options.count, "seed": SEED, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
