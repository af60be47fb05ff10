"""What Whisper's decoder makes of the transcripts of a batch: a graft learns from it (`distil`, `grafted`).

Whisper reads the same ids behind a prompt of its own and hears the same sound without masks.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.nano.train import whisper_base, wordings
from models.nano.train import whisper_decoder as whisper
from models.nano.train.batches import Batch
from models.nano.train.whisper_pieces import whisper_ids
from tokenizer.tokenizer import Tokenizer

CLOSING = '".'  # what follows a transcript in chat (`answers.transcript`), one id
FIRST = len(whisper.PROMPT)  # rows of the teacher before those of the transcript
PLAIN = re.compile(rb" ?[a-z']+")  # pieces of a transcript by the base model's tags


def tags(tokenizer: Tokenizer) -> dict[int, int]:
    """Whisper's ids of the tags that ask for a transcript, of the ends of an answer, and of times (in fiftieths)."""
    ours = tokenizer.encode(wordings.TRANSCRIBE_TAGS, special="all")
    theirs = (whisper.START, whisper.ENGLISH, whisper.TRANSCRIBE, whisper.ENGLISH, whisper.NO_TIMES, whisper.NO_TIMES)
    (zero,), (last,) = (tokenizer.encode(text, special="all") for text in ("<|0.00|>", "<|30.00|>"))
    times = {token: whisper.TIMES + round((token - zero) / 2) for token in range(zero, last + 1)}
    ends = dict.fromkeys((tokenizer.endoftext, tokenizer.im_end), whisper.END)
    return times | dict(zip(ours, theirs, strict=True)) | ends


@dataclass(frozen=True)
class Taught:
    """Of m transcripts of a batch, padded to t ids: where they stand, and what Whisper makes of them.

    `rows` [m] are rows of the batch, `columns` [m, FIRST + t] columns among its rows of text, `there` [m, FIRST + t]
    is false behind a transcript's end. `streams` are [m, FIRST + t, state] before each part of Whisper's decoder.
    `log_probabilities` [m, t + 1, ids + 1] are those of each next id, the last one the end's; `sure` [m, t + 1] tells
    which of them count.
    """

    rows: Tensor
    columns: Tensor
    there: Tensor
    streams: list[Tensor]
    log_probabilities: Tensor
    sure: Tensor

    def divergence(self, hidden: Tensor, weight: Tensor) -> Tensor:
        """KL from Whisper's foresight to that of a decoder, nats an id: its last norm's output and output matrix."""
        asked = hidden[self.rows[:, None], self.columns[:, FIRST - 1 :]][self.sure]
        want = self.log_probabilities[self.sure]
        have = F.linear(asked, weight[: want.shape[-1]]).log_softmax(-1)
        return F.kl_div(have, want, reduction="sum", log_target=True) / len(want)


class WhisperTeacher:
    """Whisper base's decoder, with the pieces of a graft's vocabulary."""

    def __init__(self, weights: Path, tokenizer: Tokenizer, silence: Tensor) -> None:
        """`weights`: model.bin; it is fetched if it is not there. `silence` [state] stands behind each sound."""
        self.silence, self.end = silence, tokenizer.endoftext
        (self.closing,) = tokenizer.encode(CLOSING)
        self.decoder = whisper.WhisperDecoder(whisper_base.fetch(weights))
        self.pieces = torch.tensor(whisper_ids(tokenizer))
        texts = [tokenizer.token_bytes(token) for token in range(len(self.pieces))]
        self.begins = torch.tensor([text.startswith(b" ") for text in texts])
        self.marked = torch.tensor([not PLAIN.fullmatch(text) for text in texts])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Taught | None:
        """What it makes of the batch; None where nothing is read."""
        if not len(batch.read):
            return None
        rows, clips, firsts, lasts, plain = batch.read.T
        ids = pad_sequence(
            [batch.ids[row, first:last] for row, first, last in zip(rows, firsts, lasts, strict=True)], batch_first=True
        )
        said = torch.arange(ids.shape[1] + 1) < (lasts - firsts)[:, None]
        prompt = torch.tensor(whisper.PROMPT).expand(len(ids), -1)
        sounds = batch.clean.split(batch.clips.tolist())
        features, louder = whisper.followed_by(self.silence, [sounds[clip] for clip in clips])
        last, streams = self.decoder.states(torch.cat([prompt, self.pieces[ids]], 1), features, louder)
        known = torch.cat([self.pieces, torch.tensor([whisper.END])])
        scores = last[:, FIRST - 1 :] @ self.decoder.embeddings[known].T
        scores[..., :-1].masked_fill_((plain[:, None].bool() & self.marked)[:, None], -1e4)
        in_chat = batch.ids[rows, lasts] == self.closing  # Whisper's end is the quotation mark there
        scores[in_chat, :, self.closing] = scores[in_chat, :, -1]
        ends = (batch.ids[rows, lasts] == self.end) | in_chat
        scores[~ends | in_chat, :, -1] = -1e4
        begun = F.pad((self.begins[ids] & said[:, :-1]).cumsum(1), (0, 1), value=1) > 0
        ending = torch.arange(ids.shape[1] + 1) == (lasts - firsts)[:, None]
        sure = said & begun | ending & ends[:, None]  # a first word without its space is none of Whisper's
        columns = (firsts - batch.clips[clips] - FIRST)[:, None] + torch.arange(FIRST + ids.shape[1])
        there = torch.cat([torch.ones(len(ids), FIRST, dtype=torch.bool), said[:, :-1]], 1)
        return Taught(rows, torch.where(there, columns, 0), there, streams, scores.log_softmax(-1), sure)
