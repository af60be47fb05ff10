"""A decoder in parts says what a decoder in one graph says, keeps its state, and tells which part fails."""

import dataclasses

import numpy as np
import onnx
import pytest

from decoder.decoder import Decoder
from errors import BackendError
from models.convert import qwen_fused
from models.convert.convert import convert
from models.manifest import load_manifest
from tests.tiny_models import ONNX_RUNTIME, TINY, assert_same_choice, forced, greedy, make_prompt, make_tiny

DEEP = dataclasses.replace(TINY, num_hidden_layers=20)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The deep model in one graph."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qwen_fused, "PART_LAYERS", DEEP.num_hidden_layers)
        convert(make_tiny(folder / "checkpoint", geometry=DEEP), folder / "model", precision="fp32", flavour="fused")
    return load_manifest(folder / "model")


def test_a_deep_decoder_has_a_part_for_every_nine_layers(tiny):
    manifest = tiny(geometry=DEEP)
    assert [part.file for part in manifest.decoder] == ["decoder.onnx", "decoder_2.onnx", "decoder_3.onnx"]
    assert [part.file for part in manifest.decoder_rows] == [
        "decoder_rows.onnx",
        "decoder_rows_2.onnx",
        "decoder_rows_3.onnx",
    ]
    assert [part.inputs[0] for part in manifest.decoder] == ["inputs_embeds", "hidden_states", "hidden_states"]
    for parts in (manifest.decoder, manifest.decoder_rows):
        names = [consumed for part in parts for _, consumed in part.state.names[:: part.state.slots]]
        suffix = "_0" if parts is manifest.decoder_rows else ""
        assert names == [f"{kind}_cache{layer}{suffix}" for layer in range(20) for kind in ("key", "value")]


def test_parts_choose_what_one_graph_chooses(tiny, whole):
    assert len(whole.decoder) == 1
    ids = make_prompt(5, 40)
    expected = greedy(Decoder(whole, ONNX_RUNTIME), ids)
    assert greedy(Decoder(tiny(geometry=DEEP), ONNX_RUNTIME), ids) == expected
    found = forced(Decoder(tiny(geometry=DEEP), ONNX_RUNTIME), ids, [], expected)
    assert_same_choice(
        found, forced(Decoder(whole, ONNX_RUNTIME), ids, [], expected), atol=5e-5
    )  # sums in another order


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8-fine", "int8", "int4"])
def test_rows_of_a_decoder_in_parts_give_the_bits_that_they_give_alone(tiny, precision):
    manifest = tiny(precision, geometry=DEEP)
    prompts = {row: make_prompt(row, 9 + 4 * row) for row in range(3)}
    many, alone = Decoder(manifest, ONNX_RUNTIME, rows=3), {row: Decoder(manifest, ONNX_RUNTIME) for row in prompts}
    for row, ids in prompts.items():
        np.testing.assert_array_equal(many.prefill(ids, row=row), alone[row].prefill(ids))
    many.rewind(8, row=1)
    alone[1].rewind(8)
    for new_ids in ({0: [1], 1: [2, 3, 4], 2: [5]}, {1: [6]}, {0: [7, 8], 2: [9]}):
        for row, logits in many.extend(new_ids).items():
            np.testing.assert_array_equal(logits, alone[row].extend({0: new_ids[row]})[0])


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fine", "int8", "int4"])
def test_an_output_layer_in_pieces_gives_the_bits_of_a_whole_one(tmp_path, monkeypatch, tiny, precision):
    monkeypatch.setattr(qwen_fused, "HEAD_IDS", 128)
    convert(make_tiny(tmp_path / "checkpoint", seed=1), tmp_path / "model", precision=precision, flavour="fused")
    pieces = load_manifest(tmp_path / "model")
    weights = {one.name for one in onnx.load(pieces.path("decoder.onnx"), load_external_data=False).graph.initializer}
    assert {name.split(".")[1] for name in weights if name.startswith("lm_head.")} == {"0", "128", "256"}
    ids = make_prompt(5, 12)
    found, expected = Decoder(pieces, ONNX_RUNTIME), Decoder(tiny(precision), ONNX_RUNTIME)
    np.testing.assert_array_equal(found.prefill(ids), expected.prefill(ids))
    np.testing.assert_array_equal(found.extend({0: [1, 2, 3]})[0], expected.extend({0: [1, 2, 3]})[0])


def test_the_part_that_cannot_be_opened_is_named(tiny):
    manifest = tiny(geometry=DEEP)
    parts = (*manifest.decoder[:2], dataclasses.replace(manifest.decoder[2], inputs=("ids",)))
    with pytest.raises(BackendError, match="no input named ids; the manifest does not fit it") as caught:
        Decoder(dataclasses.replace(manifest, decoder=parts), ONNX_RUNTIME)
    assert str(caught.value).startswith(f"{manifest.path('decoder_3.onnx')}: ")


def test_the_part_that_fails_in_a_run_is_named(tiny):
    manifest = tiny(geometry=DEEP)
    parts = (manifest.decoder[0], dataclasses.replace(manifest.decoder[1], inputs=("rotary_cos",)))
    decoder = Decoder(dataclasses.replace(manifest, decoder=parts), ONNX_RUNTIME)
    with pytest.raises(BackendError) as caught:
        decoder.prefill([1, 2, 3])
    assert str(caught.value).startswith(f"{manifest.path('decoder_2.onnx')}: ")
