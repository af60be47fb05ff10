"""The comparison of precisions on trained weights, on a small random checkpoint: every row is there and means what it says."""

import json
import shutil

import numpy as np
import pytest

from models.nano.embedded import CHECKPOINT
from tests.benchmarks import trained
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint

SMALL = Geometry(hidden_size=64, intermediate_size=2 * 288, num_attention_heads=2, num_hidden_layers=2, vocab_size=7022,
                 audio_start_id=7020, n_state=32, n_head=2, n_layer=1)  # fmt: skip


def test_q8_0_errs_by_half_a_level_at_most():
    rows = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    step = np.abs(rows.reshape(-1, 32)).max(axis=1) / 127
    assert (
        np.abs(trained.q8_0(rows) - rows).reshape(-1, 32) <= 0.51 * step[:, None] + 1e-3 * np.abs(rows).reshape(-1, 32)
    ).all()


def test_int4_reads_no_more_for_a_token_than_q4_0_and_int4_fine_what_int4_did():
    assert trained.token_bytes("int4") <= 4.2e9
    assert trained.token_bytes("int4") < trained.token_bytes("Q4_0")
    assert trained.token_bytes("int4-fine") == trained.token_bytes("int4, uncalibrated")


@pytest.mark.slow
def test_the_table_has_a_row_for_each_model(tmp_path, capsys):
    make_checkpoint(tmp_path / "checkpoint", SMALL, seed=1)
    shutil.copyfile(CHECKPOINT / "qwen.tiktoken", tmp_path / "checkpoint" / "qwen.tiktoken")
    names = ["int8", "int4, uncalibrated", "Q4_0"]
    command = [str(tmp_path / "checkpoint"), "--work", str(tmp_path / "work"), "--tokens", "96", "--models", *names]
    assert trained.main(command) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = {row["model"]: row for row in found["rows"]}
    assert [*rows] == ["fp32", *names]
    assert rows["fp32"]["kl"] == 0
    assert rows["Q4_0"]["encoder"] == 0
    assert all(0 < rows[name]["kl"] < 1 for name in names)
    assert 0 < rows["int8"]["encoder"] < 0.1  # turned back before it is compared
    assert rows["int8"]["told"] > 0
