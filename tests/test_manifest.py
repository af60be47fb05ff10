"""A manifest is read strictly: whatever is wrong with a model directory is one line that names the file and the fix."""

import dataclasses
import json
import shutil

import pytest

from errors import ModelError
from models.manifest import FILE_NAME, load_manifest, save_manifest, verify_files


@pytest.fixture
def model(tiny, tmp_path):
    """A model directory of one's own to damage."""
    return shutil.copytree(tiny().directory, tmp_path / "model")


def failure(directory):
    """The message with which this directory is refused: one line."""
    with pytest.raises(ModelError) as caught:
        load_manifest(directory)
    message = str(caught.value)
    assert "\n" not in message
    assert str(directory) in message
    return message


def edit(directory, change):
    path = directory / FILE_NAME
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_a_converted_model_loads_with_its_sizes(model):
    manifest = load_manifest(model)
    assert manifest.directory == model
    assert manifest.decoder_sizes.vocab_size == 320
    assert manifest.encoder_sizes.n_mels == 16
    assert manifest.decoder[0].state.names[0] == ("key_cache_out0", "key_cache0")


def test_the_path_of_the_manifest_itself_is_taken_too(model):
    assert load_manifest(model / FILE_NAME) == load_manifest(model)


def test_saved_and_loaded_manifests_are_equal(model):
    manifest = dataclasses.replace(load_manifest(model), name="另一个 name", vocabulary=None)
    save_manifest(manifest)
    assert load_manifest(model) == manifest


def test_saving_leaves_no_temporary_file(model):
    before = sorted(path.name for path in model.iterdir())
    save_manifest(load_manifest(model))
    assert sorted(path.name for path in model.iterdir()) == before


def test_a_missing_directory_is_named(tmp_path):
    assert "no such model directory" in failure(tmp_path / "nowhere")


def test_an_unfinished_conversion_is_told_how_to_finish(model):
    (model / FILE_NAME).unlink()
    assert f"unfinished conversion; make it with `python3 -m models.convert CHECKPOINT {model}`" in failure(model)


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 1,}', b"\xff\xfe{}", b"[" * 100_000])
def test_invalid_json_is_refused(model, content):
    (model / FILE_NAME).write_bytes(content)
    assert "not valid JSON" in failure(model)


@pytest.mark.parametrize("content", ["[]", "null", '"model"', "1"])
def test_json_that_is_no_object_is_refused(model, content):
    (model / FILE_NAME).write_text(content)
    assert "not a JSON object" in failure(model)


@pytest.mark.parametrize("found", [1, 3, "2", None])
def test_another_format_is_refused_with_the_command_that_makes_this_one(model, found):
    edit(model, lambda data: data.update(format=found))
    message = failure(model)
    assert f"format {found!r}, this program reads format 2" in message
    assert "python3 -m models.convert" in message


UNKNOWN = {
    "'colour'": lambda data: data.update(colour=1),
    "'directory'": lambda data: data.update(directory="/elsewhere"),
    "'decoder_sizes.n_experts'": lambda data: data["decoder_sizes"].update(n_experts=8),
    "'decoder[0].state.device'": lambda data: data["decoder"][0]["state"].update(device="cpu"),
    "'files['bos.npy'].md5'": lambda data: data["files"]["bos.npy"].update(md5="0"),
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_an_unknown_key_is_named_with_its_place(model, key):
    edit(model, UNKNOWN[key])
    assert f"unknown key {key}" in failure(model)


MISSING = {
    "'name'": lambda data: data.pop("name"),
    "'vocabulary'": lambda data: data.pop("vocabulary"),
    "'encoder_sizes.n_head'": lambda data: data["encoder_sizes"].pop("n_head"),
    "'decoder[0].state.in_place'": lambda data: data["decoder"][0]["state"].pop("in_place"),
}


@pytest.mark.parametrize("key", MISSING)
def test_a_missing_key_is_named_with_its_place(model, key):
    edit(model, MISSING[key])
    assert f"missing key {key}" in failure(model)


WRONG_TYPES = {
    "name is 7": lambda data: data.update(name=7),
    "name is None": lambda data: data.update(name=None),
    "max_window_size is '6144'": lambda data: data.update(max_window_size="6144"),
    "max_window_size is True": lambda data: data.update(max_window_size=True),
    "backends is 'onnxruntime'": lambda data: data.update(backends="onnxruntime"),
    "backends[0] is 1": lambda data: data.update(backends=[1]),
    "boundary_rows is ['bos.npy']": lambda data: data.update(boundary_rows=["bos.npy"]),
    "vocabulary is 3": lambda data: data.update(vocabulary=3),
    "decoder_sizes is []": lambda data: data.update(decoder_sizes=[]),
    "decoder_sizes.n_layer is 2.0": lambda data: data["decoder_sizes"].update(n_layer=2.0),
    "decoder_sizes.logn is 1": lambda data: data["decoder_sizes"].update(logn=1),
    "decoder_sizes.rotary_base is True": lambda data: data["decoder_sizes"].update(rotary_base=True),
    "decoder[0].state.names[0] is ['a']": lambda data: data["decoder"][0]["state"].update(names=[["a"]]),
    "files['bos.npy'] is 3": lambda data: data["files"].update({"bos.npy": 3}),
    "files is []": lambda data: data.update(files=[]),
}


@pytest.mark.parametrize("words", WRONG_TYPES)
def test_a_value_of_the_wrong_type_is_shown(model, words):
    edit(model, WRONG_TYPES[words])
    assert f"{words}, expected" in failure(model)


WRONG_VALUES = {
    "contract is 'quick', expected one of fused, plain": lambda data: data.update(contract="quick"),
    "dtype is 'float64', expected one of float32, float16": lambda data: data.update(dtype="float64"),
    "chat_format is 'llama', expected one of chatml, raw": lambda data: data.update(chat_format="llama"),
    "backends is ['tpu'], expected some of onnxruntime, ailia": lambda data: data.update(backends=["tpu"]),
    "backends is [], expected some of onnxruntime, ailia": lambda data: data.update(backends=[]),
    "n_layer is 0, expected a positive number": lambda data: data["decoder_sizes"].update(n_layer=0),
    "vocab_size is -1, expected a positive number": lambda data: data["decoder_sizes"].update(vocab_size=-1),
    "decoder_sizes.rotary_base is nan, expected float": lambda data: data["decoder_sizes"].update(
        rotary_base=float("nan")
    ),
    "needs 1 first, and one -1": lambda data: data["decoder"][0]["state"].update(shape=[1, 4, 16]),
    "(2, 4, -1, 16) of decoder.onnx needs 1 first, and one -1": lambda data: data["decoder"][0]["state"].update(
        shape=[2, 4, -1, 16]
    ),
    "embeddings is None, but a fused model": lambda data: data.update(embeddings=None),
    "decoder or decoder_rows is missing, or is not of the contract fused": lambda data: data.update(decoder_rows=[]),
    "decoder or decoder_rows is missing, or": lambda data: data.update(decoder=[]),
    "decoder.onnx has the outputs [], expected one": lambda data: data["decoder"][0].update(outputs=[]),
    "encoder.onnx has the outputs ['a', 'b'], expected one": lambda data: data["encoder"].update(outputs=["a", "b"]),
    "the state dtype 'float99'": lambda data: data["decoder"][0]["state"].update(dtype="float99"),
    "'other.onnx' is used but not listed under files": lambda data: data["decoder"][0].update(file="other.onnx"),
    "'words.tiktoken' is used but not listed": lambda data: data.update(vocabulary="words.tiktoken"),
}


@pytest.mark.parametrize("words", WRONG_VALUES)
def test_a_value_without_meaning_is_refused(model, words):
    edit(model, WRONG_VALUES[words])
    assert words in failure(model)


@pytest.mark.parametrize("name", ["../bos.npy", "/etc/hostname", "sub/bos.npy", "..", "."])
def test_a_file_name_that_leads_out_of_the_directory_is_refused(model, name):
    edit(model, lambda data: data["files"].update({name: data["files"]["bos.npy"]}))
    assert f"'{name}' is not a plain file name" in failure(model)


def test_a_missing_file_is_named_with_the_fix(model):
    (model / "eos.npy").unlink()
    assert failure(model) == f"{model / 'eos.npy'}: no such file or directory; convert or download this model again"


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_of_another_size_is_named_with_both_sizes(model, more):
    path = model / "decoder.data"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size + more)
    assert failure(model) == f"{path}: {size + more} bytes, expected {size}; convert or download this model again"


def test_every_file_of_a_fresh_conversion_verifies(model):
    manifest = load_manifest(model)
    assert {path.name for path in model.iterdir()} == {FILE_NAME, *manifest.files}
    assert verify_files(manifest) is None


@pytest.mark.parametrize("name", ["encoder.data", "decoder.onnx", "embeddings.npy", "bos.npy"])
def test_verification_sees_one_flipped_byte(model, name):
    path = model / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    manifest = load_manifest(model)  # the size has not changed
    with pytest.raises(ModelError, match=r"damaged .* convert or download this model again") as caught:
        verify_files(manifest)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [10**300, 2**62, 0, -5])
def test_a_state_of_an_impossible_size_is_refused(model, size):
    """One of 10**300 was an overflow when the cache was made."""

    def change(data):
        data["decoder_rows"][0]["state"]["shape"][-1] = size

    edit(model, change)
    assert "the state shape" in failure(model)
