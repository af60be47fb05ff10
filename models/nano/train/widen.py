"""`python3 -m models.nano.train.widen STATE OUT --vocabulary OLD --to NEW --whisper FILE`: a state with more pieces.

Pieces that both vocabularies have keep their rows. A new one gets Whisper's own row, changed as training has changed
the rows of the others (least squares), and of their mean length.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from models.nano.train import graft, whisper_base
from models.nano.train.train import begin, build, trained_state
from models.nano.train.whisper_decoder import STATE, WhisperDecoder
from models.nano.train.whisper_pieces import whisper_ids
from tokenizer.tokenizer import Tokenizer

ROWS = "transformer.wte.weight"
RIDGE = 0.1  # of the table's mean energy: how much the change of a row is held back


def widened(rows: Tensor, old: Tokenizer, new: Tokenizer, table: Tensor) -> Tensor:
    """Embeddings [ids, d_model] of the new vocabulary out of those of the old one; `table` has Whisper's by its ids."""
    content = table @ graft.CENTRE
    known = {old.token_bytes(token): token for token in range(old.endoftext)}
    before, of_old = content[whisper_ids(old)], rows[: old.endoftext]
    energy = before.square().sum() / STATE * RIDGE
    change = torch.linalg.solve(before.T @ before + energy * torch.eye(STATE), before.T @ (of_old[:, :STATE] - before))
    length = of_old.norm(dim=1).mean()
    found = of_old.mean(0).repeat(new.vocab_size, 1)
    fresh = content[whisper_ids(new)]
    found[: new.endoftext, :STATE] = fresh + fresh @ change
    spare = length**2 - found.square().sum(1) + found[:, graft.EVEN].square().sum(1)
    found[:, graft.EVEN] = (spare.clamp_min(0) / 32).sqrt()[:, None]
    for token in range(new.endoftext):
        if (same := known.get(new.token_bytes(token))) is not None:
            found[token] = rows[same]
    found[new.endoftext :] = rows[old.endoftext :]
    return found


def main(argv: list[str] | None = None) -> int:
    """Widen one state."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("state", type=Path, metavar="STATE")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE", help="of the state")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="made by whisper_pieces")
    parser.add_argument("--whisper", type=Path, required=True, metavar="FILE", help="model.bin")
    options = parser.parse_args(argv)
    old, model = build(options.vocabulary)
    begin(options.state, model)
    state = trained_state(model)
    table = WhisperDecoder(whisper_base.fetch(options.whisper)).embeddings
    rows = widened(state[ROWS], old, Tokenizer(options.to), table)
    torch.save({"step": 0, "model": {**state, ROWS: rows, "lm_head.weight": rows}}, options.out)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
