"""How each kind of decoder graph is fed: "fused" (ours, for ONNX Runtime) and "plain" (as ailia publishes it).

Both run what a `Row` holds, and give logits. `prefill` runs a row alone from a position on; `step` runs one id more for
each of some neighbouring rows. What they know beyond names: fused looks embeddings up outside the graph and brings the
rotary tables of the sequence's alpha; plain has one row, and marks the prompt in the mask, from which the graph derives
alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.manifest import Manifest
from models.positions import logn_scale, ntk_alpha, rotary_tables
from models.session import Array, Session

Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Placed = list[tuple[int, Float32]]

# Attention scores take heads * chunk * context floats: a long prompt goes in pieces, which gives the same numbers.
PREFILL_CHUNK, TILE = 1024, 32
# In the plain graph's mask: positions of the prompt, whose count fixes the NTK alpha, and positions generated since.
PROMPT, GENERATED = 1, 2
# How many zero tokens the matrix products run beside the real ones: an input of fused graphs whose kernels need it.
PADDING = "padding_tokens"


@dataclass
class Row:
    """A sequence: its ids, the embeddings placed among them, and what its prompt's length fixed, the NTK alpha."""

    ids: list[int] = field(default_factory=list)
    audio: Placed = field(default_factory=list)
    prompt_tokens: int = 0
    alpha: int = 1


class FusedContract:
    """Embeddings in, logits of the last position out, cache in place, any number of rows."""

    def __init__(self, manifest: Manifest, session: Session, *, invariant: bool) -> None:
        """`invariant`: the bits of a row's logits do not depend on how many rows run beside it."""
        self._sizes = manifest.decoder_sizes
        self._session = session
        assert manifest.embeddings
        self._table: Array = np.load(manifest.path(manifest.embeddings), mmap_mode="r", allow_pickle=False)
        self._scale = logn_scale(self._sizes)  # [max_positions]
        self._tables: dict[int, dict[str, Array]] = {}  # of each alpha that was met
        self._padded, self._invariant = PADDING in manifest.decoder.inputs, invariant

    def prefill(self, number: int, row: Row, kept: int) -> Float32:
        """Logits float32 [vocab] after all ids of a row, whose first `kept` positions are cached."""
        self._session.rewind(kept, row=number)
        ids = np.asarray(row.ids[kept:], np.int64)  # [t]
        embeddings = self._table[ids].astype(np.float32)  # [t, d_model]
        for start, rows in behind(row.audio, kept):
            embeddings[start : start + len(rows)] = rows
        for first, last in pieces(len(ids)):
            logits = self._run(embeddings[None, first:last], number, [kept + first], row.alpha)
        return logits[0]  # type: ignore[no-any-return]

    def step(self, first: int, rows: Sequence[Row], ids: Ids) -> Float32:
        """Logits float32 [n, vocab] after one id more, `ids` [n], in each of n neighbours of one alpha."""
        embeddings = self._table[ids][:, None].astype(np.float32)  # [n, 1, d_model]
        return self._run(embeddings, first, [len(row.ids) for row in rows], rows[0].alpha)

    def rewind(self, number: int, row: Row, length: int) -> None:  # noqa: ARG002
        """Keep the first `length` positions of a row."""
        self._session.rewind(length, row=number)

    def move(self, source: int, target: int) -> None:
        """Put what row `source` holds in place of what row `target` held."""
        self._session.move(source, target)

    def _run(self, embeddings: Float32, first: int, pasts: list[int], alpha: int) -> Array:
        """Logits [n, vocab] of the last of [n, t, d_model], which follow `pasts` positions in rows from `first` on."""
        n, t, _ = embeddings.shape
        totals = [past + t for past in pasts]
        feeds: dict[str, Array] = {
            "inputs_embeds": embeddings,
            "last_position": np.array(totals, np.int32) - np.int32(1),
            "total_length": np.array([max(totals)], np.int32),
            **self._rotary(alpha),
        }
        if self._padded:  # only an even number of tokens is summed in the same order whatever their number
            feeds[PADDING] = np.array([n * t % 2 if self._invariant else 0])
        if self._sizes.logn:
            scale = np.ones((n, t, 3, 1), np.float32)
            scale[:, :, 0, 0] = [self._scale[past : past + t] for past in pasts]
            feeds["query_scale"] = scale
        (logits,) = self._session.run(feeds, first=first, lengths=totals)
        return logits

    def _rotary(self, alpha: int) -> dict[str, Array]:
        if alpha not in self._tables:
            self._tables[alpha] = dict(
                zip(("rotary_cos", "rotary_sin"), rotary_tables(alpha, self._sizes), strict=True)
            )
        return self._tables[alpha]


class PlainContract:
    """Ids, mask and audios in (-inf where a position is text), logits of every position out, cache grown, one row."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._sizes = manifest.decoder_sizes
        self._dtype = manifest.dtype
        self._session = session

    def prefill(self, number: int, row: Row, kept: int) -> Float32:
        """Logits float32 [vocab] after all ids of the row, whose first `kept` positions are cached."""
        self._session.rewind(kept, row=number)
        return self._run(np.asarray(row.ids[kept:], np.int64), behind(row.audio, kept), kept, row)

    def step(self, first: int, rows: Sequence[Row], ids: Ids) -> Float32:
        """Logits float32 [1, vocab] after one id more, `ids` [1], in the one row."""
        (row,) = rows
        assert first == 0
        return self._run(ids, [], len(row.ids), row)[None]

    def rewind(self, number: int, row: Row, length: int) -> None:
        """Keep the first `length` positions; ValueError where no mask could tell the graph the prompt's alpha."""
        if 0 < length < row.prompt_tokens and ntk_alpha(length + 1, self._sizes) != row.alpha:
            raise ValueError(f"cannot rewind to {length}: a plain graph takes alpha from the length of the prompt")
        self._session.rewind(length, row=number)

    def _run(self, ids: Ids, audio: Placed, past: int, row: Row) -> Float32:
        """Logits float32 [vocab] after ids [t]."""
        audios = np.full((1, len(ids), self._sizes.d_model), -np.inf, self._dtype)
        for start, rows in audio:
            audios[0, start : start + len(rows)] = rows
        total = past + len(ids)
        mask = np.full((1, total), PROMPT, np.int64)
        # Published graphs may know no mark but 1: it is the rule, 2 the exception.
        if ntk_alpha(total, self._sizes) != row.alpha:
            mask[:, row.prompt_tokens :] = GENERATED
        feeds: dict[str, Array] = {"input_ids": ids[None], "attention_mask": mask, "audios": audios}
        (logits,) = self._session.run(feeds, lengths=[total])  # [1, t, vocab]
        return logits[0, -1].astype(np.float32)  # type: ignore[no-any-return]


def behind(audio: Placed, kept: int) -> Placed:
    """What is placed among the ids that are left when the first `kept` are not run again."""
    return [(max(start - kept, 0), rows[max(kept - start, 0) :]) for start, rows in audio if start + len(rows) > kept]


def pieces(count: int) -> Iterator[tuple[int, int]]:
    """Cut `count` positions into pieces [first, last) of at most PREFILL_CHUNK that give the bits of any other cut.

    ONNX Runtime takes tokens in pairs in some matrix products, and in tiles of some multiple of TILE in attention, and
    rounds otherwise what is left alone [measured]: pieces begin at even positions and end in no tile of one position.
    """
    first = 0
    while first < count:
        last = min(count, first + PREFILL_CHUNK)
        if last - first > 3 and (count - last) % TILE == 1:
            last -= 2
        elif last - first > 3 and (last - first) % TILE == 1:
            last -= 3
        yield first, last
        first = last
