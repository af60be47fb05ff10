"""The rounding that our weights are compared with, on blocks that can be worked out by hand."""

import dataclasses
import json

import numpy as np
import pytest

from models.convert.checkpoint import Checkpoint
from tests.benchmarks import precision, weights
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.benchmarks.random_weights import from_bfloat16, to_bfloat16
from tests.benchmarks.weights import BLOCKS, OUTLIERS, errors, measure, ours, q4_0, write_q4_0


def test_q4_0_puts_the_largest_weight_on_its_last_level():
    row = np.zeros((1, 64), np.float32)
    row[0, :4] = [4.0, 1.0, -0.6, 0.2]  # steps of -0.5: levels -8, -2, 1 and 0
    np.testing.assert_array_equal(q4_0(row)[0, :4], [4.0, 1.0, -0.5, 0.0])
    np.testing.assert_array_equal(q4_0(row)[0, 4:], 0)


def test_q4_0_has_a_scale_for_every_32_weights_of_a_row():
    rows = np.ones((2, 64), np.float32)
    rows[1, :32] = 1000.0
    np.testing.assert_array_equal(q4_0(rows), rows)
    with pytest.raises(AssertionError):
        q4_0(np.ones((2, 48), np.float32))


def test_errors_grow_with_the_block_and_are_those_of_the_rounding(tmp_path):
    geometry = dataclasses.replace(
        OUTLIERS, hidden_size=128, intermediate_size=512, num_attention_heads=2, num_hidden_layers=1
    )
    make_checkpoint(tmp_path / "made", geometry, seed=1)
    found = errors(tmp_path / "made")
    assert [found[f"blocks of {block}"]["all"] for block in BLOCKS] == sorted(
        found[f"blocks of {block}"]["all"] for block in BLOCKS
    )
    assert all(one["all"] <= one["worst"] < 0.12 for one in found.values())
    assert found["int8"]["all"] < found["int4"]["all"] / 4
    assert found["int4"]["all"] < found["Q4_0"]["all"]  # attention, a third of the weights, has 8 bits
    matrix = np.random.default_rng(0).standard_normal((64, 1024)).astype(np.float32)
    for name, rounded in (("Q4_0", q4_0(matrix)), ("blocks of 64", ours(matrix, 64))):
        own = float(np.sqrt(np.mean((rounded - matrix) ** 2) / np.mean(matrix**2)))
        assert abs(found[name]["all"] - own) < 0.003  # random weights, both of them
    (row,) = measure([tmp_path / "made"])
    assert row["errors"] == found


def test_a_matrix_of_zeros_has_no_error(monkeypatch, tmp_path):
    zeros, ones = np.zeros((2, 32), np.float32), np.ones((2, 32), np.float32)
    names = (*weights.FORMATS, *weights.USED)
    found = [(zeros, dict.fromkeys(names, zeros)), (ones, dict.fromkeys(names, 1.5 * ones))]
    monkeypatch.setattr(weights, "matrices", lambda _: found)
    assert [(errors(tmp_path)[name]["all"], errors(tmp_path)[name]["worst"]) for name in names] == [(0.5, 0.5)] * len(
        names
    )


def test_a_checkpoint_in_q4_0_has_rounded_matrices_and_all_else_as_it_was(tmp_path):
    geometry = dataclasses.replace(OUTLIERS, hidden_size=64, intermediate_size=256, num_attention_heads=2,
                                   num_hidden_layers=2)  # fmt: skip
    make_checkpoint(tmp_path / "made", geometry, seed=1)
    write_q4_0(tmp_path / "made", tmp_path / "rounded")
    given, found = Checkpoint(tmp_path / "made"), Checkpoint(tmp_path / "rounded")
    for name, shape in {
        "transformer.h.1.mlp.c_proj.weight": (64, 128),
        "transformer.h.0.attn.c_attn.weight": (192, 64),
    }.items():
        rounded = from_bfloat16(to_bfloat16(q4_0(given.take(name, *shape).read())))
        np.testing.assert_array_equal(found.take(name, *shape).read(), rounded)
    for name, shape in {"lm_head.weight": (320, 64), "transformer.h.1.ln_1.weight": (64,)}.items():
        np.testing.assert_array_equal(found.take(name, *shape).read(), given.take(name, *shape).read())


@pytest.mark.slow
def test_logits_err_less_in_int4_than_with_q4_0s_weights(tmp_path, capsys):
    """Attention has 8 bits in int4, and attention is what gets the logits."""
    geometry = dataclasses.replace(OUTLIERS, hidden_size=256, intermediate_size=1408, num_attention_heads=2,
                                   num_hidden_layers=2)  # fmt: skip
    make_checkpoint(tmp_path / "made", geometry, seed=1)
    assert precision.main([str(tmp_path / "made"), "--steps", "8", "--precision", "int4", "Q4_0"]) == 0
    rows = {row["precision"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    assert rows["fp32"]["logits"] == 0
    assert 0 < rows["int4"]["logits"] < rows["Q4_0"]["logits"] < 0.5
    assert rows["Q4_0"]["encoder"] == 0
