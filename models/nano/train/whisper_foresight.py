"""What Whisper foresees where it has words that nano spells: its own pieces, counted for the first of ours.

`WhisperTeacher` reads and foresees nano's pieces alone. Of a word that Whisper has in one piece and nano in several it
foresees noise, which taught nano to spell by ear. Here Whisper reads the transcript in its own pieces. Wherever one of
them ends with one of ours, what it foresees next is moved to the first of nano's pieces that spell it. Inside a word
that is spelled only the transcript counts, and so it does where Whisper does not foresee it.
"""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path

import tiktoken
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.nano.train import whisper_decoder as whisper
from models.nano.train.batches import Batch, going_on
from models.nano.train.whisper_pieces import whisper_pieces
from models.nano.train.whisper_teacher import FIRST, PLAIN, Taught, WhisperTeacher
from tokenizer.tokenizer import PIECES, Tokenizer

LIKELIEST = 64  # of Whisper's pieces count at a place
AGREED = 0.1  # the probability of what the transcript has next is more than that, or Whisper is not asked
LEAST = 1e-8  # probability of any other


class WhisperForesight(WhisperTeacher):
    """Whisper base's decoder, with Whisper's own pieces."""

    def __init__(self, weights: Path, tokenizer: Tokenizer, silence: Tensor) -> None:
        """As `WhisperTeacher`."""
        super().__init__(weights, tokenizer, silence)
        pieces = whisper_pieces()
        ranks = {piece: number for number, piece in reversed(list(enumerate(pieces)))}
        self.whole = tiktoken.Encoding("whisper", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
        self.own = [tokenizer.token_bytes(token) for token in range(tokenizer.endoftext)]
        self.spelled = torch.tensor([first_piece(tokenizer, piece) for piece in pieces])
        plain = [piece.lower() if PLAIN.fullmatch(piece.lower()) else b"" for piece in pieces]
        self.spelled_plainly = torch.tensor([first_piece(tokenizer, piece) for piece in plain])

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Taught | None:
        """What it foresees in the batch; None where nothing is read. `streams` are left out."""
        if not len(batch.read):
            return None
        rows, clips, firsts, lasts, plain = batch.read.T
        ours = [batch.ids[row, first:last].tolist() for row, first, last in zip(rows, firsts, lasts, strict=True)]
        theirs, places = zip(*(self.read(ids) for ids in ours), strict=True)
        at = pad_sequence([torch.tensor(one) for one in places], batch_first=True, padding_value=-1)  # [m, t + 1]
        ids = pad_sequence([torch.tensor([*whisper.PROMPT, *one]) for one in theirs], batch_first=True)
        sounds = batch.clean.split(batch.clips.tolist())
        features, louder = whisper.followed_by(self.silence, [sounds[clip] for clip in clips])
        last, _ = self.decoder.states(ids, features, louder)

        in_chat = batch.ids[rows, lasts] == self.closing  # Whisper's end is the quotation mark there
        ends = (batch.ids[rows, lasts] == self.end) | in_chat
        number = torch.arange(at.shape[1])
        is_end = number == (lasts - firsts)[:, None]
        begun = torch.tensor([self.begun(one, at.shape[1]) for one in ours])
        sure = (at >= 0) & (~is_end & begun | is_end & ends[:, None])
        row, column = sure.nonzero(as_tuple=True)
        foreseen = self.foreseen(last[row, FIRST - 1 + at[row, column]], plain[row].bool())
        foreseen[:, self.closing] += foreseen[:, -1] * in_chat[row]
        foreseen[:, -1] *= ends[row] & ~in_chat[row]
        foreseen /= foreseen.sum(-1, keepdim=True).clamp_min(LEAST)
        said = batch.targets[rows[row], firsts[row] + column - 1]
        said = torch.where(is_end[row, column] & ~in_chat[row], foreseen.shape[1] - 1, said)
        sure[row, column] = foreseen.gather(1, said[:, None])[:, 0] > AGREED
        log_probabilities = foreseen.new_zeros(*at.shape, foreseen.shape[1])
        log_probabilities[row, column] = foreseen.clamp_min(LEAST).log()
        columns = (firsts - batch.clips[clips] - FIRST)[:, None] + torch.arange(FIRST + at.shape[1] - 1)
        there = torch.arange(columns.shape[1]) < FIRST + (lasts - firsts)[:, None]
        return Taught(rows, torch.where(there, columns, 0), there, [], log_probabilities, sure)

    def read(self, ids: list[int]) -> tuple[list[int], list[int]]:
        """Whisper's ids of a transcript, with a space before it; and where each of ours, and the end, stands in them.

        That is how many of Whisper's ids are before it; -1 where one of them is not over yet.
        """
        pieces = [self.own[token] for token in ids]
        text = b"".join(pieces)
        before = 0 if text.startswith(b" ") else 1
        theirs = self.whole._encode_bytes(b" " * before + text)  # noqa: SLF001 - pieces that were misheard are no text
        ends = {0: 0} | {
            end: count + 1
            for count, end in enumerate(accumulate(len(self.whole.decode_single_token_bytes(one)) for one in theirs))
        }
        starts = [0, *(end + before for end in accumulate(map(len, pieces)))]
        return theirs, [ends.get(start, -1) for start in starts]

    def begun(self, ids: list[int], length: int) -> list[bool]:
        """Of each id, and the end, up to `length`: whether Whisper may be asked for it.

        Not for the first word, which has no space before it, nor for what a spelled word goes on with.
        """
        pieces = [self.own[token] for token in ids]
        first = next((place for place, piece in enumerate(pieces) if piece.startswith(b" ")), len(pieces))
        found = [place >= first and not inside for place, inside in enumerate(going_on(pieces))]
        return [*found, *([True] * (length - len(found)))]

    def foreseen(self, states: Tensor, plain: Tensor) -> Tensor:
        """Probabilities [n, ids + 1] of what comes after the last norm's `states` [n, state], the end's last.

        They need not add up to one. `plain` [n]: by the base model's tags, where capitals are small and pieces with
        marks are none of nano's.
        """
        scores = (states @ self.decoder.embeddings[: whisper.END + 1].T).float()
        likeliest = scores.topk(LIKELIEST, dim=-1)
        probabilities = (likeliest.values - scores.logsumexp(-1, keepdim=True)).exp()
        spelled = torch.where(
            plain[:, None],
            _with_end(self.spelled_plainly)[likeliest.indices],
            _with_end(self.spelled)[likeliest.indices],
        )
        nothing, end = len(self.own) + 1, len(self.own)
        place = torch.where(likeliest.indices == whisper.END, end, torch.where(spelled < 0, nothing, spelled))
        return probabilities.new_zeros(len(states), nothing + 1).scatter_add_(1, place, probabilities)[:, :nothing]


def first_piece(tokenizer: Tokenizer, piece: bytes) -> int:
    """The first of nano's ids that spell a piece of Whisper's; -1 if nothing does."""
    try:
        ids = tokenizer.encode(piece.decode())
    except UnicodeDecodeError:
        return -1
    return ids[0] if ids else -1


def _with_end(spelled: Tensor) -> Tensor:
    """A row for Whisper's id of the end, which is none of its pieces."""
    return torch.cat([spelled, spelled.new_tensor([-1])])
