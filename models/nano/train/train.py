"""`python3 -m models.nano.train.train --begin NEAR.pt --features DIR… --out DIR`: a grafted decoder learns to answer.

What is learned is in `examples`, the losses are in `grafted`. Seeded; resumes from OUT/state.pt; the log is
OUT/log.jsonl, a line every 25 steps. The rate rises, stays and falls, so a run can be made longer while it is full.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from models.nano.train import grafted
from models.nano.train.batches import SAID, Batch, CachedTokenizer, Encoder, batches
from models.nano.train.corpus import load
from models.nano.train.eight_bits import from_eight_bits
from models.nano.train.examples import SHARES, Source
from models.nano.train.features import HALF
from models.nano.train.graft import EVEN
from models.nano.train.losses import Learned, Scales
from models.nano.train.model import Nano, Sizes
from models.nano.train.whisper_foresight import WhisperForesight

SAVED_EVERY, KEPT_EVERY = 50, 100  # steps
HEARD = 700  # examples whose sounds tell how loud each direction of sound is
OWN_AUDIO = ("proj.", "audio_bos_eos_token.")  # of the encoder, what is not Whisper's


@dataclass(frozen=True)
class Plan:
    """How long and how fast to learn."""

    steps: int
    size: int  # ids in a batch, padding included
    rate: float
    decay: int  # steps at the end in which the rate falls to zero
    warmup: int = 100
    seed: int = 0
    dropout: float = 0.0

    def factor(self, step: int) -> float:
        """Share of the full rate."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))


def build(vocabulary: Path, dropout: float = 0.0) -> tuple[CachedTokenizer, Nano]:
    """Tokenizer and model."""
    tokenizer = CachedTokenizer(vocabulary)
    sizes = Sizes(tokenizer.vocab_size, tokenizer.audio_start)
    return tokenizer, Nano(replace(sizes, dropout=dropout))


def train(source: Source, out: Path, vocabulary: Path, plan: Plan, *, start: Path, whisper: Path, half: bool) -> None:
    """Train until `plan.steps`, from OUT/state.pt if it is there, else from the weights of the state `start`."""
    torch.manual_seed(plan.seed)
    tokenizer, model = build(vocabulary, plan.dropout)
    out.mkdir(parents=True, exist_ok=True)
    saved = out / "state.pt"
    state = begin(saved if saved.exists() else start, model)
    first = int(state["step"]) if saved.exists() else 0  # type: ignore[call-overload]
    grafted.whiten(model, heard(source))
    scales, tool = Scales.of(tokenizer), grafted.optimizer(model, plan.rate)
    if saved.exists():
        tool.load_state_dict(state["tool"])  # type: ignore[arg-type]
    teacher = WhisperForesight(whisper, tokenizer, grafted.silence(model))
    channels = model.transformer.audio.proj.weight[EVEN].detach().numpy()
    stream = batches(source, Encoder(tokenizer, channels), (plan.seed * 1_000_003 + first) * 64, size=plan.size)
    log, started = Log(out / "log.jsonl"), time.monotonic()
    for step in range(first, plan.steps):
        waited = time.monotonic()
        batch = next(stream)
        log.waited += time.monotonic() - waited
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            learned = grafted.learn(model, batch, scales, teacher)
        grafted.step_down(model, tool, sum(learned.losses.values()), plan.rate * plan.factor(step))
        log.add(learned, batch)
        if (step + 1) % 25 == 0:
            log.write(step + 1, plan.rate * plan.factor(step), time.monotonic() - started)
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == plan.steps:
            save(saved, step + 1, model, tool)


class Log:
    """Means of the losses and, by task, the share of answer tokens met and of answers right, since the last line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._examples = self._ids = 0
        self.waited = 0.0  # seconds, for data

    def add(self, learned: Learned, batch: Batch) -> None:
        """Count one batch."""
        for name, loss in learned.losses.items():
            self._count(f"loss.{name}", float(loss.detach()), 1)
        for row, task in enumerate(batch.tasks):
            of_row = learned.met[learned.rows == row]
            self._count(f"met.{task}", float(of_row.sum()), len(of_row))
            if task not in SAID:
                self._count(f"right.{task}", float(of_row.all()), 1)
        self._examples += len(batch.tasks)
        self._ids += batch.ids.numel()

    def write(self, step: int, rate: float, seconds: float) -> None:
        """A line to the log and to standard error."""
        means = {name: round(total / max(count, 1), 4) for name, (total, count) in sorted(self._sums.items())}
        row: dict[str, float] = {"step": step, "rate": round(rate, 6), "seconds": round(seconds, 1)}
        row |= {"waited": round(self.waited, 1), "examples": self._examples, "ids": self._ids, **means}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(" ".join(f"{name}={value}" for name, value in row.items()), file=sys.stderr, flush=True)
        self._sums.clear()
        self._examples = self._ids = 0
        self.waited = 0.0

    def _count(self, name: str, total: float, count: int) -> None:
        self._sums[name][0] += total
        self._sums[name][1] += count


def trained_state(model: Nano) -> dict[str, Tensor]:
    """The model without the encoder, which anyone can fetch."""
    names = (name for name, _ in model.transformer.audio.named_parameters())
    frozen = {f"transformer.audio.{name}" for name in names if not name.startswith(OWN_AUDIO)}
    return {
        name: value for name, value in grafted.folded(model).items() if name not in frozen and "positional" not in name
    }


def save(path: Path, step: int, model: Nano, tool: torch.optim.Optimizer) -> None:
    """Everything that a resumed run needs, whole or not at all; the weights of each hundred steps are kept."""
    state = {"step": step, "model": trained_state(model)}
    if step % KEPT_EVERY == 0:
        torch.save(state, path.with_name(f"weights-{step:06}.pt"))
    torch.save(state | {"tool": tool.state_dict()}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def heard(source: Source) -> Tensor:
    """Features [n, state] of clips of all kinds: every fourth frame."""
    rng = random.Random(0)  # noqa: S311 - reproducible data, not secrets
    clips = [clip for _ in range(HEARD) for clip in source.example(rng).clips]
    return torch.from_numpy(np.concatenate([clip.features[::4] for clip in clips]).astype(np.float32))


def begin(path: Path, model: Nano) -> dict[str, object]:
    """Take the weights of a state, or of the decoder that `export` wrote."""
    if path.suffix == ".safetensors":
        weights = {name: torch.from_numpy(value) for name, value in from_eight_bits(load_file(path)).items()}
        state: dict[str, object] = {"step": 0, "model": weights}
    else:
        state = torch.load(path, weights_only=True, map_location="cpu")
    grafted.wake(state["model"])  # type: ignore[arg-type]
    left = model.load_state_dict(state["model"], strict=False)  # type: ignore[arg-type]
    assert not left.unexpected_keys, left.unexpected_keys
    lacking = trained_state(model).keys() & set(left.missing_keys) - {"lm_head.weight"}  # the embeddings once more
    assert not lacking, f"{path}: no whole decoder, {min(lacking)} is missing"
    return state


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--begin",
        type=Path,
        required=True,
        metavar="FILE",
        help="a state of distil or train, or what export wrote of it",
    )
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR")
    parser.add_argument("--whisper", type=Path, required=True, metavar="FILE", help="model.bin, for its foresight")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument(
        "--shares", default="{}", metavar="JSON", help="shares of tasks other than those of examples.py"
    )
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--size", type=int, default=5000, help="ids in a batch, padding included")
    parser.add_argument("--rate", type=float, default=8e-5)
    parser.add_argument("--decay", type=int, default=1000, help="steps at the end in which the rate falls to zero")
    parser.add_argument("--warmup", type=int, default=100, help="steps at the begin in which the rate rises")
    parser.add_argument("--dropout", type=float, default=0.0, help="share of what a block adds that is left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--exact", action="store_true", help="float32 where bfloat16 would be quicker")
    options = parser.parse_args(argv)
    source = Source(load(options.features), SHARES | json.loads(options.shares))
    names = ("steps", "size", "rate", "decay", "warmup", "seed", "dropout")
    plan = Plan(**{name: getattr(options, name) for name in names})
    half = HALF and not options.exact
    train(source, options.out, options.vocabulary, plan, start=options.begin, whisper=options.whisper, half=half)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
