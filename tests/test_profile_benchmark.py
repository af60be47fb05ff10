"""What the profile is summed from: the last runs only, and the weights of the layers without the output layer's."""

import json
from collections import Counter

import onnxruntime as ort
import pytest

from tests.benchmarks import profile
from tests.tiny_models import TINY

pytestmark = pytest.mark.slow


def event(ts, dur, operator=None):
    if operator is None:
        return {"name": "model_run", "cat": "Session", "ts": ts, "dur": dur}
    return {"name": f"{operator}_1_kernel_time", "cat": "Node", "ts": ts, "dur": dur, "args": {"op_name": operator}}


def test_runs_that_warm_up_are_left_out():
    events = [event(0, 9), event(1, 8, "MatMul"), event(10, 9), event(11, 4, "MatMul"), event(20, 9)]
    events += [event(21, 2, "MatMul"), event(24, 1, "Mul"), {"name": "load", "cat": "Session", "ts": 1, "dur": 1}]
    assert profile.seconds(events, runs=2) == Counter({"MatMul": 3e-6, "Mul": 0.5e-6})
    assert profile.seconds(events, runs=1) == Counter({"MatMul": 2e-6, "Mul": 1e-6})


def test_the_products_of_a_token_are_the_layers_weights(tiny):
    d, width = TINY.hidden_size, TINY.intermediate_size // 2
    for precision in ("int4", "int8"):
        manifest = tiny(precision)
        assert profile.products(manifest, manifest.decoder) == TINY.num_hidden_layers * (4 * d * d + 3 * d * width)


def test_a_small_model_is_profiled_from_end_to_end(tiny, capsys):
    options = ort.SessionOptions
    assert profile.main(["--model", str(tiny("int4").directory), "--threads", "1"]) == 0
    assert ort.SessionOptions is options  # as it was
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["phase"] for row in found["rows"]] == [profile.CLIP, *profile.PHASES]
    for row in found["rows"]:
        assert 0 < row["products"] < 1
        assert sum(row["shares"].values()) <= 1.001
        assert row["seconds"] > 0
        assert row["gigaoperations_per_s"] > 0
