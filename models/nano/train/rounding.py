"""What the decoder's matrices meet in training, so that `export` rounds each one where its outputs err least.

Rounded to the nearest, 8 bits cost transcripts 0.03 to 0.04 nats an id, and so rounded 0.007.
See `models.convert.gptq`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.nano.train.batches import Batch, Encoder, batches
from models.nano.train.corpus import load
from models.nano.train.examples import SHARES, Source
from models.nano.train.model import Nano
from models.nano.train.train import build

BATCHES, SIZE, SEED = 24, 4000, 77

Weights = dict[str, NDArray[np.float32]]
Moments = dict[str, NDArray[np.float32]]  # name of a matrix -> sum of x x^T of its inputs, [k, k]


@torch.inference_mode()
def moments(model: Nano, stream: Iterator[Batch], count: int = BATCHES) -> Moments:
    """Of each linear layer of the decoder, over rows of text and of sound, as the run time meets them."""
    found: Moments = {}

    def keep(name: str) -> object:
        def add(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            rows = inputs[0].flatten(0, -2).float()
            found[name] = found.get(name, np.float32(0)) + (rows.T @ rows).numpy()

        return add

    layers = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    hooks = [
        module.register_forward_pre_hook(keep(f"{name}.weight"))  # type: ignore[arg-type]
        for name, module in layers.items()
        if name.startswith("transformer.h.")
    ]
    for _ in range(count):
        batch = next(stream)
        model.hidden(model.embed(batch.ids, batch.features, batch.places, batch.ends))
    for hook in hooks:
        hook.remove()
    return found


def met(weights: Weights, vocabulary: Path, features: list[Path]) -> Moments:
    """The same of a decoder with these weights, on examples of training that are not changed as they are there."""
    tokenizer, model = build(vocabulary)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()}, strict=False)
    return moments(model, batches(Source(load(features), SHARES), Encoder(tokenizer), SEED, size=SIZE, augment=False))
