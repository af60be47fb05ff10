"""Rows side by side: each gives the bits that it gives alone, whatever the others hold and do."""

import numpy as np
import pytest

from decoder.decoder import Decoder
from errors import BackendError, PromptError
from models.runtime.onnxruntime import CAPACITY_STEP
from models.runtime.session import SessionOptions, open_session
from tests.benchmarks.geometry import Geometry
from tests.tiny_models import FLAVOURS, ONNX_RUNTIME, forced, make_mels, make_prompt, open_encoder

pytestmark = pytest.mark.slow

PRECISIONS = ["fp32", "fp16", "int8-fine", "int8", "int4"]
# Large enough for the kernels that the real model uses: several blocks in a row of weights, head_dim 128.
MIDDLE = Geometry(hidden_size=512, intermediate_size=1408, num_attention_heads=4, num_hidden_layers=2, vocab_size=640,
                  seq_length=256, audio_start_id=600, n_state=32, n_head=2, n_layer=2, n_mels=16, n_ctx=40)  # fmt: skip
LENGTHS = [9, 1, 13, 7, 16, 5, 3, 12]


def open_rows(manifest, rows=8, **options):
    return Decoder(manifest, ONNX_RUNTIME, rows=rows, **options)


def alone(manifest, ids, new_ids, clips=()):
    """Logits [1 + n, vocab] of a prompt and the ids behind it, in a decoder of one row."""
    return forced(Decoder(manifest, ONNX_RUNTIME), ids, clips, [*new_ids, 0])


def beside(decoder, prompts, new_ids, together):
    """The same for each of some prompts in one decoder; `together` yields the rows of each step until all are done."""
    found = [[decoder.prefill(ids, row=row)] for row, ids in enumerate(prompts)]
    for rows in together:
        ready = [row for row in rows if len(found[row]) <= len(new_ids[row])]
        for row, logits in decoder.advance({row: new_ids[row][len(found[row]) - 1] for row in ready}).items():
            found[row].append(logits)
    assert [len(rows) for rows in found] == [1 + len(ids) for ids in new_ids]
    return [np.stack(rows) for rows in found]


def recorded(decoder):
    """A list that gets (rows, tokens) of every run from now on."""
    runs, session = [], decoder._contract._session
    run = session.run

    def record(feeds, *, rows, lengths=()):
        runs.append((rows, feeds["inputs_embeds"].shape[1]))
        return run(feeds, rows=rows, lengths=lengths)

    session.run = record
    return runs


# --- the same bits


@pytest.mark.parametrize("geometry", ["tiny", "middle"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_gives_the_same_bits_alone_and_beside_others(tiny, precision, geometry):
    manifest = tiny(precision, **({"geometry": MIDDLE} if geometry == "middle" else {"seq_length": 512}))
    prompts, new_ids = [make_prompt(n, 3 * n) for n in LENGTHS], [make_prompt(n + 50, 8) for n in LENGTHS]
    expected = [alone(manifest, *each) for each in zip(prompts, new_ids, strict=True)]
    for rows in (1, 2, 3, 5, 8):
        found = beside(open_rows(manifest), prompts[:rows], new_ids[:rows], [range(rows)] * 8)
        for one, other in zip(found, expected[:rows], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_row_gives_the_same_bits_whoever_runs_with_it(tiny, precision):
    manifest, rng = tiny(precision), np.random.default_rng(4)  # beyond 16 ids, with two alphas among the prompts
    prompts, new_ids = [make_prompt(n, 2 * n) for n in LENGTHS], [make_prompt(n + 50, n) for n in LENGTHS]
    some = (np.flatnonzero(rng.random(8) < 0.5) for _ in range(200))
    found = beside(open_rows(manifest), prompts, new_ids, some)
    for row, logits in enumerate(found):
        np.testing.assert_array_equal(logits, alone(manifest, prompts[row], new_ids[row]))


@pytest.mark.parametrize("geometry", ["tiny", "middle"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_ids_give_the_same_bits_in_one_run_and_in_several(tiny, precision, geometry):
    manifest = tiny(precision, **({"geometry": MIDDLE} if geometry == "middle" else {"seq_length": 512}))
    new_ids = make_prompt(5, 12)
    for length, rows in ((37, 1), (40, 1), (1, 1), (37, 3)):
        ids, row = make_prompt(length, length), rows - 1
        expected = alone(manifest, ids, new_ids)
        for cuts in ([12], [1, 11], [2, 3, 7], [5, 5, 2]):
            decoder = open_rows(manifest, rows)
            found, first = [decoder.prefill(ids, row=row)[None]], 0
            for count in cuts:
                found.append(decoder.extend({row: new_ids[first : first + count]})[row])
                first += count
            np.testing.assert_array_equal(np.concatenate(found), expected)
            np.testing.assert_array_equal(open_rows(manifest, rows).prefill([*ids, *new_ids], row=row), expected[-1])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_may_run_different_numbers_of_ids(tiny, precision):
    manifest, counts = tiny(precision, geometry=MIDDLE), [1, 4, 3, 2, 1]
    prompts, new_ids = [make_prompt(n, 9 + n) for n in range(5)], [make_prompt(n + 50, n) for n in counts]
    decoder = open_rows(manifest, 5)
    for row, ids in enumerate(prompts):
        decoder.prefill(ids, row=row)
    for row, logits in decoder.extend(dict(enumerate(new_ids))).items():
        np.testing.assert_array_equal(logits, alone(manifest, prompts[row], new_ids[row])[1:])


# --- what runs


def test_rows_that_are_idle_do_not_run(tiny):
    decoder = open_rows(tiny())
    for row in range(8):
        decoder.prefill([1, 2, 3], row=row)
    runs = recorded(decoder)
    decoder.advance({2: 5, 3: 6, 4: 7})
    decoder.advance({7: 1, 0: 2, 4: 3, 3: 4})
    decoder.step(9)
    decoder.prefill([4, 5, 6, 7], row=6)
    assert runs == [([2, 3, 4], 4), ([0, 3, 4, 7], 4), ([0], 2), ([6], 4)]
    assert decoder.positions == (5, 3, 4, 5, 5, 3, 4, 4)
    assert decoder.position == 5


def test_rows_of_another_alpha_run_on_their_own(tiny):
    decoder = open_rows(tiny(), 4)
    for row, n in enumerate([10, 30, 25, 16]):
        decoder.prefill(make_prompt(row, n), row=row)
    runs = recorded(decoder)
    decoder.advance(dict.fromkeys(range(4), 5))
    assert runs == [([0, 3], 2), ([1, 2], 2)]


def test_more_rows_than_slots_run_in_turns(tiny):
    manifest, new_ids = tiny(seq_length=512), [4, 5]
    prompts = [make_prompt(n, 5 + n) for n in range(11)]
    decoder = open_rows(manifest, 11)
    assert decoder._contract.slots == 8
    runs = recorded(decoder)
    found = beside(decoder, prompts, [new_ids] * 11, [range(11)] * 2)
    assert [rows for rows, _ in runs[11:]] == [list(range(8)), [8, 9, 10]] * 2
    for row, logits in enumerate(found):
        np.testing.assert_array_equal(logits, alone(manifest, prompts[row], new_ids))


def test_the_graph_is_told_where_each_row_ends(tiny):
    decoder, told = open_rows(tiny(seq_length=64), 3), []
    for row, n in enumerate([4, 20, 9]):
        decoder.prefill(make_prompt(row, n), row=row)
    run = decoder._contract._session.run
    decoder._contract._session.run = lambda feeds, **rest: (told.append(feeds), run(feeds, **rest))[1]
    decoder.advance(dict.fromkeys(range(3), 5))
    # Each slot's queries are made even: one zero token fills up the last, one zero query each of the others.
    assert told[0]["slot_bounds"].tolist() == [0, 1, 2, 4, 4, 4, 4, 4, 4]
    assert told[0]["slot_padding"].tolist() == [1, 1, 0, 2, 2, 2, 2, 2]
    assert told[0]["total_lengths"].tolist() == [6, 22, 11, 2, 2, 2, 2, 2]
    assert told[0]["last_positions"].tolist() == [5, 21, 10, 1, 1, 1, 1, 1]
    assert told[0]["wanted"].tolist() == [0, 1, 2, 2]


def test_past_and_present_of_every_row_are_one_buffer(tiny):
    decoder = open_rows(tiny(), 3)
    decoder.prefill([1, 2, 3], row=2)
    held = decoder._contract._session._held
    addresses = [value.data_ptr() for value in held]
    for row in (0, 1):
        decoder.prefill([4, 5], row=row)
    decoder.advance({0: 1, 1: 2, 2: 3})
    decoder.advance({2: 3})
    assert [value.data_ptr() for value in held] == addresses
    assert {tuple(value.shape()) for value in held} == {(3, 4, CAPACITY_STEP, 16)}


def test_rows_are_bound_once_while_they_stay_the_same(tiny):
    decoder = open_rows(tiny(), 3)
    for row in range(3):
        decoder.prefill([1, 2, 3], row=row)
    bound, binding = [], decoder._contract._session._binding
    bind, binding.bind_input = binding.bind_input, lambda name, *rest: (bound.append(name), bind(name, *rest))
    for _ in range(4):
        decoder.advance({0: 1, 1: 2, 2: 3})
    assert sorted(bound) == sorted(consumed for _, consumed in tiny().decoder_rows[0].state.names)


# --- rows know nothing of each other


def test_a_cache_that_grows_keeps_what_every_row_held(tiny):
    manifest, lengths = tiny(seq_length=512), [20, 250, 3]
    prompts, new_ids = [make_prompt(n, n) for n in lengths], [make_prompt(n, 12) for n in lengths]
    found = beside(open_rows(manifest, 3), prompts, new_ids, [range(3)] * 12)  # the second row outgrows the capacity
    for row, logits in enumerate(found):
        np.testing.assert_array_equal(logits, alone(manifest, prompts[row], new_ids[row]))


@pytest.mark.parametrize("disturb", [
    lambda decoder: decoder.prefill(make_prompt(5, 400), row=1),
    lambda decoder: decoder.reset(1),
    lambda decoder: decoder.rewind(2, 1),
    lambda decoder: decoder.advance({1: 5, 2: 6}),
])  # fmt: skip
def test_what_happens_to_other_rows_changes_nothing(tiny, disturb):
    manifest = tiny()
    decoder, ids, new_ids = open_rows(manifest, 4), make_prompt(1, 20), [4, 5, 6]
    expected = alone(manifest, ids, new_ids)
    for row in (1, 2):
        decoder.prefill(make_prompt(row, 10), row=row)
    np.testing.assert_array_equal(decoder.prefill(ids, row=3), expected[0])
    for step, new_id in enumerate(new_ids, 1):
        disturb(decoder) if step == 2 else None
        np.testing.assert_array_equal(decoder.advance({3: new_id})[3], expected[step])


def test_rows_rewind_on_their_own(tiny):
    manifest = tiny()
    decoder, prompts = open_rows(manifest, 2), [make_prompt(n, n) for n in (8, 14)]
    first = beside(decoder, prompts, [[1, 2, 3], [4, 5, 6]], [range(2)] * 3)
    decoder.rewind(15, row=1)
    decoder.rewind(8, row=0)
    assert decoder.positions == (8, 15)
    again = decoder.advance({0: 1, 1: 5})
    np.testing.assert_array_equal(again[0], first[0][1])
    np.testing.assert_array_equal(again[1], first[1][2])


def test_clips_belong_to_their_row(tiny):
    manifest = tiny()
    clips = open_encoder(manifest).encode(make_mels(0, [40, 25]))
    prompts = [make_prompt(seed, 6, [len(clip)]) for seed, clip in enumerate(clips)]
    decoder = open_rows(manifest, 2)
    for row in (0, 1):
        expected = alone(manifest, prompts[row], [3], clips[row : row + 1])
        np.testing.assert_array_equal(decoder.prefill(prompts[row], clips[row : row + 1], row=row), expected[0])


# --- what is refused


@pytest.mark.parametrize("new_ids", [{0: 1, 1: 320}, {1: -1, 0: 1}, {0: 1, 2: 5}])
def test_a_step_that_one_row_cannot_make_changes_no_row(tiny, new_ids):
    decoder = open_rows(tiny(), 3)
    for row in (0, 1):
        decoder.prefill([1, 2, 3], row=row)
    with pytest.raises(PromptError):
        decoder.advance(new_ids)
    assert decoder.positions == (3, 3, 0)


def test_a_row_whose_context_is_full_is_told(tiny):
    decoder = open_rows(tiny(max_position_embeddings=24), 2)
    decoder.prefill(make_prompt(1, 24), row=1)
    decoder.prefill([1], row=0)
    with pytest.raises(PromptError, match="25 tokens are over this model's context of 24"):
        decoder.advance({0: 1, 1: 1})


@pytest.mark.parametrize("backend", ["onnxruntime", "ailia"])
def test_a_plain_model_has_one_row(tiny, backend):
    manifest = tiny("fp32", "plain")
    with pytest.raises(BackendError) as caught:
        Decoder(manifest, SessionOptions(backend=backend), rows=2)
    assert str(caught.value) == (
        f"{manifest.directory}: a plain model decodes one answer at a time; use --batch 1, or convert it with "
        "--flavour fused for ONNX Runtime"
    )


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_graph_without_state_takes_any_number_of_rows(tiny, flavour):
    manifest = tiny("fp32", flavour)
    session = open_session(manifest, manifest.encoder, ONNX_RUNTIME, rows=4)
    assert session._state is None
    assert session._held == []  # nothing is kept for any of them


@pytest.mark.parametrize("rows", [[-1], [0, 2], [1, 1], [0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_the_session_shows_no_memory_but_its_own(tiny, rows):
    manifest = tiny()
    session = open_session(manifest, manifest.decoder_rows[0], ONNX_RUNTIME, rows=2)
    with pytest.raises(AssertionError):
        session.run({}, rows=rows, lengths=[3] * len(rows))


def test_the_context_may_be_filled_to_its_last_position_in_every_row(tiny):
    manifest = tiny(max_position_embeddings=23)
    decoder, ids = open_rows(manifest, 3), make_prompt(1, 21)
    for row in range(3):
        decoder.prefill(ids[: 21 - row], row=row)
    found = decoder.extend({0: [1, 2], 1: [3, 4, 5], 2: [6]})
    assert decoder.positions == (23, 23, 20)
    np.testing.assert_array_equal(found[0], alone(manifest, ids, [1, 2])[1:])
