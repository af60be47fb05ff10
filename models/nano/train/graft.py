"""Whisper base's decoder, written as a Qwen decoder: what a grafted nano begins with. Nothing is learned here.

    layer 0       positions: Whisper adds one to each id, Qwen turns queries and keys
    layers 1, 3…  self-attention of Whisper's layers, over text alone; MLP units that the layer before had no room for
    layers 2, 4…  cross-attention, over sound alone, and the MLP

How each difference is bridged:
- Layer norm is RMS norm where the mean is zero: whatever is added to the stream has its mean taken out.
- Biases that Qwen's MLP lacks: a linear functional of the normed stream that is nearly 1 on text (`nearly_one`).
- GELU(h) is nearly silu(1.702 h) / 1.702 (Hendrycks and Gimpel, "Gaussian error linear units", 2016).
- Sound stands in the stream as large rows, so that what layers add to them is nothing beside them. Rows of sound carry
  marks in channels of their own, by which heads tell sound from text.
- Whisper hears silence behind each sound, up to 30 s of it, and so knows that it has ended. The row at the end of a
  sound is such a frame of silence, too, and counts for as many.
- Rotary positions turn six of a head's 36 pairs at most: the base is so large that the others stand still.
- A position is told by how far back the end of the sound lies. The softmax over the two rows at the ends of the sound
  makes sines and cosines of it, and the MLP makes Whisper's row of that position of them.

`refit` then makes up for what is only nearly equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from models.nano.train import whisper_decoder as whisper
from models.nano.train.fitted_mlp import fitted_mlp
from models.nano.train.model import Sizes
from models.nano.train.whisper_decoder import STATE, Attention, Layer, Linear, WhisperDecoder

State = dict[str, Tensor]

D_MODEL, N_HEAD, WIDTH = Sizes.d_model, Sizes.n_head, Sizes.width
DIM = D_MODEL // N_HEAD
RATIO = 5  # a pair of a head turns five times as fast as the next (Sizes.rotary_base)
STILL = range(5, DIM // 2 - 1)  # pairs of which content is made: they turn by 1/3000 of a radian a position, or less
MARKER = DIM // 2 - 1  # the pair that tells sound from text
EVEN = slice(STATE, STATE + 32)  # channels that give every id's row the same length
MARKS = slice(STATE + 32, STATE + 48)  # channels of sound
BEGIN, FINISH = STATE + 48, STATE + 49  # channels of the two rows at the ends of a sound
TURNS = slice(STATE + 50, STATE + 50 + N_HEAD)  # what the heads of layer 0 say about the position
ONE = STATE + 50 + N_HEAD
BIAS = DIM - 1  # of a head's values, the one that is always 1
LOUD = 300.0  # times sound is larger than what it means
MARKED = 4.0  # energy of the marks beside that of a sound
APART = 0.3  # of the length of the row at the end of a sound lies in its own channel, at least
HIDDEN = 30.0  # nats by which what must not be seen is lowered
SWING = 2.0  # nats, of the sines
SIGMOID = 1.702
PHASES = (0.0, math.pi / 2)
CENTRE = torch.eye(STATE) - 1 / STATE


@dataclass(frozen=True)
class Speech:
    """What the graft is fitted to: the stream before each of Whisper's parts, [n, state], and features, [n, state]."""

    streams: list[Tensor]
    features: Tensor
    silence: Tensor  # [state]


def graft(
    teacher: WhisperDecoder, sizes: Sizes, speech: Speech, *, pieces: Sequence[int], special: Mapping[int, int]
) -> State:
    """The weights by their names in a checkpoint.

    `pieces` are Whisper's ids of our ids from 0 on, `special` those of some others.
    """
    grafted = Grafted(sizes)
    grafted.embed(teacher, pieces, special)
    grafted.hear(speech.features, speech.silence)
    grafted.tell_positions(teacher.positions @ CENTRE)
    for number, layer in enumerate(teacher.layers):
        own, cross, mlp = speech.streams[3 * number : 3 * number + 3]
        grafted.attend(1 + 2 * number, layer.attend, own, is_cross=False)
        grafted.attend(2 + 2 * number, layer.cross, cross, is_cross=True)
        late = speech.streams[3 * number + 4] if number + 1 < whisper.N_LAYER else None
        grafted.think(2 + 2 * number, layer, mlp, late)
    grafted.state["transformer.ln_f.weight"] = _padded(teacher.norm.weight * math.sqrt(STATE / D_MODEL))
    return grafted.state


class Grafted:
    """The state as it is written, part by part."""

    def __init__(self, sizes: Sizes) -> None:
        d, width = sizes.d_model, sizes.width
        self.state: State = {"transformer.wte.weight": torch.zeros(sizes.vocab_size, d)}
        for number in range(sizes.n_layer):
            shapes = {"attn.c_attn.weight": (3 * d, d), "attn.c_attn.bias": (3 * d,), "attn.c_proj.weight": (d, d)}
            shapes |= {"mlp.w1.weight": (width, d), "mlp.w2.weight": (width, d), "mlp.c_proj.weight": (d, width)}
            self.state |= {f"transformer.h.{number}.{name}": torch.zeros(shape) for name, shape in shapes.items()}
            self.state |= {f"transformer.h.{number}.ln_{norm}.weight": torch.ones(d) for norm in (1, 2)}
        audio = "transformer.audio."
        self.state |= {f"{audio}proj.weight": torch.zeros(d, STATE), f"{audio}proj.bias": torch.zeros(d)}
        self.state[f"{audio}audio_bos_eos_token.weight"] = torch.zeros(2, d)
        self.length = self.mean_energy = 0.0

    def embed(self, teacher: WhisperDecoder, pieces: Sequence[int], special: Mapping[int, int]) -> None:
        """Embeddings, all of one length; ids that Whisper has not begin with the mean of all."""
        table, rows = teacher.embeddings @ CENTRE, self.state["transformer.wte.weight"]
        rows[:, :STATE] = table[list(pieces)].mean(0)
        rows[: len(pieces), :STATE] = table[list(pieces)]
        for ours, theirs in special.items():
            rows[ours, :STATE] = table[theirs]
        energy = rows[:, :STATE].square().sum(1)
        self.mean_energy = float(energy[: len(pieces)].mean())
        self.length = math.sqrt(5 * self.mean_energy)
        rows[:, EVEN] = ((self.length**2 - energy).clamp_min(0) / 32).sqrt()[:, None]
        ends = self.state["transformer.audio.audio_bos_eos_token.weight"]
        ends[0, BEGIN] = 50 * self.length

    def hear(self, features: Tensor, silence: Tensor) -> None:
        """The projection, the row behind a sound, and what the norm makes of both."""
        mark = float(features.square().mean().sqrt()) * math.sqrt(MARKED * STATE / 16)
        self.state["transformer.audio.proj.weight"][:STATE] = torch.eye(STATE) * LOUD
        self.state["transformer.audio.proj.bias"][MARKS] = mark * LOUD
        rows = _padded(features)
        rows[:, MARKS] = mark
        self.heard = _normed(rows)
        self.mark = float(self.heard[:, MARKS].mean())
        self.loudness = self.mark / mark  # of a feature behind the norm
        end = _padded(silence[None])[0]
        end[MARKS] = mark
        length = float(rows.norm(dim=1).mean())  # so that the norm makes the same of its silence as of other frames
        end[FINISH] = math.sqrt(max(length**2 - float(end.square().sum()), (APART * length) ** 2))
        self.state["transformer.audio.audio_bos_eos_token.weight"][1] = end * LOUD
        self.end = _normed(end[None])[0]
        self.told = float(self.end[FINISH])

    def tell_positions(self, positions: Tensor) -> None:
        """Layer 0. Each head sees the ends of the sound alone, and of the last one by a sine of the distance."""
        weight, bias, out = self._attention(0)
        root = math.sqrt(DIM)
        for head in range(N_HEAD):
            q, k, v = firsts(head)
            pair, phase = head // 2, PHASES[head % 2]
            bias[q + pair], bias[q + pair + DIM // 2] = SWING * math.cos(phase), SWING * math.sin(phase)
            weight[k + pair, FINISH] = root / self.told
            bias[q + MARKER], bias[k + MARKER] = 1.0, -HIDDEN * root
            weight[k + MARKER, BEGIN] = HIDDEN * root / math.sqrt(D_MODEL)
            weight[k + MARKER, FINISH] = HIDDEN * root / self.told
            weight[v, FINISH] = 1 / self.told
            out[TURNS.start + head, head * DIM] = self.length / 4
        bias[firsts(0)[2] + BIAS], out[ONE, BIAS] = 1.0, self.length / 4
        distance = torch.arange(1, len(positions) + 1)[:, None]
        speed = torch.tensor([RATIO ** -(head // 2) for head in range(N_HEAD)])
        phase = torch.tensor([PHASES[head % 2] for head in range(N_HEAD)])
        told = torch.sigmoid(SWING * torch.cos(distance * speed + phase))
        added = torch.cat([told, torch.ones(len(told), 1)], 1) * self.length / 4  # [positions, N_HEAD + 1]
        wanted = torch.zeros(len(told), D_MODEL)
        wanted[:, :STATE], wanted[:, TURNS.start : ONE + 1] = positions, -added
        wanted[:, EVEN] = -math.sqrt((self.length**2 - self.mean_energy) / 32)
        normed = added * math.sqrt(D_MODEL) / (self.length**2 + added.square().sum(1, keepdim=True)).sqrt()
        up, gate, down = fitted_mlp(normed, wanted, WIDTH)
        mlp = "transformer.h.0.mlp."
        self.state[f"{mlp}w1.weight"][:, TURNS.start : ONE + 1] = up
        self.state[f"{mlp}w2.weight"][:, TURNS.start : ONE + 1] = gate
        self.state[f"{mlp}c_proj.weight"][:] = down

    def attend(self, number: int, attention: Attention, stream: Tensor, *, is_cross: bool) -> None:
        """One attention of Whisper's: of its 64 channels a head keeps the 60 that matter most for who looks where."""
        weight, bias, out = self._attention(number)
        query = _scaled(attention.query.after(attention.norm), math.sqrt(STATE / D_MODEL))
        keys = (attention.key, attention.value)
        key, value = (
            _scaled(one, 1 / self.loudness)
            if is_cross
            else _scaled(one.after(attention.norm), math.sqrt(STATE / D_MODEL))
            for one in keys
        )
        root, size = math.sqrt(DIM), whisper.HEAD_DIM
        for head in range(N_HEAD):
            q, k, v = firsts(head)
            part = slice(head * size, (head + 1) * size)
            asking, asked = _looks(query, key, part)
            places = [place for pair in reversed(STILL) for place in (pair, pair + DIM // 2)]
            for first, map_ in ((q, asking), (k, asked)):
                weight[[first + place for place in places], :STATE] = map_[:, :STATE]
                bias[[first + place for place in places]] = map_[:, STATE]
            bias[q + MARKER] = 1.0
            if is_cross:
                bias[k + MARKER] = -HIDDEN * root
                text = _normed(_padded(stream @ CENTRE))
                weight[k + MARKER] = HIDDEN * root * tell_apart(self.heard, text, self.end)
            else:
                weight[k + MARKER, MARKS] = -HIDDEN * root / (16 * self.mark)
                weight[k + MARKER, BEGIN] = -HIDDEN * root / math.sqrt(D_MODEL)
            weight[v : v + size, :STATE], bias[v : v + size] = value.weight[part], value.bias[part]
            out[:STATE, head * DIM : head * DIM + size] = CENTRE @ attention.out.weight[:, part]
        bias[firsts(0)[2] + BIAS], out[:STATE, BIAS] = 1.0, CENTRE @ attention.out.bias

    def think(self, number: int, layer: Layer, stream: Tensor, late: Tensor | None) -> None:
        """The MLP: in this layer the units that move most, then as many in the next; the rest is their mean."""
        hidden = F.gelu(layer.up(layer.mlp_norm(stream)))
        up, down = layer.up.after(layer.mlp_norm), CENTRE @ layer.down.weight
        moved = hidden.var(0) * down.square().sum(0)
        order = moved.argsort(descending=True)
        room = WIDTH - 1
        left = order[room:] if late is None else order[2 * room :]
        one = nearly_one(stream)
        self._units(number, (up, down), order[:room], one)
        mlp = f"transformer.h.{number}.mlp."
        self.state[f"{mlp}w2.weight"][room, :STATE], self.state[f"{mlp}w1.weight"][room, :STATE] = 8 * one, one / 8
        rest = down[:, left] @ hidden.mean(0)[left]
        self.state[f"{mlp}c_proj.weight"][:STATE, room] = CENTRE @ layer.down.bias + rest
        if late is not None:
            self._units(number + 1, (up, down), order[room : 2 * room], nearly_one(late))

    def _units(self, number: int, both: tuple[Linear, Tensor], units: Tensor, one: Tensor) -> None:
        mlp, places, (up, down) = f"transformer.h.{number}.mlp.", slice(len(units)), both
        gate = up.weight[units] * math.sqrt(STATE / D_MODEL) + torch.outer(up.bias[units], one)
        self.state[f"{mlp}w2.weight"][places, :STATE] = SIGMOID * gate
        self.state[f"{mlp}w1.weight"][places, :STATE] = one / SIGMOID
        self.state[f"{mlp}c_proj.weight"][:STATE, places] = down[:, units]

    def _attention(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        names = ("c_attn.weight", "c_attn.bias", "c_proj.weight")
        weight, bias, out = (self.state[f"transformer.h.{number}.attn.{name}"] for name in names)
        return weight, bias, out


def nearly_one(stream: Tensor) -> Tensor:
    """A functional of the normed stream that is 1 on every row of `stream` [n, state], nearly: [state]."""
    rows = _normed(_padded(stream @ CENTRE))[:, :STATE].double()
    squares = rows.T @ rows + 5e-5 * len(rows) * torch.eye(STATE, dtype=torch.float64)
    return torch.linalg.solve(squares, rows.sum(0)).float()


def tell_apart(sound: Tensor, text: Tensor, end: Tensor, frames: float = whisper.SILENT_FRAMES) -> Tensor:
    """A functional [D_MODEL] that is 1 on every normed row of sound, within some thousandths, and about 0 on text.

    On the row behind a sound it is so much more, or less, that this row counts for `frames`.
    """
    sure = 300.0  # times a mistake about sound counts more
    rows, wanted = torch.cat([sound, end[None]]).double(), torch.ones(len(sound) + 1, dtype=torch.float64)
    wanted[-1] += math.log(frames) / HIDDEN
    counts = torch.full_like(wanted, sure / len(sound))
    counts[-1] = 100 * sure
    squares = (rows.T * counts) @ rows + text.T.double() @ text.double() / len(text)
    squares += 1e-4 * torch.eye(D_MODEL, dtype=torch.float64)
    return torch.linalg.solve(squares, (rows.T * counts) @ wanted).float()


def _looks(query: Linear, key: Linear, part: slice) -> tuple[Tensor, Tensor]:
    """Maps [60, state + 1] of the normed stream, and 1, to queries and keys whose products are those of one head."""
    asking, asked = (torch.cat([one.weight[part], one.bias[part, None]], 1).double() for one in (query, key))
    scale = math.sqrt(DIM / whisper.HEAD_DIM)
    left, strength, right = torch.linalg.svd(asking.T @ asked * scale)
    kept = slice(2 * len(STILL))
    root = strength[kept].sqrt()
    return (left[:, kept] * root).T.float(), (right[kept] * root[:, None]).float()


def _scaled(linear: Linear, scale: float) -> Linear:
    return Linear(linear.weight * scale, linear.bias)


def firsts(head: int) -> tuple[int, int, int]:
    """Where a head's query, key and value begin in c_attn."""
    first = head * DIM
    return first, D_MODEL + first, 2 * D_MODEL + first


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, (0, D_MODEL - STATE))


def _normed(x: Tensor) -> Tensor:
    return x * math.sqrt(D_MODEL) / x.norm(dim=1, keepdim=True)
