"""Reuse: what a row holds already is not run again, and the logits are those of a fresh prefill."""

import numpy as np
import pytest

from decoder import graph_inputs as contract
from decoder.decoder import Decoder, shared_beginning
from decoder.graph_inputs import Row
from errors import BackendError, PromptError
from tests.tiny_models import (
    FLAVOURS,
    ONNX_RUNTIME,
    TINY,
    forced,
    greedy,
    make_mels,
    make_prompt,
    open_decoder,
    open_encoder,
)

START, END = TINY.audio_start_id, TINY.audio_start_id + 1
SAME = 1e-4  # rounding of float32 in logits with a standard deviation of 3


def tokens_run(decoder):
    """A list that gets the number of tokens of every run from now on; a fused one is even, with a zero token or not."""
    counts, session = [], decoder._contract._session
    run = session.run

    def record(feeds, **rest):
        if "input_ids" in feeds:
            counts.append(feeds["input_ids"].shape[1])
        else:
            counts.append(feeds["inputs_embeds"].shape[1] - int(not feeds["inputs_embeds"][0, -1].any()))
        return run(feeds, **rest)

    session.run = record
    return counts


def assert_reused(manifest, first, second, *, ran, row=0, rows=1, exact=True):
    """Prefilling `second` (ids, clips) over `first` runs `ran` tokens and gives what a fresh prefill gives."""
    decoder = Decoder(manifest, ONNX_RUNTIME, rows=rows)
    expected = forced(Decoder(manifest, ONNX_RUNTIME), *second, [1, 2, 3])
    decoder.prefill(*first, row=row)
    counts = tokens_run(decoder)
    found = [decoder.prefill(*second, row=row, reuse=True)]
    assert sum(counts) == ran
    assert decoder.positions[row] == len(second[0])
    found += [decoder.advance({row: new_id})[row] for new_id in (1, 2)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=0 if exact else SAME)


def clip(span, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (span, 32)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fine", "int8", "int4"])
@pytest.mark.parametrize(("text", "ran"), [(1, 1 + 9), (6, 9), (7, 1 + 9)])
def test_the_text_before_the_first_clip_is_kept_from_any_prompt(tiny, precision, text, ran):
    manifest = tiny(precision, seq_length=64)
    before = make_prompt(1, text)
    prompts = [([*before, START, *[290] * 5, END, seed, seed], [clip(7, seed)]) for seed in (1, 2)]
    decoder = Decoder(manifest, ONNX_RUNTIME)
    expected = forced(Decoder(manifest, ONNX_RUNTIME), *prompts[1], [1, 2])
    decoder.prefill(*prompts[0])
    decoder.step(9)
    counts = tokens_run(decoder)
    found = [decoder.prefill(*prompts[1])]
    assert sum(counts) == ran
    np.testing.assert_array_equal([*found, decoder.step(1)], expected)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_without_reuse_neither_clips_nor_text_alone_are_kept(tiny, flavour):
    for prompt in ((make_prompt(1, 12), []), about_clip(7, 3)):
        decoder = open_decoder(tiny("fp32", flavour, seq_length=64))
        expected = decoder.prefill(*prompt)
        counts = tokens_run(decoder)
        np.testing.assert_allclose(decoder.prefill(*prompt), expected, rtol=0, atol=SAME)
        kept = 2 if flavour == "fused" and prompt[1] else 0
        assert sum(counts) == len(prompt[0]) - kept


def about_clip(span, text):
    return about(span, *range(1, 1 + text)), [clip(span)]


def about(span, *text):
    """A prompt of two ids, a span and some text."""
    return [5, 6, START, *[290] * (span - 2), END, *text]


# --- the same numbers


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fine", "int8", "int4"])
@pytest.mark.parametrize(
    ("first", "second", "shared"), [(14, 15, 9), (15, 14, 9), (40, 33, 30), (33, 60, 24), (17, 31, 1), (35, 33, 30)]
)
def test_a_shared_beginning_gives_the_bits_of_a_fresh_prefill(tiny, precision, first, second, shared):
    """Whatever the precision: pieces of two positions and more round alike, wherever they are cut."""
    manifest = tiny(precision, seq_length=64)
    beginning = make_prompt(1, shared)
    prompts = [([*beginning, *make_prompt(seed, n - shared)], []) for seed, n in ((2, first), (3, second))]
    assert_reused(manifest, *prompts, ran=second - shared + shared % 2)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("precision", ["fp32", "int8-fine", "int8", "int4"])
def test_prompts_about_one_sound_run_the_sound_once(tiny, precision, rows):
    manifest = tiny(precision, seq_length=512)
    clips = open_encoder(manifest).encode(make_mels(1, [80, 30]))
    beginning = make_prompt(2, 4, [len(one) for one in clips])
    prompts = [([*beginning, *text], clips) for text in ([7, 8, 9], [8, 9, 9, 9])]
    assert_reused(manifest, *prompts, ran=4 + len(beginning) % 2, rows=rows, row=rows - 1)


def test_a_plain_graph_reuses_within_the_rounding(tiny):
    manifest = tiny("fp32", "plain")
    beginning = make_prompt(1, 8)
    assert_reused(manifest, ([*beginning, 1, 2, 3], []), ([*beginning, 4, 5], []), ran=2, exact=False)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_turn_of_a_dialogue_costs_its_new_tokens(tiny, flavour):
    manifest = tiny("fp32", flavour, seq_length=512)
    clips = open_encoder(manifest).encode(make_mels(1, [60]))
    decoder, ids = open_decoder(manifest), make_prompt(2, 7, [len(clips[0])])
    counts = tokens_run(decoder)
    for turn in range(4):
        held = decoder.position
        logits = decoder.prefill(ids, clips, reuse=turn > 0)
        assert counts[-1] == len(ids) - held + held % 2
        np.testing.assert_allclose(logits, open_decoder(manifest).prefill(ids, clips), rtol=0, atol=SAME)
        said = [int(logits.argmax())]
        for _ in range(5):
            said.append(int(decoder.step(said[-1]).argmax()))
        ids = [*ids, *said, *make_prompt(turn, 6)]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_dialogue_says_what_it_says_afresh(tiny, flavour):
    manifest = tiny("fp32", flavour, seq_length=512)
    decoder, ids = open_decoder(manifest), make_prompt(3, 9)
    for turn in range(3):
        logits, said = decoder.prefill(ids, reuse=True), []
        for _ in range(12):
            said.append(int(logits.argmax()))
            logits = decoder.step(said[-1])
        assert said == greedy(open_decoder(manifest), ids, n=12)
        ids = [*ids, *said, *make_prompt(turn, 5)]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("first", "second"), [(10, 20), (20, 10), (30, 40), (16, 17)])
def test_another_alpha_is_prefilled_anew(tiny, flavour, first, second):
    ids = make_prompt(1, 50)
    assert_reused(tiny("fp32", flavour), (ids[:first], []), (ids[:second], []), ran=second)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("first", "second"), [(12, 16), (18, 32), (50, 40)])
def test_the_same_alpha_is_continued(tiny, flavour, first, second):
    ids = make_prompt(1, 50)
    kept = min(first, second - 2)
    assert_reused(
        tiny("fp32", flavour), (ids[:first], []), (ids[:second], []), ran=second - kept, exact=flavour == "fused"
    )


def test_steps_past_the_trained_context_do_not_hide_another_alpha(tiny):
    """The steps were made with the alpha of their prompt; a prompt of that length has another."""
    manifest = tiny()
    decoder, ids = open_decoder(manifest), make_prompt(1, 30)
    forced(decoder, ids[:14], [], ids[14:21])
    counts = tokens_run(decoder)
    np.testing.assert_array_equal(decoder.prefill(ids, reuse=True), open_decoder(manifest).prefill(ids))
    assert counts == [30]


def test_a_long_beginning_is_cut_into_the_same_pieces(tiny, monkeypatch):
    monkeypatch.setattr(contract, "PREFILL_CHUNK", 8)
    ids = make_prompt(1, 50)
    assert_reused(tiny(), (ids[:37], []), (ids, []), ran=14)


# --- what is kept


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_same_prompt_again_runs_its_end(tiny, flavour):
    ids = make_prompt(1, 13)
    assert_reused(tiny("fp32", flavour), (ids, []), (ids, []), ran=3, exact=flavour == "fused")


@pytest.mark.parametrize("length", [1, 2, 3])
def test_something_is_always_run(tiny, length):
    ids = make_prompt(1, length)
    assert_reused(tiny(), (ids, []), (ids, []), ran=length)


def test_equal_clips_are_the_same_sound(tiny):
    manifest, sound = tiny(seq_length=64), clip(9)
    first, second = (about(9, 1, 2, 3), [sound]), (about(9, 1, 7, 8, 9), [sound.copy()])
    assert_reused(manifest, first, second, ran=3)


@pytest.mark.parametrize("other", [clip(9, seed=1), np.vstack([clip(9)[:-1], clip(1, seed=1)]), clip(11)])
def test_another_clip_is_run_from_its_beginning(tiny, other):
    first, second = (about(9, 1, 2), [clip(9)]), (about(len(other), 1, 2), [other])
    assert_reused(tiny(seq_length=64), first, second, ran=len(other) + 2)


def test_the_second_clip_may_differ(tiny):
    ids = [*about(6, 7, 8), *about(5, 9, 9)]
    clips = [[clip(6), clip(5, seed=seed)] for seed in (1, 2)]
    assert_reused(tiny(seq_length=64), (ids, clips[0]), (ids, clips[1]), ran=5 + 2)


def test_ids_inside_a_span_do_not_matter(tiny):
    first, second = about(9, 1, 2, 3), about(9, 1, 2, 4, 5)
    second[5] = 17
    assert_reused(tiny(seq_length=64), (first, [clip(9)]), (second, [clip(9)]), ran=3)


@pytest.mark.parametrize(
    ("held", "fresh"), [(about(9, 1), [5, 6, 290, 290, 290, 290]), ([5, 6, 290, 290, 290], about(9, 1))]
)
def test_a_clip_is_no_text(tiny, held, fresh):
    prompts = [(ids, [clip(9)] if START in ids else []) for ids in (held, fresh)]
    assert_reused(tiny(seq_length=64), *prompts, ran=len(fresh) - 2)


@pytest.mark.parametrize(("position", "kept"), [(12, 12), (11, 10), (10, 2), (5, 2), (3, 2), (2, 2), (1, 0), (0, 0)])
def test_a_clip_that_was_rewound_into_is_run_again(tiny, position, kept):
    manifest, prompt = tiny(seq_length=64), (about(9, 1, 2, 3, 4), [clip(9)])
    decoder = open_decoder(manifest)
    expected = decoder.prefill(*prompt)
    decoder.rewind(position)
    if position:
        decoder.step(44)
    counts = tokens_run(decoder)
    np.testing.assert_array_equal(decoder.prefill(*prompt, reuse=True), expected)
    assert counts == [15 - kept]


@pytest.mark.parametrize("forget", [lambda _: None, lambda decoder: decoder.reset()])
def test_nothing_held_is_nothing_kept(tiny, forget):
    decoder, ids = Decoder(tiny(), ONNX_RUNTIME, rows=2), make_prompt(1, 10)
    if forget(decoder) is None:
        decoder.prefill(ids, row=1)
    counts = tokens_run(decoder)
    decoder.prefill(ids, reuse=True)
    assert counts == [10]


def test_without_reuse_all_is_run(tiny):
    decoder, ids = open_decoder(tiny()), make_prompt(1, 10)
    decoder.prefill(ids)
    counts = tokens_run(decoder)
    decoder.prefill(ids)
    assert counts == [10]


def test_a_refused_prompt_keeps_what_was_held(tiny):
    decoder, ids = open_decoder(tiny()), make_prompt(1, 10)
    expected = forced(decoder, ids, [], [1, 2])[1]
    decoder.rewind(10)
    with pytest.raises(PromptError):
        decoder.prefill([*ids, 320], reuse=True)
    np.testing.assert_array_equal(decoder.step(1), expected)


def test_after_a_failure_nothing_is_reused(tiny):
    decoder, ids = open_decoder(tiny()), make_prompt(1, 10)
    decoder.prefill(ids)
    run = decoder._contract._session.run

    def fail(*_, **__):
        raise BackendError("out of memory")

    decoder._contract._session.run = fail
    with pytest.raises(BackendError):
        decoder.prefill(ids, reuse=True)
    decoder._contract._session.run = run
    counts = tokens_run(decoder)
    decoder.prefill(ids, reuse=True)
    assert counts == [10]


# --- what is shared


def test_the_shared_beginning_of_prompts_made_at_random_is_the_longest():
    rng = np.random.default_rng(0)
    for _ in range(300):
        old, new = (rng.integers(0, 2, rng.integers(1, 12)).tolist() for _ in range(2))
        shared = next((k for k, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
        assert shared_beginning(Row(old), Row(new)) == max(0, min(shared, len(new) - 2)) // 2 * 2
