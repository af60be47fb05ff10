"""`python3 -m models.nano.train.whole_sound STATE OUT --encoder FILE --features DIR…`: a decoder that hears channels.

The projection gets the rows that `sound_channels` made. One head of the cross-attention, without which transcripts lose
nothing, gives way to one that looks at all frames of a sound alike and at nothing else: it hands on the mean of the
channels. What it writes begins as nothing; `train` makes answers of it.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from safetensors.torch import load_file
from torch import Tensor

from models.nano.train import graft, grafted, whisper_base
from models.nano.train.batches import Batch, Encoder, batches
from models.nano.train.corpus import Clip, load
from models.nano.train.examples import Source
from models.nano.train.grafted import WHOLE
from models.nano.train.model import Block, Nano
from models.nano.train.train import begin, build, trained_state

READ = {"transcribe_base": 0.5, "transcribe": 0.5, "event": 0.5}  # texts before which the head tells sound apart
BATCHES, SIZE, SEED = 4, 4000, 5
ROWS = 4000  # of text
EVERY = 8  # frames of a clip


@torch.no_grad()
def hand_on(model: Nano, encoder: dict[str, Tensor]) -> None:
    """Give the projection the rows that stand in the encoder's file."""
    for kind, rows in zip(("weight", "bias"), whisper_base.ROWS, strict=True):
        getattr(model.transformer.audio.proj, kind)[graft.EVEN] = encoder[rows]


def normed(model: Nano, block: Block, rows: Tensor) -> Tensor:
    """What a block's attention gets of rows of sound [n, d_model]."""
    return F.rms_norm(rows, rows.shape[-1:], None, model.sizes.epsilon) * block.ln_1.weight


def written(model: Nano, batch: Batch, layer: int) -> Tensor:
    """The stream before a layer of all rows that are no sound: [rows, d_model]."""
    streams: list[Tensor] = []
    _, places = grafted.text_hidden(model, batch, streams)
    is_sound = torch.zeros(batch.ids.numel(), dtype=torch.bool)
    is_sound[batch.places] = True
    return streams[layer - 1][~is_sound.view_as(batch.ids).gather(1, places)]


@torch.no_grad()
def listen(model: Nano, sounds: Sequence[Tensor], text: Tensor) -> Tensor:
    """Let the head hear whole sounds; gives what tells sound [1] from all else [0], [d_model].

    `sounds` are features of clips, [tokens, state] each, `text` [n, d_model] rows of the stream before its layer.
    """
    layer, head = WHOLE
    block = model.transformer.h[layer]
    heard = [normed(model, block, model.transformer.audio.proj(sound)) for sound in sounds]
    ends = model.transformer.audio.audio_bos_eos_token.weight
    begins, finish = normed(model, block, ends)
    others = torch.cat([block.ln_1(text), begins.expand(1 + len(text) // 10, -1)])
    apart = graft.tell_apart(torch.cat([rows[::EVERY] for rows in heard]), others, finish, math.exp(-graft.HIDDEN))
    weight, bias, root = block.attn.c_attn.weight, block.attn.c_attn.bias, math.sqrt(graft.DIM)
    q, k, v = graft.firsts(head)
    for first in (q, k, v):
        weight[first : first + graft.DIM] = 0
        bias[first : first + graft.DIM] = 0
    bias[q + graft.MARKER], bias[k + graft.MARKER] = 1.0, -graft.HIDDEN * root
    weight[k + graft.MARKER] = graft.HIDDEN * root * apart
    means = torch.stack([rows.mean(0) for rows in heard])[:, graft.EVEN]
    scale, size = 1 / means.std(0).mean(), means.shape[1]
    weight[v : v + size, graft.EVEN] = torch.eye(size) * scale
    bias[v : v + size] = -means.mean(0) * scale
    block.attn.c_proj.weight[:, head * graft.DIM : (head + 1) * graft.DIM] = 0
    return apart


def main(argv: list[str] | None = None) -> int:
    """Write the state."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("state", type=Path, metavar="STATE", help="of distil or train, or what is shipped")
    parser.add_argument("out", type=Path, metavar="OUT.pt")
    parser.add_argument("--encoder", type=Path, required=True, metavar="FILE", help="that sound_channels made")
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR", help="of that encoder")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(argv)
    tokenizer, model = build(options.vocabulary)
    begin(options.state, model)
    hand_on(model, load_file(options.encoder))
    clips: list[Clip] = load(options.features)
    stream = batches(Source(clips, READ), Encoder(tokenizer), SEED, size=SIZE, augment=False)
    with torch.no_grad():
        rows = torch.cat([written(model, next(stream), WHOLE[0]) for _ in range(BATCHES)])
    random.Random(SEED).shuffle(clips)  # noqa: S311 - reproducible data, not secrets
    sounds = [torch.from_numpy(clip.features.astype("float32")) for clip in clips]
    listen(model, sounds, rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))[:ROWS]])
    torch.save({"step": 0, "model": trained_state(model)}, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
