"""`python3 -m models.nano.train.likely DIR…`: what else each sound might be, for those who learn from few of a kind.

A linear classifier of the mean and spread of whitened features learns all sounds of all folders at once. It is held
back, so it stays unsure where kinds sound alike. Beside each shard a NAME.likely.json is written: number of the clip ->
[[kind, probability], ...], the likeliest few. `corpus.load` reads it, and `examples` draws some answers from it
(Hinton and others, "Distilling the knowledge in a neural network", 2015).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from numpy.typing import NDArray
from torch import Tensor

from models.nano.train.corpus import LIKELY, Clip, read_shard

FLOOR = 0.1  # of the mean energy of a direction: quieter ones are not made louder than that
HELD_BACK = 0.01  # times the squares of all weights; of recordings left out it gets 48 of 100 right
STEPS, RATE, SMOOTHING = 300, 3e-3, 0.1
KEPT = 8  # kinds a clip


def pooled(clip: Clip) -> NDArray[np.float32]:
    """Mean and spread over time of a clip's normed features: [2 state]."""
    heard = clip.features.astype(np.float32)
    heard /= np.sqrt((heard**2).mean(1, keepdims=True) + 1e-5)
    return np.concatenate([heard.mean(0), heard.std(0)])


def fitted(sounds: Tensor, kinds: Tensor, count: int) -> Tensor:
    """Log-probabilities [n, count] of the kinds of `sounds` [n, 2 state]; `kinds` [n] are the right ones."""
    centred = sounds - sounds.mean(0)
    values, directions = torch.linalg.eigh(centred.T @ centred / len(sounds))
    white = centred @ (directions / (values + FLOOR * values.mean()).sqrt())
    torch.manual_seed(0)
    classifier = torch.nn.Linear(white.shape[1], count)
    tool = torch.optim.Adam(classifier.parameters(), lr=RATE)
    shares = 1 / torch.bincount(kinds, minlength=count)[kinds].sqrt()
    for _ in range(STEPS):
        losses = F.cross_entropy(classifier(white), kinds, reduction="none", label_smoothing=SMOOTHING)
        loss = (losses * shares).sum() / shares.sum() + HELD_BACK * (classifier.weight**2).sum()
        tool.zero_grad()
        loss.backward()
        tool.step()
    with torch.no_grad():
        found: Tensor = classifier(white).log_softmax(-1)
    return found


def main(argv: list[str] | None = None) -> int:
    """Learn of all shards with sounds, and write what each clip might be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help="that `features` made")
    options = parser.parse_args(argv)
    shards = [shard for folder in options.folders for shard in sorted(folder.glob("*-*.jsonl"))]
    clips = [(shard, n, clip) for shard in shards for n, clip in enumerate(read_shard(shard)) if clip.get("sound")]
    if not clips:
        raise SystemExit("no sounds in these folders; give those that `features` made")
    kinds = sorted({clip.get("sound") for *_, clip in clips})
    right = torch.tensor([kinds.index(clip.get("sound")) for *_, clip in clips])
    scores = fitted(torch.from_numpy(np.stack([pooled(clip) for *_, clip in clips])), right, len(kinds)).exp()
    written: dict[Path, dict[str, list[tuple[str, float]]]] = {}
    for (shard, number, _), row in zip(clips, scores, strict=True):
        shares, best = row.topk(min(KEPT, len(kinds)))
        named = [kinds[kind] for kind in best]
        likely = list(zip(named, (round(share, 4) for share in shares.tolist()), strict=True))
        written.setdefault(shard, {})[str(number)] = likely
    for shard, found in written.items():
        shard.with_suffix(LIKELY).write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    met = (scores.argmax(-1) == right).float().mean()
    rarest = min(Counter(right.tolist()).values())
    print(f"{len(clips)} clips of {len(kinds)} kinds, {rarest} or more of each: {met:.0%} met", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
