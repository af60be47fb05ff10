"""Files about models that lie: whatever a small JSON file holds or is, one line names it and nothing waits for ever."""

import json
import os
import shutil
import subprocess
from functools import partial

import pytest

from cli.main import main
from cli.output import journal
from errors import ModelError, QwenAudioError
from models.convert.__main__ import main as convert_main
from models.convert.checkpoint import Checkpoint
from models.convert.sizes import read_sizes
from models.manifest import load_manifest
from tests.tiny_models import make_tiny

SOUND = "tests/golden/nano/speech.flac"
VALUES = {
    "an integer of 5000 digits": "9" * 5000,
    "an integer over any float": "9" * 400,
    "infinity": "1e999",
    "no number": "NaN",
    "NUL": '"a\\u0000b"',
    "half a character": '"\\ud800"',
    "a line break": '"a\\nb\\u001b[2J"',
    "a long text": '"' + "x" * 5000 + '"',
    "deep nesting": "[" * 900 + "]" * 900,
    "deeper nesting": "[" * 100_000 + "]" * 100_000,
}


@pytest.fixture
def model(tiny, tmp_path):
    return shutil.copytree(tiny().directory, tmp_path / "model")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("hostile") / "checkpoint")


@pytest.fixture
def checkpoint(source, tmp_path):
    return shutil.copytree(source, tmp_path / "checkpoint")


def leaves(tree, place=()):
    """The place of everything in a JSON document."""
    yield place
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from leaves(value, (*place, key))


def replaced(text, place, value):
    """A JSON document with another value, as JSON, at a place."""
    tree = {"": json.loads(text)}
    spot, (*path, last) = tree, ("", *place)
    for key in path:
        spot = spot[key]
    spot[last] = "@@"
    return json.dumps(tree[""]).replace('"@@"', value)


def at(text, place):
    """What stands at a place of a JSON document, as JSON."""
    found = json.loads(text)
    for key in place:
        found = found[key]
    return json.dumps(found)


def kind_of(text):
    """The type of a JSON value, "none" for what is no JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "none"
    return "number" if type(found) in (int, float) else type(found).__name__


def is_one_line(text):
    return text.count("\n") <= 1 and text.strip("\n").isprintable() and len(text) < 3000


def one_line(text):
    assert is_one_line(text)


def refusal(file, content, load):
    """What the ModelError says with which `load` refuses the file with this content; empty if it takes it."""
    file.write_text(content)
    try:
        load()
    except ModelError as error:
        return str(error)
    return ""


def not_regular(path, kind):
    """Put something at `path` that is no file."""
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES)
def test_any_value_at_any_place_of_a_manifest_is_taken_or_refused_in_a_line(model, value):
    file = model / "manifest.json"
    text, load = file.read_text(), partial(load_manifest, model)
    places = list(leaves(json.loads(text)))[list(VALUES).index(value) :: 7]
    told = {place: refusal(file, replaced(text, place, VALUES[value]), load) for place in places}
    assert [line for line in told.values() if not is_one_line(line)] == []
    taken = [place for place, line in told.items() if not line]
    assert [place for place in taken if kind_of(at(text, place)) != kind_of(VALUES[value])] == []


@pytest.mark.slow
@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "model.safetensors.index.json"])
def test_any_value_at_any_place_of_a_checkpoint_is_taken_or_refused_in_a_line(checkpoint, name, value):
    file = checkpoint / name
    text = file.read_text()
    places = list(leaves(json.loads(text)))[:20]  # the whole document is the first

    def load():
        return read_sizes(Checkpoint(checkpoint).config, checkpoint / "config.json")

    refused = [told for place in places if (told := refusal(file, replaced(text, place, VALUES[value]), load))]
    assert refused
    assert [told for told in refused if not is_one_line(told)] == []


@pytest.mark.parametrize("value", ["an integer of 5000 digits", "an integer over any float", "a line break"])
def test_a_hostile_manifest_ends_the_run_with_a_line_and_3(model, value, capsys):
    file = model / "manifest.json"
    file.write_text(replaced(file.read_text(), ("decoder_sizes", "rotary_base"), VALUES[value]))
    assert main(["--model", str(model), "-i", SOUND]) == 3
    one_line(capsys.readouterr().err)


@pytest.mark.parametrize("value", ["an integer of 5000 digits", "an integer over any float", "a line break"])
def test_a_hostile_config_ends_a_conversion_with_a_line_and_3(checkpoint, value, capsys, tmp_path):
    file = checkpoint / "config.json"
    file.write_text(replaced(file.read_text(), ("rotary_emb_base",), VALUES[value]))
    assert convert_main([str(checkpoint), str(tmp_path / "out")]) == 3
    one_line(capsys.readouterr().err)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize("name", ["manifest.json", "bos.npy", "decoder.onnx", "decoder.data", "qwen.tiktoken"])
def test_what_is_no_regular_file_is_not_opened_as_a_part_of_a_model(model, name, kind):
    manifest = model / "manifest.json"
    size = {"pipe": 0, "folder": 4096, "device": 0}[kind]
    data = json.loads(manifest.read_text())
    data["files"].setdefault(name, {"size": 0, "sha256": ""})["size"] = size
    manifest.write_text(json.dumps(data))
    (model / name).touch()
    not_regular(model / name, kind)
    with pytest.raises(ModelError, match="no regular file"):
        load_manifest(model)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "model.safetensors.index.json", "qwen.tiktoken"]
)
def test_what_is_no_regular_file_is_not_opened_as_a_part_of_a_checkpoint(checkpoint, name, kind):
    (checkpoint / name).touch()
    not_regular(checkpoint / name, kind)
    with pytest.raises(ModelError, match="no regular file"):
        Checkpoint(checkpoint)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_not_opened_as_a_journal(tmp_path, kind):
    path = tmp_path / "journal"
    path.touch()
    not_regular(path, kind)
    with pytest.raises(OSError, match="no regular file"):
        journal.read(path)


def test_what_others_wrote_is_one_printable_line_of_an_error():
    error = QwenAudioError("a\nb\x1b[2J\ud800" + "x" * 10_000, "c\nd")
    for text in (str(error), error.message, error.fix):
        one_line(text)
    assert "c\\nd" in str(error)


def test_a_checkpoint_is_never_to_be_converted_into_itself(checkpoint):
    with pytest.raises(ModelError) as caught:
        load_manifest(checkpoint)
    assert "a checkpoint, not a model" in caught.value.message
    assert f"models.convert {checkpoint} {checkpoint}-int4" in caught.value.fix


def test_a_hint_names_a_command_that_works_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError) as caught:
        load_manifest(tmp_path)
    hint = caught.value.fix.split("`")[1].replace("CHECKPOINT", "--help")
    done = subprocess.run(["sh", "-c", hint], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:6]) == (0, "usage:")
