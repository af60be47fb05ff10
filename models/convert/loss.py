"""What rounding loses: how far the rounded model's distribution over the next token is from the exact one's, in nats.

The rounded decoder is run in numpy over held-out sequences, a layer at a time, as its graph would: rounded matrices,
and activations rounded to 8 bits, with one scale for a token ("tokens") or for a block of inputs ("blocks").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.convert.calibrate import MATRICES, Calibration
from models.convert.calibration_set import Example
from models.convert.checkpoint import Float32
from models.convert.exact import Positions, rms_norm, run_layer
from models.convert.linear import FINER, Storage
from models.convert.quantize import dequantize_blocks, quantize_blocks
from models.convert.rounded import RoundedTensor

TOKENS = 256  # whose logits are in memory at once


@dataclass(frozen=True)
class Loss:
    """Mean KL divergence from the exact model in nats, on texts and in answers about clips; None if there are none."""

    texts: float | None
    answers: float | None

    def __str__(self) -> str:
        told = {"held-out text": self.texts, "answers about held-out clips": self.answers}
        return "; ".join(f"{value:.4f} nats in {where}" for where, value in told.items() if value is not None)


def measure(calibration: Calibration, stream: Float32, examples: Sequence[Example], exact: Float32) -> Loss:
    """What is lost on `examples`; `stream` is what goes into the rounded model, `exact` what leaves the exact one."""
    checkpoint = calibration.rounded(finer=calibration.chosen())
    positions = Positions([len(one.ids) for one in examples], calibration.sizes)
    for number in range(calibration.sizes.n_layer):

        def product(part: str, x: Float32, number: int = number) -> Float32:
            tensor, storage = (
                calibration.matrix(checkpoint, number, part),
                getattr(calibration.precision, MATRICES[part][0]),
            )
            if isinstance(tensor, RoundedTensor):
                rows = tensor.restored()
            else:
                storage = FINER
                rows = (_finer(one) for one in tensor.rows())
            x = rounded_inputs(x, storage)
            return np.concatenate([x @ one.T for one in rows], axis=1)

        stream = run_layer(stream, calibration.layer(checkpoint, number), positions, calibration.epsilon, product)
    counted = np.concatenate([one.measured() for one in examples])
    is_text = np.concatenate([np.full(len(one.ids), one.mel is None) for one in examples])
    kinds = [counted & is_text, counted & ~is_text]
    return Loss(*(_divergence(calibration, exact[one], stream[one]) if one.any() else None for one in kinds))


def _finer(rows: Float32) -> Float32:
    """Rows as FINER keeps them."""
    return dequantize_blocks(
        quantize_blocks(rows, bits=FINER.bits, block=FINER.block), bits=FINER.bits, k=rows.shape[1]
    )


def rounded_inputs(x: Float32, storage: Storage) -> Float32:
    """x [tokens, k] as such a product sees it: in 8 bits, the largest of a token or a block 127 levels from 0."""
    k = x.shape[1]
    block = storage.block if storage.kind == "blocks" else k
    parts = np.pad(x, ((0, 0), (0, -k % block))).reshape(len(x), -1, block)
    step = np.abs(parts).max(axis=-1, keepdims=True) / np.float32(127)
    step[step == 0] = 1
    return np.asarray((np.rint(parts / step) * step).reshape(len(x), -1)[:, :k], np.float32)


def _divergence(calibration: Calibration, exact: Float32, rounded: Float32) -> float:
    n, d = calibration.sizes.vocab_size, calibration.sizes.d_model
    head = calibration.rounded().look_up("lm_head.weight", n, d)
    gain, total = np.ones(d, np.float32), 0.0
    for first in range(0, len(exact), TOKENS):
        y, y_rounded = (rms_norm(one[first : first + TOKENS], gain, calibration.epsilon) for one in (exact, rounded))
        log_p = _log_softmax([y @ rows.T for rows in head.rows()])
        y_rounded = rounded_inputs(y_rounded, calibration.precision.head)
        log_q = _log_softmax([y_rounded @ rows.T for rows in head.restored()])  # type: ignore[attr-defined]
        total += float((np.exp(log_p) * (log_p - log_q)).sum(dtype=np.float64))
    return total / len(exact)


def _log_softmax(pieces: list[Float32]) -> Float32:
    logits = np.concatenate(pieces, axis=1)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits
