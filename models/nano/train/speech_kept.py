"""`python3 -m models.nano.train.speech_kept ENCODER OUT --recordings DIR…`: with sound channels, near Whisper again.

`sound_channels` frees directions and gives up units, and what Whisper says of speech suffers. Here the layers learn to
give Whisper's output again, but for the channels: these stay as ENCODER has them. OUT has the same form as ENCODER.
Seeded; OUT.state is saved every `SAVED_EVERY` steps, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import recordings, whisper_base
from models.nano.train.features import HALF, RATE, Waveform, load_encoder
from models.nano.train.mels import log_mels
from models.nano.train.model import AudioEncoder
from models.nano.train.recordings import Recording
from models.nano.train.sound_units import CHANNELS

STEPS, WARMUP, DECAY = 150, 10, 0.6  # the rate falls in the last `DECAY` of the steps
LEARNING_RATE = 6e-6  # at 5e-5 the output goes further and further from Whisper's
CLIPS, LONGEST, SHORTEST = 7, 7.0, 0.5  # of a step; seconds of each
SOUNDS = 0.2  # of the clips are no speech
CHANNELS_WEIGHT = 0.1  # of the error in the channels, beside all of the output
TRIES = 1000  # recordings that are drawn for one clip, until one can be read and is long enough
SAVED_EVERY = 50

Draw = Callable[[random.Random], Waveform]
Inside = Callable[[Tensor], Tensor]


def channels(encoder: AudioEncoder, rows: Tensor) -> Inside:
    """What of an output [..., state] lies in the free directions; `rows` are those for the projection [EVEN, state]."""
    gain, shift = encoder.ln_post.weight.detach(), encoder.ln_post.bias.detach()
    free = torch.linalg.svd(rows * gain).Vh[:CHANNELS]  # [CHANNELS, state]
    return lambda heard: ((heard - shift) / gain @ free.T @ free) * gain


def drawing(folders: Sequence[Path]) -> Draw:
    """Clips that may be trained on, at most `LONGEST` seconds; each source of speech by the root of its size."""
    groups: defaultdict[str, list[Recording]] = defaultdict(list)
    for folder in folders:
        for row in recordings.training(recordings.recordings(folder)):
            groups["" if row.get("sound") or row.get("instrument") else row["source"]].append(row)
    if not groups:
        raise SystemExit("no recordings to train on in these folders; each has a meta.jsonl")
    speech = [name for name in groups if name]
    weights = [len(groups[name]) ** 0.5 for name in speech]

    def draw(dice: random.Random) -> Waveform:
        for _ in range(TRIES):
            is_sound = "" in groups and dice.random() < SOUNDS
            name = "" if is_sound or not speech else dice.choices(speech, weights)[0]
            try:
                sound = load_waveform(dice.choice(groups[name])["audio"])
            except AudioError:  # `features` names what cannot be read
                continue
            if len(sound) >= SHORTEST * RATE:
                first = dice.randint(0, max(0, len(sound) - round(LONGEST * RATE)))
                cut: NDArray[np.float32] = sound[first : first + round(LONGEST * RATE)]
                return cut
        raise SystemExit(f"{', '.join(map(str, folders))}: no recording can be read and lasts half a second")

    return draw


def losses(
    learner: AudioEncoder, given: AudioEncoder, whisper: AudioEncoder, inside: Inside, sounds: Sequence[Waveform]
) -> tuple[Tensor, Tensor]:
    """How far the output is from what is wanted, of its variance; and the same of the channels alone."""
    mel, frames = log_mels(sounds)
    with torch.autocast("cpu", torch.bfloat16, enabled=HALF):
        with torch.no_grad():
            before, wanted = given.features(mel, frames).float(), whisper.features(mel, frames).float()
        heard = learner.features(mel, frames).float()
    keep = torch.arange(heard.shape[1]) < (frames // 2)[:, None]
    told = inside(before)
    wanted = (wanted - inside(wanted) + told)[keep]
    far = (heard[keep] - wanted).square().mean() / wanted.var(0).mean()
    return far, (inside(heard) - told)[keep].square().mean() / told[keep].var(0).mean()


def main(argv: list[str] | None = None) -> int:
    """Learn, and write the encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("encoder", type=Path, metavar="ENCODER", help="that sound_channels made")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--recordings", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--whisper", type=Path, required=True, metavar="FILE", help="model.bin")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rate", type=float, default=LEARNING_RATE)
    options = parser.parse_args(argv)
    draw = drawing(options.recordings)
    learner, given, whisper = (load_encoder(path) for path in (options.encoder, options.encoder, options.whisper))
    rows = {name: value for name, value in load_file(options.encoder).items() if name in whisper_base.ROWS}
    inside = channels(given, rows[whisper_base.ROWS[0]])
    for name, value in learner.named_parameters():
        value.requires_grad = name.startswith("blocks.")
    learned = [value for value in learner.parameters() if value.requires_grad]
    tool = torch.optim.Adam(learned, lr=options.rate, betas=(0.9, 0.98))
    saved, first = options.out.with_suffix(".state"), 0
    if saved.exists():
        state = torch.load(saved, weights_only=True)
        first = state["step"]
        learner.load_state_dict(state["encoder"])
        tool.load_state_dict(state["tool"])
    for step in range(first, options.steps):
        dice = random.Random(f"speech_kept/{step}")  # noqa: S311 - reproducible data, not secrets
        far, moved = losses(learner, given, whisper, inside, [draw(dice) for _ in range(CLIPS)])
        share = min(1.0, (step + 1) / WARMUP, (options.steps - step) / (DECAY * options.steps))
        for group in tool.param_groups:
            group["lr"] = options.rate * share
        tool.zero_grad()
        (far + CHANNELS_WEIGHT * moved).backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        tool.step()
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == options.steps:
            print(f"step={step + 1} far={far.item():.4f} channels={moved.item():.4f}", file=sys.stderr, flush=True)
            state = {"step": step + 1, "encoder": learner.state_dict(), "tool": tool.state_dict()}
            torch.save(state, saved.with_suffix(".part"))
            saved.with_suffix(".part").replace(saved)
    names = whisper_base.encoder_tensors(options.encoder).keys()
    kept = {name: value.detach().contiguous() for name, value in learner.state_dict().items() if name in names}
    save_file(kept | rows, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
