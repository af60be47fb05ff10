"""The greedy loop: what the decoder would say next, one id at a time, until a stop id or the limit.

In: a decoder, the prompt's ids and clips. Out: a generator of new ids, the stop id not among them. Ties go to the
lowest id, so that an answer is the same on every run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from decoder.decoder import Decoder, Float32


def generate(
    decoder: Decoder,
    ids: Sequence[int],
    clips: Sequence[Float32],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> Iterator[int]:
    """Yield at most `max_new_tokens` new ids after `ids`, greedily; ends before yielding one of `stop_ids`.

    Also ends when the model's context is full. No forward pass is made whose result is not used. Raises PromptError
    for a prompt that the model cannot take.
    """
    if max_new_tokens < 1:
        return
    logits = decoder.prefill(ids, clips)
    for count in range(1, max_new_tokens + 1):
        new_id = int(np.argmax(logits))
        if new_id in stop_ids:
            return
        yield new_id
        if count == max_new_tokens or decoder.position == decoder.sizes.max_positions:
            return
        logits = decoder.step(new_id)
