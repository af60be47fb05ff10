"""The log-probability of given answers equals brute force, with no pass made twice."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from decoder.choices import choose, log_softmax
from errors import PromptError
from tests.tiny_models import FLAVOURS, TINY, make_mels, make_prompt, open_decoder, open_encoder

END = 3
OPTIONS = [[10, 11, 12], [10, 11, 13], [10], [20, 11], [10, 11], [30], [10, 11, 12]]
# Sums of float32 logits with a standard deviation of 3, reached by another path.
SAME = 3e-4


class ScriptedDecoder:
    """Gives logits that depend on the sequence alone, and writes down what it was asked."""

    def __init__(self, *, vocab=50, max_positions=100, rewinds=True):
        self.sizes = SimpleNamespace(max_positions=max_positions, vocab_size=vocab)
        self.calls, self.sequence, self.rewinds = [], [], rewinds

    @property
    def position(self):
        return len(self.sequence)

    def prefill(self, ids, clips, *, reuse=False):
        self.calls.append(("prefill", list(ids), list(clips)))
        self.sequence = list(ids)
        return self.logits(self.sequence)

    def step(self, token_id):
        self.calls.append(("step", token_id))
        self.sequence.append(token_id)
        return self.logits(self.sequence)

    def rewind(self, position):
        if not self.rewinds:
            raise ValueError(position)
        assert 0 < position <= len(self.sequence)
        del self.sequence[position:]

    def logits(self, sequence):
        seed = [*sequence, len(sequence)]
        return np.random.default_rng(seed).normal(0, 3, self.sizes.vocab_size).astype(np.float32)


def steps(decoder):
    return [call[1] for call in decoder.calls if call[0] == "step"]


def brute_force(decoder, ids, clips, option):
    """One whole pass for each id: the probability of each, given all before it."""
    whole = [*option, END]
    rows = [decoder.prefill([*ids, *whole[:n]], clips).astype(np.longdouble) for n in range(len(whole))]
    return float(sum(row[one] - np.log(np.exp(row).sum()) for row, one in zip(rows, whole, strict=True)))


# --- the walk


def test_log_probabilities_are_those_of_each_sequence_alone():
    found = choose(ScriptedDecoder(), [1, 2], ["clip"], OPTIONS, end_id=END)
    expected = [brute_force(ScriptedDecoder(), [1, 2], ["clip"], option) for option in OPTIONS]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert all(type(one) is float for one in found)


def test_a_shared_beginning_goes_in_once_and_the_end_never():
    decoder = ScriptedDecoder()
    choose(decoder, [1, 2], ["clip"], OPTIONS, end_id=END)
    assert decoder.calls[0] == ("prefill", [1, 2], ["clip"])
    assert sorted(steps(decoder)) == [10, 11, 11, 12, 13, 20, 30]
    assert len(decoder.calls) == 1 + 7


def test_a_decoder_that_cannot_go_back_starts_anew_with_the_prompt():
    decoder = ScriptedDecoder(rewinds=False)
    found = choose(decoder, [1, 2], ["clip"], OPTIONS, end_id=END)
    assert found == choose(ScriptedDecoder(), [1, 2], ["clip"], OPTIONS, end_id=END)
    assert {tuple(call[1]) for call in decoder.calls if call[0] == "prefill"} == {(1, 2)}


def test_the_order_of_options_changes_nothing():
    found = choose(ScriptedDecoder(), [1, 2], [], OPTIONS, end_id=END)
    assert choose(ScriptedDecoder(), [1, 2], [], OPTIONS[::-1], end_id=END) == found[::-1]


def test_equal_options_are_equally_likely():
    found = choose(ScriptedDecoder(), [1, 2], [], OPTIONS, end_id=END)
    assert found[0] == found[-1]
    assert len(set(found)) == len(OPTIONS) - 1


def test_an_empty_option_is_an_answer_that_ends_at_once():
    decoder = ScriptedDecoder()
    found = choose(decoder, [1, 2], [], [[], [5]], end_id=END)
    assert found[0] == log_softmax(decoder.logits([1, 2]))[END]


def test_all_one_id_answers_and_their_rest_make_one():
    """Every first id, followed by every second one: a whole level of the tree sums to the level above."""
    decoder = ScriptedDecoder(vocab=6)
    both = [[first, second] for first in range(6) for second in range(6)]
    total = sum(
        math.exp(one) / math.exp(log_softmax(decoder.logits([1, *option]))[END])
        for option, one in zip(both, choose(decoder, [1], [], both, end_id=END), strict=True)
    )
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.slow
def test_a_long_option_is_walked_without_recursion():
    long = 1_200
    decoder = ScriptedDecoder(max_positions=5_000)
    (found,) = choose(decoder, [1], [], [[5] * long], end_id=END)
    assert found < 0
    assert len(decoder.calls) == 1 + long


# --- log-softmax


@pytest.mark.parametrize("shift", [0, 1e4, -1e4, 3e38])
def test_log_softmax_is_stable(shift):
    logits = np.array([0, 1, 2, -50], np.float32) if not shift else np.full(4, shift, np.float32)
    found = log_softmax(logits)
    assert found.dtype == np.float64
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-12)
    if shift:
        np.testing.assert_allclose(found, -math.log(4), rtol=0, atol=1e-12)


def test_log_softmax_keeps_what_is_very_unlikely():
    found = log_softmax(np.array([0, -1000, -np.inf], np.float32))
    assert found.tolist() == [0, -1000, -np.inf]


# --- errors


@pytest.mark.parametrize(("room", "fits"), [(4, False), (5, True)])
def test_the_longest_option_must_fit_behind_the_prompt(room, fits):
    decoder = ScriptedDecoder(max_positions=room)
    if fits:
        assert len(choose(decoder, [1, 2], [], [[5, 6, 7], [8]], end_id=END)) == 2
        assert decoder.position <= room
        return
    with pytest.raises(PromptError, match=r"2 tokens of prompt and 3 of the longest choice are over .* context of 4"):
        choose(decoder, [1, 2], [], [[5, 6, 7], [8]], end_id=END)
    assert decoder.calls == []


@pytest.mark.parametrize(("option", "end_id", "bad"), [([50], END, 50), ([5, -1], END, -1), ([5], 50, 50)])
def test_an_id_outside_the_vocabulary_is_told(option, end_id, bad):
    decoder = ScriptedDecoder()
    with pytest.raises(PromptError, match=f"token id {bad} is outside"):
        choose(decoder, [1, 2], [], [[1], option], end_id=end_id)
    assert decoder.calls == []


def test_no_options_are_no_choice():
    with pytest.raises(ValueError, match="nothing to choose from"):
        choose(ScriptedDecoder(), [1, 2], [], [], end_id=END)


# --- real graphs


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("frames", [[], [33], [12, 40]])
def test_log_probabilities_equal_brute_force(tiny, flavour, frames):
    manifest = tiny("fp32", flavour, seq_length=128)  # within it, alpha does not depend on where the prompt ends
    clips = open_encoder(manifest).encode(make_mels(1, frames)) if frames else []
    ids, decoder = make_prompt(5, 12, [len(rows) for rows in clips]), open_decoder(manifest)
    expected = [brute_force(decoder, ids, clips, option) for option in OPTIONS]
    np.testing.assert_allclose(choose(decoder, ids, clips, OPTIONS, end_id=END), expected, rtol=0, atol=SAME)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("n_text", [14, 15, 16, 30, 31, 40])
def test_across_a_change_of_alpha_it_stays_that_of_the_prompt(tiny, flavour, n_text):
    """The trained context is 16: as in an answer under way, the prompt's length fixes alpha."""
    decoder, ids = open_decoder(tiny("fp32", flavour)), make_prompt(6, n_text)
    expected = []
    for option in OPTIONS:
        rows = [decoder.prefill(ids), *(decoder.step(one) for one in option)]
        expected.append(sum(log_softmax(row)[one] for row, one in zip(rows, [*option, END], strict=True)))
    np.testing.assert_allclose(choose(decoder, ids, [], OPTIONS, end_id=END), expected, rtol=0, atol=SAME)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_full_context_is_used_to_its_last_position(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour, max_position_embeddings=24))
    assert len(choose(decoder, make_prompt(1, 21), [], OPTIONS, end_id=END)) == len(OPTIONS)
    with pytest.raises(PromptError, match="22 tokens of prompt and 3"):
        choose(decoder, make_prompt(1, 22), [], OPTIONS, end_id=END)
    with pytest.raises(PromptError, match="the prompt is empty"):
        choose(decoder, [], [], OPTIONS, end_id=END)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_greedy_answer_is_the_likeliest_of_its_length(tiny, flavour):
    decoder, ids = open_decoder(tiny("fp32", flavour)), make_prompt(8, 10)
    best = int(np.argmax(decoder.prefill(ids)))
    end = int(np.argmax(decoder.step(best)))
    found = choose(decoder, ids, [], [[5], [best], [6]], end_id=end)
    assert found.index(max(found)) == 1
    assert best < TINY.vocab_size
