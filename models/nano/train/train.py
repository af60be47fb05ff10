"""`python3 -m models.nano.train.train --data DIR --out DIR`: trains nano on the shards that `data` made.

For the first `--listening` steps the encoder learns alone, on speech, at nearly twice the speed; what the losses are is
in `losses`. Seeded; resumes from OUT/state.pt; the log is OUT/log.jsonl, a line every 50 steps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from models.nano.train.batches import Batch, CachedTokenizer, Encoder, batches
from models.nano.train.losses import LOSS_WEIGHTS, Scales, Teacher, learn, listen
from models.nano.train.model import Nano, Sizes, save_checkpoint
from models.nano.train.muon import Muon

SMOOTH = 4  # hundredths of a second over which the rows of the times are smoothed at a new start


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int
    frames: int  # encoder frames in a batch
    rate: float
    decay: int  # steps at the end in which the rate falls to zero
    listening: int = 0  # steps at the beginning for the encoder alone
    warmup: int = 200
    seed: int = 0

    def factor(self, step: int) -> float:
        """Share of the full rate: a linear rise, full, a linear fall; so a run can be made longer while it is full."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))


def optimizers(model: nn.Module, teacher: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    named = [*model.named_parameters(), *teacher.named_parameters()]
    inner = [value for name, value in named if value.ndim == 2 and (".blocks." in name or ".h." in name)]
    chosen = {id(value) for value in inner}
    others = [value for _, value in named if id(value) not in chosen]
    return [
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
        Muon(inner, lr=rate, weight_decay=0.01),
    ]


def train(
    data: Path,
    out: Path,
    vocabulary: Path,
    plan: Plan,
    *,
    start: Path | None = None,
    device: str,
    half: bool,
    compiled: bool,
) -> None:
    """Train until `plan.steps`, from OUT/state.pt if it is there; leaves a checkpoint in OUT/checkpoint.

    A new run begins with the weights of the state `start`, if there is one.
    """
    from models.nano.train.grammar import WORDS
    from models.nano.train.speech import PHONES

    tokenizer = CachedTokenizer(vocabulary)
    scales = Scales.of(tokenizer)
    encoder = Encoder(tokenizer, PHONES, WORDS)
    torch.manual_seed(plan.seed)
    model = Nano(Sizes(tokenizer.vocab_size, tokenizer.audio_start)).to(device)
    teacher = Teacher(model.sizes, len(PHONES), len(WORDS)).to(device)
    tools = optimizers(model, teacher, plan.rate)
    out.mkdir(parents=True, exist_ok=True)
    if start is not None:
        begin(start, model, teacher, scales)
    first = resume(out / "state.pt", model, teacher, tools)
    rng = random.Random(plan.seed * 1_000_003 + first)  # noqa: S311 - reproducible data, not secrets
    if compiled:  # about 1.2 times as fast on a CPU
        for block in [*model.transformer.audio.blocks, *model.transformer.h]:
            block.compile(dynamic=True)
    stream = batches(data, encoder, rng, frames=plan.frames, labelled=first < plan.listening)
    log, started = Log(out / "log.jsonl"), time.monotonic()
    for step in range(first, plan.steps):
        if step == plan.listening:
            stream = batches(data, encoder, rng, frames=plan.frames)
        waited = time.monotonic()
        batch = next(stream)
        log.waited += time.monotonic() - waited
        for tool in tools:
            for group in tool.param_groups:
                group["lr"] = plan.rate * plan.factor(step)
        with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
            taught = listen if step < plan.listening else learn
            losses, met, rows = taught(model, teacher, to(batch, device), scales)
        total = sum((LOSS_WEIGHTS[name] * loss for name, loss in losses.items()), torch.zeros((), device=device))
        for tool in tools:
            tool.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_([*model.parameters(), *teacher.parameters()], 1.0)
        for tool in tools:
            tool.step()
        log.add(losses, met, rows, batch)
        if (step + 1) % 50 == 0:
            log.write(step + 1, plan.rate * plan.factor(step), time.monotonic() - started)
        if (step + 1) % 500 == 0 or step + 1 == plan.steps:
            save(out / "state.pt", step + 1, model, teacher, tools)
            save_checkpoint(model, out / "checkpoint", vocabulary)


class Log:
    """Means of the losses and, by task, the share of answer tokens met, since the last line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._examples = 0
        self.waited = 0.0  # seconds, for data

    def add(self, losses: dict[str, Tensor], met: Tensor, rows: Tensor, batch: Batch) -> None:
        """Count one batch."""
        for name, loss in losses.items():
            self._count(f"loss.{name}", float(loss.detach()), 1)
        for row, task in enumerate(batch.tasks if len(rows) else ()):
            of_row = met[rows == row]
            self._count(f"met.{task}", float(of_row.sum()), len(of_row))
        self._examples += len(batch.tasks)

    def write(self, step: int, rate: float, seconds: float) -> None:
        """A line to the log and to standard error."""
        means = {name: round(total / max(count, 1), 4) for name, (total, count) in sorted(self._sums.items())}
        row = {"step": step, "rate": round(rate, 6), "seconds": round(seconds, 1), "waited": round(self.waited, 1)}
        row |= {"examples": self._examples, **means}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr, flush=True)
        self._sums.clear()
        self._examples, self.waited = 0, 0.0

    def _count(self, name: str, total: float, count: int) -> None:
        self._sums[name][0] += total
        self._sums[name][1] += count


def to(batch: Batch, device: str) -> Batch:
    """The batch on a device."""
    for name, value in vars(batch).items():
        if isinstance(value, Tensor):
            setattr(batch, name, value.to(device))
    return batch


def save(path: Path, step: int, model: Nano, teacher: Teacher, tools: list[torch.optim.Optimizer]) -> None:
    """Everything that a resumed run needs, whole or not at all."""
    state = {"step": step, "model": model.state_dict(), "teacher": teacher.state_dict()}
    state["tools"] = [tool.state_dict() for tool in tools]
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def resume(path: Path, model: Nano, teacher: Teacher, tools: list[torch.optim.Optimizer]) -> int:
    """Load a saved state; returns the step to go on from."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    teacher.load_state_dict(state["teacher"])
    for tool, saved in zip(tools, state["tools"], strict=True):
        tool.load_state_dict(saved)
    return int(state["step"])


def begin(path: Path, model: Nano, teacher: Teacher, scales: Scales) -> None:
    """Take the weights of another run, also of one without all of today's losses; the rows of near times get alike."""
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    teacher.load_state_dict(state["teacher"], strict=False)
    low, high = scales.ids["time"]
    offsets = torch.arange(-3 * SMOOTH, 3 * SMOOTH + 1)
    kernel = torch.softmax(-0.5 * (offsets / SMOOTH) ** 2, 0)
    with torch.no_grad():
        for rows in (model.transformer.wte.weight, model.lm_head.weight):
            padded = F.pad(rows[low : high + 1].T[:, None], (3 * SMOOTH, 3 * SMOOTH), mode="replicate")
            rows[low : high + 1] = F.conv1d(padded, kernel[None, None])[:, 0].T


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument("--steps", type=int, default=30000)
    parser.add_argument("--frames", type=int, default=4000, help="encoder frames (20 ms) in a batch")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=int, default=5000, help="steps at the end in which the rate falls to zero")
    parser.add_argument("--listening", type=int, default=0, help="steps at the beginning for the encoder alone")
    parser.add_argument("--start", type=Path, metavar="FILE", help="state.pt of another run to begin with")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--half", action="store_true", help="bfloat16 where it is safe; slower on a CPU without it")
    parser.add_argument("--compile", action="store_true", help="compile the blocks; needs a C++ compiler on a CPU")
    options = parser.parse_args(argv)
    plan = Plan(options.steps, options.frames, options.rate, options.decay, options.listening, seed=options.seed)
    how = {"start": options.start, "device": options.device, "half": options.half, "compiled": options.compile}
    train(options.data, options.out, options.vocabulary, plan, **how)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
