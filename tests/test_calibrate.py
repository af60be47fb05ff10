"""Calibration rounds by what the exact model does: nearer than without, resumable, deterministic, told in the manifest."""

import lzma
from pathlib import Path

import numpy as np
import pytest

from decoder.decoder import Decoder
from errors import ModelError
from models.convert.calibrate import Calibration
from models.convert.calibration_set import load_set
from models.convert.checkpoint import Checkpoint
from models.convert.convert import convert
from models.convert.exact import Layer, Positions, rms_norm, run_layer
from models.convert.rotation import RotatedCheckpoint, Rotation
from models.convert.sizes import read_sizes
from models.manifest import load_manifest
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import ONNX_RUNTIME, edit_json, make_tiny

GOLDEN = Path(__file__).parent / "golden"
D, LAYERS = 64, 2
# The real vocabulary; NTK and LogN start beyond 256 positions.
SMALL = Geometry(hidden_size=D, intermediate_size=352, num_attention_heads=2, num_hidden_layers=LAYERS,
                 seq_length=256, n_state=32, n_head=2, n_layer=1)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights with outlier channels, and the real vocabulary."""
    path = tmp_path_factory.mktemp("calibrate") / "checkpoint"
    make_checkpoint(path, SMALL, seed=1, outliers=True)
    (path / "qwen.tiktoken").write_bytes(lzma.decompress((GOLDEN / "qwen.tiktoken.xz").read_bytes()))
    return path


def texts(folder, count=1):
    """Two short files of the user's."""
    found = []
    for number in range(count):
        found.append(folder / f"{number}.txt")
        found[-1].write_text("It was a bright cold day in the hills, and the bells were ringing. " * 40)
    return found


def logits(manifest, ids):
    decoder = Decoder(manifest, ONNX_RUNTIME)
    decoder.prefill(ids[:2])
    return decoder.extend({0: ids[2:]})[0]


def test_the_exact_model_in_numpy_is_the_float_graph(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "fp32", precision="fp32", flavour="fused")
    ids = np.random.default_rng(0).integers(0, 1000, 300).tolist()
    reader = Checkpoint(checkpoint)
    _, sizes = read_sizes(reader.config, checkpoint)
    for tensors in (reader, RotatedCheckpoint(reader, D, 2)):
        read = lambda name, *shape, tensors=tensors: tensors.look_up(name, *shape).read()  # noqa: E731
        found = Calibration(tensors, sizes, None, tmp_path)
        h = read("transformer.wte.weight", sizes.vocab_size, D)[ids]
        for number in range(LAYERS):
            product = lambda part, x, number=number: x @ found.matrix(tensors, number, part).read().T  # noqa: E731
            h = run_layer(h, found.layer(tensors, number), Positions([300], sizes), found.epsilon, product)
        y = rms_norm(h, read("transformer.ln_f.weight", D), found.epsilon)
        rows = y @ read("lm_head.weight", sizes.vocab_size, D).T
        exact = logits_of_prefill(load_manifest(tmp_path / "fp32"), ids)
        np.testing.assert_allclose(rows[-1], exact, atol=2e-3 * np.abs(exact).max())


def logits_of_prefill(manifest, ids):
    return Decoder(manifest, ONNX_RUNTIME).prefill(ids)
