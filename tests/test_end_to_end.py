"""From a sound file to the original's own answers: chat with two turns, and the base model, in both flavours.

The weights are random (tests/golden/README.md), so that the texts mean nothing; every id is decided by a margin that
float32 keeps. The original's quirks: after <|im_end|> it makes one more step, to <|endoftext|>; an answer that reaches
its limit loses its last token in the text. Ours stops at once and loses none.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audio_encoder.encoder import AudioEncoder
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from decoder.decoder import Decoder
from decoder.generate import generate
from models.runtime.session import SessionOptions
from tests.tiny_models import edit_json
from tokenizer.chat import Turn, encode_chat
from tokenizer.tokenizer import Tokenizer

COMMAND = [sys.executable, str(Path(__file__).resolve().parent.parent / "qwen_audio.py")]
CPU = SessionOptions(backend="onnxruntime")

pytestmark = pytest.mark.parametrize("flavour", ["fused", "plain"])


@pytest.fixture(scope="module")
def golden_chat(reference):
    return json.loads((reference / "e2e" / "chat.json").read_text())


@pytest.fixture(scope="module")
def checkpoints(reference, vocab_path, tmp_path_factory):
    """The golden checkpoint with its vocabulary, as the chat model and as the base model."""
    folders = {}
    for name in ("chat", "base"):
        folder = tmp_path_factory.mktemp("checkpoints") / name
        shutil.copytree(reference / "ckpt" / "tiny-e2e", folder, copy_function=shutil.copyfile)
        folder.chmod(0o755)
        shutil.copyfile(vocab_path, folder / "qwen.tiktoken")
        folders[name] = folder
    edit_json(folders["base"] / "generation_config.json", chat_format="raw")
    return folders


def ask(model, sound, prompt, max_new_tokens):
    """The record that the real command writes with --json."""
    arguments = ["-i", sound, "-p", prompt, "--max-new-tokens", str(max_new_tokens), "--json", "--onnx"]
    done = subprocess.run([*COMMAND, "--model", model.directory, *arguments], capture_output=True, check=True)
    return json.loads(done.stdout)


def until_stop(ids):
    """Ids before the first that stops the chat model."""
    return ids[: ids.index(151645)] if 151645 in ids else ids


@pytest.mark.slow
def test_the_first_turn_of_a_chat(flavour, original, checkpoints, golden_chat, golden):
    turn = golden_chat["turns"][0]
    sound = golden / "1272-128104-0000.flac"
    record = ask(original(checkpoints["chat"], flavour), sound, "what does the person say?", turn["max_new_tokens"])
    assert record["token_ids"] == until_stop(turn["generated_ids"])
    assert (record["text"], record["finish_reason"]) == (turn["response"], "stop")
    assert record["prompt_tokens"] == turn["context_len"]


@pytest.mark.slow
def test_the_base_model_with_its_tags(flavour, original, checkpoints, golden_chat, golden):
    case = golden_chat["base"]
    sound = golden / "1272-128104-0000-middle_classes.wav"
    tags = case["query"].partition("</audio>")[2]
    record = ask(original(checkpoints["base"], flavour), sound, tags, len(case["generated_ids"]))
    assert record["token_ids"] == case["generated_ids"]
    assert record["text"] == case["decode"].removeprefix(case["query"]).strip()
    assert record["prompt_tokens"] == sum(count for _, count in case["input_ids_rle"])
    assert record["finish_reason"] == "length"


@pytest.mark.slow
def test_the_second_turn_of_a_chat_without_losing_its_last_token(flavour, original, checkpoints, golden_chat, golden):
    first, second = golden_chat["turns"]
    manifest = original(checkpoints["chat"], flavour)
    tokenizer = Tokenizer(manifest.path(manifest.vocabulary))
    mel = log_mel_spectrogram(load_waveform(golden / "1272-128104-0000.flac"))
    clips = AudioEncoder(manifest, CPU).encode([mel])
    turns = [Turn("what does the person say?", (len(clips[0]),), first["response"]), Turn(second["query"])]
    ids = encode_chat(tokenizer, turns, max_window_size=manifest.max_window_size)
    assert len(ids) == second["context_len"]
    limit = second["max_new_tokens"]
    new_ids = list(generate(Decoder(manifest, CPU), ids, clips, stop_ids=tokenizer.stop_ids, max_new_tokens=limit))
    assert new_ids == second["generated_ids"]
    assert len(new_ids) == limit == 24
    text = tokenizer.decode(new_ids).strip()
    assert text == (second["response"] + tokenizer.decode(new_ids[-1:])).strip()
