"""How each kind of decoder graph is fed: "fused" (ours, for ONNX Runtime) and "plain" (as ailia publishes it).

Both run what a `Row` holds, and give logits. `prefill` runs a row alone from a position on; `extend` runs more ids of
some rows at once. What they know beyond names: fused looks embeddings up outside the graph and brings the
rotary tables of the sequence's alpha; plain has one row, and marks the prompt in the mask, from which the graph derives
alpha.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from models.arrays import load_array
from models.manifest import Manifest
from models.rotary import logn_scale, ntk_alpha, rotary_tables
from models.runtime.session import IDLE_POSITIONS, Array, Session

Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Placed = list[tuple[int, Float32]]

# A long prompt goes in equal pieces of at most so many tokens, which gives the same numbers in as much time and less
# memory: 778 tokens of the full model peak at 6.7 GB, in one piece at 7.7 [measured].
PREFILL_CHUNK = 128
# In the plain graph's mask: positions of the prompt, whose count fixes the NTK alpha, and positions generated since.
PROMPT, GENERATED = 1, 2


@dataclass
class Row:
    """A sequence: its ids, the embeddings placed among them, and what its prompt's length fixed, the NTK alpha."""

    ids: list[int] = field(default_factory=list)
    audio: Placed = field(default_factory=list)
    prompt_tokens: int = 0
    alpha: int = 1


@dataclass(frozen=True)
class Part:
    """What one row runs: embeddings [t, d_model] behind `past` positions."""

    row: int
    past: int
    embeddings: Float32


class FusedContract:
    """Embeddings in, logits of some of them out, cache in place, as many rows at once as the graph has slots.

    All is done in even numbers, since ONNX Runtime's kernels round what is left alone otherwise: so the bits of logits
    depend neither on the rows beside nor on how many ids a run has. A zero token fills up, and what it leaves in the
    cache is overwritten by the next run. In a model without `pairs` only the queries of attention are filled up.
    """

    def __init__(self, manifest: Manifest, session: Session, *, slots: int) -> None:
        self._sizes, self.slots = manifest.decoder_sizes, slots
        self._session, self._pairs = session, manifest.pairs
        assert manifest.embeddings
        self._table: Array = load_array(manifest, manifest.embeddings, mapped=True)
        self._scale = _one_more(logn_scale(self._sizes))  # [max_positions + 1]
        self._tables: dict[int, dict[str, Array]] = {}  # of each alpha that was met

    def prefill(self, number: int, row: Row, kept: int, last: int) -> Float32:
        """Logits float32 [last, vocab] after the last ids of a row, whose first `kept` positions are cached."""
        self._session.rewind(kept, row=number)
        ids = np.asarray(row.ids[kept:], np.int64)  # [t]
        embeddings = self._table[ids].astype(np.float32)  # [t, d_model]
        for start, rows in behind(row.audio, kept):
            embeddings[start : start + len(rows)] = rows
        found: list[Array] = []
        for first, end in _pieces(len(ids)):
            part = Part(number, kept + first, embeddings[first:end])
            found += self._run([part], row.alpha, last=min(max(1, last - len(ids) + end), end - first))
        return np.concatenate(found)[-last:]

    def extend(self, rows: Mapping[int, Row], ids: Mapping[int, Sequence[int]]) -> dict[int, Float32]:
        """Logits float32 [t, vocab] after each of the new ids [t] of some rows of one alpha, at most `slots`."""
        parts = [
            Part(number, len(row.ids), self._table[np.asarray(ids[number], np.int64)].astype(np.float32))
            for number, row in rows.items()
        ]
        found = self._run(parts, next(iter(rows.values())).alpha)
        return dict(zip(rows, found, strict=True))

    def rewind(self, number: int, row: Row, length: int) -> None:  # noqa: ARG002
        """Keep the first `length` positions of a row."""
        self._session.rewind(length, row=number)

    def _run(self, parts: list[Part], alpha: int, last: int | None = None) -> list[Array]:
        """Logits [t, vocab] of every token of each part, or of its `last` ones only."""
        counts = [len(part.embeddings) for part in parts]
        wanted: list[int] = []
        places, first = [], 0
        for count in counts:
            these = list(range(first if last is None else first + count - last, first + count))
            places.append(slice(len(wanted), len(wanted) + len(these)))
            wanted += these
            first += count
        embeddings = [part.embeddings for part in parts]
        if self._pairs and first % 2:
            embeddings.append(np.zeros((1, self._sizes.d_model), np.float32))
            counts[-1] += 1
        padding = [count % 2 for count in counts]
        totals = [part.past + count + pad for part, count, pad in zip(parts, counts, padding, strict=True)]
        feeds: dict[str, Array] = {
            "inputs_embeds": np.concatenate(embeddings)[None],
            "last_positions": np.full(self.slots, IDLE_POSITIONS - 1, np.int32),
            "total_lengths": np.full(self.slots, IDLE_POSITIONS, np.int32),
            "wanted": np.array(wanted + wanted[-1:] * (self._pairs and len(wanted) % 2)),
            **self._rotary(alpha),
        }
        feeds["total_lengths"][: len(parts)] = totals
        feeds["last_positions"][: len(parts)] = np.array(totals) - 1
        if self.slots > 1 or not self._pairs:
            idle = self.slots - len(parts)
            feeds["slot_bounds"] = np.cumsum([0, *counts, *[0] * idle])
            feeds["slot_padding"] = np.array(padding + [IDLE_POSITIONS] * idle)
        if self._sizes.logn:
            scale = np.ones((1, sum(counts), 3, 1), np.float32)
            scale[0, :, 0, 0] = np.concatenate(
                [self._scale[part.past : part.past + count] for part, count in zip(parts, counts, strict=True)]
            )
            feeds["query_scale"] = scale
        (logits,) = self._session.run(feeds, rows=[part.row for part in parts], lengths=totals)
        return [logits[place] for place in places]

    def _rotary(self, alpha: int) -> dict[str, Array]:
        if alpha not in self._tables:
            tables = [_one_more(table) for table in rotary_tables(alpha, self._sizes)]
            for table in tables:
                table.flags.writeable = False  # the same in every run, so a session may keep them
            self._tables[alpha] = dict(zip(("rotary_cos", "rotary_sin"), tables, strict=True))
        return self._tables[alpha]


class PlainContract:
    """Ids, mask and audios in (-inf where a position is text), logits of every position out, cache grown, one row."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._sizes, self.slots = manifest.decoder_sizes, 1
        self._dtype = manifest.dtype
        self._session = session

    def prefill(self, number: int, row: Row, kept: int, last: int) -> Float32:
        """Logits float32 [last, vocab] after the last ids of the row, whose first `kept` positions are cached."""
        self._session.rewind(kept, row=number)
        logits = self._run(np.asarray(row.ids[kept:], np.int64), behind(row.audio, kept), kept, row)
        return logits[-last:].astype(np.float32)

    def extend(self, rows: Mapping[int, Row], ids: Mapping[int, Sequence[int]]) -> dict[int, Float32]:
        """Logits float32 [t, vocab] after each of the new ids [t] of the one row."""
        ((number, row),) = rows.items()
        logits = self._run(np.asarray(ids[number], np.int64), [], len(row.ids), row)
        return {number: logits.astype(np.float32)}

    def rewind(self, number: int, row: Row, length: int) -> None:
        """Keep the first `length` positions; ValueError where no mask could tell the graph the prompt's alpha."""
        if 0 < length < row.prompt_tokens and ntk_alpha(length + 1, self._sizes) != row.alpha:
            raise ValueError(f"cannot rewind to {length}: a plain graph takes alpha from the length of the prompt")
        self._session.rewind(length, row=number)

    def _run(self, ids: Ids, audio: Placed, past: int, row: Row) -> Array:
        """Logits [t, vocab] after each of ids [t]."""
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
        return logits[0]  # type: ignore[no-any-return]


def behind(audio: Placed, kept: int) -> Placed:
    """What is placed among the ids that are left when the first `kept` are not run again."""
    return [(max(start - kept, 0), rows[max(kept - start, 0) :]) for start, rows in audio if start + len(rows) > kept]


def _pieces(count: int) -> Iterator[tuple[int, int]]:
    """First and end of the equal pieces that a prompt of `count` tokens is run in; all but the last are even."""
    size = -(-count // -(-count // PREFILL_CHUNK))
    size += size % 2
    for first in range(0, count, size):
        yield first, min(first + size, count)


def _one_more(table: Float32) -> Float32:
    """A table with its last row twice: a token that fills up a pair may stand one position after the context."""
    return np.asarray(np.concatenate([table, table[-1:]]), np.float32)
