"""Ids and texts equal the original's in each mode; a vocabulary that cannot be used says why."""

import base64
import json
import unicodedata

import pytest

from errors import ModelError, PromptError
from tests.conftest import GOLDEN
from tokenizer.special_tokens import special_tokens
from tokenizer.tokenizer import Tokenizer

CASES = json.loads((GOLDEN / "text_cases.json").read_text())
GOLDEN_MODES = {"none": "none", "audio": "audio_st", "all": "all"}


def vocabulary_lines(merges=()):
    """A vocabulary of the 256 bytes and some merged tokens, as lines of a file."""
    tokens = [bytes([byte]) for byte in range(256)] + [merge.encode() for merge in merges]
    return [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(tokens)]


def write(folder, lines):
    path = folder / "small.tiktoken"
    path.write_text("\n".join(lines) + "\n")
    return path


def error_of(path):
    with pytest.raises(ModelError) as caught:
        Tokenizer(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", GOLDEN_MODES)
@pytest.mark.parametrize("case", CASES["text_cases"], ids=lambda case: case["name"])
def test_ids_and_text_equal_the_original(tokenizer, case, mode):
    ids = tokenizer.encode(case["text"], special=mode)
    assert ids == case[f"ids_{GOLDEN_MODES[mode]}"]
    assert tokenizer.decode(ids) == case[f"decode_{GOLDEN_MODES[mode]}"]


@pytest.mark.parametrize("case", CASES["decode_cases"], ids=lambda case: case["name"])
def test_any_ids_decode_as_in_the_original(tokenizer, case):
    assert tokenizer.decode(case["ids"]) == case["decode"]


def test_no_special_string_is_recognised_unless_asked_for(tokenizer):
    assert max(tokenizer.encode("".join(special_tokens()))) < tokenizer.endoftext


def test_control_tokens_are_recognised_in_mode_all_only(tokenizer):
    text = "<|im_start|><|im_end|><|endoftext|>"
    assert tokenizer.encode(text, special="all") == [tokenizer.im_start, tokenizer.im_end, tokenizer.endoftext]
    assert max(tokenizer.encode(text, special="audio")) < tokenizer.endoftext


def test_text_is_normalised_first(tokenizer):
    decomposed = unicodedata.normalize("NFD", "café 한국어")
    assert tokenizer.encode(decomposed) == tokenizer.encode("café 한국어")


@pytest.mark.parametrize(
    ("text", "meant"), [("a\udcffb", "a\ufffdb"), ("\ud83d\ude00", "\U0001f600"), ("\ud800", "\ufffd")]
)
def test_surrogates_do_not_crash(tokenizer, text, meant):
    assert tokenizer.encode(text) == tokenizer.encode(meant)


def test_a_text_that_cannot_be_split_is_a_named_error(tokenizer):
    with pytest.raises(PromptError, match="white space"):
        tokenizer.encode(" " * 1_000_000 + "x")


def test_ids_of_the_special_tokens(tokenizer):
    assert (tokenizer.endoftext, tokenizer.im_start, tokenizer.im_end) == (151_643, 151_644, 151_645)
    assert (tokenizer.audio_pad, tokenizer.audio_start, tokenizer.audio_end) == (151_851, 155_163, 155_164)
    assert tokenizer.stop_ids == {151_643, 151_644, 151_645}
    assert tokenizer.vocab_size == 155_165


@pytest.mark.parametrize("token_id", [-1, 155_165, 155_946])
def test_an_id_outside_the_vocabulary_is_named(tokenizer, token_id):
    with pytest.raises(PromptError, match=f"{token_id} is not in the vocabulary"):
        tokenizer.decode([9_707, token_id])
    with pytest.raises(PromptError, match=str(token_id)):
        tokenizer.token_bytes(token_id)


def test_a_small_vocabulary_has_the_special_tokens_behind_its_ranks(tmp_path):
    tokenizer = Tokenizer(write(tmp_path, vocabulary_lines(["th", "the"])))
    assert tokenizer.endoftext == 258
    assert tokenizer.audio_end == 258 + 3_521
    assert tokenizer.encode("the<|en|>", special="audio") == [257, 258 + special_tokens().index("<|en|>")]
    assert tokenizer.decode(tokenizer.encode("thé 語")) == "thé 語"


def test_blank_lines_at_the_end_are_no_tokens_but_bad_lines(tmp_path):
    assert "line 257" in error_of(write(tmp_path, [*vocabulary_lines(), ""]))


@pytest.mark.parametrize(
    ("line", "replacement"),
    [
        (7, "no base64! 6"),
        (7, "Bg=="),
        (7, "Bg== 6 6"),
        (7, "Bg== six"),
        (7, "Bg== 7"),  # a rank is left out
        (7, "BQ== 6"),  # the token of line 6 again
        (1, "<html>"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, replacement):
    lines = vocabulary_lines()
    lines[line - 1] = replacement
    assert f"line {line} " in error_of(write(tmp_path, lines))


def test_a_vocabulary_without_all_bytes_is_refused(tmp_path):
    assert "byte 0xff" in error_of(write(tmp_path, vocabulary_lines()[:-1]))


def test_an_empty_vocabulary_is_refused(tmp_path):
    path = tmp_path / "empty.tiktoken"
    path.write_bytes(b"")
    assert "byte 0x00" in error_of(path)


def test_a_missing_vocabulary_is_named(tmp_path):
    assert "cannot be read" in error_of(tmp_path / "none.tiktoken")


def test_a_folder_for_a_vocabulary_is_named(tmp_path):
    assert "cannot be read" in error_of(tmp_path)
