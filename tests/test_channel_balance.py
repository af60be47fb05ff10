"""The even checkpoint is the same function, and its channels are even; products that need it are near and exact."""

import numpy as np
import onnxruntime as ort
import pytest

from decoder.decoder import Decoder
from errors import ModelError
from models.convert.channel_balance import EvenCheckpoint
from models.convert.checkpoint import Checkpoint, Tensor
from models.convert.convert import convert
from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.linear import TOKENS8, Precision, linear
from models.manifest import load_manifest
from models.runtime.onnxruntime import session_settings
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import ONNX_RUNTIME, forced, make_prompt

RANDOM = np.random.default_rng(0)
D, WIDTH, LAYERS = 64, 176, 3
SMALL = Geometry(hidden_size=D, intermediate_size=2 * WIDTH, num_attention_heads=2, num_hidden_layers=LAYERS,
                 vocab_size=320, seq_length=256, audio_start_id=300, n_state=32, n_head=2, n_layer=1, n_mels=16,
                 n_ctx=40)  # fmt: skip
ALL = frozenset({"attention", "mlp", "head"})


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def outliers(tmp_path_factory):
    """A checkpoint with planted outlier channels."""
    path = tmp_path_factory.mktemp("even") / "outliers"
    make_checkpoint(path, SMALL, seed=1, outliers=True)
    return path


def even(path, parts=ALL):
    return EvenCheckpoint(Checkpoint(path), (D, WIDTH, LAYERS), frozenset(parts))


def read(checkpoint, name, *shape):
    return checkpoint.take(f"transformer.h.1.{name}", *shape).read()


# --- the checkpoint


def test_the_products_of_a_layer_stay_as_they_are(outliers):
    found, given = even(outliers), Checkpoint(outliers)
    norms = [read(one, "ln_1.weight", D) for one in (found, given)]
    attention = [read(one, "attn.c_attn.weight", 3 * D, D) for one in (found, given)]
    heads = [weight * gain for weight, gain in zip(attention, norms, strict=True)]
    np.testing.assert_allclose(heads[0][: 2 * D], heads[1][: 2 * D], rtol=1e-5)
    biases = [read(one, "attn.c_attn.bias", 3 * D) for one in (found, given)]
    np.testing.assert_array_equal(biases[0][: 2 * D], biases[1][: 2 * D])
    out = [read(one, "attn.c_proj.weight", D, D) for one in (found, given)]
    np.testing.assert_allclose(out[0] @ heads[0][2 * D :], out[1] @ heads[1][2 * D :], rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(out[0] @ biases[0][2 * D :], out[1] @ biases[1][2 * D :], rtol=2e-3, atol=1e-4)
    norms = [read(one, "ln_2.weight", D) for one in (found, given)]
    up, gate = (
        [read(one, f"mlp.{part}.weight", WIDTH, D) * gain for one, gain in zip((found, given), norms, strict=True)]
        for part in ("w1", "w2")
    )
    np.testing.assert_allclose(gate[0], gate[1], rtol=1e-5)
    down = [read(one, "mlp.c_proj.weight", D, WIDTH) for one in (found, given)]
    np.testing.assert_allclose(down[0] @ up[0], down[1] @ up[1], rtol=2e-3, atol=1e-3)


def test_the_output_layer_stays_as_it_is(outliers):
    logits = [
        one.take("lm_head.weight", 320, D).read() * one.take("transformer.ln_f.weight", D).read()
        for one in (even(outliers), Checkpoint(outliers))
    ]
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5)


def test_some_rows_of_a_tensor_have_the_factors_that_they_have_in_it(outliers):
    whole = even(outliers).take("transformer.h.0.attn.c_attn.weight", 3 * D, D)
    np.testing.assert_array_equal(whole.cut(D, 3 * D - 5).read(), whole.read()[D : 3 * D - 5])


@pytest.mark.parametrize("part", sorted(ALL))
def test_parts_that_are_not_asked_for_are_not_touched(outliers, part):
    found, given = even(outliers, {part}), Checkpoint(outliers)
    touched = set()
    for name, shape in {
        "transformer.h.0.ln_1.weight": (D,), "transformer.h.0.attn.c_attn.weight": (3 * D, D),
        "transformer.h.0.attn.c_proj.weight": (D, D), "transformer.h.0.ln_2.weight": (D,),
        "transformer.h.0.mlp.w1.weight": (WIDTH, D), "transformer.h.0.mlp.w2.weight": (WIDTH, D),
        "transformer.h.0.mlp.c_proj.weight": (D, WIDTH), "transformer.ln_f.weight": (D,),
        "lm_head.weight": (320, D), "transformer.wte.weight": (320, D),
    }.items():  # fmt: skip
        if not np.array_equal(found.take(name, *shape).read(), given.take(name, *shape).read()):
            touched.add(name.removeprefix("transformer.h.0.").removesuffix(".weight"))
    assert (
        touched
        == {
            "attention": {"ln_1", "attn.c_attn", "attn.c_proj"},
            "mlp": {"ln_2", "mlp.w1", "mlp.w2", "mlp.c_proj"},
            "head": {"transformer.ln_f", "lm_head"},
        }[part]
    )


def test_planted_channels_come_nearer_to_the_others(outliers):
    found, given = even(outliers), Checkpoint(outliers)
    for name in ("ln_1.weight", "ln_2.weight"):
        spread = [
            np.abs(gain).max() / np.median(np.abs(gain)) for gain in (read(one, name, D) for one in (found, given))
        ]
        assert spread[0] < spread[1] / 3


def test_a_tensor_of_another_shape_is_named_before_anything_is_worked_out(outliers):
    checkpoint = even(outliers)
    with pytest.raises(ModelError, match=r"ln_f.weight has shape \[64\], expected \[65\]"):
        checkpoint.take("transformer.ln_f.weight", 65)


# --- the product


def product(folder, weight, bias, x):
    """y = x W^T + b as `linear` stores it for tokens."""
    (folder / "t.bin").write_bytes(weight.tobytes() + bias.tobytes())
    matrix = Tensor("m.weight", weight.shape, "F32", folder / "t.bin", 0)
    vector = Tensor("m.bias", bias.shape, "F32", folder / "t.bin", weight.nbytes)
    with WeightsFile(folder / "w.data") as weights:
        graph = GraphBuilder("g", weights, opset=17, contrib=True)
        graph.input("x", "float32", [1, "tokens", weight.shape[1]])
        graph.node("Identity", [linear(graph, TOKENS8, "x", matrix, vector)], "y")
        graph.output("y", "float32", [1, "tokens", weight.shape[0]])
        graph.save(folder / "g.onnx")
    session = ort.InferenceSession(str(folder / "g.onnx"), session_settings(0))
    return lambda x: session.run(None, {"x": x})[0]


def test_a_product_is_within_a_hundredth_whatever_the_size_of_its_tokens(tmp_path):
    weight, bias, x = normal(96, 256), normal(96), normal(1, 50, 256)
    x[:, 5] *= 1000  # one token is loud
    y, exact = product(tmp_path, weight, bias, x)(x), x @ weight.T + bias
    for token in range(50):
        difference = y[0, token] - exact[0, token]
        assert np.sqrt(np.mean(difference**2) / np.mean((exact[0, token] - bias) ** 2)) < 0.015


def test_a_token_has_the_same_bits_in_any_company(tmp_path):
    weight, bias, x = normal(96, 256), normal(96), normal(1, 50, 256)
    run = product(tmp_path, weight, bias, x)
    together = run(x)
    for first, last in ((0, 1), (1, 3), (7, 24), (49, 50)):
        np.testing.assert_array_equal(run(x[:, first:last]), together[:, first:last])


def test_a_token_of_zeros_gives_the_bias(tmp_path):
    weight, bias, x = normal(96, 256), normal(96), normal(1, 4, 256)
    x[:, 2] = 0
    assert np.allclose(product(tmp_path, weight, bias, x)(x)[0, 2], bias)


# --- the model


def test_evening_changes_no_answer_of_a_float_model(outliers, tmp_path, monkeypatch):
    found = []
    for name, parts in (("given", frozenset()), ("even", ALL)):
        monkeypatch.setattr(Precision, "even", property(lambda _, parts=parts: parts))
        convert(outliers, tmp_path / name, precision="fp32", flavour="fused")
        decoder = Decoder(load_manifest(tmp_path / name), ONNX_RUNTIME)
        found.append(forced(decoder, make_prompt(1, 20), [], [5, 6, 7, 0]))
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(found[1] / scale, found[0] / scale, atol=1e-3)
    assert not np.array_equal(found[0], found[1])
