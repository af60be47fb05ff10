"""Units of the encoder's early layers that tell sounds apart: learned from the mean over time of what they say.

Linear readers of three layers at once name 66 of 100 held-out sounds. `sound_channels` puts the units into the encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

UNITS = 64  # of each MLP's 2,048
CHANNELS = 31  # one fewer than graft.EVEN: their sum tells text from sound
HEARD = 0.1  # the least gain of a channel that the units read
FLOOR = 0.03  # of the mean energy of a direction: quieter ones are not made louder than that
FRAMES = 32  # of a clip
STEPS, RATE, BATCH, DRAWN, SMOOTHING = 300, 3e-3, 1000, 12, 0.1
HELD_BACK, HELD_BACK_UNITS = 0.003, 1e-4  # times the squares of the weights
DROPPED = 0.3  # of the units, while they learn


@dataclass(frozen=True)
class Units:
    """A layer's part in the channels: down @ GELU(up @ normed + up_bias) + bias, of a frame's normed stream [state]."""

    up: Tensor  # [UNITS, state]
    up_bias: Tensor
    down: Tensor  # [CHANNELS, UNITS]
    bias: Tensor

    def __call__(self, normed: Tensor) -> Tensor:
        """Normed frames [..., state] -> [..., CHANNELS]."""
        return F.linear(F.gelu(F.linear(normed, self.up, self.up_bias)), self.down, self.bias)


def normed(x: Tensor) -> Tensor:
    """Layer norm without its weights."""
    return F.layer_norm(x, x.shape[-1:])


def learned(frames: Tensor, kinds: Tensor, count: int, gains: Sequence[Tensor]) -> list[Units]:
    """Units of each layer; their mean over time tells `kinds` [clips] apart.

    `frames` [LAYERS, clips, FRAMES, state] are normed. Channels whose gain in the layer is near zero are not read.
    """
    torch.manual_seed(0)
    some = [layer[::4, ::4].float().flatten(0, 1) for layer in frames]
    means, whites = [part.mean(0) for part in some], []
    for part, gain in zip(some, gains, strict=True):
        heard = torch.diag((gain.abs() >= HEARD).float())
        values, directions = torch.linalg.eigh(heard @ torch.cov(part.T) @ heard)
        whites.append(heard @ directions / (values.clamp_min(0) + FLOOR * values.mean()).sqrt())
    ups = [torch.nn.Linear(len(mean), UNITS) for mean in means]
    down, named = torch.nn.Linear(UNITS * len(ups), CHANNELS), torch.nn.Linear(CHANNELS, count)
    tool = torch.optim.Adam([value for part in (*ups, down, named) for value in part.parameters()], lr=RATE)
    often = 1 / torch.bincount(kinds, minlength=count)[kinds].sqrt()
    for step in range(STEPS):
        tool.param_groups[0]["lr"] = RATE * (1 - step / STEPS)
        clips = torch.multinomial(often, BATCH, replacement=True)
        drawn = torch.randint(0, FRAMES, (DRAWN,))
        parts = [
            F.gelu(up((layer[clips][:, drawn].float() - mean) @ white)).mean(1)
            for up, layer, mean, white in zip(ups, frames, means, whites, strict=True)
        ]
        found = named(down(F.dropout(torch.cat(parts, -1), DROPPED)))
        held = HELD_BACK * (named.weight @ down.weight).square().sum()
        held = held + HELD_BACK_UNITS * sum(up.weight.square().sum() for up in ups)
        loss = F.cross_entropy(found, kinds[clips], label_smoothing=SMOOTHING)
        tool.zero_grad()
        (loss + held).backward()
        tool.step()
    with torch.no_grad():
        weights = [up.weight @ white.T for up, white in zip(ups, whites, strict=True)]
        biases = [up.bias - weight @ mean for up, weight, mean in zip(ups, weights, means, strict=True)]
        said = torch.cat([F.gelu(F.linear(*part)) for part in zip(some, weights, biases, strict=True)], -1)
        channels = down(said)
        values, directions = torch.linalg.eigh(torch.cov(channels.T))
        turn = (directions / values.clamp_min(1e-3 * values.mean()).sqrt()).T  # alike loud, none like another
        downs = (turn @ down.weight).split(UNITS, 1)
        bias = turn @ (down.bias - channels.mean(0))
        return [Units(*part, bias / len(ups)) for part in zip(weights, biases, downs, strict=True)]
