"""`python3 -m models.nano.train.train --features DIR… --texts DIR --out DIR`: trains nano's decoder on cached features.

What the losses are is in `losses`, what is learned in `examples`. Seeded; resumes from OUT/state.pt; the log is
OUT/log.jsonl, a line every 25 steps. The rate rises, stays and falls, so a run can be made longer while it is full.
`torchrun --nproc-per-node 2 -m … --threads 1` is quicker on two shared cores than one process of two threads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.nano.train import grafted
from models.nano.train.batches import Batch, CachedTokenizer, Encoder, batches
from models.nano.train.corpus import load
from models.nano.train.examples import SHARES, Source
from models.nano.train.graft import grafted_sizes
from models.nano.train.losses import LOSS_WEIGHTS, Learned, Scales, Teacher, learn
from models.nano.train.model import Nano, Sizes
from models.nano.train.muon import Muon
from models.nano.train.texts import sentences
from models.nano.train.whisper_teacher import WhisperTeacher

SAVED_EVERY = 50  # steps
TRAINED_AUDIO = ("proj.", "audio_bos_eos_token.")  # of the encoder, what training may change


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
    whisper: Path | None = None  # the model is a grafted one and learns from these weights, too

    def factor(self, step: int) -> float:
        """Share of the full rate."""
        return min(1.0, (step + 1) / self.warmup, (self.steps - step) / max(1, self.decay))


def optimizers(model: Nano, teacher: Teacher, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the rest; the encoder stays as it is."""
    if model.sizes.is_tied:
        return [grafted.optimizer(model, rate)]
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    inner = [value for name, value in trained.items() if value.ndim == 2 and ".h." in name]
    others = [value for name, value in trained.items() if not (value.ndim == 2 and ".h." in name)]
    return [
        torch.optim.AdamW([*others, *teacher.parameters()], lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
        Muon(inner, lr=rate, weight_decay=0.01),
    ]


def build(vocabulary: Path, dropout: float = 0.0, *, graft: bool = False) -> tuple[CachedTokenizer, Nano, Teacher]:
    """Tokenizer, model and the head of the letters; of the encoder only what is trained takes gradients."""
    tokenizer = CachedTokenizer(vocabulary)
    sizes = (grafted_sizes if graft else Sizes)(tokenizer.vocab_size, tokenizer.audio_start)
    model = Nano(replace(sizes, dropout=dropout))
    for name, value in model.transformer.audio.named_parameters():
        value.requires_grad = name.startswith(TRAINED_AUDIO)
    return tokenizer, model, Teacher(model.sizes)


def train(
    source: Source,
    out: Path,
    vocabulary: Path,
    plan: Plan,
    *,
    start: Path | None,
    device: str,
    half: bool,
    compiled: bool,
) -> None:
    """Train until `plan.steps`, from OUT/state.pt if it is there, else from the weights of the state `start`."""
    torch.manual_seed(plan.seed)
    tokenizer, model, teacher = build(vocabulary, plan.dropout, graft=plan.whisper is not None)
    model, teacher = model.to(device), teacher.to(device)
    scales, tools = Scales.of(tokenizer), optimizers(model, teacher, plan.rate)
    out.mkdir(parents=True, exist_ok=True)
    first = resume(out / "state.pt", model, teacher, tools)
    if start is not None and not first:
        begin(start, model, teacher)
    whisper = WhisperTeacher(plan.whisper, tokenizer, grafted.silence(model)) if plan.whisper else None
    if compiled:
        for block in model.transformer.h:
            block.compile(dynamic=True)
    rank = dist.get_rank() if dist.is_initialized() else 0
    stream = batches(source, Encoder(tokenizer), (plan.seed * 1_000_003 + first) * 64 + rank, size=plan.size)
    log, started = Log(out / "log.jsonl"), time.monotonic()
    for step in range(first, plan.steps):
        waited = time.monotonic()
        batch = next(stream).to(device)
        log.waited += time.monotonic() - waited
        for tool in tools:
            for group in tool.param_groups:
                group["lr"] = plan.rate * plan.factor(step) * group.get("share", 1.0)
        with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
            learned = grafted.learn(model, batch, scales, whisper) if whisper else learn(model, teacher, batch, scales)
        step_down(learned.losses, tools, [*model.parameters(), *teacher.parameters()])
        log.add(learned, batch)
        if (step + 1) % 25 == 0 and rank == 0:
            log.write(step + 1, plan.rate * plan.factor(step), time.monotonic() - started)
        if rank == 0 and ((step + 1) % SAVED_EVERY == 0 or step + 1 == plan.steps):
            save(out / "state.pt", step + 1, model, teacher, tools)


def step_down(losses: dict[str, Tensor], tools: list[torch.optim.Optimizer], parameters: list[nn.Parameter]) -> None:
    """One step of all optimizers down the weighted sum of the losses."""
    for tool in tools:
        tool.zero_grad(set_to_none=True)
    torch.stack([LOSS_WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
    share_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for tool in tools:
        tool.step()


def share_gradients(parameters: list[nn.Parameter]) -> None:
    """The mean of the gradients of all processes, where there are several."""
    if not dist.is_initialized():
        return
    trained = [value for value in parameters if value.requires_grad]
    grads = [torch.zeros_like(value) if value.grad is None else value.grad for value in trained]
    joined = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(joined)
    parts = (joined / dist.get_world_size()).split([value.numel() for value in trained])
    for value, part in zip(trained, parts, strict=True):
        value.grad = part.view_as(value)


class Log:
    """Means of the losses and, by task, the share of answer tokens met, since the last line."""

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
    frozen = {f"transformer.audio.{name}" for name in names if not name.startswith(TRAINED_AUDIO)}
    state: dict[str, Tensor] = model.state_dict()
    return {name: value for name, value in state.items() if name not in frozen and "positional" not in name}


def save(path: Path, step: int, model: Nano, teacher: Teacher, tools: list[torch.optim.Optimizer]) -> None:
    """Everything that a resumed run needs, whole or not at all; the weights of each thousand steps are kept."""
    state = {"step": step, "model": trained_state(model), "teacher": teacher.state_dict()}
    if step % 1000 == 0:
        torch.save(state, path.with_name(f"weights-{step:06}.pt"))
    state["tools"] = [tool.state_dict() for tool in tools]
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def resume(path: Path, model: Nano, teacher: Teacher, tools: list[torch.optim.Optimizer]) -> int:
    """Load a saved state; returns the step to go on from."""
    if not path.exists():
        return 0
    state = begin(path, model, teacher)
    for tool, saved in zip(tools, state["tools"], strict=True):  # type: ignore[call-overload]
        tool.load_state_dict(saved)
    return int(state["step"])  # type: ignore[call-overload]


def begin(path: Path, model: Nano, teacher: nn.Module | None) -> dict[str, object]:
    """Take the weights of a state."""
    state: dict[str, object] = torch.load(path, weights_only=True, map_location="cpu")
    left = model.load_state_dict(state["model"], strict=False)  # type: ignore[arg-type]
    assert not left.unexpected_keys, left.unexpected_keys
    if teacher is not None and "teacher" in state:
        teacher.load_state_dict(state["teacher"])  # type: ignore[arg-type]
    return state


def main(argv: list[str] | None = None) -> int:
    """Train as the arguments say."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR")
    parser.add_argument("--texts", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument(
        "--shares", default="{}", metavar="JSON", help="shares of tasks other than those of examples.py"
    )
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=8_000, help="ids in a batch, padding included")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=int, default=10_000, help="steps at the end in which the rate falls to zero")
    parser.add_argument("--dropout", type=float, default=0.1, help="share of what a block adds that is left out")
    parser.add_argument("--begin", type=Path, metavar="FILE", help="state of another run to begin with")
    parser.add_argument(
        "--grafted", type=Path, metavar="FILE", help="the state is a graft, which goes on learning from this model.bin"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--half", action="store_true", help="bfloat16; only where the processor has it (AMX)")
    parser.add_argument("--compile", action="store_true", help="compile the blocks; needs a C++ compiler on a CPU")
    options = parser.parse_args(argv)
    if options.grafted and options.device != "cpu":
        parser.error("--grafted: Whisper's decoder is on the CPU; add --device cpu")
    torch.set_num_threads(options.threads)
    if "RANK" in os.environ:  # started by torchrun
        dist.init_process_group("gloo")
    shares = SHARES | json.loads(options.shares)
    source = Source(load(options.features), list(sentences(options.texts)), shares)
    named = {name: getattr(options, name) for name in ("steps", "size", "rate", "decay", "seed", "dropout")}
    plan = Plan(**named, whisper=options.grafted)
    how = {"device": options.device, "half": options.half, "compiled": options.compile}
    train(source, options.out, options.vocabulary, plan, start=options.begin, **how)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
