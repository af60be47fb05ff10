"""The comparison of precisions on trained weights, on a small random checkpoint: every row is there and means what it says."""

import json
import shutil
from collections import Counter

import numpy as np
import onnx
import pytest

from models.convert.checkpoint import Checkpoint
from models.convert.convert import convert
from models.nano.embedded import CHECKPOINT
from tests.benchmarks import peer_models, trained
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.nearest import convert_to_nearest
from tests.benchmarks.random_checkpoint import make_checkpoint
from tokenizer.tokenizer import Tokenizer

TOKENIZER = Tokenizer(CHECKPOINT / "qwen.tiktoken")
SMALL = Geometry(hidden_size=64, intermediate_size=2 * 288, num_attention_heads=2, num_hidden_layers=2,
                 vocab_size=TOKENIZER.vocab_size, audio_start_id=TOKENIZER.audio_start, n_state=32, n_head=2, n_layer=1)  # fmt: skip


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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    make_checkpoint(folder / "small", SMALL, seed=1)
    shutil.copyfile(CHECKPOINT / "qwen.tiktoken", folder / "small" / "qwen.tiktoken")
    return folder / "small"


@pytest.mark.slow
def test_nearest_has_the_layout_of_a_calibrated_model(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "calibrated", precision="int4", flavour="fused", calibration=[])
    convert_to_nearest(checkpoint, tmp_path / "nearest", "int4")
    calibrated, nearest = (onnx.load(tmp_path / name / "decoder.onnx").graph.node for name in ("calibrated", "nearest"))
    assert Counter(node.op_type for node in nearest) == Counter(node.op_type for node in calibrated)
    bits = [
        Counter(one.i for node in graph for one in node.attribute if one.name == "bits")
        for graph in (nearest, calibrated)
    ]
    assert bits[0] == bits[1]


def test_a_gguf_has_the_decoder_of_its_checkpoint(checkpoint, tmp_path):
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    peer_models.make_trained_gguf(tmp_path / "x.gguf", Checkpoint(checkpoint))
    found = {one.name: one for one in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert len(found) == 3 + SMALL.num_hidden_layers * 8
    ours = Checkpoint(checkpoint)
    for name, kind, theirs in (
        ("mlp.w2", "Q4_0", "ffn_gate"),
        ("mlp.w1", "Q4_0", "ffn_up"),
        ("attn.c_attn", "Q4_0", "attn_qkv"),
    ):
        tensor = found[f"blk.1.{theirs}.weight"]
        rows = ours.look_up(f"transformer.h.1.{name}.weight", *reversed([int(n) for n in tensor.shape])).read()
        assert tensor.tensor_type.name == kind
        restored = gguf.dequantize(tensor.data, tensor.tensor_type)
        assert np.allclose(restored, trained.q4_0(rows), atol=1e-6)
    head = found["output.weight"]
    rows = ours.look_up("lm_head.weight", SMALL.vocab_size, SMALL.hidden_size).read()
    alike = np.isclose(gguf.dequantize(head.data, head.tensor_type), trained.q8_0(rows), atol=1e-6)
    assert alike.mean() > 0.99  # bfloat16 often lies half between two levels


@pytest.mark.slow
def test_the_table_has_a_row_for_each_model(checkpoint, tmp_path, capsys):
    names = ["int8", "int4, uncalibrated", "Q4_0"]
    command = [str(checkpoint), "--work", str(tmp_path / "work"), "--tokens", "96", "--models", *names]
    assert trained.main(command) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = {row["model"]: row for row in found["rows"]}
    assert [*rows] == ["fp32", *names]
    assert rows["fp32"]["kl"] == 0
    assert rows["Q4_0"]["encoder"] == 0
    assert all(0 < rows[name]["kl"] < 1 for name in names)
    assert 0 < rows["int8"]["encoder"] < 0.1  # turned back before it is compared
    assert rows["int8"]["told"] > 0
