"""Calibration rounds by what the exact model does: nearer than without, resumable, deterministic, told in the manifest."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from decoder.decoder import Decoder
from errors import ModelError
from models.convert import calibrate
from models.convert.__main__ import main
from models.convert.calibrate import Calibration
from models.convert.calibration_set import load_set
from models.convert.checkpoint import Checkpoint
from models.convert.convert import convert
from models.convert.exact import Positions, rms_norm, run_layer
from models.convert.rotation import RotatedCheckpoint
from models.convert.sizes import read_sizes
from models.manifest import load_manifest
from models.nano.embedded import CHECKPOINT
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import ONNX_RUNTIME, make_tiny

D, LAYERS = 64, 2
# NTK and LogN start beyond 600 positions; blocks of 256 do not divide the MLP's width.
SMALL = Geometry(hidden_size=D, intermediate_size=2 * 272, num_attention_heads=2, num_hidden_layers=LAYERS,
                 vocab_size=5022, audio_start_id=5020, seq_length=600, n_state=32, n_head=2, n_layer=1)  # fmt: skip
TEXT = (
    "The boats came back in the evening with {} baskets of fish. My brother {} said that it would rain, {} went home. "
    "Who is ringing the bell at this hour, and why did nobody open the door for the {} men from the village? "
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights and a small vocabulary."""
    path = tmp_path_factory.mktemp("calibrate") / "checkpoint"
    make_checkpoint(path, SMALL, seed=1)
    shutil.copyfile(CHECKPOINT / "qwen.tiktoken", path / "qwen.tiktoken")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text of the user's, long enough to hold some of it out."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(TEXT.format(*range(i, i + 4)) for i in range(0, 80, 4)))
    return path


@pytest.fixture(scope="module")
def model(checkpoint, text, tmp_path_factory):
    """Makes and remembers the models of the checkpoint: (precision, whether calibrated) -> manifest."""
    made, folder = {}, tmp_path_factory.mktemp("models")

    def make(precision, *, calibrated):
        key = f"{precision}-{calibrated}"
        if key not in made:
            files = [text] if calibrated else None
            convert(checkpoint, folder / key, precision=precision, flavour="fused", calibration=files)
            made[key] = load_manifest(folder / key)
        return made[key]

    return make


def examples(checkpoint, text):
    return load_set(checkpoint / "qwen.tiktoken", chat=True, longest=2048, files=[text])


def log_p(manifest, ids):
    """Log-probabilities behind each id."""
    decoder = Decoder(manifest, ONNX_RUNTIME)
    logits = np.concatenate([decoder.prefill(ids[:1])[None], decoder.extend({0: ids[1:]})[0]]).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def divergence(exact, found, ids):
    p, q = (log_p(one, ids) for one in (exact, found))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


@pytest.mark.parametrize("rotated", [False, True])
def test_the_exact_model_in_numpy_is_the_float_graph(checkpoint, model, tmp_path, rotated):
    ids = np.random.default_rng(0).integers(0, 5000, 700).tolist()
    tensors = Checkpoint(checkpoint)
    _, sizes = read_sizes(tensors.config, checkpoint)
    tensors = RotatedCheckpoint(tensors, D, 2) if rotated else tensors
    found = Calibration(tensors, sizes, None, tmp_path)
    h = tensors.look_up("transformer.wte.weight", 5022, D).read()[ids]

    def product(number, part, x):
        return x @ found.matrix(tensors, number, part).read().T

    for number in range(LAYERS):
        h = run_layer(h, found.layer(tensors, number), Positions([700], sizes), found.epsilon, partial(product, number))
    y = rms_norm(h, tensors.look_up("transformer.ln_f.weight", D).read(), found.epsilon)
    logits = y[-1] @ tensors.look_up("lm_head.weight", 5022, D).read().T
    exact = Decoder(model("fp32", calibrated=False), ONNX_RUNTIME).prefill(ids)
    np.testing.assert_allclose(logits, exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.parametrize("precision", ["int8", "int4-fine", "int4"])
def test_the_loss_that_is_told_is_that_of_the_graph(checkpoint, model, text, precision):
    """Held-out text, run by ONNX Runtime."""
    manifest, exact = model(precision, calibrated=True), model("fp32", calibrated=False)
    held_out = examples(checkpoint, text).held_out
    found = np.average([divergence(exact, manifest, one.ids) for one in held_out], weights=[len(one.ids) for one in held_out])
    assert manifest.loss == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize("precision", ["int8", "int4-fine"])
def test_a_calibrated_model_is_nearer_on_text_that_it_did_not_see(checkpoint, model, text, precision):
    ids = examples(checkpoint, text).held_out[-1].ids
    exact = model("fp32", calibrated=False)
    losses = [divergence(exact, model(precision, calibrated=one), ids) for one in (True, False)]
    assert losses[0] < losses[1]
