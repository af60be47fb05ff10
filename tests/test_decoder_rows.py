"""Rows side by side: each gives the bits that it gives alone, whatever the others hold and do."""

import numpy as np
import pytest

from decoder.contract import PADDING
from decoder.decoder import Decoder, PromptError
from models.convert.convert import convert
from models.convert.linear import Storage
from models.manifest import load_manifest
from models.session import CAPACITY_STEP, BackendError, SessionOptions, open_session
from tests.benchmarks.geometry import Geometry
from tests.tiny_models import FLAVOURS, ONNX_RUNTIME, forced, greedy, make_mels, make_prompt, make_tiny, open_encoder

PRECISIONS = ["fp32", "fp16", "int8", "int4"]
# Large enough for the kernels that the real model uses: several blocks in a row of weights, head_dim 128.
MIDDLE = Geometry(hidden_size=512, intermediate_size=1408, num_attention_heads=4, num_hidden_layers=2, vocab_size=640,
                  seq_length=256, audio_start_id=600, n_state=32, n_head=2, n_layer=2, n_mels=16, n_ctx=40)  # fmt: skip
LENGTHS = [9, 1, 13, 7, 16, 5, 3, 12]


def open_rows(manifest, rows=8, **options):
    return Decoder(manifest, ONNX_RUNTIME, rows=rows, **options)


def alone(manifest, ids, new_ids, clips=()):
    """Logits [1 + n, vocab] of a prompt and the ids behind it, in a decoder of one row that pads as those of many do."""
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
    """A list that gets (first row, rows, tokens in each) of every run from now on."""
    runs, session = [], decoder._contract._session
    run = session.run

    def record(feeds, *, first=0, lengths=()):
        runs.append((first, *feeds["inputs_embeds"].shape[:2]))
        return run(feeds, first=first, lengths=lengths)

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


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_decoder_of_one_row_needs_no_padding_for_that(tiny, precision):
    manifest, ids, new_ids = tiny(precision, geometry=MIDDLE), make_prompt(1, 33), make_prompt(2, 6)
    assert PADDING not in manifest.decoder.inputs
    np.testing.assert_array_equal(
        forced(Decoder(manifest, ONNX_RUNTIME), ids, [], [*new_ids, 0]), alone(manifest, ids, new_ids)
    )


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_padding_changes_no_more_than_the_rounding(tiny, n):
    """In so small a model that the rounding is not magnified by int8 activations."""
    manifest, ids = tiny("int4"), make_prompt(n, n)
    assert manifest.decoder.inputs[-1] == PADDING
    rows = [forced(Decoder(manifest, ONNX_RUNTIME, invariant=one), ids, [], [1, 2, 3]) for one in (False, True)]
    np.testing.assert_allclose(*rows, rtol=0, atol=2e-5)


def test_tokens_are_padded_to_pairs_unless_bits_may_depend_on_rows(tiny):
    asked = []
    for options in ({}, {"rows": 2}, {"invariant": False}, {"rows": 2, "invariant": False}):
        decoder = Decoder(tiny("int4"), ONNX_RUNTIME, **options)
        run = decoder._contract._session.run
        decoder._contract._session.run = lambda feeds, run=run, **rest: (
            asked.append(int(feeds[PADDING][0])),
            run(feeds, **rest),
        )[1]
        decoder.prefill([1, 2, 3])
        decoder.prefill([1, 2, 3, 4])
    assert asked == [1, 0, 1, 0, 0, 0, 0, 0]


def test_a_model_converted_before_there_was_padding_still_opens(tmp_path, monkeypatch):
    monkeypatch.setattr(Storage, "paired", False)
    convert(make_tiny(tmp_path / "checkpoint"), tmp_path / "model", precision="int4", flavour="fused")
    manifest = load_manifest(tmp_path / "model")
    assert PADDING not in manifest.decoder.inputs
    decoder, ids = open_rows(manifest), make_prompt(1, 9)
    decoder.prefill(ids, row=1)
    assert greedy(decoder, ids, n=6) == greedy(Decoder(manifest, ONNX_RUNTIME), ids, n=6)
    for row in (0, 2, 3):
        decoder.prefill(ids, row=row)
    logits = decoder.advance(dict.fromkeys(range(4), 5))
    for row in range(4):
        np.testing.assert_allclose(logits[row], logits[0], rtol=0, atol=2e-5)


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
    assert runs == [(2, 3, 1), (0, 1, 1), (3, 2, 1), (7, 1, 1), (0, 1, 1), (6, 1, 4)]
    assert decoder.positions == (5, 3, 4, 5, 5, 3, 4, 4)
    assert decoder.position == 5


def test_rows_of_another_alpha_run_on_their_own(tiny):
    decoder = open_rows(tiny(), 4)
    for row, n in enumerate([10, 30, 25, 16]):
        decoder.prefill(make_prompt(row, n), row=row)
    runs = recorded(decoder)
    decoder.advance(dict.fromkeys(range(4), 5))
    assert runs == [(0, 1, 1), (1, 2, 1), (3, 1, 1)]


def test_the_graph_is_told_where_each_row_ends_and_the_longest(tiny):
    decoder, told = open_rows(tiny(seq_length=64), 3), []
    for row, n in enumerate([4, 20, 9]):
        decoder.prefill(make_prompt(row, n), row=row)
    run = decoder._contract._session.run
    decoder._contract._session.run = lambda feeds, **rest: (told.append(feeds), run(feeds, **rest))[1]
    decoder.advance(dict.fromkeys(range(3), 5))
    assert [told[0][name].tolist() for name in ("last_position", "total_length")] == [[4, 20, 9], [21]]


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
    assert sorted(bound) == sorted(consumed for _, consumed in tiny().decoder.state.names)


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
    lambda decoder: decoder.move(1, 2),
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


def test_a_row_that_moves_goes_on_where_it_was(tiny):
    manifest = tiny()
    decoder, ids = open_rows(manifest, 3), make_prompt(1, 300)
    expected = alone(manifest, ids, [4, 5, 6])
    decoder.prefill(make_prompt(2, 9), row=0)
    decoder.prefill(ids, row=2)
    np.testing.assert_array_equal(decoder.advance({2: 4})[2], expected[1])
    decoder.groups[2] = "sound"
    decoder.move(2, 0)
    assert (decoder.positions, decoder.groups) == ((301, 0, 0), ["sound", None, None])
    decoder.prefill(make_prompt(3, 600), row=1)  # the cache grows, and keeps what moved
    np.testing.assert_array_equal([decoder.step(5), decoder.step(6)], expected[2:])
    with pytest.raises(PromptError, match="prefill comes before step"):
        decoder.advance({2: 1})


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


@pytest.mark.parametrize(("first", "lengths"), [(-1, [3]), (1, [3, 3]), (2, [3])])
def test_the_session_shows_no_memory_but_its_own(tiny, first, lengths):
    manifest = tiny()
    session = open_session(manifest, manifest.decoder, ONNX_RUNTIME, rows=2)
    with pytest.raises(AssertionError):
        session.run({}, first=first, lengths=lengths)
