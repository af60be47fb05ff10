"""Guesses of the next ids: what is remembered, and that they change no answer, only how many runs it takes."""

import numpy as np
import pytest

from decoder.decoder import Decoder
from decoder.drafts import LEAST, LONGEST, MOST, REMEMBERED, Drafts
from decoder.generate import Request, generate_many
from tests.scripted_decoder import ScriptedDecoder
from tests.tiny_models import ONNX_RUNTIME, make_mels, make_prompt, open_encoder

STOP = 99


def ask(key, ids=None, n=50, stop=STOP):
    return Request(key, ids or [key], [], frozenset({stop}), n)


def answers(events):
    found = {}
    for event in events:
        found.setdefault(event.key, []).append(event.finish_reason if event.token_id is None else event.token_id)
    return found


def runs(decoder):
    return [call[1] for call in decoder.calls if call[0] in ("advance", "extend")]


# --- what is remembered


def test_nothing_is_known_at_first():
    assert Drafts().after([1, 2, 3], MOST) == []


def test_what_followed_is_what_is_guessed():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4, 5, 6])
    assert drafts.after([9, 2, 3], 2) == [4, 5]
    assert drafts.after([2, 3], MOST) == [4, 5, 6]
    assert drafts.after([5, 6], MOST) == []  # nothing followed


def test_the_last_time_counts():
    drafts = Drafts()
    drafts.remember([1, 2, 3])
    drafts.remember([1, 2, 4])
    assert drafts.after([1, 2], 1) == [4]


def test_the_longest_that_is_known_decides():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4])
    drafts.remember([7, 3, 5])
    assert drafts.after([1, 2, 3], 1) == [4]
    assert drafts.after([8, 3], 1) == [5]


def test_one_id_alone_lets_guess_no_more_than_costs_nothing():
    drafts = Drafts()
    drafts.remember([1, 2, 3, 4])
    assert drafts.after([9, 2], MOST) == [3][:LEAST]


def test_a_guess_does_not_run_into_the_next_text():
    drafts = Drafts()
    drafts.remember([1, 2, 3])
    drafts.remember([4, 5, 6])
    assert drafts.after([1, 2], MOST) == [3]
    assert drafts.after([3, 4], MOST) == [5][:LEAST]


def test_memory_is_flat():
    drafts = Drafts()
    for first in range(0, 3 * REMEMBERED, 1000):
        drafts.remember(range(first, first + 1000))
    assert len(drafts._said) <= REMEMBERED
    assert len(drafts._places) <= LONGEST * REMEMBERED
    assert drafts.after([500, 501], 1) == []  # forgotten
    drafts.remember([1, 2, 3])
    assert drafts.after([1, 2], 1) == [3]


# --- what they change


def test_an_answer_like_the_one_before_takes_fewer_runs():
    script = [*range(10, 30), STOP]
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(1), ask(2, ids=[2])])))
    assert found[1] == found[2] == [*script[:-1], "stop"]
    assert [len(run[0]) for run in runs(decoder)[20:]] == [
        1 + 1,
        1 + 7,
        1 + 7,
        1 + 1,
    ]  # of the second: at first one id is known
    assert decoder.positions == [1 + 20]


@pytest.mark.parametrize("changed", range(20))
def test_a_guess_that_fails_is_taken_back(changed):
    script = [*range(10, 30), STOP]
    other = [*script[:changed], 77, *script[changed + 1 :]]
    decoder = ScriptedDecoder({1: script, 2: other}, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(1), ask(2, ids=[2])])))
    assert found[2] == [*other[:-1], "stop"]


@pytest.mark.parametrize("n", range(1, 12))
def test_no_more_ids_come_than_were_asked_for(n):
    script = list(range(10, 40))
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(1, n=20), ask(2, ids=[2], n=n)])))
    assert found[2] == script[:n]
    assert decoder.positions[0] <= 1 + n


@pytest.mark.parametrize("most", range(2, 14))
def test_a_context_is_filled_and_not_more(most):
    script = list(range(10, 40))
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True, max_positions=most)
    found = answers(generate_many(decoder, iter([ask(1, n=20), ask(2, ids=[2], n=20)])))
    assert found[1] == found[2] == script[:most]


def test_rows_share_a_run_of_limited_length():
    script = [*range(10, 30), STOP]
    decoder = ScriptedDecoder(dict.fromkeys(range(1, 12), script), rows=3, takes_back_freely=True)
    found = answers(generate_many(decoder, iter([ask(key, ids=[key]) for key in range(1, 12)])))
    assert set(map(tuple, found.values())) == {(*script[:-1], "stop")}
    sizes = [sum(len(ids) if isinstance(ids, list) else 1 for ids in run.values()) for run in runs(decoder)]
    assert max(sizes) == 8  # three rows with a guess of one each, and at the end two with three


def test_guessing_can_be_left():
    script = [*range(10, 30), STOP]
    decoder = ScriptedDecoder({1: script, 2: script}, takes_back_freely=True)
    list(generate_many(decoder, iter([ask(1), ask(2, ids=[2])]), guessing=False))
    assert len(runs(decoder)) == 40


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
def test_a_real_decoder_says_the_same_with_guesses_and_without(tiny, precision, rows):
    manifest = tiny(precision, seq_length=512)
    clip = open_encoder(manifest).encode(make_mels(0, [40]))
    prompts = [make_prompt(seed % 5, 6, [len(clip[0])]) for seed in range(12)]  # like each other, as in a folder
    told = []
    for guessing in (False, True):
        decoder, sizes = Decoder(manifest, ONNX_RUNTIME, rows=rows), []
        extend = decoder.extend
        decoder.extend = lambda ids, extend=extend, sizes=sizes: (
            sizes.append(sum(map(len, ids.values()))),
            extend(ids),
        )[1]
        requests = (Request(key, ids, clip, frozenset({3}), 24) for key, ids in enumerate(prompts))
        told.append((answers(generate_many(decoder, requests, guessing=guessing)), len(sizes)))
    assert told[0][0] == told[1][0]
    assert told[1][1] < 0.8 * told[0][1]  # runs


def test_an_answer_is_that_of_greedy_steps_bit_for_bit(tiny):
    """Also where a guess failed before: what it left in the cache is overwritten."""
    manifest, ids = tiny("int4", seq_length=512), make_prompt(1, 15)
    decoder, plain = (Decoder(manifest, ONNX_RUNTIME) for _ in range(2))
    expected = [plain.prefill(ids), *map(plain.step, (4, 5, 6, 7))]
    decoder.prefill(ids)
    first = decoder.extend({0: [4, 5, 9, 9, 9]})[0]
    decoder.rewind(17)
    second = decoder.extend({0: [6, 7]})[0]
    np.testing.assert_array_equal(np.concatenate([first[:2], second]), expected[1:])
