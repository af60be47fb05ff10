"""The "cuda" flavour: float16 graphs for a GPU, held on the CPU provider to the original's numbers and to float32."""

import numpy as np
import onnx
import pytest

from decoder.decoder import Decoder
from errors import BackendError
from models.convert.convert import convert
from models.manifest import load_manifest
from models.nano.embedded import CHECKPOINT
from models.runtime import onnxruntime as module
from models.runtime.onnxruntime import check_flavour
from tests.tiny_models import ONNX_RUNTIME, forced, greedy, make_prompt, open_decoder, open_encoder

# The original in bfloat16 moves the logits of the golden models by 0.3 to 1.1; float16 has three bits more.
FLOAT16 = 1.1 / 8


@pytest.fixture(scope="module")
def golden_model(golden, tmp_path_factory):
    """The golden checkpoint in float16 for a GPU."""
    out = tmp_path_factory.mktemp("cuda")
    convert(golden / "tiny-long", out, precision="fp16", flavour="cuda")
    return load_manifest(out)


def graphs(manifest):
    return [onnx.load(manifest.path(graph.file), load_external_data=False).graph for graph in manifest.graphs]


@pytest.mark.parametrize("name", ["l_text50", "l_text65", "l_two_audio"])
def test_the_goldens_are_met_within_what_float16_holds(golden_case, golden_model, name):
    case = golden_case(name)
    n = len(case["step_logits"])
    clips = open_encoder(golden_model).encode(case.mels)
    found = forced(open_decoder(golden_model), case["input_ids"], clips, case["greedy"][:n])
    np.testing.assert_allclose(found, case["step_logits"], rtol=0, atol=FLOAT16)
    np.testing.assert_array_equal(found.argmax(-1), case["greedy"][:n])


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_rows_side_by_side_give_what_each_gives_alone(tiny, precision):
    manifest = tiny(precision, "cuda", seq_length=512)
    prompts = [make_prompt(n, length) for n, length in enumerate((9, 4, 13))]
    rows = Decoder(manifest, ONNX_RUNTIME, rows=3)
    together = [rows.prefill(ids, row=row) for row, ids in enumerate(prompts)]
    steps = rows.advance({row: 7 + row for row in range(3)})
    for row, ids in enumerate(prompts):
        alone = forced(open_decoder(manifest), ids, [], [7 + row, 0])
        np.testing.assert_allclose([together[row], steps[row]], alone, rtol=0, atol=0.02)


def test_logn_and_ntk_follow_the_float32_graph(tiny):
    ids = make_prompt(5, 40)  # beyond the trained context of 16
    rows = [forced(open_decoder(tiny(*kind)), ids, [], [3, 4, 5]) for kind in (("fp32", "fused"), ("fp16", "cuda"))]
    np.testing.assert_allclose(rows[1], rows[0], rtol=0, atol=FLOAT16)


def test_activations_and_cache_are_float16_and_logits_are_not(tiny):
    manifest = tiny("int4", "cuda")
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert {graph.state.dtype for graph in (*manifest.decoder, *manifest.decoder_rows)} == {"float16"}
    for graph in graphs(manifest)[1:]:
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        assert {kind for name, kind in types.items() if "_cache" in name} == {half}
        assert types["logits"] == types["rotary_cos"] == single
        assert not [node for node in graph.node if node.op_type == "MatMulIntegerToFloat"]  # CUDA has none


def test_the_decoder_is_one_graph_so_that_nothing_leaves_the_device(tiny):
    assert len(tiny("fp16", "cuda").decoder) == 1


@pytest.mark.slow
def test_nano_answers_the_same_in_float16(tmp_path):
    found = []
    for precision, flavour in (("fp32", "fused"), ("fp16", "cuda")):
        convert(CHECKPOINT, tmp_path / flavour, precision=precision, flavour=flavour)
        decoder = open_decoder(load_manifest(tmp_path / flavour))
        found.append([greedy(decoder, [100 + n, 200, 300 + n], n=16) for n in range(4)])
    assert found[0] == found[1]


def test_a_model_for_a_cpu_is_refused_on_a_gpu_with_the_way_out(tiny):
    manifest = tiny()
    check_flavour(manifest, manifest.decoder[0], "cpu")
    with pytest.raises(BackendError, match=r"made for a CPU, not for --device cuda; .* --flavour cuda"):
        check_flavour(manifest, manifest.decoder[0], "cuda")
    converted = tiny("int4", "cuda")
    check_flavour(converted, converted.decoder[0], "cuda")


def test_libraries_of_a_gpu_are_loaded_first_and_silently(monkeypatch, capsys):
    import onnxruntime as ort

    called = []
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda: (called.append(1), print("Failed to load libcudnn.so.9")))
    assert module.find_provider("cuda:1") == ("CUDAExecutionProvider", "cuda", 1)
    assert (called, capsys.readouterr().out) == ([1], "")


def test_the_missing_library_is_named():
    assert ".so" in module.missing_library() or module.missing_library() == ""
