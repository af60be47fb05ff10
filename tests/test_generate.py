"""The greedy loop: the original's ids, no forward pass too many, and every way to end."""

import json

import numpy as np
import pytest

from decoder.generate import generate
from tests.scripted_decoder import ScriptedDecoder
from tests.tiny_models import (
    CASES,
    FLAVOURS,
    greedy,
    make_prompt,
    open_decoder,
    open_encoder,
    reference_case,
    reference_mels,
)


def says(script, **options):
    """A decoder that says `script` after the prompt of `run`."""
    return ScriptedDecoder({1: script}, **options)


def run(decoder, *, stop_ids=(), max_new_tokens=10):
    return list(generate(decoder, [1, 2, 3], ["clip"], stop_ids=stop_ids, max_new_tokens=max_new_tokens))


# --- the loop


def test_the_prompt_goes_in_once_and_each_id_once():
    decoder = says([7, 8, 9, 99])
    assert run(decoder, stop_ids={99}) == [7, 8, 9]
    steps = [("advance", {0: new_id}) for new_id in (7, 8, 9)]
    assert decoder.calls == [("prefill", 0, [1, 2, 3], ["clip"]), *steps]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_no_forward_pass_follows_the_last_id(n):
    decoder = says([7] * 20)
    assert run(decoder, max_new_tokens=n) == [7] * n
    assert len(decoder.calls) == n


@pytest.mark.parametrize("n", [0, -1])
def test_no_id_asked_for_is_no_forward_pass(n):
    decoder = says([7])
    assert run(decoder, max_new_tokens=n) == []
    assert decoder.calls == []


@pytest.mark.parametrize("stop", [50, 51, 52])
def test_every_stop_id_ends_before_it_is_yielded(stop):
    decoder = says([7, 8, stop, 9])
    assert run(decoder, stop_ids=frozenset({50, 51, 52})) == [7, 8]
    assert len(decoder.calls) == 3


def test_a_stop_id_at_once_gives_nothing():
    assert run(says([50]), stop_ids=[50]) == []


def test_a_stop_id_in_the_prompt_ends_nothing():
    assert run(says([7, 8, 50]), stop_ids={2, 50}) == [7, 8]


def test_new_tokens_are_counted_without_the_prompt():
    assert len(run(says([7] * 20), max_new_tokens=2)) == 2


@pytest.mark.parametrize(("room", "expected"), [(3, 1), (4, 2), (7, 5)])
def test_a_full_context_ends_the_answer(room, expected):
    decoder = says([7] * 20, max_positions=room)
    assert run(decoder) == [7] * expected  # the last id needs no position of its own
    assert decoder.positions == [room]


def test_nothing_runs_before_the_first_id_is_asked_for():
    decoder = says([7, 8])
    ids = generate(decoder, [1], [], stop_ids=(), max_new_tokens=5)
    assert decoder.calls == []
    assert next(ids) == 7
    assert len(decoder.calls) == 1


def test_ties_go_to_the_lowest_id():
    decoder = says([])
    decoder._say = decoder._hear = lambda *_: np.array([0, 3, 1, 3, 3], np.float32)
    assert run(decoder, max_new_tokens=2) == [1, 1]


def test_ids_are_plain_integers():
    assert [type(one) for one in run(says([7, 8]), max_new_tokens=2)] == [int, int]


# --- real graphs


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_answer_ends_where_the_context_is_full(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour, max_position_embeddings=24))
    assert len(greedy(decoder, make_prompt(1, 20), n=50)) == 5
    assert decoder.position == 24


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_answering_twice_gives_the_same_ids(tiny, flavour):
    decoder, ids = open_decoder(tiny("fp32", flavour)), make_prompt(2, 30)
    assert greedy(decoder, ids) == greedy(decoder, ids)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_shorter_answer_is_the_beginning_of_a_longer_one(tiny, flavour):
    decoder, ids = open_decoder(tiny("fp32", flavour)), make_prompt(3, 10)
    assert greedy(decoder, ids, n=7) == greedy(decoder, ids, n=20)[:7]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["l_text50", "l_text65", "l_two_audio"])
def test_ids_beyond_the_trained_context_are_the_originals(golden, golden_case, original, name, flavour):
    case, manifest = golden_case(name), original(golden / "tiny-long", flavour)
    clips = open_encoder(manifest).encode(case.mels)
    found = greedy(open_decoder(manifest), case["input_ids"], clips, n=len(case["greedy"]))
    assert found == case["greedy"].tolist()


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("checkpoint", "name"), CASES)
def test_ids_of_every_case_are_the_originals(reference, original, checkpoint, name, flavour):
    case, manifest = reference_case(reference, checkpoint, name), original(reference / "ckpt" / checkpoint, flavour)
    clips = open_encoder(manifest).encode(case.mels)
    found = greedy(open_decoder(manifest), case["input_ids"], clips, n=len(case["greedy"]))
    assert found == case["greedy"].tolist()


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("run_name", "stop_ids"), [("single", {364}), ("never", {3}), ("eod_filtered_plus_single", {589, 364})]
)
def test_stop_ids_end_where_the_originals_stop_words_do(reference, original, run_name, stop_ids, flavour):
    golden = json.loads((reference / "model" / "tiny-a" / "a_stop.json").read_text())
    generated = golden["runs"][run_name]["generated"]
    stop = next((k for k, one in enumerate(generated) if one in stop_ids), len(generated))
    manifest = original(reference / "ckpt" / "tiny-a", flavour)
    clips = open_encoder(manifest).encode(reference_mels(reference, golden["clips"]))
    found = greedy(open_decoder(manifest), golden["input_ids"], clips, n=golden["max_new_tokens"], stop_ids=stop_ids)
    assert found == generated[:stop]
    assert (run_name == "never") == (stop == golden["max_new_tokens"])
