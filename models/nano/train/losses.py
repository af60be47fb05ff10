"""What nano is taught: the losses of one batch.

Beside the answer's own cross-entropy stand losses that make it converge: the phone of every 20 ms, the word and the
place of every 40 ms on the encoder, gender, language and pitch on its mean, and attention of one decoder layer to where
a word or a time sounds. None of them is in the shipped model. A time or a pitch that is nearly right is not all wrong:
their targets are spread over their neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from models.nano.train.batches import GENDERS, IGNORED, LANGUAGES, Batch, CachedTokenizer
from models.nano.train.model import Heard, Nano, Sizes

LOSS_WEIGHTS = {
    "answer": 1.0,
    "phone": 0.3,
    "word": 0.3,
    "gender": 0.1,
    "language": 0.1,
    "pitch": 0.1,
    "place": 0.05,
    "guide": 0.3,
}
GUIDED_LAYER = 1
PITCHES, PLACES = 128, 256
SPREAD = {"time": 3.0, "pitch": 0.4}  # standard deviation of a target, in hundredths of a second and semitones


class Teacher(nn.Module):
    """The heads of the auxiliary losses; they are thrown away after training."""

    def __init__(self, sizes: Sizes, phones: int, words: int) -> None:
        super().__init__()
        self.phone = nn.Linear(sizes.audio_state, phones)
        self.word = nn.Linear(sizes.d_model, words + 1)
        self.gender = nn.Linear(sizes.d_model, len(GENDERS))
        self.language = nn.Linear(sizes.d_model, len(LANGUAGES))
        self.pitch = nn.Linear(sizes.d_model, PITCHES)
        self.place = nn.Linear(sizes.d_model, PLACES)

    def losses(self, heard: Heard, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropies of what the encoder alone should know."""
        tokens = heard.tokens
        keep = heard.frame_mask[:, : 2 * tokens.shape[1] : 2, None]
        mean = (tokens * keep).sum(1) / keep.sum(1).clamp(min=1)  # [clips, d_model]
        pairs = {
            "phone": (self.phone(heard.frames), batch.phones[:, : heard.frames.shape[1]]),
            "word": (self.word(tokens), batch.words[:, : tokens.shape[1]]),
            "gender": (self.gender(mean), batch.genders),
            "language": (self.language(mean), batch.languages),
            "pitch": (self.pitch(mean), batch.pitches),
            "place": (self.place(tokens), _places(tokens, batch)),
        }
        return {
            name: F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), ignore_index=IGNORED)
            for name, (logits, labels) in pairs.items()
            if (labels != IGNORED).any()
        }


def _places(tokens: Tensor, batch: Batch) -> Tensor:
    """The number of each token of a clip, IGNORED behind its end: [clips, T]."""
    numbers = torch.arange(tokens.shape[1], device=tokens.device).expand(tokens.shape[:2])
    return numbers.masked_fill((numbers >= batch.n_frames[:, None] // 2) | (numbers >= PLACES), IGNORED)


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

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Of each row of logits [n, vocab]; targets [n] on a scale are spread as a normal distribution."""
        losses = F.cross_entropy(logits, targets, reduction="none")
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


def listen(model: Nano, teacher: Teacher, batch: Batch, scales: Scales) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """As `learn`, for the encoder alone."""
    del scales
    nothing = torch.zeros(0)
    return teacher.losses(model.transformer.audio(batch.mel, batch.n_frames), batch), nothing, nothing


def learn(model: Nano, teacher: Teacher, batch: Batch, scales: Scales) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The losses of one batch, and for each weighted target whether it was met and its row."""
    heard = model.transformer.audio(batch.mel, batch.n_frames)
    x, attention = model.hidden(model.embed(batch.ids, heard, batch.spans), GUIDED_LAYER)
    rows, positions = batch.weights.nonzero(as_tuple=True)
    logits = model.lm_head(x[rows, positions]).float()
    targets, weights = batch.targets[rows, positions], batch.weights[rows, positions]
    losses = {"answer": (scales.cross_entropy(logits, targets) * weights).sum() / weights.sum()}
    losses |= teacher.losses(heard, batch)
    if batch.guides:
        losses["guide"] = guide_loss(attention, batch.guides)
    return losses, logits.argmax(-1) == targets, rows


def guide_loss(attention: Tensor, guides: list[tuple[int, int, int, int, int]]) -> Tensor:
    """-log of the attention, in one head of the layer, that falls on where the word sounds or stands."""
    row, head, position, first, last = torch.tensor(guides, device=attention.device).T
    weights = attention[row, head, position]  # [guides, t]
    places = torch.arange(weights.shape[1], device=weights.device)
    inside = (places >= first[:, None]) & (places <= last[:, None])
    return -((weights * inside).sum(1) + 1e-4).log().mean()
