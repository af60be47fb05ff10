"""Features of clips as they are learned from: with holes, in another voice or room, or like another sound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MASKED = {"time": (2, 12), "channel": (3, 48)}  # how many stripes at most, and how wide
MASK_FOR = 50  # tokens: for each as many, one more stripe of time
RESTYLED = 0.5  # of the clips that are asked for words or language sound like another voice or room
EXCHANGED = 0.7  # of the clips that are asked what sounds keep only what `sound_channels` says of them


def masked(features: NDArray[np.float16], rng: np.random.Generator) -> NDArray[np.float16]:
    """A copy with a few stripes of time, and of channels, silenced (Park and others, "SpecAugment", 2019)."""
    heard = np.array(features)
    for _ in range(rng.integers(0, MASKED["time"][0] + 1 + len(heard) // MASK_FOR)):
        width = int(rng.integers(1, min(MASKED["time"][1], max(2, len(heard) // 8)) + 1))
        start = int(rng.integers(0, max(1, len(heard) - width)))
        heard[start : start + width] = 0
    for _ in range(rng.integers(0, MASKED["channel"][0] + 1)):
        width = int(rng.integers(1, MASKED["channel"][1] + 1))
        start = int(rng.integers(0, heard.shape[1] - width))
        heard[:, start : start + width] = 0
    return heard


def augmented(
    features: list[NDArray[np.float16]], restyling: list[bool], rng: np.random.Generator
) -> list[NDArray[np.float16]]:
    """The clips of a batch with masks; some of those that may be restyled take after another of them."""
    others = [number for number, may in enumerate(restyling) if may]
    changed = []
    for heard, may in zip(features, restyling, strict=True):
        like_another = may and rng.random() < RESTYLED
        other = features[others[rng.integers(len(others))]] if like_another else heard
        changed.append(masked(restyled(heard, other, rng.random()) if like_another else heard, rng))
    return changed


def restyled(heard: NDArray[np.float16], other: NDArray[np.float16], share: float) -> NDArray[np.float16]:
    """A clip [tokens, state] with `share` of another's mean and spread over time in each channel.

    They tell the voice and the room rather than the words (Zhou and others, "Domain generalization with MixStyle",
    2021).
    """
    (mean, spread), (mean_other, spread_other) = (
        (clip.mean(0, dtype=np.float32), clip.std(0, dtype=np.float32) + 1e-3) for clip in (heard, other)
    )
    scale = (1 - share) + share * spread_other / spread
    changed: NDArray[np.float16] = ((heard - mean) * scale + mean + share * (mean_other - mean)).astype(np.float16)
    return changed


def exchanged(
    heard: NDArray[np.float16], other: NDArray[np.float16], channels: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> NDArray[np.float16]:
    """What `other` sounds like, but for the channels of `sound_channels`: these are those of the clip itself."""
    rows, back = channels
    like = other[np.linspace(0, len(other) - 1, len(heard)).round().astype(int)].astype(np.float32)
    changed: NDArray[np.float16] = (like + (heard.astype(np.float32) - like) @ rows.T @ back.T).astype(np.float16)
    return changed
