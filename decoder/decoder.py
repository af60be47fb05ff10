"""ids (+ embeddings of clips) -> logits, over one cached session.

In: token ids and, for each <audio>…</audio> span among them, the clip's embeddings. Out: the logits of the last
position. A `Decoder` holds a sequence in each of its rows: `begin` starts one, `extend` adds ids, `rewind` takes
positions back. As in the original, the length of the prefill fixes the NTK alpha, and LogN follows the true position.
Rows know nothing of each other: a row gives what it would give alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock, get_ident

import numpy as np

from decoder.graph_inputs import Float32, FusedContract, Ids, Placed, PlainContract, Row
from errors import PromptError
from models.manifest import DecoderSizes, Manifest
from models.opening import open_graphs
from models.rotary import ntk_alpha
from models.runtime.session import SessionOptions


class Decoder:
    """`rows` sequences on one session. A call that names no row means row 0."""

    def __init__(self, manifest: Manifest, options: SessionOptions | None = None, *, rows: int = 1) -> None:
        """Open the decoder of a model; raises BackendError when no backend can, or not with so many rows.

        In a fused model, logits have the same bits however many rows and ids run together.
        """
        self.sizes: DecoderSizes = manifest.decoder_sizes
        fused = manifest.contract == "fused"
        graphs = manifest.decoder_rows if manifest.decoder_rows and rows > 1 else manifest.decoder
        session = open_graphs(manifest, graphs, options or SessionOptions(), rows=rows)
        self._contract: FusedContract | PlainContract = (
            FusedContract(manifest, session, slots=graphs[0].state.slots if graphs[0].state else 1)
            if fused
            else PlainContract(manifest, session)
        )
        self._held = [Row() for _ in range(rows)]
        # What each row's sequence is about, for the caller to note.
        self.groups: list[Hashable] = [None] * rows
        self.takes_back_freely = fused  # a plain graph's cache is copied by `rewind`
        self._lock, self._thread = Lock(), 0  # and which one has it

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the rows for what is inside. Another thread waits; the same one would wait for itself: PromptError."""
        if self._thread == get_ident():
            fix = "read that one to its end or close it first, or load a second model"
            raise PromptError("the model is in the middle of another answer", fix)
        with self._lock:
            self._thread = get_ident()
            try:
                yield
            finally:
                self._thread = 0

    @property
    def rows(self) -> int:
        """How many sequences fit side by side."""
        return len(self._held)

    @property
    def positions(self) -> tuple[int, ...]:
        """The number of cached positions of each row."""
        return tuple(len(row.ids) for row in self._held)

    @property
    def position(self) -> int:
        """The number of cached positions of row 0."""
        return self.positions[0]

    def prefill(
        self, ids: Sequence[int], clips: Sequence[Float32] = (), *, row: int = 0, reuse: bool = False
    ) -> Float32:
        """Start a new sequence with `ids`, as `begin`; returns float32 [vocab], the logits after the last id."""
        return self.begin(ids, clips, row=row, reuse=reuse)[0]  # type: ignore[no-any-return]

    def begin(
        self,
        ids: Sequence[int],
        clips: Sequence[Float32] = (),
        drafts: Sequence[int] = (),
        *,
        row: int = 0,
        reuse: bool = False,
    ) -> Float32:
        """Start a new sequence with the prompt `ids`, whose k-th audio span holds `clips[k]` [span, d_model].

        Behind it, as if by `extend`, come `drafts`, ids that it may go on with. Returns float32 [1 + drafts, vocab],
        the logits after the prompt and after each draft token. With `reuse`, what the row holds of the beginning
        already is not run again; clips are compared by value, and must not be changed afterwards. Without it, a
        fused model still keeps what it holds of the text before the first clip, the system prompt as a rule. In the
        fused flavour the bits are those of a fresh prefill. Raises PromptError, and then keeps the old sequence.
        """
        array = np.asarray(ids, np.int64)
        self._check(array)
        if len(drafts):
            self._check(np.asarray(drafts, np.int64), len(array))
        audio = place_audio(array, clips, self.sizes)
        fresh = Row(array.tolist(), audio, len(array), ntk_alpha(len(array), self.sizes))
        kept = shared_beginning(self._held[row], fresh) if reuse or self.takes_back_freely else 0
        if not reuse:
            first = audio[0][0] if audio else 0
            kept = min(kept, first - first % 2)
        self._held[row] = Row()  # until the run has succeeded there is nothing to continue
        fresh.ids += drafts
        logits = self._contract.prefill(row, fresh, kept, last=1 + len(drafts))
        self._held[row] = fresh
        return logits

    def step(self, token_id: int) -> Float32:
        """Append one id to row 0; returns float32 [vocab]. Raises PromptError when the context is full."""
        return self.advance({0: token_id})[0]

    def advance(self, new_ids: Mapping[int, int]) -> dict[int, Float32]:
        """Append one id to each of some rows: {row: id} -> {row: logits float32 [vocab]}; as `extend`."""
        found = self.extend({row: [new_id] for row, new_id in new_ids.items()})
        return {row: logits[0] for row, logits in found.items()}

    def extend(self, new_ids: Mapping[int, Sequence[int]]) -> dict[int, Float32]:
        """Append ids to some rows: {row: ids [t]} -> {row: logits float32 [t, vocab] after each}; others cost nothing.

        Raises PromptError when a row holds nothing, its context is full or an id is unknown, and then no row has
        changed.
        """
        for row, ids in new_ids.items():
            if not self._held[row].ids:
                raise PromptError("nothing to continue: prefill comes before step")
            self._check(np.asarray(ids, np.int64), len(self._held[row].ids))
        found: dict[int, Float32] = {}
        for rows in self._together(sorted(new_ids)):
            found.update(self._contract.extend({row: self._held[row] for row in rows}, new_ids))
            for row in rows:
                self._held[row].ids += new_ids[row]
        return found

    def rewind(self, position: int, row: int = 0) -> None:
        """Keep the first `position` positions (0 to the current one); the next step continues from there.

        Raises ValueError for another position, and where a plain graph would lose the prompt's NTK alpha.
        """
        held = self._held[row]
        if not 0 <= position <= len(held.ids):
            raise ValueError(f"cannot rewind to {position}: {len(held.ids)} positions are cached")
        self._contract.rewind(row, held, position)
        del held.ids[position:]
        held.audio = [(start, rows[: position - start]) for start, rows in held.audio if start < position]

    def reset(self, row: int = 0) -> None:
        """Forget a row's sequence."""
        self.rewind(0, row)

    def _together(self, rows: list[int]) -> Iterator[list[int]]:
        """Rows that run at once: of one NTK alpha, since a run has one set of rotary tables, and no more than slots."""
        groups: dict[int, list[int]] = {}
        for row in rows:
            groups.setdefault(self._held[row].alpha, []).append(row)
        for group in groups.values():
            for first in range(0, len(group), self._contract.slots):
                yield group[first : first + self._contract.slots]

    def _check(self, ids: Ids, past: int = 0) -> None:
        if not ids.size:
            raise PromptError("the prompt is empty")
        if past + ids.size > self.sizes.max_positions:
            raise PromptError(
                f"{past + ids.size} tokens are over this model's context of {self.sizes.max_positions}",
                fix="shorten the prompt or give fewer clips",
            )
        if ids.min() < 0 or ids.max() >= self.sizes.vocab_size:
            worst = int(ids.min() if ids.min() < 0 else ids.max())
            raise PromptError(f"token id {worst} is outside this model's vocabulary of {self.sizes.vocab_size}")


def place_audio(ids: Ids, clips: Sequence[Float32], sizes: DecoderSizes) -> Placed:
    """Where each clip's rows go: (index of its <audio>, [span, d_model]), in order.

    The k-th <audio> and the k-th </audio> delimit the k-th clip; its rows take the place of all ids from the one to
    the other, both included. A lone </audio> in a prompt without <audio> is an ordinary id. Raises PromptError when
    numbers or lengths differ.
    """
    starts = np.flatnonzero(ids == sizes.audio_start)
    ends = np.flatnonzero(ids == sizes.audio_end) if len(starts) else starts
    if len(starts) != len(clips) or len(ends) != len(clips):
        raise PromptError(f"the prompt has {len(starts)} <audio> and {len(ends)} </audio> for {len(clips)} clips")
    placed = []
    for number, (start, end, clip) in enumerate(zip(starts, ends, clips, strict=True), 1):
        if clip.shape != (end - start + 1, sizes.d_model):
            raise PromptError(
                f"audio {number} has embeddings of shape {list(clip.shape)}, its span in the prompt is "
                f"{end - start + 1} x {sizes.d_model}"
            )
        placed.append((int(start), clip))
    return placed


def shared_beginning(held: Row, fresh: Row) -> int:
    """How many of the positions that `held` has can be kept for `fresh`, as if they had been run for it.

    None if the prompts' lengths give them another NTK alpha; otherwise all before the first id, or the first clip, that
    differs. At least two positions are left to run, and an even number is kept, as kernels round in pairs.
    """
    if held.alpha != fresh.alpha:
        return 0
    end = max(0, min(len(held.ids), len(fresh.ids) - 2))
    differing = np.flatnonzero(_outside_clips(held)[:end] != _outside_clips(fresh)[:end])
    end = int(differing[0]) if len(differing) else end
    for (start, rows), (other_start, other) in zip(fresh.audio, held.audio, strict=False):
        if start >= end:
            break
        if start != other_start or not (rows is other or np.array_equal(rows, other)):
            end = start
    return end - end % 2


def _outside_clips(row: Row) -> Ids:
    """The ids [t] of a row, with -1 for every one in whose place a clip stands."""
    ids = np.asarray(row.ids, np.int64)
    for start, rows in row.audio:
        ids[start : start + len(rows)] = -1
    return ids
