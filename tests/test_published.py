"""Files in the layout that ailia publishes open once they are described, and what does not fit is one line."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from errors import ModelError
from models.convert.published import DECODER, ENCODER, QWEN_AUDIO_CHAT, describe, main
from models.manifest import FILE_NAME, load_manifest, verify_files
from tests.tiny_models import edit_json, greedy, make_mels, make_prompt, make_tiny, open_decoder, open_encoder

ROOT = Path(__file__).parents[1]
LONG = {"seq_length": 512}  # a described model keeps within it
WEIGHTS = "Qwen-Audio-Chat_weights.pb"


@pytest.fixture
def config(tmp_path):
    """The config.json that the files were made from, outside their directory."""
    return make_tiny(tmp_path / "checkpoint", **LONG) / "config.json"


@pytest.fixture
def published(tiny, tmp_path):
    """A directory of such files: a plain float16 conversion without its manifest."""
    directory = shutil.copytree(tiny("fp16", "plain", **LONG).directory, tmp_path / "published")
    (directory / FILE_NAME).unlink()
    return directory


def failure(capsys, *arguments):
    """The one line with which the command fails."""
    assert main([str(one) for one in arguments]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err.removeprefix("models.convert.published: ").rstrip("\n")


def test_described_files_give_the_ids_that_they_gave_before(tiny, published, config):
    answers = []
    for manifest in (tiny("fp16", "plain", **LONG), describe(published, config)):
        clips = open_encoder(manifest).encode(make_mels(1, [44, 13]))
        ids = make_prompt(1, 9, [len(rows) for rows in clips])
        answers.append(greedy(open_decoder(manifest), ids, clips))
    assert answers[0] == answers[1]


def test_the_manifest_is_what_the_converter_wrote_but_for_its_origin(tiny, published, config):
    found, expected = describe(published, config), tiny("fp16", "plain", **LONG)
    for name in (
        "contract",
        "precision",
        "dtype",
        "backends",
        "encoder_sizes",
        "encoder",
        "decoder",
        "boundary_rows",
        "files",
    ):
        assert getattr(found, name) == getattr(expected, name), name


def test_the_context_ends_where_ntk_would_begin(tiny, published, config):
    expected = replace(tiny("fp16", "plain", **LONG).decoder_sizes, max_positions=512)
    assert describe(published, config).decoder_sizes == expected


def test_described_files_verify(published, config):
    assert verify_files(describe(published, config)) is None


def test_a_config_beside_the_files_is_taken(published, config):
    shutil.copy(config, published / "config.json")
    assert describe(published).decoder_sizes.vocab_size == 320


def test_a_vocabulary_beside_the_files_is_listed(published, config):
    (published / "qwen.tiktoken").write_text("IQ== 0\n")
    assert describe(published, config).vocabulary == "qwen.tiktoken"


def test_no_file_but_the_manifest_is_written(published, config):
    before = {path.name: path.read_bytes() for path in published.iterdir()}
    describe(published, config)
    after = {path.name: path.read_bytes() for path in published.iterdir()}
    assert after.keys() - before.keys() == {FILE_NAME}
    assert {name: after[name] for name in before} == before


def test_the_command_describes_and_names_the_directory(published, config):
    command = [sys.executable, "-m", "models.convert.published", published, "--config", config]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{published}\n", "")
    assert load_manifest(published).name == "Qwen-Audio-Chat"


@pytest.mark.parametrize("name", [DECODER, ENCODER, "bos.npy", "eos.npy"])
def test_a_missing_file_is_named(capsys, published, config, name):
    (published / name).unlink()
    assert failure(capsys, published, "--config", config).startswith(f"{published / name}: missing")


def test_missing_weights_are_named(capsys, published, config):
    (published / WEIGHTS).unlink()
    message = failure(capsys, published, "--config", config)
    assert message == f"{published / WEIGHTS}: missing, {DECODER} keeps its weights there"


def test_a_missing_directory_is_named(capsys, tmp_path, config):
    assert str(tmp_path / "nowhere" / DECODER) in failure(capsys, tmp_path / "nowhere", "--config", config)


@pytest.mark.parametrize("content", [b"\xff" * 100, b"", b"<html>404</html>", b'{"error": 404}'])
@pytest.mark.parametrize("name", [DECODER, ENCODER])
def test_a_file_that_is_no_graph_is_named(capsys, published, config, name, content):
    (published / name).write_bytes(content)
    assert failure(capsys, published, "--config", config).startswith(f"{published / name}: ")


def test_graphs_in_each_others_place_are_refused(capsys, published, config):
    shutil.copy(published / ENCODER, published / DECODER)
    message = failure(capsys, published, "--config", config)
    assert message == f"{published / DECODER}: no input named input_ids; this is not the graph that ailia publishes"


def test_a_config_of_more_layers_is_refused(capsys, published, config):
    edit_json(config, num_hidden_layers=3)
    message = failure(capsys, published, "--config", config)
    assert message == f"{published / DECODER}: no key_cache2 or key_cache_out2; is its config another one?"


def test_a_config_of_fewer_layers_is_refused(capsys, published, config):
    edit_json(config, num_hidden_layers=1)
    message = failure(capsys, published, "--config", config)
    assert message == f"{published / DECODER}: 2 layers of cache; is its config another one?"


def test_files_of_another_size_are_not_taken_for_qwen_audio_chat(capsys, published):
    assert "is its config another one?" in failure(capsys, published)


def test_damaged_config_is_named(capsys, published, config):
    config.write_text("{")
    assert failure(capsys, published, "--config", config).startswith(f"{config}: not valid JSON")


def test_a_refused_directory_gets_no_manifest(published, config):
    edit_json(config, num_hidden_layers=3)
    with pytest.raises(ModelError):
        describe(published, config)
    assert not (published / FILE_NAME).exists()


@pytest.mark.reference
def test_the_sizes_built_in_are_those_of_the_full_model(reference):
    shapes = json.loads((reference / "tensors_full_size.json").read_text())["tensors"]
    assert shapes["transformer.wte.weight"] == [QWEN_AUDIO_CHAT["vocab_size"], QWEN_AUDIO_CHAT["hidden_size"]]
    assert shapes["transformer.h.0.mlp.w1.weight"] == [
        QWEN_AUDIO_CHAT["intermediate_size"] // 2,
        QWEN_AUDIO_CHAT["hidden_size"],
    ]
    assert sum(name.endswith("ln_1.weight") for name in shapes) == QWEN_AUDIO_CHAT["num_hidden_layers"]
    assert shapes["transformer.audio.conv1.weight"] == [
        QWEN_AUDIO_CHAT["audio"]["n_state"],
        QWEN_AUDIO_CHAT["audio"]["n_mels"],
        3,
    ]
    assert sum(name.endswith("attn_ln.weight") for name in shapes) == QWEN_AUDIO_CHAT["audio"]["n_layer"]
