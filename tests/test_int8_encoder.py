"""Products in int8 for the encoder: even channels and tokens, and what that saves."""

import numpy as np
import onnxruntime as ort
import pytest

from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.int8_encoder import even_matmul, evening, int8_matmul, made_by, rounded
from models.runtime.onnxruntime import session_settings

RANDOM = np.random.default_rng(0)
K, N, FRAMES = 256, 96, 50


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(folder, build, x):
    """The output of the one node chain that `build(graph, "x")` adds."""
    with WeightsFile(folder / "w.data") as weights:
        graph = GraphBuilder("g", weights, opset=17, contrib=True)
        graph.input("x", "float32", [1, "frames", x.shape[-1]])
        graph.node("Identity", [build(graph, "x")], "y")
        graph.output("y", "float32", [1, "frames", N])
        graph.save(folder / "g.onnx")
    return ort.InferenceSession(str(folder / "g.onnx"), session_settings(0)).run(None, {"x": x})[0]


def error(found, exact):
    return np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))


def test_channels_of_one_size_stay_as_they_are():
    weight = np.tile(normal(N, 1), (1, K))
    assert np.allclose(evening(np.full(K, 3.0, np.float32), weight), 1.0)


def test_a_large_channel_is_divided_by_the_root_of_how_much_larger_it_is():
    size, weight = np.ones(K, np.float32), np.tile(normal(N, 1), (1, K))
    size[7] = 64.0
    assert evening(size, weight)[7] == pytest.approx(8.0)


def test_a_large_weight_column_is_divided_the_other_way():
    weight = np.tile(normal(N, 1), (1, K))
    weight[:, 7] *= 64
    assert evening(np.ones(K, np.float32), weight)[7] == pytest.approx(1 / 8)


@pytest.mark.parametrize(("size", "gain"), [(1.0, 0.0), (0.0, 1.0)])
def test_where_nothing_is_read_nothing_is_made_even(size, gain):
    weight = np.full((4, K), gain, np.float32)
    assert evening(np.full(K, size, np.float32), weight).tolist() == [1.0] * K


def test_a_dead_channel_gives_a_finite_factor():
    size, weight = np.ones(K, np.float32), normal(N, K)
    size[3], weight[:, 5] = 0.0, 0.0
    c = evening(size, weight)
    assert np.isfinite(c).all()
    assert (c > 0).all()


def test_sizes_of_outputs_are_those_of_random_inputs():
    weight, bias = normal(N, K), normal(N)
    size = np.abs(normal(K)) + 0.1
    y = (normal(20_000, K) * size) @ weight.T + bias
    assert np.sqrt(np.square(y).mean(axis=0)) == pytest.approx(made_by(weight, size, bias), rel=0.05)


def test_plain_product_is_within_a_hundredth(tmp_path):
    x, weight, bias = normal(1, FRAMES, K), normal(N, K), normal(N)
    y = run(tmp_path, lambda graph, x: int8_matmul(graph, rounded(graph, x), "m", weight, bias), x)
    assert error(y, x @ weight.T + bias) < 0.015


@pytest.mark.parametrize("larger", [1, 80])
def test_large_channels_and_tokens_cost_the_even_product_nothing(tmp_path, larger):
    x, weight, bias = normal(1, FRAMES, K), normal(N, K), normal(N)
    size = np.ones(K, np.float32)
    size[[3, 100]] = larger
    x *= size
    x[:, 5] *= larger  # a loud token
    exact = x @ weight.T + bias
    c = evening(size, weight)
    even = run(tmp_path, lambda graph, x: even_matmul(graph, x, "m", weight, bias=bias, c=c), x)
    assert error(even, exact) < 0.02
    others = [token for token in range(FRAMES) if token != 5]
    assert error(even[:, others], exact[:, others]) < 0.03
    if larger > 1:
        plain = run(tmp_path, lambda graph, x: int8_matmul(graph, rounded(graph, x), "m", weight, bias), x)
        assert error(plain[:, others], exact[:, others]) > 0.1  # what it is for


def test_a_silent_token_gives_the_bias(tmp_path):
    x, weight, bias = normal(1, FRAMES, K), normal(N, K), normal(N)
    x[:, 4] = 0
    y = run(tmp_path, lambda graph, x: even_matmul(graph, x, "m", weight, bias=bias, c=np.ones(K, np.float32)), x)
    assert np.allclose(y[0, 4], bias)
