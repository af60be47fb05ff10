"""The special tokens, built from their parts, are the original's, in its order."""

import json

import pytest

from tests.conftest import GOLDEN
from tokenizer.special_tokens import audio_tokens, control_tokens, special_tokens


def test_special_tokens_equal_the_original():
    assert list(special_tokens()) == json.loads((GOLDEN / "special_tokens.json").read_text())


def test_no_special_token_is_there_twice():
    assert len(set(special_tokens())) == 3_522


def test_control_tokens_are_no_audio_tokens():
    assert len(control_tokens()) == 208
    assert not set(control_tokens()) & set(audio_tokens())


@pytest.mark.parametrize(
    ("token", "token_id"),
    [
        ("<|endoftext|>", 151_643),
        ("<|im_start|>", 151_644),
        ("<|im_end|>", 151_645),
        ("[[[AUDIO:modality]]]", 151_851),
        ("<|0.00|>", 151_871),
        ("<|12.34|>", 151_871 + 1_234),
        ("<|30.00|>", 154_871),
        ("<audio>", 155_163),
        ("</audio>", 155_164),
    ],
)
def test_a_token_has_the_id_of_the_real_vocabulary(token, token_id):
    assert special_tokens().index(token) + 151_643 == token_id
