"""`python3 -m models.nano.train.distil START.pt OUT.pt --features DIR…`: a grafted decoder learns to be Whisper's.

Whisper's decoder reads what is said, and so does the graft, each with the same four tags before it. Two losses: what
they foresee should be the same (KL), and so should be the stream behind each of their layers. `refit` has the same aim
without gradients. The first is also a loss of `grafted.learn`, where the graft has the prompts of Qwen-Audio: so it
keeps Whisper's ears and English while it learns to answer.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.nano.train import drawing, graft, grafted
from models.nano.train import whisper_decoder as whisper
from models.nano.train.answers import Piece
from models.nano.train.batches import Batch, Encoder, batches
from models.nano.train.corpus import Clip, load
from models.nano.train.examples import Example
from models.nano.train.features import HALF
from models.nano.train.model import Nano
from models.nano.train.train import Plan, begin, build, trained_state
from models.nano.train.whisper_teacher import Taught, WhisperTeacher

STREAMS = 5.0  # weight of the streams' loss
TAGS = "<|startoftranscript|><|en|><|transcribe|><|notimestamps|>"
EVERY = 25  # steps: a line of the log, and the state on disk


class Readings:
    """Draws English clips with their texts, as they are written or without marks."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.english = drawing.Balanced(clips, drawing.is_english, drawing.source)

    def example(self, rng: random.Random) -> Example:
        """One clip, asked by Whisper's tags."""
        clip = self.english.draw(rng)
        text = (rng.random() < 0.5 and clip.get("written")) or clip.get("text")
        return Example("transcribe_base", (clip,), (("", (Piece(f" {text}"),)),), TAGS)


def distances(model: Nano, batch: Batch, taught: Taught) -> tuple[Tensor, Tensor]:
    """How far a graft is from Whisper: KL in nats an id; squares of the streams, beside Whisper's own."""
    behind: list[Tensor] = []
    hidden, _ = grafted.text_hidden(model, batch, behind)
    off = []
    for number, stream in enumerate(behind[1:-1], 1):
        layer, is_cross = (number - 1) // 2, number % 2 == 0
        want = (taught.streams[3 * layer + (3 if is_cross else 1)] @ graft.CENTRE)[taught.there]
        have = stream[taught.rows[:, None], taught.columns][taught.there][:, : whisper.STATE]
        off.append((have - want).square().sum() / want.square().sum())
    return taught.divergence(hidden, model.lm_head.weight), torch.stack(off).mean()


def main(argv: list[str] | None = None) -> int:
    """Learn; the state OUT has what a run needs to go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("start", type=Path, metavar="START", help="made by refit")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE")
    parser.add_argument("--whisper", type=Path, required=True, metavar="FILE", help="model.bin")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--size", type=int, default=4000, help="ids in a batch, padding included")
    parser.add_argument("--rate", type=float, default=6e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exact", action="store_true", help="float32 where bfloat16 would be quicker")
    options = parser.parse_args(argv)
    tokenizer, model = build(options.vocabulary)
    state = begin(options.out if options.out.exists() else options.start, model)
    teacher = WhisperTeacher(options.whisper, tokenizer, grafted.silence(model))
    tool = grafted.optimizer(model, options.rate)
    first = int(state["step"])  # type: ignore[call-overload]
    if "tool" in state:
        tool.load_state_dict(state["tool"])  # type: ignore[arg-type]
    plan = Plan(options.steps, options.size, options.rate, decay=options.steps * 2 // 3, warmup=20)
    source = Readings(load(options.features))
    stream = batches(source, Encoder(tokenizer), options.seed * 1_000_003 + first, size=plan.size)
    sums, started = np.zeros(3), time.monotonic()
    for step in range(first, plan.steps):
        batch = next(stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=HALF and not options.exact):
            taught = teacher(batch)
            assert taught is not None
            divergence, off = distances(model, batch, taught)
        grafted.step_down(model, tool, divergence + STREAMS * off, plan.rate * plan.factor(step))
        sums += divergence.item(), off.item(), 1
        if (step + 1) % EVERY == 0 or step + 1 == plan.steps:
            means = f"KL {sums[0] / sums[2]:.3f} nats, streams {sums[1] / sums[2]:.4f}"
            print(f"step {step + 1}: {means}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            sums[:] = 0
            part = options.out.with_suffix(".part")
            torch.save({"step": step + 1, "model": trained_state(model), "tool": tool.state_dict()}, part)
            part.replace(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
