"""How each kind of decoder graph is fed: "fused" (ours, for ONNX Runtime) and "plain" (as ailia publishes it).

Both take ids [t], the audio rows placed among them and the number of positions already cached, and give the logits of
the last position. What they know beyond names: fused looks embeddings up outside the graph and brings the rotary
tables of the sequence's alpha; plain marks the prompt in the mask, from which the graph derives alpha.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.manifest import Manifest
from models.positions import logn_scale, ntk_alpha, rotary_tables
from models.session import Array, Session

Float32 = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Placed = list[tuple[int, Float32]]

# Attention scores take heads * chunk * context floats: a long prompt goes in pieces, which gives the same numbers.
PREFILL_CHUNK = 1024
# In the plain graph's mask: positions of the prompt, whose count fixes the NTK alpha, and positions generated since.
PROMPT, GENERATED = 1, 2


class FusedContract:
    """Embeddings in, logits of the last position out, cache in place."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._sizes = manifest.decoder_sizes
        self._session = session
        assert manifest.embeddings
        self._table: Array = np.load(manifest.path(manifest.embeddings), mmap_mode="r", allow_pickle=False)
        self._scale = logn_scale(self._sizes)  # [max_positions]
        self._alpha = 1
        self._rotary = dict(zip(("rotary_cos", "rotary_sin"), rotary_tables(1, self._sizes), strict=True))

    def start(self, prompt_tokens: int) -> None:
        """Fix the NTK alpha for a new sequence."""
        alpha = ntk_alpha(prompt_tokens, self._sizes)
        if alpha != self._alpha:
            self._alpha = alpha
            self._rotary = dict(zip(("rotary_cos", "rotary_sin"), rotary_tables(alpha, self._sizes), strict=True))

    def rewind(self, length: int) -> None:
        """Keep the first `length` positions."""
        self._session.rewind(length)

    def run(self, ids: Ids, audio: Placed | None, past: int) -> Float32:
        """Logits float32 [vocab] after ids [t]."""
        embeddings = self._table[ids].astype(np.float32)  # [t, d_model]
        for start, rows in audio or ():
            embeddings[start : start + len(rows)] = rows
        for first in range(0, len(ids), PREFILL_CHUNK):
            (logits,) = self._run(embeddings[None, first : first + PREFILL_CHUNK], past + first)
        return logits[0]  # type: ignore[no-any-return]

    def _run(self, embeddings: Float32, past: int) -> list[Array]:
        total = past + embeddings.shape[1]
        feeds: dict[str, Array] = {
            "inputs_embeds": embeddings,  # [1, t, d_model]
            "last_position": np.array([total - 1], np.int32),
            "total_length": np.array([total], np.int32),
            **self._rotary,
        }
        if self._sizes.logn:
            scale = np.ones((1, embeddings.shape[1], 3, 1), np.float32)
            scale[0, :, 0, 0] = self._scale[past:total]
            feeds["query_scale"] = scale
        return self._session.run(feeds, length=total)


class PlainContract:
    """Ids, mask and audios in (-inf where a position is text), logits of every position out, cache grown."""

    def __init__(self, manifest: Manifest, session: Session) -> None:
        self._sizes = manifest.decoder_sizes
        self._dtype = manifest.dtype
        self._session = session
        self._prompt_tokens = 0

    def start(self, prompt_tokens: int) -> None:
        """Remember which positions are the prompt of the new sequence, and drop the old cache."""
        self._prompt_tokens = prompt_tokens
        self._session.rewind(0)

    def rewind(self, length: int) -> None:
        """Keep the first `length` positions; ValueError where no mask could tell the graph the prompt's alpha."""
        if 0 < length < self._prompt_tokens and not self._keeps_alpha(length + 1):
            raise ValueError(f"cannot rewind to {length}: a plain graph takes alpha from the length of the prompt")
        self._session.rewind(length)

    def run(self, ids: Ids, audio: Placed | None, past: int) -> Float32:
        """Logits float32 [vocab] after ids [t]."""
        audios = np.full((1, len(ids), self._sizes.d_model), -np.inf, self._dtype)
        for start, rows in audio or ():
            audios[0, start : start + len(rows)] = rows
        total = past + len(ids)
        mask = np.full((1, total), PROMPT, np.int64)
        if not self._keeps_alpha(total):  # published graphs may know no mark but 1: it is the rule, 2 the exception
            mask[:, self._prompt_tokens :] = GENERATED
        feeds: dict[str, Array] = {"input_ids": ids[None], "attention_mask": mask, "audios": audios}
        (logits,) = self._session.run(feeds, length=total)  # [1, t, vocab]
        return logits[0, -1].astype(np.float32)  # type: ignore[no-any-return]

    def _keeps_alpha(self, total: int) -> bool:
        """Whether `total` positions, all marked as prompt, have the alpha of the prompt."""
        return ntk_alpha(total, self._sizes) == ntk_alpha(self._prompt_tokens, self._sizes)
