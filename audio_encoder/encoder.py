"""log-mel -> embeddings of the decoder's width, with the two boundary rows, over one session.

In: the log-mels of all audios of one prompt, since the original encodes them as one batch and the shorter ones feel
it (their convolution sees one more column). Out: for each audio [T + 2, d_model] with T = audio_token_count(frames).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from models.arrays import load_array
from models.manifest import Manifest
from models.opening import open_graphs
from models.runtime.session import Session, SessionOptions

Float32 = npt.NDArray[np.float32]


def conv_frames(mel_frames: int) -> int:
    """Frames after the convolution of stride 2: F = (M + 1) // 2 for M log-mel frames of sound."""
    return (mel_frames + 1) // 2


def audio_token_count(mel_frames: int) -> int:
    """Tokens T = F // 2 that M log-mel frames become; the span in the prompt is T + 2."""
    return conv_frames(mel_frames) // 2


class AudioEncoder:
    """The encoder of a model on one session."""

    def __init__(self, manifest: Manifest, options: SessionOptions | None = None) -> None:
        """Open the encoder of a model; raises BackendError when no backend can."""
        self._sizes = manifest.encoder_sizes
        self._dtype = manifest.dtype
        self._open = partial(open_graphs, manifest, [manifest.encoder], options or SessionOptions())
        self._session: Session | None = self._open()
        self._bos, self._eos = (
            load_array(manifest, name).astype(np.float32).reshape(1, -1) for name in manifest.boundary_rows
        )
        self._each = manifest.contract == "fused"
        self._lock = Lock()  # a session has one run at a time

    def encode(self, mels: Sequence[tuple[Float32, int]]) -> list[Float32]:
        """Encode the audios of one prompt: (log-mel [n_mels, 3000], frames of sound) each -> [T + 2, d_model] each.

        A clip under 480 samples has T = 0 and becomes the two boundary rows; the original takes such a clip only
        beside a longer one, and so does this: ValueError when all are that short.
        """
        frames = [conv_frames(mel_frames) for _, mel_frames in mels]
        if mels and max(frames) < 2:
            raise ValueError("every clip is shorter than 0.03 s (480 samples)")
        encode = self._encode_each if self._each else self._encode_batch
        with self._lock:
            features = encode([mel for mel, _ in mels], frames) if mels else []
            return [np.concatenate([self._bos, rows, self._eos]) for rows in features]

    def close(self) -> None:
        """Give back its memory, a tenth of the whole model's; the next `encode` opens it again."""
        with self._lock:
            self._session = None

    def _run(self, feeds: dict[str, npt.NDArray[Any]]) -> Float32:
        """[clips, T, d_model] of what the graph takes."""
        self._session = self._session or self._open()
        return self._session.run(feeds)[0]

    def _encode_each(self, mels: list[Float32], frames: list[int]) -> list[Float32]:
        """One by one, with the columns that the clip would see in the batch: a shorter one sees two more."""
        longest = max(frames)
        features = []
        for mel, n_frames in zip(mels, frames, strict=True):
            if n_frames < 2:
                features.append(np.zeros((0, self._sizes.d_model), np.float32))
                continue
            columns = 2 * n_frames if n_frames == longest else 2 * n_frames + 2
            feeds: dict[str, npt.NDArray[Any]] = {
                "mel": mel[None, :, :columns],
                "n_frames": np.array([n_frames], np.int64),
            }
            features.append(self._run(feeds)[0])
        return features

    def _encode_batch(self, mels: list[Float32], frames: list[int]) -> list[Float32]:
        """All as one padded batch, the contract that ailia publishes."""
        padding = np.arange(max(frames)) >= np.array(frames)[:, None]  # [clips, frames] bool
        lengths = np.array([(n_frames, n_frames // 2) for n_frames in frames], np.int64)
        feeds: dict[str, npt.NDArray[Any]] = {
            "input_audios": np.stack(mels).astype(self._dtype),
            "padding_mask": padding.astype(self._dtype),
            "input_audio_lengths": lengths,
        }
        features = self._run(feeds).astype(np.float32)  # [clips, max T, d_model]
        return [rows[: n_frames // 2] for rows, n_frames in zip(features, frames, strict=True)]
