"""`python3 -m models.nano.train.revive CHECKPOINT OUT --features DIR… --texts DIR`: a state to go on from.

States of training are too large to keep in the repository, so training may begin with the checkpoint that is shipped
(`train --begin OUT`). What it lacks is the head of the letters, which is learned here while the model stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import Tensor

from models.nano.train.batches import Encoder, batches
from models.nano.train.corpus import load
from models.nano.train.examples import Source
from models.nano.train.export import FILES
from models.nano.train.losses import GUIDED_LAYER
from models.nano.train.muon import HALF
from models.nano.train.texts import sentences
from models.nano.train.train import build, trained_state

HEARD = {"transcribe_base": 1.0}


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """The trained weights in float32, names as in a state: `export.stored` the other way round."""
    stored = load_file(checkpoint / FILES[1])
    found = {}
    for name, values in stored.items():
        if not name.endswith(".scales"):
            scales = stored.get(f"{name}.scales")
            exact = values.astype(np.float32)
            found[name] = torch.from_numpy(exact if scales is None else exact * scales[:, None])
    return found


def main(argv: list[str] | None = None) -> int:
    """Learn the letters and write the state."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("out", type=Path, metavar="OUT", help="file to write")
    parser.add_argument("--features", type=Path, required=True, nargs="+", metavar="DIR")
    parser.add_argument("--texts", type=Path, required=True, metavar="DIR")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--size", type=int, default=4_000, help="ids in a batch, padding included")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    tokenizer, model, teacher = build(options.checkpoint / "qwen.tiktoken")
    left = model.load_state_dict(weights(options.checkpoint), strict=False)
    assert not left.unexpected_keys, left.unexpected_keys
    source = Source(load(options.features), list(sentences(options.texts)), HEARD)
    losses: list[float] = []
    tool = torch.optim.AdamW(teacher.parameters(), lr=1e-2)
    for step, batch in zip(
        range(options.steps), batches(source, Encoder(tokenizer), 0, size=options.size), strict=False
    ):
        tool.param_groups[0]["lr"] = 1e-2 * (1 - step / options.steps)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=HALF):
            middle = model.hidden(model.embed(batch.ids, batch.features, batch.places, batch.ends), GUIDED_LAYER).middle
        loss = teacher.loss(middle, batch)
        tool.zero_grad()
        loss.backward()
        tool.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 10 == 0:
            print(f"step {step + 1}: {sum(losses[-10:]) / 10:.3f} nats a letter", file=sys.stderr, flush=True)
    torch.save({"step": 0, "model": trained_state(model), "teacher": teacher.state_dict()}, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
