"""nano, the model that is shipped: what it answers about the committed clips, through the real command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cli.main import main
from models.convert.checkpoint import Checkpoint
from models.convert.convert import convert
from models.convert.quantize import Blocks, dequantize_blocks
from models.manifest import load_manifest
from models.nano.embedded import CHECKPOINT, embedded_model

ROOT = Path(__file__).parents[1]
CLIPS = Path(__file__).parent / "golden" / "nano"
ANSWERS = json.loads((CLIPS / "answers.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """nano in both precisions."""
    exact = tmp_path_factory.mktemp("fp32")
    convert(CHECKPOINT, exact, precision="fp32", flavour="fused")
    return {"fp32": exact, "int8-fine": embedded_model()}


def ask(*arguments):
    command = [sys.executable, str(ROOT / "qwen_audio.py"), *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "QWEN_AUDIO_MODEL"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd="/", check=False)


def clips_of(row):
    return [CLIPS / name for name in row["audio"]]


@pytest.mark.slow
@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row["audio"][0])
@pytest.mark.parametrize("precision", ["fp32", "int8-fine"])
def test_the_committed_clips_are_answered_rightly(models, precision, row, capsys):
    form = ["--raw"] if row["raw"] else []
    asked = ["--model", models[precision], "-q", *form, "-p", row["prompt"], "-i", *clips_of(row)]
    assert main([str(word) for word in asked]) == 0
    assert capsys.readouterr() == (row["text"] + "\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["encoder.onnx", "decoder.onnx"])
def test_int8_fine_has_the_weights_that_are_stored_in_8_bits(models, file):
    graph = onnx.load(models["int8-fine"] / file).graph
    arrays = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    checkpoint = Checkpoint(CHECKPOINT)
    names = [name.removesuffix(".blocks") for name in arrays if name.endswith(".blocks")]
    assert len(names) > 30
    for name in names:
        codes, scales = arrays[f"{name}.blocks"], arrays[f"{name}.scales"]
        shape = len(codes), codes[0].size
        found = dequantize_blocks(Blocks(codes, scales, arrays[f"{name}.zeros"]), bits=8, k=shape[1])
        np.testing.assert_array_equal(found, checkpoint.look_up(f"{name}.weight", *shape).read(), err_msg=name)


def test_there_are_clips_of_several_kinds():
    assert len(ANSWERS) >= 6
    assert any(len(row["audio"]) == 2 for row in ANSWERS)


def test_nano_is_opened_when_no_model_is_named():
    row = ANSWERS[0]
    done = ask("-p", row["prompt"], "-i", *clips_of(row))
    assert (done.stdout, done.returncode) == (row["text"] + "\n", 0)
    assert "nano" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8-fine", "fp32"])
def test_an_answer_is_the_same_every_time_and_after_others(models, precision):
    row, other = ANSWERS[0], ANSWERS[1]
    arguments = ("--model", models[precision], "-q", "-p", row["prompt"])
    alone = [ask(*arguments, "-i", *clips_of(row)).stdout for _ in range(2)]
    assert alone[0] == alone[1]
    after = ask(*arguments, "--each", "-i", *clips_of(other), *clips_of(row)).stdout
    assert after.endswith(alone[0])
    assert len(after) > len(alone[0])


def test_the_repository_holds_at_most_64_megabytes_of_it_in_files_of_at_most_50():
    tracked = [
        path for path in (ROOT / "models" / "nano").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert sum(path.stat().st_size for path in tracked) <= 64_000_000
    assert max(path.stat().st_size for path in tracked) <= 50_000_000


def test_it_is_described_as_what_it_is():
    manifest = load_manifest(embedded_model())
    assert manifest.chat_format == "chatml"
    assert manifest.precision == "int8-fine"
    assert manifest.encoder_sizes.n_mels == 80
    assert manifest.decoder_sizes.seq_length == 2048
