"""`python3 -m models.nano.train.tune_encoder WHISPER OUT --decoder FILE --recordings DIR…`: the encoder learns, too.

The decoder stays as it is. It reads the transcripts of clips with words, as they are, in rooms and noise and by
telephone, and the encoder learns to make them likely. Some ids that the decoder reads back are false, so that it must
listen: it has the sentences by heart. What its attention reads of sounds, of noises and of some clips as they are stays
near what the encoder gave before. Seeded; OUT.state is saved every `SAVED_EVERY` steps, and a second run goes on from
there. OUT is the encoder's file of a checkpoint, as `export` writes it: the mean of both encoders.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from models.nano.train import answers, grafted, whisper_base, wordings
from models.nano.train.answers import Piece
from models.nano.train.batches import Encoder
from models.nano.train.corpus import Clip
from models.nano.train.examples import Example
from models.nano.train.export import stored_encoder
from models.nano.train.features import load_encoder
from models.nano.train.lessons import BY_TELEPHONE, WORDS, Lesson, Lessons, by_length
from models.nano.train.losses import Learned, Scales
from models.nano.train.mels import log_mels
from models.nano.train.model import AudioEncoder, Nano
from models.nano.train.recordings import Recording
from models.nano.train.train import begin, build

STEPS, WARMUP, DECAY = 650, 15, 0.6  # the rate falls in the last `DECAY` of the steps
LEARNING_RATE = 3e-5
FRAMES, TOGETHER = 2600, 6  # encoder frames of a step, and clips that go through the encoder at once
BASE = 0.55  # of the transcripts are asked for by the base model's tags
MISHEARD = 0.4  # at most this share of a transcript's ids, as the decoder reads them back
KEPT, KEPT_CLIPS = 4.0, 0.5  # the weight of what is to stay, and the share of clips with words that it counts
MEASURED = 30  # clips that tell how loud each direction is that attention reads
SAVED_EVERY = 50
SHARE = 0.7  # of what was learned: the mean is better than either
LEARNED = ("conv", "blocks.", "ln_post.")

Near = Callable[[Tensor, Tensor], Tensor]


class Unheard(Clip):
    """A clip whose features the encoder is about to make."""

    @property
    def features(self) -> NDArray[np.float16]:
        return np.zeros((self.tokens, 0), np.float16)


@dataclass
class Reader:
    """The decoder that stands, which says how well a transcript can be read off features."""

    model: Nano
    encoder: Encoder
    scales: Scales

    def learned(self, labels: Sequence[Recording], features: Sequence[Tensor], dice: random.Random) -> Learned:
        """The loss of each clip's transcript; `features` [tokens, state] of each."""
        asked = [
            self.encoder.encode(example(row, len(heard), dice)) for row, heard in zip(labels, features, strict=True)
        ]
        batch = self.encoder.batch(asked, np.random.default_rng(0), augment=False)
        texts = self.encoder.tokenizer.endoftext
        for row, one in enumerate(asked):
            rate = dice.uniform(0, MISHEARD)
            for place in range(one.said, len(one.ids) - 1):
                if dice.random() < rate:
                    batch.ids[row, place] = dice.randrange(texts)
        batch.features = torch.cat(list(features))
        return grafted.learn(self.model, batch, self.scales, smoothing=0.0)


def example(row: Recording, tokens: int, dice: random.Random) -> Example:
    """A clip with words is asked for them, by the base model's tags or in chat."""
    clip = Unheard(Path(), 0, tokens, row)
    if dice.random() < BASE:
        return Example("transcribe_base", (clip,), (("", (Piece(row["text"]),)),), wordings.TRANSCRIBE_TAGS)
    question = wordings.question("transcribe", dice, split="train")
    return Example("transcribe", (clip,), ((question, answers.transcript(clip)),))


@torch.no_grad()
def nearness(model: Nano, features: Tensor) -> Near:
    """How far features [n, state] are from others, in what cross-attention makes of them: keys and values of each head.

    A head counts by the mean square of what it makes of `features` [n, state], less their mean: it gives 1 for those
    beside their mean.
    """
    heard = _read(model, features)
    heard = heard - heard.mean(0)
    weights = torch.zeros(heard.shape[1], heard.shape[1])
    for block in list(model.transformer.h)[2::2]:
        rows = (block.attn.c_attn.weight * block.ln_1.weight)[heard.shape[1] :]
        for head in rows.unflatten(0, (2 * block.attn.heads, -1)):
            weights += head.T @ head / (heard @ head.T).square().mean()
    values, directions = torch.linalg.eigh(weights)
    measure = directions * values.clamp_min(0).sqrt()
    unit = float((heard @ measure).square().sum(1).mean())

    def near(got: Tensor, wanted: Tensor) -> Tensor:
        return ((_read(model, got) - _read(model, wanted)) @ measure).square().sum(1).mean() / unit

    return near


def _read(model: Nano, features: Tensor) -> Tensor:
    return F.rms_norm(model.transformer.audio.proj(features), (model.sizes.d_model,), None, model.sizes.epsilon)


@dataclass
class Tuning:
    """Two encoders, that which learns and that which it was, and what judges them."""

    learner: AudioEncoder
    before: AudioEncoder
    reader: Reader
    near: Near

    def step(self, lessons: Sequence[Lesson], dice: random.Random) -> dict[str, float]:
        """Add the gradients of some lessons; gives means for the log."""
        seconds = sum(len(one.heard) for one in lessons)
        sums = {"answer": 0.0, "met": 0.0, "kept": 0.0}
        ids = counted = 0.0
        for group in by_length(lessons, TOGETHER):
            asked = [one for one in group if one.labels]
            if asked:
                found = self.reader.learned([one.labels or {} for one in asked], heard(self.learner, asked), dice)
                (found.losses["answer"] * len(asked) / len(lessons)).backward()
                sums["answer"] += float(found.losses["answer"].detach()) * len(found.met)
                sums["met"] += float(found.met.sum())
                ids += len(found.met)
            kept = [one for one in group if not one.labels or dice.random() < KEPT_CLIPS]
            if kept:
                share = sum(len(one.heard) for one in kept) / seconds
                loss = self._kept([Lesson(one.clean, one.clean, None) for one in kept])
                (loss * share * KEPT).backward()
                sums["kept"] += float(loss.detach()) * share
                counted += share
        count = {"answer": ids, "met": ids, "kept": counted}
        return {name: value / max(count[name], 1e-9) for name, value in sums.items()}

    @torch.no_grad()
    def mean(self, names: Iterable[str]) -> dict[str, NDArray[np.float32]]:
        """Tensors of both encoders, `SHARE` of that which learned."""
        learned, before = self.learner.state_dict(), self.before.state_dict()
        return {name: torch.lerp(before[name], learned[name], SHARE).numpy() for name in names if name in learned}

    def _kept(self, lessons: Sequence[Lesson]) -> Tensor:
        with torch.no_grad():
            wanted = heard(self.before, lessons)
        return self.near(torch.cat(heard(self.learner, lessons)), torch.cat(wanted))


def heard(encoder: AudioEncoder, lessons: Sequence[Lesson]) -> list[Tensor]:
    """Features [tokens, state] of each clip. In float32: bfloat16 is slower on some processors that have it."""
    mel, frames = log_mels([one.heard for one in lessons])
    found = encoder.features(mel, frames)
    return [row[: int(count) // 2] for row, count in zip(found, frames, strict=True)]


def main(argv: list[str] | None = None) -> int:
    """Learn, and write the encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("encoder", type=Path, metavar="WHISPER", help="model.bin, or an encoder.safetensors")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--decoder", type=Path, required=True, metavar="FILE", help="a state, or what export wrote")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="qwen.tiktoken of nano")
    parser.add_argument("--recordings", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    parser.add_argument("--telephone", type=float, default=BY_TELEPHONE, help="share of the words that is heard so")
    options = parser.parse_args(argv)
    lessons = Lessons(options.recordings, options.telephone)
    tuning = _tuning(options.encoder, options.decoder, options.vocabulary, lessons)
    learned = [value for value in tuning.learner.parameters() if value.requires_grad]
    tool = torch.optim.Adam(learned, lr=options.rate, betas=(0.9, 0.98))
    saved, first = options.out.with_suffix(".state"), 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        first = state["step"]
        tuning.learner.load_state_dict(state["encoder"])
        tool.load_state_dict(state["tool"])
    for step in range(first, options.steps):
        dice = random.Random(f"tune_encoder/{step}")  # noqa: S311 - reproducible data, not secrets
        share = min(1.0, (step + 1) / WARMUP, (options.steps - step) / (DECAY * options.steps))
        for group in tool.param_groups:
            group["lr"] = options.rate * share
        tool.zero_grad()
        means = tuning.step(lessons.draw(dice, FRAMES), dice)
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        tool.step()
        print(f"step={step + 1}", *(f"{k}={v:.4f}" for k, v in means.items()), file=sys.stderr, flush=True)
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == options.steps:
            state = {"step": step + 1, "encoder": tuning.learner.state_dict(), "tool": tool.state_dict()}
            torch.save(state, saved.with_suffix(".part"))
            saved.with_suffix(".part").replace(saved)
    names = whisper_base.encoder_tensors(options.encoder).keys()
    save_file(stored_encoder(tuning.mean(names)), options.out, metadata={"format": "pt"})
    return 0


def _tuning(encoder: Path, decoder: Path, vocabulary: Path, lessons: Lessons) -> Tuning:
    """Everything opened, and only the encoder's own weights learn."""
    tokenizer, model = build(vocabulary)
    begin(decoder, model)
    model.requires_grad_(False)
    learner, before = load_encoder(encoder), load_encoder(encoder)
    for name, value in learner.named_parameters():
        value.requires_grad = name.startswith(LEARNED)
    dice = random.Random("tune_encoder/near")  # noqa: S311
    with torch.no_grad():
        clips = [lessons.lesson(WORDS, dice) for _ in range(MEASURED)]
        features = torch.cat([found for one in clips for found in heard(before, [one])])
    return Tuning(learner, before, Reader(model, Encoder(tokenizer), Scales.of(tokenizer)), nearness(model, features))


if __name__ == "__main__":
    raise SystemExit(main())
