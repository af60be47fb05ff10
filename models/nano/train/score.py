"""`python3 -m models.nano.train.score`: what nano gets right, task by task, on sounds that it never heard.

The sets: unseen sentences and wordings (split "test") with seen voices, with held-out variants of a seen synthesizer,
with held-out voices of another kind, and with seen voices in 10 dB of noise. Everything goes the run-time way:
`listen`, `prompt_ids`, `answer`. Each example is made once and asked of every precision, so that they
can be compared example by example. Prints a table, then one JSON line. Needs the synthesizers (install.sh), not torch.
"""

from __future__ import annotations

import argparse
import atexit
import json
import random
import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from models.convert.convert import convert
from models.nano.embedded import CHECKPOINT
from models.nano.train.tasks import TASKS
from models.runtime.session import SessionOptions
from qwen_audio import answer, listen, load, prompt_ids
from tokenizer.chat import Turn

if TYPE_CHECKING:
    from models.nano.train.tasks import Example

Rows = list[dict[str, object]]

SETS = {"seen": ("seen", None), "variant": ("variant", None), "other": ("other", None), "noise": ("seen", 10.0)}
SPOKEN = ("transcribe", "transcribe_base", "timestamps")
SEED = 20261122
MAX_NEW_TOKENS = 96


class Listener:
    """Open models that answer an example's questions: as a chat model, and as a base model."""

    def __init__(self, directory: Path) -> None:
        one_thread = SessionOptions(threads=1)  # the processes share the cores
        self.chat = load(directory, one_thread)
        self.base = replace(self.chat, chat=False)

    def ask(self, example: Example, noise_db: float | None, rng: random.Random) -> list[str]:
        """The answers to all turns; earlier answers of a dialogue are given as they should have been."""
        from models.nano.train.acoustics import add_noise

        sounds = [add_noise(c.waveform, noise_db, rng) if noise_db is not None else c.waveform for c in example.clips]
        clips = listen(sounds, self.chat)
        answers, history = [], list[Turn]()
        for number, (question, pieces) in enumerate(example.turns):
            if example.base_prompt is not None:
                model, ids = self.base, prompt_ids(example.base_prompt, clips, self.base)
            else:
                model, ids = self.chat, prompt_ids(question, clips, self.chat, history=history)
            answers.append("".join(answer(ids, clips, model, max_new_tokens=MAX_NEW_TOKENS)))
            spans = () if number else tuple(len(clip) for clip in clips)
            history.append(Turn(question, audio_spans=spans, reply="".join(piece.text for piece in pieces)))
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


def score_task(
    checkpoint: Path, precisions: Sequence[str], job: tuple[str, str], *, count: int, show: int, keep: Path | None
) -> Rows:
    """`count` examples of one (set, task); `show` prints that many answers of the first precision."""
    from models.nano.train.tasks import example

    name, task = job
    voices, noise_db = SETS[name]
    listeners = {precision: _listener(checkpoint, precision) for precision in precisions}
    rng = random.Random(f"{SEED}/{name}/{task}")  # noqa: S311 - reproducible data, not secrets
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for number in range(count):
        made = example(rng, task=task, split="test", voices_split=voices, degrade=False)
        noise_seed = rng.random()
        if keep is not None:
            _keep(keep, f"{name}-{task}-{number:03}", made)
        for precision, listener in listeners.items():
            answers = listener.ask(made, noise_db, random.Random(noise_seed))  # noqa: S311
            for turn, ((question, pieces), found) in enumerate(zip(made.turns, answers, strict=True)):
                wanted = "".join(piece.text for piece in pieces)
                judged = "transcribe" if task == "dialogue" and turn == 0 else task
                for measure, (amount, out_of) in judge(judged, found, wanted).items():
                    sums[precision, measure][0] += amount
                    sums[precision, measure][1] += out_of
                if number < show and precision == precisions[0]:
                    print(f"{name} {task}: {question!r} -> {found!r} (wanted {wanted!r})", file=sys.stderr)
    return [
        {"set": name, "task": task, "measure": measure, "precision": precision, "value": round(part / max(whole, 1), 4)}
        for (precision, measure), (part, whole) in sums.items()
    ]


def _keep(folder: Path, stem: str, made: Example) -> None:
    """Write the clips, without the set's noise, and a line of a list with the first question about them."""
    import soundfile

    paths = [folder / f"{stem}{letter}.flac" for letter, _ in zip("ab", made.clips, strict=False)]
    for path, clip in zip(paths, made.clips, strict=True):
        soundfile.write(path, clip.waveform, 16_000, format="FLAC", subtype="PCM_16")
    prompt = made.base_prompt if made.base_prompt is not None else made.turns[0][0]
    kind = "chat" if made.base_prompt is None else "raw"
    (folder / f"{kind}-{stem}.line").write_text(json.dumps({"audio": [path.name for path in paths], "prompt": prompt}))


def _join_lists(folder: Path) -> None:
    """All lines into two lists that `--files-from` takes, the base prompts (for `--raw`) into one of their own."""
    for kind in ("chat", "raw"):
        lines = sorted(folder.glob(f"{kind}-*.line"))
        (folder / f"{kind}.jsonl").write_text("".join(path.read_text() + "\n" for path in lines))
        for path in lines:
            path.unlink()


@cache
def _listener(checkpoint: Path, precision: str) -> Listener:
    """One model a process, converted into a folder that goes with the process."""
    folder = Path(tempfile.mkdtemp(prefix="nano-score-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    convert(checkpoint, folder, precision=precision, flavour="fused")
    return Listener(folder)


def main(argv: list[str] | None = None) -> int:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, metavar="DIR", help="default: the shipped nano")
    parser.add_argument(
        "--precisions",
        default="int8-fine",
        help="comma-separated: int8-fine, int8, fp32, fp16, int4 (default: int8-fine)",
    )
    parser.add_argument("--sets", default=",".join(SETS), help=f"comma-separated (default: {','.join(SETS)})")
    parser.add_argument("--tasks", default=",".join(TASKS), help="comma-separated (default: all)")
    parser.add_argument("--count", type=int, default=100, help="examples of each task in each set (default: 100)")
    parser.add_argument("--show", type=int, default=0, help="print this many answers of each task")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="write the clips, and lists for --files-from")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args(argv)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
    precisions, rows = options.precisions.split(","), list[dict[str, object]]()
    with ProcessPoolExecutor(options.workers) as pool:
        jobs = [
            pool.submit(
                score_task,
                options.checkpoint,
                precisions,
                (name, task),
                count=options.count,
                show=options.show,
                keep=options.keep,
            )
            for name in options.sets.split(",")
            for task in options.tasks.split(",")
        ]
        for job in jobs:
            for row in job.result():
                print(f"{row['set']:8} {row['task']:16} {row['measure']:18} {row['precision']:5} {row['value']:8.4f}")
                rows.append(row)
            sys.stdout.flush()
    if options.keep is not None:
        _join_lists(options.keep)
    print(json.dumps({"benchmark": "nano", "count": options.count, "seed": SEED, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
