"""Which of some given answers a model finds likely: the log-probability of each, over one prompt.

In: a decoder, the prompt's ids and clips, the options as ids. Out: for each option the natural logarithm of the
probability that the model says exactly this and then ends. Options that begin alike share the passes of their
beginning, and the prompt goes in once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from decoder.decoder import Decoder
from decoder.graph_inputs import Float32
from errors import PromptError

Beginning = tuple[int, ...]


def choose(
    decoder: Decoder,
    ids: Sequence[int],
    clips: Sequence[Float32],
    options: Sequence[Sequence[int]],
    *,
    end_id: int,
) -> list[float]:
    """Give the log-probability of each of `options` followed by `end_id`, after `ids` with their `clips`.

    The caller picks the largest, of equal ones the first. No forward pass is made whose result is not used: neither
    `end_id` nor what an option has in common with another goes in again. Raises PromptError for a prompt that the
    model cannot take, alone or with the longest option after it, and ValueError without options.
    """
    paths = [(*option, end_id) for option in options]
    _check(decoder, ids, paths)
    followers: dict[Beginning, set[int]] = {}
    for path in paths:
        for length, token_id in enumerate(path):
            followers.setdefault(path[:length], set()).add(token_id)
    total: dict[Beginning, float] = {(): 0.0}
    # In sorted order a beginning comes before all that goes on from it, and those come before any other.
    for beginning in sorted(followers):
        log_probs = log_softmax(_logits_after(decoder, ids, clips, beginning))
        for token_id in followers[beginning]:
            total[*beginning, token_id] = total[beginning] + float(log_probs[token_id])
    return [total[path] for path in paths]


def log_softmax(logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Logits [n] -> natural logarithms of their probabilities, float64 [n]."""
    values = np.asarray(logits, np.float64)
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())  # type: ignore[no-any-return]


def _check(decoder: Decoder, ids: Sequence[int], paths: Sequence[Beginning]) -> None:
    if not paths:
        raise ValueError("there is nothing to choose from")
    longest, room = max(len(path) for path in paths) - 1, decoder.sizes.max_positions
    if len(ids) + longest > room:
        raise PromptError(
            f"{len(ids)} tokens of prompt and {longest} of the longest choice are over this model's context of {room}",
            fix="shorten one of them or give fewer clips",
        )
    for token_id in chain.from_iterable(paths):
        if not 0 <= token_id < decoder.sizes.vocab_size:
            raise PromptError(f"token id {token_id} is outside this model's vocabulary of {decoder.sizes.vocab_size}")


def _logits_after(decoder: Decoder, ids: Sequence[int], clips: Sequence[Float32], beginning: Beginning) -> Float32:
    """Logits [vocab] behind `beginning`; the cache holds all of it but its last id, and perhaps another ending."""
    if not beginning:
        return decoder.prefill(ids, clips, reuse=True)  # the free answer was just given over it
    position = len(ids) + len(beginning) - 1
    try:
        if position != decoder.position:
            decoder.rewind(position)
    except ValueError:
        # A plain graph may be unable to go back. Only the prompt is prefilled: its length fixes the NTK alpha.
        decoder.prefill(ids, clips)
        for token_id in beginning[:-1]:
            decoder.step(token_id)
    return decoder.step(beginning[-1])
