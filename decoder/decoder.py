"""ids (+ embeddings of clips) -> logits, over one cached session.

In: token ids and, for each <audio>…</audio> span among them, the clip's embeddings. Out: the logits of the last
position. A `Decoder` holds one sequence: `prefill` starts it, `step` adds an id, `rewind` takes positions back. The
NTK alpha is fixed by the length of the prefill, LogN follows the true position; both as the original does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from decoder.contract import FusedContract, PlainContract
from models.manifest import DecoderSizes, Manifest
from models.session import SessionOptions, open_session

Float32 = npt.NDArray[np.float32]


class PromptError(Exception):
    """A prompt that this model cannot take: too long, empty, an unknown id, or clips that do not fit its spans."""


class Decoder:
    """One sequence on one session. `position` is the number of cached positions."""

    def __init__(self, manifest: Manifest, options: SessionOptions | None = None) -> None:
        """Open the decoder of a model; raises BackendError when no backend can."""
        self.sizes: DecoderSizes = manifest.decoder_sizes
        session = open_session(manifest, manifest.decoder, options or SessionOptions())
        contract = FusedContract if manifest.contract == "fused" else PlainContract
        self._contract: Any = contract(manifest, session)
        self.position = 0

    def prefill(self, ids: Sequence[int], clips: Sequence[Float32] = ()) -> Float32:
        """Start a new sequence with `ids`, whose k-th audio span holds `clips[k]` [span, d_model].

        Returns float32 [vocab], the logits after the last id. Raises PromptError, and then keeps the old sequence.
        """
        array = np.asarray(ids, np.int64)
        self._check(array)
        audio = place_audio(array, clips, self.sizes)
        self._contract.start(len(array))
        self.position = 0  # until the run has succeeded there is nothing to continue
        logits = self._contract.run(array, audio, 0)
        self.position = len(array)
        return logits  # type: ignore[no-any-return]

    def step(self, token_id: int) -> Float32:
        """Append one id; returns float32 [vocab]. Raises PromptError when the context is full."""
        if not self.position:
            raise PromptError("nothing to continue: prefill comes before step")
        array = np.asarray([token_id], np.int64)
        self._check(array, self.position)
        logits = self._contract.run(array, None, self.position)
        self.position += 1
        return logits  # type: ignore[no-any-return]

    def rewind(self, position: int) -> None:
        """Keep the first `position` positions (0 to the current one); the next step continues from there.

        Raises ValueError for another position, and where a plain graph would lose the prompt's NTK alpha.
        """
        if not 0 <= position <= self.position:
            raise ValueError(f"cannot rewind to {position}: {self.position} positions are cached")
        self._contract.rewind(position)
        self.position = position

    def reset(self) -> None:
        """Forget the sequence."""
        self.rewind(0)

    def _check(self, ids: npt.NDArray[np.int64], past: int = 0) -> None:
        if not ids.size:
            raise PromptError("the prompt is empty")
        if past + ids.size > self.sizes.max_positions:
            raise PromptError(
                f"{past + ids.size} tokens are over this model's context of {self.sizes.max_positions}; "
                "shorten the prompt or give fewer clips"
            )
        if ids.min() < 0 or ids.max() >= self.sizes.vocab_size:
            worst = int(ids.min() if ids.min() < 0 else ids.max())
            raise PromptError(f"token id {worst} is outside this model's vocabulary of {self.sizes.vocab_size}")


def place_audio(ids: npt.NDArray[np.int64], clips: Sequence[Float32], sizes: DecoderSizes) -> list[tuple[int, Float32]]:
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
