"""A training step of a grafted decoder: sound stays as it is, so only the rows of text are worked on.

In the whole model the layers add something to sound, too, but a thousandth of it (`graft.LOUD`). Here it is left out,
and with it two thirds of the products.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.nano.train.batches import Batch
from models.nano.train.graft import EVEN, LOUD
from models.nano.train.losses import Learned, Scales
from models.nano.train.model import Attention, Nano, rotary_tables, rotate
from models.nano.train.whisper_decoder import STATE
from models.nano.train.whisper_teacher import WhisperTeacher

KEPT = ("transformer.audio.", "transformer.h.0.")  # parts that stay as the graft made them: sound and positions
EMBEDDING_RATE = 0.3  # of the rate, for the embeddings: their values are some fiftieths
TOLD_RATE = 25.0  # of the rate, for what is made of the channels of `sound_channels`
WHITE_RATE = 1.0  # of the rate, for what is made of whitened sound; 4 makes words worse
WHOLE = (8, 2)  # the layer and the head that hear a sound as a whole (`whole_sound`)
WOKEN = 0.04  # standard deviation: about 1 of what such a matrix makes of the normed stream
FLOOR = 0.01  # of the mean energy of a direction of sound: quieter ones are not made louder than that


class Whitened(nn.Module):
    """Adds `change` [2 d_model, state] to the keys and values of a cross-attention, for whitened sound.

    A third of the energy of Whisper's features lies in one direction and the least thousandth in a hundred others,
    where sounds differ that are not speech. So a plain step hardly reaches these. `told` [2 d_model, EVEN] is added for
    the channels of `sound_channels`, which say what sounds, and begins as nothing.
    """

    whitening: Tensor

    def __init__(self, rows: int, energy: Tensor) -> None:
        """`energy` [state, state]: the mean product of the channels of sound, as the products get them."""
        super().__init__()
        values, directions = torch.linalg.eigh(energy.double())
        scaled = directions / values.clamp_min(FLOOR * float(values.mean())).sqrt()
        self.register_buffer("whitening", (scaled @ directions.T).float())
        self.change = nn.Parameter(torch.zeros(rows, len(energy)))
        self.told = nn.Parameter(torch.zeros(rows, EVEN.stop - EVEN.start))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [3 d_model, d_model] as it is used."""
        added = torch.cat([self.change @ self.whitening, self.told], 1)
        return weight + F.pad(added, (0, weight.shape[1] - added.shape[1], weight.shape[0] - added.shape[0], 0))


class Said(nn.Module):
    """Adds `told` [d_model, dim] to what one head writes."""

    def __init__(self, rows: int, columns: int, head: int) -> None:
        super().__init__()
        self.first = head * columns
        self.told = nn.Parameter(torch.zeros(rows, columns))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight [d_model, d_model] as it is used."""
        return weight + F.pad(self.told, (self.first, weight.shape[1] - self.first - self.told.shape[1]))


def hears_channels(model: Nano) -> bool:
    """Whether the projection hands on the channels of `sound_channels`."""
    return bool(model.transformer.audio.proj.weight[EVEN].any())


@torch.no_grad()
def whiten(model: Nano, features: Tensor) -> None:
    """Let the cross-attentions learn of whitened sound; `features` [n, state] are those of many clips."""
    heard = F.rms_norm(model.transformer.audio.proj(features), (model.sizes.d_model,), None, model.sizes.epsilon)
    for block in list(model.transformer.h)[2::2]:
        x = (heard * block.ln_1.weight)[:, :STATE]
        change = Whitened(2 * model.sizes.d_model, x.T @ x / len(x))
        parametrize.register_parametrization(block.attn.c_attn, "weight", change)
    if hears_channels(model):
        layer, head = WHOLE
        said = Said(model.sizes.d_model, model.sizes.d_model // model.sizes.n_head, head)
        parametrize.register_parametrization(model.transformer.h[layer].attn.c_proj, "weight", said)


def folded(model: Nano) -> dict[str, Tensor]:
    """The state of a model as if nothing had been whitened."""
    state: dict[str, Tensor] = {}
    mark = ".parametrizations.weight."
    for name, value in model.state_dict().items():
        if mark not in name:
            state[name] = value
        elif name.endswith(".original"):
            module = name.split(mark)[0]
            state[f"{module}.weight"] = model.get_submodule(module).weight.detach()  # type: ignore[assignment]
    return state


def optimizer(model: Nano, rate: float) -> torch.optim.Optimizer:
    """AdamW: small even steps leave what the graft made in its place."""
    for name, value in model.named_parameters():
        value.requires_grad = not name.startswith(KEPT)
    embeddings = model.transformer.wte.weight
    changes = [module.change for module in model.modules() if isinstance(module, Whitened)]
    told = [module.told for module in model.modules() if isinstance(module, Whitened | Said)]
    for value in told:  # without the channels it could only learn of text
        value.requires_grad = hears_channels(model)
    apart = {id(value) for value in (embeddings, *changes, *told)}
    others = [value for value in model.parameters() if value.requires_grad and id(value) not in apart]
    groups = [{"params": others, "share": 1.0}, {"params": [embeddings], "share": EMBEDDING_RATE}]
    groups.append({"params": changes, "share": WHITE_RATE})
    groups += [{"params": told, "share": TOLD_RATE}] if hears_channels(model) else []
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)


def step_down(model: Nano, tool: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step of the optimizer at a rate."""
    for group in tool.param_groups:
        group["lr"] = rate * group["share"]
    tool.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    tool.step()


def wake(state: dict[str, Tensor]) -> None:
    """Let an MLP of zeros learn, as the graft leaves one: its first matrices get small random values, always the same.

    Its last one stays zero, so the model answers as before.
    """
    for name, values in state.items():
        if name.endswith("mlp.c_proj.weight") and not values.any():
            dice = torch.Generator().manual_seed(0)
            for first in ("w1", "w2"):
                weight = state[name.replace("c_proj", first)]
                weight.copy_(torch.randn(weight.shape, generator=dice) * WOKEN)


def silence(model: Nano) -> Tensor:
    """The silent frame [state] that stands behind each sound."""
    return model.transformer.audio.audio_bos_eos_token.weight[1, :STATE].detach() / LOUD


def learn(
    model: Nano, batch: Batch, scales: Scales, whisper: WhisperTeacher | None = None, *, smoothing: float = 0.02
) -> Learned:
    """The answer's loss of one batch, and, of transcripts, how far it is from what Whisper foresees."""
    hidden, places = text_hidden(model, batch)
    weights, targets = batch.weights.gather(1, places), batch.targets.gather(1, places)
    rows, columns = weights.nonzero(as_tuple=True)
    logits = model.lm_head(hidden[rows, columns])
    targets, weights = targets[rows, columns], weights[rows, columns]
    loss = (scales.cross_entropy(logits, targets, smoothing=smoothing) * weights).sum() / weights.sum()
    losses = {"answer": loss}
    if whisper and (taught := whisper(batch)) is not None:
        losses["foreseen"] = taught.divergence(hidden, model.lm_head.weight)
    return Learned(losses, logits.argmax(-1) == targets, rows)


def text_hidden(model: Nano, batch: Batch, streams: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """What the last norm gives of the rows of text, [batch, t, d_model], and their places in the batch, [batch, t].

    The stream behind each layer is added to `streams`.
    """
    x = model.embed(batch.ids, batch.features, batch.places, batch.ends)
    is_sound = torch.zeros(batch.ids.numel(), dtype=torch.bool, device=x.device)
    is_sound[batch.places] = True
    is_sound = is_sound.view_as(batch.ids)
    order = torch.sort(is_sound.int(), dim=1, stable=True).indices  # text first, both in order
    n_text, n_sound = int((~is_sound).sum(1).max()), int(is_sound.sum(1).max())
    text, sound = order[:, :n_text], order[:, order.shape[1] - n_sound :]
    before = (text[:, None] <= text[..., None]) & ~is_sound.gather(1, text)[:, None]
    before = (before | torch.eye(n_text, dtype=torch.bool, device=x.device))[:, None]
    heard = ((sound[:, None] < text[..., None]) & is_sound.gather(1, sound)[:, None])[:, None]
    tables = [tuple(part[:, None] for part in rotary_tables(places, model.sizes)) for places in (text, sound)]
    h, around = _rows(x, text), F.rms_norm(_rows(x, sound), x.shape[-1:], None, model.sizes.epsilon)
    for number, block in enumerate(model.transformer.h):
        q, k, v = block.attn.project(block.ln_1(h), tables[0])
        mask = before
        if number and number % 2 == 0:  # cross-attention; the others do not look at sound
            more_k, more_v = _keys(block.attn, around * block.ln_1.weight, tables[1])
            k, v, mask = torch.cat([k, more_k], 2), torch.cat([v, more_v], 2), torch.cat([before, heard], -1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = h + F.dropout(block.attn.c_proj(mixed.transpose(1, 2).flatten(2)), block.dropout, model.training)
        h = h + F.dropout(block.mlp(block.ln_2(h)), block.dropout, model.training)
        if streams is not None:
            streams.append(h)
    return model.transformer.ln_f(h), text


def _rows(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))


def _keys(attention: Attention, x: Tensor, rotary: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Keys, rotated, and values [batch, heads, t, dim] of rows that ask nothing."""
    first = attention.c_attn.in_features
    both = F.linear(x, attention.c_attn.weight[first:], attention.c_attn.bias[first:])
    k, v = (part.unflatten(-1, (attention.heads, -1)).transpose(1, 2) for part in both.chunk(2, -1))
    return rotate(k, (rotary[0], rotary[1])), v
