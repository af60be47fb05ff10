"""A checkpoint is read exactly, each tensor once, and every kind of damage is named."""

import json
from dataclasses import fields

import numpy as np
import pytest

from errors import ModelError
from models.convert import checkpoint as module
from models.convert.channel_balance import EvenTensor
from models.convert.checkpoint import Checkpoint, Tensor
from tests.benchmarks import random_checkpoint
from tests.tiny_models import as_stored, edit_json, edit_tensors, make_tiny, read_tensors, to_single_file, write_tensors

INDEX = "model.safetensors.index.json"
WTE = "transformer.wte.weight"
SHAPE = (320, 32)


@pytest.fixture
def single(tmp_path):
    """A checkpoint of one file without an index."""
    return to_single_file(make_tiny(tmp_path / "checkpoint"))


@pytest.fixture
def sharded(tmp_path, monkeypatch):
    """A checkpoint of several shards with an index."""
    monkeypatch.setattr(random_checkpoint, "SHARD_BYTES", 30_000)
    folder = make_tiny(tmp_path / "checkpoint")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    return folder


def failure(folder):
    """The message with which opening this checkpoint fails: one line."""
    with pytest.raises(ModelError) as caught:
        Checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(folder):
    tensors = {name: bits for file in folder.glob("*.safetensors") for name, bits in read_tensors(file).items()}
    return {name: as_stored(bits, "F32")[1] if stored == "BF16" else bits for name, (stored, bits) in tensors.items()}


def test_every_tensor_of_every_shard_is_read_exactly(sharded):
    checkpoint = Checkpoint(sharded)
    for name, values in contents(sharded).items():
        np.testing.assert_array_equal(checkpoint.take(name, *values.shape).read(), values)
    assert checkpoint.finish() is None


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_every_stored_type_becomes_float32(tmp_path, stored):
    folder = to_single_file(make_tiny(tmp_path / "checkpoint"), stored)
    tensor = Checkpoint(folder).take(WTE, *SHAPE)
    values = tensor.read()
    assert tensor.stored == stored
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, contents(folder)[WTE].astype(np.float32))


@pytest.mark.parametrize("rows", [1, 7, 320])
def test_rows_come_in_blocks_and_in_order(single, monkeypatch, rows):
    monkeypatch.setattr(module, "BLOCK_BYTES", rows * 32 * 4)
    blocks = list(Checkpoint(single).take(WTE, *SHAPE).rows())
    assert [len(block) for block in blocks] == [rows] * (320 // rows) + [320 % rows] * (320 % rows > 0)
    np.testing.assert_array_equal(np.concatenate(blocks), contents(single)[WTE])


@pytest.mark.parametrize(("start", "stop"), [(0, 320), (0, 7), (100, 228), (319, 320)])
@pytest.mark.parametrize("stored", ["F32", "BF16"])
def test_some_rows_of_a_tensor_are_a_tensor(tmp_path, stored, start, stop):
    found = Checkpoint(to_single_file(make_tiny(tmp_path / "checkpoint"), stored)).take(WTE, *SHAPE)
    rows = found.cut(start, stop)
    assert (rows.name, rows.shape) == (f"transformer.wte.{start}.weight", (stop - start, 32))
    np.testing.assert_array_equal(rows.read(), found.read()[start:stop])


def test_a_tensor_is_handed_out_once(single):
    checkpoint = Checkpoint(single)
    checkpoint.take(WTE, *SHAPE)
    with pytest.raises(ModelError, match=f"tensor {WTE} is used twice"):
        checkpoint.take(WTE, *SHAPE)


def test_another_shape_is_shown_beside_the_expected_one(single):
    with pytest.raises(ModelError, match=r"wte.weight has shape \[320, 32\], expected \[320, 64\]"):
        Checkpoint(single).take(WTE, 320, 64)


def test_tensors_that_nobody_took_are_named(single):
    checkpoint = Checkpoint(single)
    with pytest.raises(ModelError, match=r"no graph uses: lm_head.weight, .* and \d+ more"):
        checkpoint.finish()


def test_a_missing_directory_is_named(tmp_path):
    assert failure(tmp_path / "nowhere") == f"{tmp_path / 'nowhere'}: no such checkpoint directory"


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", INDEX])
def test_damaged_json_is_named(sharded, name):
    (sharded / name).write_text("{")
    assert failure(sharded).startswith(f"{sharded / name}: not valid JSON")


def test_a_missing_config_is_named(single):
    (single / "config.json").unlink()
    assert failure(single).startswith(f"{single / 'config.json'}: cannot be read")


def test_generation_config_and_vocabulary_may_be_absent(single):
    (single / "generation_config.json").unlink()
    checkpoint = Checkpoint(single)
    assert (checkpoint.generation_config, checkpoint.vocabulary) == ({}, None)


def test_a_missing_shard_is_named(sharded):
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert failure(sharded) == f"{shard}: missing; download the checkpoint again"


@pytest.mark.parametrize("weight_map", [None, [], "model.safetensors"])
def test_an_index_without_a_map_is_refused(sharded, weight_map):
    edit_json(sharded / INDEX, weight_map=weight_map)
    assert failure(sharded) == f"{sharded / INDEX}: no weight_map"


@pytest.mark.parametrize("file", [3, None, ["a"], "../other/model.safetensors"])
def test_an_index_that_names_no_file_of_the_directory_is_refused(sharded, file):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    edit_json(sharded / INDEX, weight_map={**weight_map, WTE: file})
    assert failure(sharded) == f"{sharded / INDEX}: {WTE} is in {file!r}, expected the name of a file beside it"


def test_an_index_that_lists_an_absent_tensor_is_refused(sharded):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    edit_json(sharded / INDEX, weight_map={**weight_map, "transformer.extra": weight_map[WTE]})
    assert f"lists transformer.extra in {weight_map[WTE]}, but it is not there" in failure(sharded)


def test_a_tensor_in_another_shard_than_the_index_says_is_refused(sharded):
    weight_map = json.loads((sharded / INDEX).read_text())["weight_map"]
    edit_json(sharded / INDEX, weight_map={**weight_map, WTE: weight_map["lm_head.weight"]})
    assert f"lists {WTE} in {weight_map['lm_head.weight']}, but it is not there" in failure(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded):
    first, *_, last = sorted(sharded.glob("model-*.safetensors"))
    write_tensors(last, {**read_tensors(last), WTE: read_tensors(first)[WTE]})
    assert failure(sharded) == f"{last}: {WTE} is also in {first.name}"


@pytest.mark.parametrize("left", [0, 7, 8, 100, -1])
def test_a_file_cut_short_is_named(single, left):
    path = single / "model.safetensors"
    path.write_bytes(path.read_bytes()[:left])
    message = failure(single)
    assert message.startswith(f"{path}: ")
    assert message.endswith("download it again")


def test_a_file_cut_after_opening_is_named_when_read(single):
    path = single / "model.safetensors"
    tensor = Checkpoint(single).take(WTE, *SHAPE)
    path.write_bytes(path.read_bytes()[: tensor.offset + 10])
    with pytest.raises(ModelError, match=f"ends inside {WTE}"):
        tensor.read()


GOOD = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "no JSON": b"{nonsense}",
    "a list": b"[]",
    "an entry that is no object": {"x": 3},
    "no shape": {"x": {key: value for key, value in GOOD.items() if key != "shape"}},
    "a text for a shape": {"x": {**GOOD, "shape": "2"}},
    "a negative shape": {"x": {**GOOD, "shape": [-2]}},
    "one offset": {"x": {**GOOD, "data_offsets": [0]}},
    "a negative offset": {"x": {**GOOD, "data_offsets": [-8, 0]}},
    "a dtype that is no text": {"x": {**GOOD, "dtype": [1]}},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_header_is_refused(single, what):
    header = DAMAGED[what] if isinstance(DAMAGED[what], bytes) else json.dumps(DAMAGED[what]).encode()
    path = single / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    reason = {"no JSON": "not valid JSON", "a list": "not a JSON object"}.get(what, "damaged header")
    told = failure(single)
    assert (told.startswith(f"{path}: {reason}"), told.endswith("; download it again")) == (True, True)


@pytest.mark.parametrize(("shape", "offsets"), [([2], [0, 4]), ([3], [0, 12]), ([2], [4, 12])])
def test_a_tensor_beyond_its_bytes_is_refused(single, shape, offsets):
    header = json.dumps({"x": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}).encode()
    path = single / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert failure(single) == f"{path}: x does not fit into the file; download it again"


def test_another_stored_type_is_named(single):
    def change(tensors):
        tensors["x"] = ("F64", np.zeros(2))

    edit_tensors(single, change)
    assert failure(single).endswith("x is stored as F64, expected F32, F16, BF16 or I8")


def test_eight_bits_are_read_with_the_scales_of_their_rows(single):
    rng = np.random.default_rng(0)
    whole, scales = rng.integers(-127, 128, SHAPE, dtype=np.int8), rng.random(SHAPE[0], np.float32)

    def change(tensors):
        tensors[WTE] = ("I8", whole)
        tensors[WTE + ".scales"] = ("F32", scales)

    edit_tensors(single, change)
    checkpoint = Checkpoint(single)
    tensor = checkpoint.look_up(WTE, *SHAPE)
    values = whole.astype(np.float32) * scales[:, None]
    np.testing.assert_array_equal(tensor.read(), values)
    np.testing.assert_array_equal(tensor.cut(3, 7).read(), values[3:7])
    ((levels, of_rows),) = tensor.cut(3, 7).levels()
    np.testing.assert_array_equal(levels, whole[3:7])
    np.testing.assert_array_equal(of_rows, scales[3:7])
    assert tensor.is_in_8_bits
    assert not checkpoint.look_up("transformer.ln_f.weight", SHAPE[1]).is_in_8_bits
    assert not EvenTensor(**{one.name: getattr(tensor, one.name) for one in fields(Tensor)}).is_in_8_bits
    with pytest.raises(ModelError, match="is missing"):
        checkpoint.take(WTE + ".scales", SHAPE[0])


@pytest.mark.filterwarnings("ignore:overflow")
def test_eight_bits_beyond_float32_are_refused(single):
    def change(tensors):
        tensors[WTE] = ("I8", np.full(SHAPE, 127, np.int8))
        tensors[WTE + ".scales"] = ("F32", np.full(SHAPE[0], 3e37, np.float32))

    edit_tensors(single, change)
    tensor = Checkpoint(single).look_up(WTE, *SHAPE)
    for read in (tensor.rows, tensor.levels):
        with pytest.raises(ModelError, match=f"{WTE} holds values that are not finite numbers"):
            list(read())


def test_eight_bits_without_scales_are_refused(single):
    edit_tensors(single, lambda tensors: tensors.update({WTE: ("I8", np.zeros(SHAPE, np.int8))}))
    assert failure(single).endswith(f"{WTE} is stored as I8 without F32 scales of its rows")
