"""Every operator of a plain graph is standard ONNX of opset 17 and known to ailia's library, by name."""

import sys
from pathlib import Path

import onnx
import pytest

from tests.tiny_models import TINY

PLAIN = ["fp32", "fp16", "int8"]
LIBRARIES = {"linux": "linux/*/libailia.so", "darwin": "mac/libailia.dylib", "win32": "windows/*/ailia.dll"}


@pytest.fixture(scope="module")
def library():
    """The bytes of ailia's library; read, never run."""
    ailia = pytest.importorskip("ailia", reason="the ailia package is not installed")
    found = sorted(Path(ailia.__file__).parent.glob(LIBRARIES.get(sys.platform, "libailia.*")))
    if not found:
        pytest.skip(f"no ailia library for {sys.platform} in {Path(ailia.__file__).parent}")
    return found[0].read_bytes()


def load(manifest):
    """Both graphs of a model, without their weights."""
    return [
        onnx.load(manifest.path(one.file), load_external_data=False) for one in (manifest.encoder, *manifest.decoder)
    ]


def operators(manifest):
    """(domain, operator) of every node of both graphs."""
    return {(node.domain, node.op_type) for model in load(manifest) for node in model.graph.node}


@pytest.mark.parametrize("precision", PLAIN)
def test_plain_graphs_import_opset_17_and_nothing_else(tiny, precision):
    for model in load(tiny(precision, "plain")):
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
        assert model.ir_version == 8


@pytest.mark.parametrize("precision", PLAIN)
def test_plain_graphs_use_standard_operators_only(tiny, precision):
    assert {domain for domain, _ in operators(tiny(precision, "plain"))} == {""}


@pytest.mark.parametrize("precision", PLAIN)
@pytest.mark.parametrize("keys", [{}, {"use_dynamic_ntk": False, "use_logn_attn": False}])
def test_ailias_library_knows_every_plain_operator(tiny, library, precision, keys):
    names = {name for _, name in operators(tiny(precision, "plain", **keys))}
    assert {"MatMul", "Softmax", "LayerNormalization", "Gather"} <= names
    assert [name for name in sorted(names) if f"\0{name}\0".encode() not in library] == []


@pytest.mark.parametrize(
    "name", ["MatMulNBits", "GroupQueryAttention", "SkipSimplifiedLayerNormalization", "NoSuchOperator"]
)
def test_the_search_does_not_find_what_the_library_lacks(library, name):
    assert f"\0{name}\0".encode() not in library


def test_fused_graphs_are_the_ones_with_contrib_operators(tiny):
    names = {name for domain, name in operators(tiny("int4", "fused")) if domain == "com.microsoft"}
    assert {"MatMulNBits", "GroupQueryAttention", "SkipSimplifiedLayerNormalization"} <= names


@pytest.mark.parametrize("precision", PLAIN)
def test_plain_decoder_has_the_published_names_and_types(tiny, precision):
    manifest = tiny(precision, "plain")
    _, model = load(manifest)
    number = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT
    caches = [f"{kind}_cache{layer}" for layer in range(TINY.num_hidden_layers) for kind in ("key", "value")]
    found = {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    expected = dict.fromkeys(["input_ids", "attention_mask"], onnx.TensorProto.INT64)
    assert found == expected | dict.fromkeys(["audios", *caches], number)
    grown = [name.replace("cache", "cache_out") for name in caches]
    found = {one.name: one.type.tensor_type.elem_type for one in model.graph.output}
    assert found == dict.fromkeys(["logits", *grown], number)


@pytest.mark.parametrize("precision", PLAIN)
def test_plain_encoder_has_the_published_names_and_types(tiny, precision):
    model, _ = load(tiny(precision, "plain"))
    number = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT
    found = {one.name: one.type.tensor_type.elem_type for one in model.graph.input}
    assert found == {"input_audios": number, "padding_mask": number, "input_audio_lengths": onnx.TensorProto.INT64}


@pytest.mark.parametrize("precision", PLAIN)
def test_plain_graphs_pass_the_checker_of_onnx(tiny, precision):
    manifest = tiny(precision, "plain")
    for graph in (manifest.encoder, *manifest.decoder):
        assert onnx.checker.check_model(str(manifest.path(graph.file))) is None
