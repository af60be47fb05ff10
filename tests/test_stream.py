"""The pieces of an answer join to the whole text, and none of them breaks a character."""

import json
import random
import unicodedata

import pytest

from tests.conftest import GOLDEN
from tokenizer.chat import Turn, encode_chat
from tokenizer.stream import TextStream

CONTEXTS = json.loads((GOLDEN / "context_cases.json").read_text())
REPLIES = {case["name"]: case for case in CONTEXTS["cases"][0]["decode"]}
END_TO_END = json.loads((GOLDEN / "chat_e2e.json").read_text())


def stream_text(tokenizer, ids):
    """The pieces of an answer, those that are not empty."""
    stream = TextStream(tokenizer)
    for token_id in ids:
        if piece := stream.push(token_id):
            yield piece
    if piece := stream.end():
        yield piece


def until_stop(tokenizer, ids):
    """The answer's own ids, as the original's chat finds them."""
    for position, token_id in enumerate(ids):
        if token_id in (tokenizer.im_start, tokenizer.im_end):
            return ids[:position]
    return ids


def random_ids(tokenizer, rng):
    """Ids of random tokens, single bytes, white space and special tokens, in a random mixture."""
    white = [tokenizer.encode(text)[0] for text in (" ", "\n", "  ", "\n\n", "\t", "\r\n")]
    kinds = [
        lambda: rng.randrange(tokenizer.endoftext),
        lambda: rng.randrange(256),
        lambda: rng.choice(white),
        lambda: rng.randrange(tokenizer.endoftext, tokenizer.vocab_size),
    ]
    weights = [rng.random() ** 2 for _ in kinds]
    return [kind() for kind in rng.choices(kinds, weights, k=rng.randrange(14))]


@pytest.mark.slow
def test_pieces_join_to_the_stripped_text_for_any_ids(tokenizer):
    rng = random.Random(20)
    for _ in range(20_000):
        ids = random_ids(tokenizer, rng)
        pieces = list(stream_text(tokenizer, ids))
        assert "".join(pieces) == tokenizer.decode(ids).strip(), ids
        assert all(pieces), ids


@pytest.mark.parametrize("name", [name for name in REPLIES if name != "no_stop_token"])
def test_replies_equal_the_original(tokenizer, name):
    case = REPLIES[name]
    assert "".join(stream_text(tokenizer, until_stop(tokenizer, case["generated_ids"]))) == case["response"]


def test_a_reply_of_a_whole_run_equals_the_original(tokenizer):
    turn = END_TO_END["turns"][0]
    assert "".join(stream_text(tokenizer, until_stop(tokenizer, turn["generated_ids"]))) == turn["response"]


def test_the_last_token_is_not_lost_when_the_answer_is_cut_off(tokenizer):
    """The original drops it (quirk A)."""
    case = REPLIES["no_stop_token"]
    text = "".join(stream_text(tokenizer, case["generated_ids"]))
    assert text == case["response"] + tokenizer.decode(case["generated_ids"][-1:])
    turn = END_TO_END["turns"][1]
    text = "".join(stream_text(tokenizer, turn["generated_ids"]))
    assert text == turn["response"] + tokenizer.decode(turn["generated_ids"][-1:])


def test_a_prompt_that_is_not_normalised_costs_no_text(tokenizer):
    """The original cuts the prompt off by its length before normalisation (quirk B); here only new ids are decoded."""
    prompt = encode_chat(tokenizer, [Turn(unicodedata.normalize("NFD", "한국어 텍스트"))])
    answer = tokenizer.encode("It says hello.")
    assert "".join(stream_text(tokenizer, [*prompt, *answer][len(prompt) :])) == "It says hello."


def test_a_character_of_several_tokens_comes_whole(tokenizer):
    ids = tokenizer.encode("🦜𪚥")
    assert len(ids) > 2
    assert list(stream_text(tokenizer, ids)) == ["🦜", "𪚥"]


def test_text_comes_as_soon_as_it_is_certain(tokenizer):
    taken = []

    def ids():
        for token_id in tokenizer.encode("It says hello"):
            taken.append(token_id)
            yield token_id

    stream = stream_text(tokenizer, ids())
    assert next(stream) == "It"
    assert len(taken) == 1


def test_white_space_is_held_back_until_text_follows(tokenizer):
    ids = [tokenizer.encode(text)[0] for text in (" ", "a", "\n\n", "b", " ", "\n")]
    assert list(stream_text(tokenizer, ids)) == ["a", "\n\nb"]


def test_an_unfinished_character_at_the_end_is_marked(tokenizer):
    [*start, _] = tokenizer.encode("a🦜")
    assert "".join(stream_text(tokenizer, start)) == tokenizer.decode(start) == "a\ufffd"


@pytest.mark.parametrize("token_id", [155_165, 155_946])
def test_an_id_that_the_vocabulary_lacks_is_marked_and_nothing_is_lost(tokenizer, token_id):
    [a, b] = tokenizer.encode("a") + tokenizer.encode("b")
    assert "".join(stream_text(tokenizer, [a, token_id, b])) == "a\ufffdb"


def test_no_ids_give_no_pieces(tokenizer):
    assert list(stream_text(tokenizer, [])) == []
