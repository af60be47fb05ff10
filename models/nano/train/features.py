"""`python3 -m models.nano.train.features OUT --recordings DIR`: the frozen encoder's features of clips, once for all.

A shard is NAME.npy, float16 [tokens, 512], what the projection takes of all its clips one behind the other, and
NAME.jsonl, a line a clip: its labels with `first` and `tokens`. Variant 0 is the recording as it is, 9 is heard by
telephone, the others at another speed, in rooms, noise, bands and codecs. Whole shards are skipped, so a run may be cut
off anywhere.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from errors import AudioError
from models.nano.train import acoustics, recordings, whisper_base
from models.nano.train.mels import log_mels
from models.nano.train.model import AudioEncoder, Sizes

Waveform = NDArray[np.float32]
Labelled = tuple[dict[str, Any], Waveform]  # labels, samples at 16 kHz

# where the processor has it, bfloat16 is more than twice as quick; there is no public name for it
HALF = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
RATE = 16_000
SHARD = 500  # clips
BATCH_FRAMES = 12_000  # of the encoder, with padding
SPEEDS = (0.87, 1.15)
BY_TELEPHONE = 9  # the variant
# beside the shards' folder: the first that is there
WEIGHTS = (Path("encoder.safetensors"), Path("whisper-base.bin"))


def load_encoder(weights: Path) -> AudioEncoder:
    """Whisper base, which has no dropout to turn off; its projection is nobody's."""
    encoder = AudioEncoder(Sizes(vocab_size=1, audio_start=0))
    tensors = {
        name: torch.tensor(value.astype(np.float32)) for name, value in whisper_base.encoder_tensors(weights).items()
    }
    left = encoder.load_state_dict(tensors, strict=False)
    assert not left.unexpected_keys, left
    return encoder


@torch.inference_mode()
def encode(encoder: AudioEncoder, waveforms: Sequence[Waveform], *, half: bool = HALF) -> list[NDArray[np.float16]]:
    """Features [T, state] of each clip, in batches of like lengths."""
    order = sorted(range(len(waveforms)), key=lambda one: len(waveforms[one]))
    found: list[NDArray[np.float16]] = [np.zeros((0, 0), np.float16)] * len(waveforms)
    for group in groups(order, [len(waveform) // 320 for waveform in waveforms]):
        mel, frames = log_mels([waveforms[one] for one in group])
        device = encoder.conv1.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            features = encoder.features(mel.to(device), frames.to(device)).cpu()
        for row, one in enumerate(group):
            found[one] = features[row, : int(frames[row]) // 2].to(torch.float16).numpy()
    return found


def groups(order: list[int], frames: list[int]) -> Iterator[list[int]]:
    """Batches of clips, in an order of rising `frames`: at most BATCH_FRAMES with padding."""
    group: list[int] = []
    for one in order:
        if group and (len(group) + 1) * frames[one] > BATCH_FRAMES:
            yield group
            group = []
        group.append(one)
    yield group


def write_shard(path: Path, clips: Iterable[Labelled], encoder: AudioEncoder) -> float:
    """One shard, unless it is there; gives the seconds of sound in it."""
    if path.with_suffix(".jsonl").exists():
        return 0.0
    labels, waveforms = zip(*clips, strict=True)
    features = encode(encoder, waveforms)
    first, lines = 0, []
    for row, one in zip(labels, features, strict=True):
        lines.append(json.dumps(row | {"first": first, "tokens": len(one)}, ensure_ascii=False))
        first += len(one)
    with path.with_suffix(".part").open("wb") as file:
        np.save(file, np.concatenate(features))
    path.with_suffix(".part").replace(path.with_suffix(".npy"))
    path.with_suffix(".jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return sum(len(waveform) for waveform in waveforms) / RATE


def varied(
    waveform: Waveform, rng: random.Random, *, speed: bool = True, strength: float = 1.0
) -> tuple[Waveform, float]:
    """The sound as heard elsewhere, and how many times as fast it is now."""
    factor = 1.0
    if speed and rng.random() < 0.7:
        factor = rng.uniform(*SPEEDS)
        waveform = acoustics.change_speed(waveform, factor)
    return acoustics.degrade(waveform, rng, strength=strength), factor


def real_clips(rows: Sequence[recordings.Recording], variant: int, seed: int) -> Iterator[Labelled]:
    """Recordings as they are (variant 0), by telephone (9) or varied; what cannot be read is left out and named."""
    for row in rows:
        rng = random.Random(f"{seed}/{variant}/{row['id']}")  # noqa: S311 - reproducible data, not secrets
        try:
            waveform = load_waveform(row["audio"])[: 30 * RATE]
        except AudioError as error:
            print(error, file=sys.stderr)
            continue
        if len(waveform) < RATE // 10:
            continue
        labels = {name: value for name, value in row.items() if name != "audio" and value is not None}
        if variant == BY_TELEPHONE:
            waveform = acoustics.telephone(waveform, rng)
        elif variant:
            waveform, factor = varied(waveform, rng, speed="note" not in row)
            labels["speed"] = round(factor, 4)
        yield labels | {"variant": variant}, waveform


def write_all(out: Path, jobs: Sequence[tuple[str, Callable[[], Iterable[Labelled]]]], share: tuple[int, int]) -> None:
    """The shards of this process' share (i, n) of the jobs: name and what makes the clips."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    found = next((out.parent / name for name in WEIGHTS if (out.parent / name).exists()), out.parent / WEIGHTS[-1])
    encoder = load_encoder(whisper_base.fetch(found)).to("cuda" if torch.cuda.is_available() else "cpu")
    heard, started = 0.0, time.monotonic()
    for number, (name, clips) in enumerate(jobs):
        if number % share[1] == share[0]:
            heard += write_shard(out / name, clips(), encoder)
            spent = time.monotonic() - started
            print(
                f"{name} {number + 1}/{len(jobs)}: {heard / 3600:.2f} h in {spent:.0f} s", file=sys.stderr, flush=True
            )


def main(argv: list[str] | None = None) -> int:
    """Features of the real recordings: those for training in variants, those for tests as they are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kathleen", type=Path, metavar="DIR", help="FLAC and TXT files of that data set")
    parser.add_argument("--variants", type=int, nargs="+", default=[0], metavar="N")
    parser.add_argument("--sources", nargs="+", metavar="NAME", help="of the recordings; all without this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", default="0/1", metavar="I/N", help="this process does every N-th shard")
    options = parser.parse_args(argv)
    rows = recordings.recordings(options.recordings, options.kathleen)
    kept = [row for row in recordings.training(rows) if not options.sources or row["source"] in options.sources]
    random.Random(options.seed).shuffle(kept)  # noqa: S311
    jobs: list[tuple[str, Callable[[], Iterable[Labelled]]]] = []
    for variant in options.variants:
        for number, group in enumerate(kept[first : first + SHARD] for first in range(0, len(kept), SHARD)):
            clips = lambda group=group, variant=variant: real_clips(group, variant, options.seed)  # noqa: E731
            jobs.append((f"real-{variant}-{number:03}", clips))
    share = tuple(int(part) for part in options.share.split("/"))
    write_all(options.out, jobs, (share[0], share[1]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
