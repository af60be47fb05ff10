"""A cache in int8 as the benchmark makes it: the same graphs over the same weights, near the answers of float32."""

import json
import shutil

import numpy as np
import pytest

from decoder.decoder import Decoder
from models.convert.convert import convert
from models.manifest import load_manifest
from models.nano.embedded import CHECKPOINT
from tests.benchmarks import cache
from tests.tiny_models import forced, make_prompt

pytestmark = pytest.mark.slow


def test_int8_keys_and_values_give_nearly_the_same_logits(tmp_path):
    for name in ("model", "eight"):
        (tmp_path / name).mkdir()
    convert(CHECKPOINT, tmp_path / "model", precision="fp32", flavour="fused")
    manifest = load_manifest(tmp_path / "model")
    scales = cache.calibrate(manifest, cache.CALIBRATION, 2.0)
    assert scales.keys() == {consumed for graph in manifest.decoder for _, consumed in graph.state.names}
    eight = cache.with_int8_cache(manifest, scales, tmp_path / "eight")
    assert {graph.state.dtype for graph in manifest.decoder} == {"float32"}
    assert {graph.state.dtype for graph in eight.decoder} == {"int8"}
    ids, new_ids = make_prompt(3, 20), make_prompt(4, 6)
    exact, found = (forced(Decoder(one), ids, (), new_ids) for one in (manifest, eight))
    error = np.sqrt(np.mean((found - exact) ** 2) / np.var(exact))
    assert 0 < error < 0.1


def test_the_benchmark_runs_from_end_to_end(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache, "CONTEXTS", (16,))
    shutil.copytree(CHECKPOINT, tmp_path / "checkpoint")
    assert cache.main([str(tmp_path / "checkpoint"), "--rounds", "1", "--steps", "2", "--precision", "int4"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"][0]
    assert row["logits"] > 0
    assert set(row["times_as_fast"]) == {"prefill 16", "step after 16"}
