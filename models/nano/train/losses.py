"""What nano is taught: the answer's cross-entropy, and of transcripts what Whisper foresees (`grafted.learn`).

A time that is nearly right is not all wrong: its target is spread over its neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from models.nano.train.batches import CachedTokenizer

SPREAD = {"time": 3.0, "pitch": 0.4}  # standard deviation of a target, in hundredths of a second and semitones


@dataclass(frozen=True)
class Scales:
    """The ids, side by side, that stand for amounts: name -> first and last."""

    ids: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, tokenizer: CachedTokenizer) -> Scales:
        """The times of <|0.00|> to <|30.00|> and the pitches of MIDI."""
        ends = {"time": ("<|0.00|>", "<|30.00|>"), "pitch": ("<|midi_pitch_0|>", "<|midi_pitch_127|>")}
        found = {name: [tokenizer.encode(text, special="audio") for text in pair] for name, pair in ends.items()}
        return cls({name: (low, high) for name, ([low], [high]) in found.items()})

    def cross_entropy(self, logits: Tensor, targets: Tensor, *, smoothing: float) -> Tensor:
        """Of each row of logits [n, vocab]; targets [n] on a scale are spread as a normal distribution."""
        losses = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        for name, (low, high) in self.ids.items():
            rows = ((targets >= low) & (targets <= high)).nonzero()[:, 0]
            if len(rows):
                reach = math.ceil(3 * SPREAD[name])
                offsets = torch.arange(-reach, reach + 1, device=logits.device)
                shares = torch.softmax(-0.5 * (offsets / SPREAD[name]) ** 2, 0)
                near = (targets[rows, None] + offsets).clamp(low, high)
                spread = -(logits[rows].log_softmax(-1).gather(1, near) * shares).sum(1)
                losses = losses.index_put((rows,), spread)
        return losses


@dataclass
class Learned:
    """The losses of a batch, and for each weighted target its row and whether it was met."""

    losses: dict[str, Tensor]
    met: Tensor
    rows: Tensor
