"""What nano is taught: the losses of one batch.

Beside the answer's own cross-entropy stand two losses that make it converge: CTC over letters at the audio's positions
in the middle of the decoder (Graves and others, 2006), and attention of that layer's first head to where a word sounds.
Neither is in the shipped model. A time that is nearly right is not all wrong: its target is spread over its neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from models.nano.train.batches import LETTERS, Batch, CachedTokenizer
from models.nano.train.model import Nano, Sizes

LOSS_WEIGHTS = {"answer": 1.0, "letters": 1.0, "guide": 0.5, "foreseen": 1.0}
GUIDED_LAYER = 4
SPREAD = {"time": 3.0, "pitch": 0.4}  # standard deviation of a target, in hundredths of a second and semitones


class Teacher(nn.Module):
    """The head of the letters; it is thrown away after training."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(sizes.d_model)
        self.letter = nn.Linear(sizes.d_model, len(LETTERS) + 1)

    def log_probabilities(self, middle: Tensor, batch: Batch) -> Tensor:
        """middle [batch, t, d_model] -> [longest clip, clips, letters + 1], float32; padded behind a clip."""
        heard = self.letter(self.norm(middle.flatten(0, 1)[batch.places])).float().log_softmax(-1)
        return nn.utils.rnn.pad_sequence(list(heard.split(batch.clips.tolist())))

    def loss(self, middle: Tensor, batch: Batch) -> Tensor:
        """CTC over the clips whose words are known, per letter."""
        known = [
            number
            for number, (letters, tokens) in enumerate(zip(batch.letters, batch.clips.tolist(), strict=True))
            if 0 < len(letters) < 0.95 * tokens
        ]
        if not known:
            return torch.zeros((), device=middle.device)
        chosen = torch.tensor(known, device=middle.device)
        lengths = torch.tensor([len(batch.letters[number]) for number in known])
        targets = torch.cat([batch.letters[number] for number in known])
        scores = self.log_probabilities(middle, batch)[:, chosen]
        heard = batch.clips.cpu()[known]
        losses = F.ctc_loss(scores, targets.to(scores.device), heard, lengths, reduction="sum", zero_infinity=True)
        return losses / lengths.sum()


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


def learn(model: Nano, teacher: Teacher, batch: Batch, scales: Scales, *, smoothing: float = 0.05) -> Learned:
    """All losses of one batch."""
    x = model.embed(batch.ids, batch.features, batch.places, batch.ends)
    asked = (batch.guides[:, 0], batch.guides[:, 1]) if len(batch.guides) else None
    hidden = model.hidden(x, GUIDED_LAYER, asked)
    rows, positions = batch.weights.nonzero(as_tuple=True)
    logits = model.lm_head(hidden.last[rows, positions]).float()
    targets, weights = batch.targets[rows, positions], batch.weights[rows, positions]
    losses = {"answer": (scales.cross_entropy(logits, targets, smoothing=smoothing) * weights).sum() / weights.sum()}
    if len(batch.clips):
        losses["letters"] = teacher.loss(hidden.middle, batch)
    if asked is not None:
        losses["guide"] = guide_loss(hidden.attention, batch.guides)
    return Learned(losses, logits.argmax(-1) == targets, rows)


def guide_loss(attention: Tensor, guides: Tensor) -> Tensor:
    """-log of the attention [guides, t] that falls on where the word sounds."""
    places = torch.arange(attention.shape[1], device=attention.device)
    inside = (places >= guides[:, 2, None]) & (places <= guides[:, 3, None])
    return -((attention * inside).sum(1) + 1e-4).log().mean()
