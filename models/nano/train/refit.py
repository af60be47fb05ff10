"""`python3 -m models.nano.train.refit OUT --features DIR… --vocabulary FILE`: a grafted state to begin training with.

The graft (`graft`) is nearly Whisper's decoder. Here each part's last matrix is solved anew, in order, so that the
stream behind it is Whisper's on some clips of speech, whatever the parts before left over: least squares, with a ridge
at the graft. No gradient is taken. The state is for `distil`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor

from audio_encoder.waveform import load_waveform
from models.nano.train import graft, whisper_base
from models.nano.train import whisper_decoder as whisper
from models.nano.train.corpus import Clip, load
from models.nano.train.features import RATE, encode, load_encoder
from models.nano.train.model import Block, Nano, Sizes, rotary_tables
from models.nano.train.train import trained_state
from models.nano.train.whisper_pieces import whisper_ids
from models.nano.train.whisper_teacher import FIRST, tags
from tokenizer.chat import encode_base
from tokenizer.tokenizer import Tokenizer

READ = ("librispeech", "librispeech_more", "lj_speech", "speechocean762")  # sources of clips
RIDGE = 1e-3  # of the mean square of what goes in
SEED = 0
SOUND = Path(__file__).parents[3] / "tests/golden/1272-128104-0000.flac"  # speech with silence put behind it
SILENT = 10  # seconds


@dataclass
class Heard:
    """One clip: the grafted stream, what it should be before each part of Whisper's, and how many rows are compared."""

    stream: Tensor  # [1, t, d_model]
    wanted: list[Tensor]  # [rows, state], means taken out
    rows: int


def speech(clips: Sequence[Clip], count: int) -> list[Clip]:
    """Some clips of read English, as they were recorded."""
    read = [clip for clip in clips if clip.get("source") in READ and not clip.get("variant") and clip.get("text")]
    random.Random(SEED).shuffle(read)  # noqa: S311 - reproducible data, not secrets
    return read[:count]


def silent_frame(weights: Path, sound: Path = SOUND) -> Tensor:
    """What Whisper's encoder makes of the silence behind speech: the mean feature [state] of its last seconds."""
    spoken = load_waveform(sound)
    (found,) = encode(load_encoder(weights), [np.concatenate([spoken, np.zeros(SILENT * RATE, np.float32)])])
    return torch.from_numpy(found[-SILENT * 25 // 2 :].astype(np.float32)).mean(0)


Given = tuple[list[int], Tensor, Tensor]  # our ids, Whisper's ids, features [T, state]


def answers(tokenizer: Tokenizer, pieces: Sequence[int], clips: Sequence[Clip]) -> Iterator[Given]:
    """For each clip our ids, Whisper's ids and the features; both read the same prompt of four tags."""
    ours = {theirs: mine for mine, theirs in reversed(tags(tokenizer).items())}
    for clip in clips:
        text = tokenizer.encode(f" {clip.get('text')}")
        prompt = encode_base(tokenizer, "", audio_spans=(clip.tokens + 2,)) + [ours[tag] for tag in whisper.PROMPT]
        theirs = torch.tensor([*whisper.PROMPT, *(pieces[token] for token in text)])
        yield [*prompt, *text], theirs, torch.from_numpy(clip.features.astype("float32"))


def refit(model: Nano, heard: list[Heard]) -> Iterator[tuple[int, float, float]]:
    """Solve layer by layer; gives each layer's number and how far its stream is from Whisper's, before and after."""
    for number, block in enumerate(model.transformer.h):
        if number == 0:
            for one in heard:
                one.stream = block(one.stream, _rotary(model, one))
            continue
        layer, is_cross = (number - 1) // 2, number % 2 == 0
        behind = 3 * layer + (
            2 if is_cross else 1
        )  # the part before which the stream is compared, behind the attention
        mixed = [_mixed(model, block, one) for one in heard]
        _solve(block.attn.c_proj.weight, mixed, [one.wanted[behind] for one in heard], heard)
        for one, what in zip(heard, mixed, strict=True):
            one.stream = one.stream + block.attn.c_proj(what)
        inner = [_inner(block, one) for one in heard]
        is_last = behind == 3 * whisper.N_LAYER - 1
        before = after = 0.0
        if not is_last:
            wanted = [one.wanted[behind + 1 if is_cross else behind] for one in heard]
            before, after = _solve(block.mlp.c_proj.weight, inner, wanted, heard)
        for one, what in zip(heard, inner, strict=True):
            one.stream = one.stream + block.mlp.c_proj(what)
        yield number, before, after


def _rotary(model: Nano, one: Heard) -> tuple[Tensor, Tensor]:
    return rotary_tables(torch.arange(one.stream.shape[1]), model.sizes)


def _mixed(model: Nano, block: Block, one: Heard) -> Tensor:
    q, k, v = block.attn.project(block.ln_1(one.stream), _rotary(model, one))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)


def _inner(block: Block, one: Heard) -> Tensor:
    x = block.ln_2(one.stream)
    return block.mlp.w1(x) * F.silu(block.mlp.w2(x))


def _solve(weight: Tensor, inputs: list[Tensor], wanted: list[Tensor], heard: list[Heard]) -> tuple[float, float]:
    """Rows of `weight` that make the stream what is wanted; returns how far it was and is, as a share of the stream."""
    x = torch.cat([what[0, -one.rows :] for what, one in zip(inputs, heard, strict=True)]).double()
    full = torch.cat(wanted).double()
    y = full - torch.cat([one.stream[0, -one.rows :, : whisper.STATE] for one in heard])
    squares = x.T @ x
    squares += (RIDGE * squares.diagonal().mean() + 1e-9) * torch.eye(len(squares), dtype=torch.float64)
    old = weight[: whisper.STATE].double()
    new = old + torch.linalg.solve(squares, x.T @ (y - x @ old.T)).T
    weight[: whisper.STATE] = new.float()
    return tuple(float((x @ one.T - y).norm() / full.norm()) for one in (old, new))  # type: ignore[return-value]


def distance(
    model: Nano, teacher: whisper.WhisperDecoder, pieces: Sequence[int], given: list[Given], silence: Tensor
) -> tuple[float, float]:
    """KL from Whisper's decoder over the common ids, in nats a token, and the share of equal first choices."""
    divergence = same = count = 0.0
    for ours, theirs, features in given:
        last = _states(teacher, theirs, features, silence)[0][FIRST - 1 :]
        want = (last @ teacher.embeddings[list(pieces)].T).log_softmax(-1)
        hidden = model.hidden(_embedded(model, ours, features))
        have = model.lm_head(hidden)[0, -len(want) :, : len(pieces)].log_softmax(-1)
        divergence += float((want.exp() * (want - have)).sum())
        same += float((want.argmax(-1) == have.argmax(-1)).sum())
        count += len(want)
    return divergence / count, same / count


def _states(
    teacher: whisper.WhisperDecoder, ids: Tensor, features: Tensor, silence: Tensor
) -> tuple[Tensor, list[Tensor]]:
    sound, louder = whisper.followed_by(silence, [features])
    return teacher.states(ids, sound[0], louder[0])


def _embedded(model: Nano, ids: list[int], features: Tensor) -> Tensor:
    start, n = ids.index(model.sizes.audio_start), len(features)
    places = torch.arange(start + 1, start + 1 + n)
    return model.embed(torch.tensor([ids]), features, places, (places[:1] - 1, places[-1:] + 1))


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Graft, refit, say how near it came, and write the state."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="made by whisper_pieces")
    parser.add_argument(
        "--whisper", type=Path, required=True, metavar="FILE", help="model.bin; fetched if it is not there"
    )
    parser.add_argument("--clips", type=int, default=600)
    options = parser.parse_args(argv)
    teacher, tokenizer = whisper.WhisperDecoder(whisper_base.fetch(options.whisper)), Tokenizer(options.vocabulary)
    pieces = whisper_ids(tokenizer)
    given = list(answers(tokenizer, pieces, speech(load(options.features), options.clips)))
    learned, held_out = given[: len(given) * 9 // 10], given[len(given) * 9 // 10 :]
    silence = silent_frame(options.whisper)
    wanted = [_states(teacher, theirs, features, silence)[1] for _, theirs, features in learned]
    seen = [torch.cat(parts) for parts in zip(*wanted, strict=True)]
    sizes = Sizes(tokenizer.vocab_size, tokenizer.audio_start)
    model = Nano(sizes)
    frames = torch.cat([features for _, _, features in learned])[::4]
    speech_seen = graft.Speech(seen, frames, silence)
    state = graft.graft(teacher, sizes, speech_seen, pieces=pieces, special=tags(tokenizer))
    left = model.load_state_dict(state, strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    heard = [
        Heard(_embedded(model, ours, features), [part @ graft.CENTRE for part in parts], len(theirs))
        for (ours, theirs, features), parts in zip(learned, wanted, strict=True)
    ]
    for number, before, after in refit(model, heard):
        print(f"layer {number}: off by {before:.3f}, now {after:.3f}", file=sys.stderr, flush=True)
    divergence, same = distance(model, teacher, pieces, held_out, silence)
    print(
        f"held-out clips: KL {divergence:.3f} nats a token, {same:.1%} of first choices are Whisper's", file=sys.stderr
    )
    torch.save({"step": 0, "model": trained_state(model)}, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
