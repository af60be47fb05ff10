"""A checkpoint becomes a model that opens and answers, or one line that says why not and no manifest."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from errors import ModelError
from models.convert.__main__ import main
from models.convert.convert import convert, unfinished
from models.convert.whisper import sinusoids
from models.manifest import FILE_NAME, load_manifest, verify_files
from tests.tiny_models import (
    FLAVOURS,
    PAIRS,
    TINY,
    edit_json,
    edit_tensors,
    forced,
    make_mels,
    make_prompt,
    make_tiny,
    open_decoder,
    open_encoder,
    to_single_file,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkpoint(tmp_path):
    return make_tiny(tmp_path / "checkpoint")


@pytest.fixture
def single(tmp_path):
    return to_single_file(make_tiny(tmp_path / "single"))


def hashes(directory):
    return {name: record.sha256 for name, record in load_manifest(directory).files.items()}


def run_command(*arguments, **options):
    """`python3 -m models.convert …` as from the shell."""
    command = [sys.executable, "-m", "models.convert", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, **options)


@pytest.fixture
def ask(capsys):
    """As `run_command`, in this process."""

    def ask(*arguments):
        try:
            code = main([str(one) for one in arguments])
        except SystemExit as end:
            code = end.code
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return ask


# --- what comes out


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "flavour"), PAIRS)
def test_every_precision_of_a_flavour_opens_and_stays_near_float32(tiny, precision, flavour):
    # Of logits with a standard deviation of 3; the widths are too small for 4 bits to average out.
    limit = {"fp32": 1e-4, "fp16": 0.03, "int8-fine": 0.4, "int8": 0.8, "int4": 4.0}[precision]
    ids, mels, new_ids = make_prompt(3, 9, [11]), make_mels(3, [37]), [5, 77, 201]
    rows = []
    for manifest in (tiny("fp32", "fused"), tiny(precision, flavour)):
        clips = open_encoder(manifest).encode(mels)
        rows.append(forced(open_decoder(manifest), ids, clips, new_ids))  # [3, vocab]
    np.testing.assert_allclose(rows[1], rows[0], rtol=0, atol=limit)


@pytest.mark.parametrize(("precision", "flavour"), PAIRS)
def test_the_manifest_tells_precision_flavour_and_backends(tiny, precision, flavour):
    manifest = tiny(precision, flavour)
    assert (manifest.precision, manifest.contract) == (precision, "plain" if flavour == "plain" else "fused")
    assert manifest.dtype == ("float16" if (flavour, precision) == ("plain", "fp16") else "float32")
    assert manifest.backends == (("ailia", "onnxruntime") if flavour == "plain" else ("onnxruntime",))
    assert manifest.chat_format == "chatml"


@pytest.mark.parametrize(("precision", "flavour"), PAIRS)
def test_the_recorded_hashes_are_those_of_the_files(tiny, precision, flavour):
    assert verify_files(tiny(precision, flavour)) is None


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_large_weights_lie_at_page_boundaries(tiny, flavour):
    manifest = tiny("fp32", flavour, geometry=TINY.__class__(**{**TINY.__dict__, "vocab_size": 1024}))
    large = 0
    for graph in (manifest.encoder, *manifest.decoder):
        model = onnx.load(manifest.path(graph.file), load_external_data=False)
        for tensor in model.graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                offset, length = int(entries["offset"]), int(entries["length"])
                assert offset % (65536 if length >= 65536 else 4096) == 0, tensor.name
                assert offset + length <= manifest.path(entries["location"]).stat().st_size
                large += length >= 65536
    assert large  # this test sees at least one of them


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_converting_twice_gives_the_same_bytes(checkpoint, tmp_path, flavour):
    for out in ("first", "second"):
        convert(checkpoint, tmp_path / out, precision="int8", flavour=flavour)
    assert hashes(tmp_path / "first") == hashes(tmp_path / "second")


def test_one_file_of_float32_gives_the_same_weights_as_bfloat16_shards(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "from-shards", precision="fp32", flavour="fused")
    to_single_file(checkpoint, "F32")
    convert(checkpoint, tmp_path / "from-file", precision="fp32", flavour="fused")
    assert hashes(tmp_path / "from-shards") == hashes(tmp_path / "from-file")


def test_a_float16_checkpoint_keeps_its_embeddings_in_float16(single, tmp_path):
    edit_tensors(
        single,
        lambda tensors: tensors.update(
            {name: ("F16", values(bits).astype(np.float16)) for name, (_, bits) in tensors.items()}
        ),
    )
    convert(single, tmp_path / "out", precision="fp32", flavour="fused")
    table = np.load(tmp_path / "out" / "embeddings.npy")
    assert (table.dtype, table.shape) == (np.float16, (320, 32))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_vocabulary_and_licences_go_with_the_weights(checkpoint, tmp_path, flavour):
    for name in ("qwen.tiktoken", "LICENSE", "NOTICE.txt"):
        (checkpoint / name).write_text(f"the {name}")
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour=flavour)
    manifest = load_manifest(tmp_path / "out")
    assert manifest.vocabulary == "qwen.tiktoken"
    for name in ("qwen.tiktoken", "LICENSE", "NOTICE.txt"):
        assert manifest.path(name).read_text() == f"the {name}"
        assert name in manifest.files


def test_a_checkpoint_without_a_vocabulary_converts(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    assert load_manifest(tmp_path / "out").vocabulary is None


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_the_decoder_for_many_rows_has_no_weights_of_its_own(tiny, precision):
    manifest = tiny(precision)
    graphs = [onnx.load(manifest.path(graph.file), load_external_data=False) for graph in manifest.graphs[1:]]
    stored = [
        {
            (one.name, *(entry.value for entry in one.external_data))
            for one in graph.graph.initializer
            if one.external_data
        }
        for graph in graphs
    ]
    assert stored[0] == stored[1]
    assert {entry[1] for entry in stored[0]} == {"decoder.data"}
    slots = [2 * (not manifest.pairs), 2]  # slot_bounds, slot_padding
    assert [len(graph.graph.input) for graph in graphs] == [7 + slots[0] + 2 * 2, 7 + slots[1] + 2 * 2 * 8]


def test_a_base_model_is_told_from_a_chat_model(checkpoint, tmp_path):
    (checkpoint / "generation_config.json").write_text("{}")
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    assert load_manifest(tmp_path / "out").chat_format == "raw"


def test_ntk_and_logn_are_left_out_where_the_config_turns_them_off(tiny):
    manifest = tiny("fp32", "fused", use_dynamic_ntk=False, use_logn_attn=False)
    assert "query_scale" not in manifest.decoder[0].inputs
    plain = tiny("fp32", "plain", use_dynamic_ntk=False, use_logn_attn=False)
    ids, new_ids = make_prompt(4, 40), [1, 2, 3]
    expected = forced(open_decoder(plain), ids, [], new_ids)
    np.testing.assert_allclose(forced(open_decoder(manifest), ids, [], new_ids), expected, rtol=0, atol=3e-4)


# --- what is refused


def values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def refusal(checkpoint, out, *, precision="fp32", flavour="fused"):
    """The message with which a conversion is refused: one line, and no manifest is there afterwards."""
    with pytest.raises(ModelError) as caught:
        convert(checkpoint, out, precision=precision, flavour=flavour)
    assert "\n" not in str(caught.value)
    assert not (out / FILE_NAME).exists()
    return str(caught.value)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    "name",
    ["transformer.h.1.attn.c_attn.bias", "transformer.audio.proj.weight", "lm_head.weight", "transformer.wte.weight"],
)
def test_a_missing_tensor_is_named(single, tmp_path, name, flavour):
    edit_tensors(single, lambda tensors: tensors.pop(name))
    assert f"tensor {name} is missing" in refusal(single, tmp_path / "out", flavour=flavour)


def test_tied_embeddings_are_the_output_rows_too(single, tmp_path):
    copied, tied = tmp_path / "copied", tmp_path / "tied"
    shutil.copytree(single, tied)
    edit_tensors(single, lambda tensors: tensors.update({"lm_head.weight": tensors["transformer.wte.weight"]}))
    edit_tensors(tied, lambda tensors: tensors.pop("lm_head.weight"))
    edit_json(tied / "config.json", tie_word_embeddings=True)
    convert(single, copied, precision="int8", flavour="fused")
    convert(tied, tmp_path / "model", precision="int8", flavour="fused")
    assert hashes(tmp_path / "model") == hashes(copied)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_positions_are_reckoned_where_the_checkpoint_says_so(single, tmp_path, flavour):
    name = "transformer.audio.positional_embedding"
    config = json.loads((single / "config.json").read_text())
    audio = config["audio"]
    table = sinusoids(audio["n_ctx"], audio["n_state"])
    assert np.allclose(table[3, [0, -1]], [np.sin(3), np.cos(3e-4)], atol=1e-6)
    edit_tensors(single, lambda tensors: tensors.update({name: ("F32", table)}))
    convert(single, tmp_path / "stored", precision="fp32", flavour=flavour)
    edit_tensors(single, lambda tensors: tensors.pop(name))
    edit_json(single / "config.json", audio=audio | {"positions": "sinusoids"})
    convert(single, tmp_path / "reckoned", precision="fp32", flavour=flavour)
    assert hashes(tmp_path / "reckoned") == hashes(tmp_path / "stored")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_leftover_tensor_is_named(single, tmp_path, flavour):
    edit_tensors(single, lambda tensors: tensors.update({"transformer.visual.x": tensors["lm_head.weight"]}))
    assert "tensors that no graph uses: transformer.visual.x" in refusal(single, tmp_path / "out", flavour=flavour)


def test_a_tensor_of_another_shape_is_named(single, tmp_path):
    edit_tensors(single, lambda tensors: tensors.update({"transformer.ln_f.weight": ("BF16", np.ones(31, np.uint16))}))
    assert "transformer.ln_f.weight has shape [31], expected [32]" in refusal(single, tmp_path / "out")


WRONG_CONFIGS = {
    "hidden_size is None": {"hidden_size": None},
    "vocab_size is '320'": {"vocab_size": "320"},
    "num_hidden_layers is 0": {"num_hidden_layers": 0},
    "seq_length is True": {"seq_length": True},
    "max_position_embeddings is '8192'": {"max_position_embeddings": "8192"},
    "not a Qwen-Audio checkpoint": {"model_type": "qwen2_audio"},
    "not a Qwen-Audio checkpoint (model_type qwen with an audio section)": {"audio": None},
    "kv_channels * num_attention_heads is 64": {"kv_channels": 16},
    "no_bias is False": {"no_bias": False},
    "rotary_emb_base is 0": {"rotary_emb_base": 0},
    "rotary_emb_base is 1e+40": {"rotary_emb_base": 1e40},
    "rotary_pct is 0.5": {"rotary_pct": 0.5},
    "intermediate_size even": {"intermediate_size": 97},
    "layer_norm_epsilon must be a float": {"layer_norm_epsilon": None},
}


@pytest.mark.parametrize("words", WRONG_CONFIGS)
def test_a_config_of_another_architecture_is_refused(checkpoint, tmp_path, words):
    edit_json(checkpoint / "config.json", **WRONG_CONFIGS[words])
    message = refusal(checkpoint, tmp_path / "out")
    assert words in message
    assert str(checkpoint / "config.json") in message


def test_a_window_that_is_no_number_is_refused(checkpoint, tmp_path):
    edit_json(checkpoint / "generation_config.json", max_window_size=None)
    assert "generation_config.json: max_window_size is None" in refusal(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(("precision", "flavour"), [("fp16", "fused"), ("fp16", "plain"), ("int8", "fused")])
def test_embeddings_beyond_float16_are_refused(single, tmp_path, precision, flavour):
    def change(tensors):
        table = tensors["transformer.wte.weight"][1].copy()
        table[5, 5] = 0x4800  # 131072
        tensors["transformer.wte.weight"] = ("BF16", table)

    edit_tensors(single, change)
    message = refusal(single, tmp_path / "out", precision=precision, flavour=flavour)
    assert message == "transformer.wte.weight holds values beyond 65504; use --precision fp32"


def test_a_matrix_beyond_float16_is_refused(single, tmp_path):
    def change(tensors):
        tensors["lm_head.weight"] = ("F32", np.full((320, 32), 1e5, np.float32))

    edit_tensors(single, change)
    assert "lm_head.weight holds values beyond 65504" in refusal(single, tmp_path / "out", precision="fp16")


def test_plain_int4_is_refused_with_what_there_is(checkpoint, tmp_path):
    message = refusal(checkpoint, tmp_path / "out", precision="int4", flavour="plain")
    assert message == "--precision int4 does not exist for --flavour plain; choose from fp32, fp16, int8"


def test_a_checkpoint_is_not_converted_into_itself(checkpoint):
    assert "is the checkpoint itself" in refusal(checkpoint, checkpoint)


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_interrupted_conversion_leaves_the_model_that_was_there(checkpoint, tmp_path, number, flavour):
    out = tmp_path / "out"
    convert(checkpoint, out, precision="fp32", flavour=flavour)
    assert (out / FILE_NAME).exists()
    lines = []

    def interrupt(line):
        lines.append(line)
        if len(lines) == number:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, out, precision="fp32", flavour=flavour, report=interrupt)
    assert verify_files(load_manifest(out)) is None
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "out"}


def test_a_checkpoint_that_cannot_be_read_leaves_the_model_that_was_there(checkpoint, tmp_path):
    out = tmp_path / "out"
    convert(checkpoint, out, precision="fp32", flavour="fused")
    (checkpoint / "config.json").unlink()
    with pytest.raises(ModelError):
        convert(checkpoint, out, precision="fp32", flavour="fused")
    assert verify_files(load_manifest(out)) is None


# --- the command


def test_the_command_prints_the_model_directory_and_returns_0(checkpoint, tmp_path):
    result = run_command(checkpoint, tmp_path / "out", "--precision", "int8")
    assert (result.returncode, result.stdout) == (0, f"{tmp_path / 'out'}\n")
    assert load_manifest(tmp_path / "out").precision == "int8"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["in"],
        ["in", "out", "--precision", "int3"],
        ["in", "out", "--flavour", "x"],
        ["in", "out", "--calibrate", "none", "--calibration", "x.txt"],
    ],
)
def test_wrong_usage_returns_2(ask, arguments):
    result = ask(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1].startswith("python3 -m models.convert: error: ")
    assert "Traceback" not in result.stderr


def failed(result):
    """The one line of a failed command, after what it reported on the way."""
    assert (result.returncode, result.stdout) == (3, "")
    assert "Traceback" not in result.stderr
    *reported, line = result.stderr.splitlines()
    assert all(one.startswith(("encoder: ", "decoder: ", "no qwen.tiktoken")) for one in reported)
    return line.removeprefix("models.convert: ")


def test_a_missing_checkpoint_returns_3(ask, tmp_path):
    line = failed(ask(tmp_path / "nowhere", tmp_path / "out"))
    assert line == f"{tmp_path / 'nowhere'}: no such checkpoint directory"


def test_plain_int4_returns_3(ask, checkpoint, tmp_path):
    line = failed(ask(checkpoint, tmp_path / "out", "--flavour", "plain", "--precision", "int4"))
    assert line.startswith("--precision int4 does not exist for --flavour plain")


def test_a_damaged_checkpoint_returns_3(ask, single, tmp_path):
    edit_tensors(single, lambda tensors: tensors.pop("lm_head.weight"))
    assert failed(ask(single, tmp_path / "out")) == f"{single}: tensor lm_head.weight is missing"


@pytest.mark.parametrize("failure", [MemoryError(), ImportError("failed to map segment from shared object")])
def test_too_little_memory_returns_3(ask, checkpoint, tmp_path, monkeypatch, failure):
    def fail(*_arguments, **_options):
        raise failure

    monkeypatch.setattr("models.convert.convert.convert", fail)
    monkeypatch.setattr("models.runtime.shortage.can_have", lambda _: False)
    assert "not enough memory" in failed(ask(checkpoint, tmp_path / "out"))


def test_an_output_that_is_a_file_returns_3(ask, checkpoint, tmp_path):
    (tmp_path / "out").write_text("")
    assert failed(ask(checkpoint, tmp_path / "out")) == f"{tmp_path / 'out'}: a file is in its place; name a folder"


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX")
def test_a_write_that_fails_returns_3_and_leaves_no_manifest(checkpoint, tmp_path):
    import resource

    result = run_command(
        checkpoint, tmp_path / "out", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)),
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # half a file of it would stop every later run
    )  # fmt: skip
    assert failed(result).endswith("File too large")
    assert not (tmp_path / "out" / FILE_NAME).exists()


def test_precise_is_the_finest_of_8_bits(ask, checkpoint, tmp_path):
    assert ask(checkpoint, tmp_path / "out", "--precise").returncode == 0
    assert load_manifest(tmp_path / "out").precision == "int8-fine"


def test_the_command_of_another_directory_works_from_a_copy(ask, checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "name with spaces ü")
    result = ask(copy, tmp_path / "out ü")
    assert result.returncode == 0
    assert load_manifest(tmp_path / "out ü").name == "name with spaces ü"


def test_two_conversions_into_one_folder_the_second_is_refused(checkpoint, tmp_path):
    with unfinished(tmp_path / "out"), pytest.raises(ModelError, match="another conversion"):
        convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "out"}


def test_a_model_that_is_open_stays_whole_while_its_folder_is_written_again(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    table = np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r")
    before, inode = np.array(table), (tmp_path / "out" / "decoder.data").stat().st_ino
    convert(checkpoint, tmp_path / "out", precision="int8", flavour="fused")
    np.testing.assert_array_equal(table, before)
    assert (tmp_path / "out" / "decoder.data").stat().st_ino != inode
    assert load_manifest(tmp_path / "out").precision == "int8"


@pytest.mark.parametrize("name", ["manifest.json", "decoder.data", "bos.npy"])
def test_a_file_that_no_conversion_wrote_is_not_replaced(checkpoint, tmp_path, name):
    (tmp_path / name).write_text('{"mine": 1}')
    with pytest.raises(ModelError, match=f"{name}: would be replaced"):
        convert(checkpoint, tmp_path, precision="fp32", flavour="fused", report=pytest.fail)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_conversion_that_was_killed_in_the_middle_of_its_files_is_made_again(checkpoint, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "decoder.data").write_text("of the new model, whose manifest never came")
    (tmp_path / ".out.unfinished").mkdir()
    convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused")
    verify_files(load_manifest(tmp_path / "out"))  # raises for a file with another hash
    assert not (tmp_path / "out" / "decoder.data").read_bytes().startswith(b"of the new model")
    assert not (tmp_path / ".out.unfinished").exists()


def test_a_file_in_the_place_of_a_model_is_told_before_the_work(checkpoint, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ModelError, match="name a folder"):
        convert(checkpoint, tmp_path / "out", precision="fp32", flavour="fused", report=pytest.fail)


def test_an_empty_name_is_not_the_working_directory(checkpoint, capsys):
    with pytest.raises(SystemExit):
        main([str(checkpoint), ""])
    assert "invalid path" in capsys.readouterr().err
