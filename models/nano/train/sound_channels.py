"""`python3 -m models.nano.train.sound_channels OUT --recordings DIR`: what Whisper hears early of sounds, handed on.

Whisper's encoder turns sound into speech. A linear classifier names 69 of 100 held-out sounds by the mean and spread of
what stands behind the second layer, and 59 by those of the output. So some quiet directions of the stream are freed:
layers neither read them nor write to them, and on speech little changes. The MLPs of the first `LAYERS` layers give up
the units that move least. Units that tell sounds apart stand in their place and write to the free directions. Rows of
the projection (`channel_rows`) hand these on to channels that the decoder's rows of sound leave empty (`whole_sound`).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from models.nano.train import graft, recordings, whisper_base
from models.nano.train.eight_bits import eight_bit, from_eight_bits
from models.nano.train.features import HALF, encode, groups, load_encoder, real_clips
from models.nano.train.mels import log_mels
from models.nano.train.model import AudioEncoder
from models.nano.train.sound_units import CHANNELS, FRAMES, HEARD, Units, learned, normed
from models.nano.train.train import OWN_AUDIO

LAYERS = 3
LOUDNESS = 0.6  # of a free direction, beside the stream's standard deviation
FAINT = 0.1  # of a norm's median gain: weights of a fainter channel would get so large that 8 bits lose the others
OLD = 1.0  # weight of what is in the directions before the units write
SPEECH = {"librispeech": 40, "lj_speech": 10, "speechocean762": 30, "multilingual": 12, "wake_words": 20}  # clips

State = dict[str, Tensor]
Waveform = NDArray[np.float32]


class Streams:
    """What the norms of the encoder get of some clips, by the norm's name; `keep` chooses frames [T, state] of one."""

    def __init__(self, encoder: AudioEncoder, waveforms: Sequence[Waveform], keep: Callable[[Tensor], Tensor]) -> None:
        self._heard: dict[str, dict[int, Tensor]] = {}
        self._keep = keep
        names = {name: module for name, module in encoder.named_modules() if isinstance(module, torch.nn.LayerNorm)}
        hooks = [module.register_forward_pre_hook(self._keeper(name)) for name, module in names.items()]
        order = sorted(range(len(waveforms)), key=lambda one: len(waveforms[one]))
        with torch.inference_mode():
            for self._group in groups(order, [len(waveform) // 320 for waveform in waveforms]):
                mel, self._frames = log_mels([waveforms[one] for one in self._group])
                encoder.features(mel, self._frames)
        for hook in hooks:
            hook.remove()

    def _keeper(self, name: str) -> Callable[[torch.nn.Module, tuple[Tensor, ...]], None]:
        found = self._heard.setdefault(name, {})

        def keep(_: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            for row, (one, frames) in enumerate(zip(self._group, self._frames.tolist(), strict=True)):
                count = frames // 2 if name == "ln_post" else frames
                found[one] = self._keep(inputs[0][row, :count]).clone()

        return keep

    def of_clips(self, name: str) -> list[Tensor]:
        """Of each clip, in their order."""
        return [self._heard[name][one] for one in range(len(self._heard[name]))]

    def __getitem__(self, name: str) -> Tensor:
        return torch.cat(self.of_clips(name))


def evenly(x: Tensor) -> Tensor:
    """FRAMES normed frames of a clip."""
    return normed(x[torch.linspace(0, len(x) - 1, FRAMES).long()]).half()


def readers(norm: str) -> list[str]:
    """The weights that read what a norm gives."""
    block, kind = norm.rsplit(".", 1)
    parts = ("attn.query", "attn.key", "attn.value") if kind == "attn_ln" else ("mlp.0",)
    return [f"{block}.{part}.weight" for part in parts]


def quiet_directions(state: State, streams: Streams, norms: Sequence[str]) -> Tensor:
    """[state, CHANNELS], orthonormal: directions whose loss the readers of `norms` and the decoder feel least.

    The norms take out the sum of all channels, so directions have none.
    """
    energies = [torch.cov(normed(streams[norm]).T) for norm in (*norms, "ln_post", "blocks.0.mlp_ln")]
    weights = []
    for norm, energy in zip(norms, energies, strict=False):
        gain = state[f"{norm}.weight"]
        read = torch.cat([state[name] * gain / (state[name] * gain).norm() for name in readers(norm)])
        weights.append(read.T @ read / ((read.T @ read) * energy).sum())
    one = torch.eye(len(energies[0]))
    weights += [one / energies[-2].trace(), OLD * one / energies[-1].trace()]
    energy, weight = torch.stack(energies), torch.stack(weights)
    centre = one - 1 / len(one)
    start = torch.linalg.eigh(centre @ energy.mean(0) @ centre).eigenvectors[:, 1 : CHANNELS + 1]
    free = start.clone().requires_grad_()
    tool = torch.optim.Adam([free], lr=2e-3)
    for _ in range(200):
        basis = torch.linalg.qr(centre @ free).Q
        lost = ((basis.T @ energy @ basis) * (basis.T @ weight @ basis)).sum((1, 2))
        tool.zero_grad()
        lost.sum().backward()
        tool.step()
    return torch.linalg.qr(centre @ free).Q.detach()


@torch.no_grad()
def implant(state: State, units: Sequence[Units], streams: Streams, free: Tensor) -> State:
    """The encoder's state with the units; on speech its output hardly changes. `streams` are those of speech."""
    changed = {name: value.clone() for name, value in state.items()}
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for number in range(layers):
        for name in ("attn.out", "mlp.2") if number else ("mlp.2",):
            for kind in ("weight", "bias"):
                values = changed[f"blocks.{number}.{name}.{kind}"]
                values -= free @ (free.T @ values)
    for norm in norms_behind_first(layers):
        gain, mean = state[f"{norm}.weight"], normed(streams[norm]).mean(0)
        heard = gain.abs() >= FAINT * gain.abs().median()
        back = torch.linalg.pinv(free * heard[:, None])  # [CHANNELS, state], nothing where the gain is faint
        for name in readers(norm):
            read = ((changed[name] * gain) @ free) @ back
            changed[name] -= torch.where(heard, read / gain, 0.0)
            if "attn.key" not in name:  # it has no bias; the same for all keys changes nothing
                changed[name.replace("weight", "bias")] += read @ mean
    last = streams[f"blocks.{len(units) - 1}.mlp_ln"]
    loud = LOUDNESS * float((last - last.mean(-1, keepdim=True)).std()) * free
    for number, part in enumerate(units):
        _replace(changed, f"blocks.{number}.", part, streams[f"blocks.{number}.mlp_ln"], loud)
    return changed


def norms_behind_first(layers: int) -> list[str]:
    """The norms that read what the first MLP wrote, but for the last one."""
    return [f"blocks.{n}.{norm}" for n in range(layers) for norm in ("attn_ln", "mlp_ln")][2:]


def _replace(state: State, block: str, units: Units, stream: Tensor, loud: Tensor) -> None:
    """The units in place of those that move least; what these did, the others take over as far as they can."""
    gain, shift = state[f"{block}mlp_ln.weight"], state[f"{block}mlp_ln.bias"]
    up, up_bias, down, bias = (state[f"{block}mlp.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    hidden = F.gelu(F.linear(normed(stream) * gain + shift, up, up_bias))
    order = (hidden.var(0) * down.square().sum(0)).argsort()
    given, kept = order[: len(units.up)], order[len(units.up) :]
    centred = (hidden - hidden.mean(0)).double()
    squares = centred[:, kept].T @ centred[:, kept]
    squares += 1e-3 * squares.diagonal().mean() * torch.eye(len(kept), dtype=torch.float64)
    taken = torch.linalg.solve(squares, centred[:, kept].T @ centred[:, given]).float()  # [kept, given]
    bias += down[:, given] @ (hidden.mean(0)[given] - taken.T @ hidden.mean(0)[kept])
    down[:, kept] += down[:, given] @ taken.T
    heard = gain.abs() >= HEARD
    weight = torch.where(heard, units.up / torch.where(heard, gain, 1.0), 0.0)
    up[given], up_bias[given] = weight, units.up_bias - weight @ shift
    down[:, given] = loud @ units.down
    bias += loud @ units.bias


def channel_rows(norm: tuple[Tensor, Tensor], free: Tensor, heard: Tensor) -> State:
    """Rows of the projection, and their bias: they hand on the free directions, alike loud as its other channels.

    `norm` is the weight and bias of `ln_post`, `heard` [n, state] its output on sounds.
    """
    gain, shift = norm
    size = graft.EVEN.stop - graft.EVEN.start
    spread = torch.linalg.qr(torch.cat([torch.ones(size, 1), torch.eye(size)[:, :CHANNELS]], 1)).Q[:, 1:]
    said = ((heard - shift) / gain) @ free
    rows = (free / gain[:, None]) * float(heard.square().mean().sqrt()) / said.std(0)  # [state, CHANNELS]
    exact = graft.LOUD * spread @ rows.T
    weight = torch.from_numpy(from_eight_bits(eight_bit("", exact.numpy()))[""])  # as `export` stores it
    return dict(zip(whisper_base.ROWS, (weight, -(weight @ shift)), strict=True))


def sounds(folder: Path) -> list[tuple[dict[str, Any], Waveform]]:
    """The recordings of sounds that may be trained on, as they are: noise and rooms make the units no better."""
    rows = recordings.training(recordings.recordings(folder, None))
    return list(real_clips([row for row in rows if row.get("sound")], 0, 0))


def speech(folder: Path) -> list[Waveform]:
    """Some speech that may be trained on."""
    rows, dice = recordings.training(recordings.recordings(folder, None)), random.Random(1)  # noqa: S311
    by_source = {source: [row for row in rows if row["source"] == source] for source in SPEECH}
    drawn = [row for name, some in by_source.items() for row in dice.sample(some, min(SPEECH[name], len(some)))]
    return [waveform for _, waveform in real_clips(drawn, 0, 0)]


def made(folder: Path, whisper: Path) -> State:
    """The encoder with its units, and the rows for the projection."""
    encoder, early = load_encoder(whisper), load_encoder(whisper)
    early.blocks = early.blocks[:LAYERS]
    state = {name: value.clone() for name, value in encoder.state_dict().items() if not name.startswith(OWN_AUDIO)}
    clips = sounds(folder)
    with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
        streams = Streams(early, [waveform for _, waveform in clips], evenly)
    norms = [f"blocks.{layer}.mlp_ln" for layer in range(LAYERS)]
    frames = torch.stack([torch.stack(streams.of_clips(norm)) for norm in norms])
    kinds = sorted({labels["sound"] for labels, _ in clips})
    right = torch.tensor([kinds.index(labels["sound"]) for labels, _ in clips])
    units = learned(frames, right, len(kinds), [state[f"{norm}.weight"] for norm in norms])
    heard = Streams(encoder, speech(folder), lambda x: x[::3])
    free = quiet_directions(state, heard, norms_behind_first(len(encoder.blocks)))
    changed = implant(state, units, heard, free)
    encoder.load_state_dict(changed, strict=False)
    features = np.concatenate(encode(encoder, [waveform for _, waveform in clips[::8]]))
    norm = (changed["ln_post.weight"], changed["ln_post.bias"])
    return changed | channel_rows(norm, free, torch.from_numpy(features.astype(np.float32)))


def main(argv: list[str] | None = None) -> int:
    """Write the encoder, unless it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("encoder", type=Path, metavar="FEATURES/encoder.safetensors", help="`features` looks for it")
    parser.add_argument("--recordings", type=Path, metavar="DIR")
    parser.add_argument("--whisper", type=Path, metavar="FILE", help="model.bin; fetched if it is not there")
    options = parser.parse_args(argv)
    if not options.encoder.exists():
        found = made(options.recordings, whisper_base.fetch(options.whisper))
        save_file({name: value.numpy() for name, value in found.items()}, options.encoder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
