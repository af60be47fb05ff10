"""Logits, cache and errors of a decoder: the original's numbers, and the same ones whichever way they are reached."""

import itertools

import numpy as np
import pytest

from decoder import graph_inputs as contract
from decoder.decoder import place_audio
from errors import BackendError, PromptError
from models.runtime.onnxruntime import CAPACITY_STEP
from models.runtime.session import open_session
from tests.benchmarks.geometry import Geometry
from tests.tiny_models import (
    CASES,
    FLAVOURS,
    ONNX_RUNTIME,
    TINY,
    assert_same_choice,
    forced,
    greedy,
    make_mels,
    make_prompt,
    open_decoder,
    open_encoder,
    reference_case,
)

CACHE = 5e-5  # ../shared/reference/README.md
# The same numbers by another path: some rounding errors of float32 in logits with a standard deviation of 3.
SAME = 1e-4
START, END = TINY.audio_start_id, TINY.audio_start_id + 1


def cached(decoder, manifest):
    """What the decoder's session holds: {"k" or "v", layer: float32 [positions, heads, head_dim]}."""
    sizes, state = manifest.decoder_sizes, manifest.decoder[0].state
    found = {}
    for (_, name), value in zip(state.names, decoder._contract._session._held, strict=True):
        array = value.numpy()[0].copy()  # a view would outlive the session
        if manifest.contract == "fused":  # [heads, capacity, two padded halves]
            heads, capacity, width = array.shape
            halves = array.reshape(heads, capacity, 2, width // 2)[..., : sizes.head_dim // 2]
            array = halves.reshape(heads, capacity, sizes.head_dim).transpose(1, 0, 2)[: decoder.position]
        found[name[0], int(name.removeprefix("key_cache").removeprefix("value_cache"))] = array
    return found


def listen(manifest, frames, seed=0):
    return open_encoder(manifest).encode(make_mels(seed, frames)) if frames else []


# --- the original


def assert_logits(case, manifest, clips):
    n = len(case["step_logits"])
    found = forced(open_decoder(manifest), case["input_ids"], clips, case["greedy"][:n])
    np.testing.assert_allclose(found, case["step_logits"], rtol=0, atol=case.atol)
    np.testing.assert_array_equal(found.argmax(-1), case["greedy"][:n])


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ["l_text50", "l_text65", "l_two_audio"])
def test_logits_beyond_the_trained_context_are_the_originals(golden, golden_case, original, name, flavour):
    case, manifest = golden_case(name), original(golden / "tiny-long", flavour)
    assert_logits(case, manifest, open_encoder(manifest).encode(case.mels))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_cache_is_the_originals(golden, golden_case, original, flavour):
    case, manifest = golden_case("l_text65"), original(golden / "tiny-long", flavour)
    decoder = open_decoder(manifest)
    decoder.prefill(case["input_ids"])
    found = cached(decoder, manifest)
    for name in ("k_0", "v_0", "k_2", "v_2"):
        np.testing.assert_allclose(found[name[0], int(name[2])], case[name], rtol=0, atol=CACHE)


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("checkpoint", "name"), CASES)
def test_logits_of_every_case_are_the_originals(reference, original, checkpoint, name, flavour):
    case, manifest = reference_case(reference, checkpoint, name), original(reference / "ckpt" / checkpoint, flavour)
    assert_logits(case, manifest, open_encoder(manifest).encode(case.mels))


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(
    ("checkpoint", "name"), [("tiny-a", "a_short"), ("tiny-a", "a_text"), ("tiny-long", "l_text65")]
)
def test_the_cache_of_every_layer_is_the_originals(reference, original, checkpoint, name, flavour):
    case, manifest = reference_case(reference, checkpoint, name), original(reference / "ckpt" / checkpoint, flavour)
    decoder = open_decoder(manifest)
    decoder.prefill(case["input_ids"], open_encoder(manifest).encode(case.mels))
    found = cached(decoder, manifest)
    assert len(found) == 2 * manifest.decoder_sizes.n_layer
    for (kind, layer), array in found.items():
        np.testing.assert_allclose(array, case[f"{kind}_{layer}"], rtol=0, atol=CACHE)


def run_plain(manifest, ids, mask, clips=(), *, session=None):
    """Logits [t, vocab] of every position, from the plain graph fed by hand."""
    audios = np.full((1, len(ids), manifest.decoder_sizes.d_model), -np.inf, np.float32)
    for start, rows in place_audio(ids, clips, manifest.decoder_sizes) if len(clips) else ():
        audios[0, start : start + len(rows)] = rows
    feeds = {"input_ids": ids[None], "attention_mask": mask[None], "audios": audios}
    return (session or open_session(manifest, manifest.decoder[0], ONNX_RUNTIME)).run(feeds, lengths=[len(mask)])[0][0]


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize(("checkpoint", "name"), CASES)
def test_logits_of_every_position_are_the_originals(reference, original, checkpoint, name):
    case, manifest = reference_case(reference, checkpoint, name), original(reference / "ckpt" / checkpoint, "plain")
    clips = open_encoder(manifest).encode(case.mels)
    found = run_plain(manifest, case["input_ids"], np.ones_like(case["input_ids"]), clips)
    np.testing.assert_allclose(found[case["logits_pos"]], case["logits"], rtol=0, atol=case.atol)


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_row_of_a_batch_run_alone_is_the_originals_within_the_trained_context(reference, original, row, flavour):
    case, manifest = reference_case(reference, "tiny-a", "a_batch"), original(reference / "ckpt" / "tiny-a", flavour)
    clips = open_encoder(manifest).encode(case.mels)  # the two audios of the batch feel each other
    ids = case["input_ids"][row][case["attention_mask"][row] == 1]
    found = forced(open_decoder(manifest), ids, [clips[:1], clips[1:], []][row], case["greedy"][row])
    np.testing.assert_allclose(found, case["step_logits"][row], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(found.argmax(-1), case["greedy"][row])


@pytest.mark.reference
@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_left_padded_row_is_the_originals_through_the_mask(reference, original, row):
    case, manifest = (
        reference_case(reference, "tiny-long", "l_batch"),
        original(reference / "ckpt" / "tiny-long", "plain"),
    )
    session = open_session(manifest, manifest.decoder[0], ONNX_RUNTIME)
    mask = case["attention_mask"][row]
    logits = run_plain(manifest, case["input_ids"][row], mask, session=session)
    np.testing.assert_allclose(logits[mask == 1], case["logits"][row][mask == 1], rtol=0, atol=1e-3)
    found = [logits[-1]]
    for new_id in case["greedy"][row][:-1]:
        mask = np.append(mask, contract.GENERATED)
        found.append(run_plain(manifest, new_id[None], mask, session=session)[0])
    np.testing.assert_allclose(found, case["step_logits"][row], rtol=0, atol=1e-3)
    np.testing.assert_array_equal(np.argmax(found, -1), case["greedy"][row])


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_padded_row_beyond_the_trained_context_is_not_the_row_alone(reference, original, flavour):
    """Since LogN counts padding too (SPEC 4.11): the original is like that, and padding is no way to batch."""
    case, manifest = (
        reference_case(reference, "tiny-long", "l_batch"),
        original(reference / "ckpt" / "tiny-long", flavour),
    )
    ids = case["input_ids"][0][case["attention_mask"][0] == 1]
    assert np.abs(open_decoder(manifest).prefill(ids) - case["step_logits"][0][0]).max() > 1


# --- the two flavours


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_flavours_choose_the_same(tiny, seed):
    manifests = [tiny("fp32", flavour, seed=seed) for flavour in FLAVOURS]
    fused, plain = map(open_decoder, manifests)
    encoder = open_encoder(manifests[1])
    for n_text, frames in [(1, []), (8, []), (16, []), (17, []), (40, []), (5, [12]), (12, [80]), (9, [30, 44])]:
        clips = encoder.encode(make_mels(seed, frames)) if frames else []
        ids = make_prompt(seed, n_text, [len(rows) for rows in clips])
        new_ids = greedy(plain, ids, clips, n=40)  # far beyond the trained context of 16
        assert_same_choice(*(forced(decoder, ids, clips, new_ids) for decoder in (fused, plain)), atol=3e-4)


@pytest.mark.parametrize("heads", [1, 2, 4])  # head_dim 32, 16 and 8: only the last is padded in the fused graph
def test_both_flavours_hold_the_same_cache(tiny, heads):
    geometry = Geometry(**{**vars(TINY), "num_attention_heads": heads})
    caches = []
    for flavour in FLAVOURS:
        manifest = tiny("fp32", flavour, geometry=geometry)
        decoder = open_decoder(manifest)
        forced(decoder, make_prompt(1, 20), [], [1, 2, 3])
        caches.append(cached(decoder, manifest))
    for name, array in caches[1].items():
        assert array.shape == (22, heads, 32 // heads)
        np.testing.assert_allclose(caches[0][name], array, rtol=0, atol=CACHE)


@pytest.mark.parametrize("start", [200, CAPACITY_STEP - 1, CAPACITY_STEP, 600])
def test_a_cache_that_grows_keeps_what_it_held(tiny, start):
    fused, plain = (tiny("fp32", flavour) for flavour in FLAVOURS)
    ids, new_ids = make_prompt(1, start), make_prompt(2, 70)
    rows = [forced(open_decoder(manifest), ids, [], new_ids) for manifest in (fused, plain)]
    assert_same_choice(*rows, atol=1e-3)


# --- one sequence, several ways


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("frames", [[], [33]])
def test_steps_give_what_one_prefill_gives(tiny, flavour, frames):
    manifest = tiny("fp32", flavour, seq_length=128)  # within it, alpha does not depend on where the prompt ends
    clips = listen(manifest, frames)
    ids, new_ids = make_prompt(5, 12, [len(rows) for rows in clips]), make_prompt(6, 9)
    decoder = open_decoder(manifest)
    steps = forced(decoder, ids, clips, new_ids)
    whole = [decoder.prefill(ids + new_ids[:n], clips) for n in range(len(new_ids))]
    np.testing.assert_allclose(steps, whole, rtol=0, atol=SAME)


@pytest.mark.parametrize("frames", [[], [41, 12]])
@pytest.mark.parametrize("chunk", [1, 7, 40])
def test_prefill_in_pieces_gives_the_same(tiny, monkeypatch, chunk, frames):
    manifest = tiny()
    clips = listen(manifest, frames)
    ids = make_prompt(3, 30, [len(rows) for rows in clips])
    expected = forced(open_decoder(manifest), ids, clips, [1, 2, 3])
    monkeypatch.setattr(contract, "PREFILL_CHUNK", chunk)
    np.testing.assert_allclose(forced(open_decoder(manifest), ids, clips, [1, 2, 3]), expected, rtol=0, atol=SAME)


def test_pieces_are_equal_even_and_no_longer_than_they_may_be():
    for count in range(1, 1000):
        pieces = list(contract._pieces(count))
        sizes = [end - first for first, end in pieces]
        assert [first for first, _ in pieces] == [0, *(end for _, end in pieces[:-1])]
        assert sum(sizes) == count
        assert not any(size % 2 for size in sizes[:-1])
        assert max(sizes) <= contract.PREFILL_CHUNK
        assert len(sizes) == -(-count // contract.PREFILL_CHUNK)
        assert sizes[0] - sizes[-1] <= 2 * len(sizes)  # no run for a few tokens, which would cost as much as a step


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-fine", "int8", "int4"])
def test_guesses_behind_a_prompt_give_the_bits_of_steps(tiny, precision):
    manifest = tiny(precision, seq_length=132)  # some lie behind it: alpha is that of the prompt alone
    stepping, decoder = open_decoder(manifest), open_decoder(manifest)
    wrong = []
    for length, guessed in itertools.product((1, 2, 15, 127, 128, 129), (1, 2, 15)):
        ids, guesses = make_prompt(5, length), make_prompt(6, guessed)
        expected = forced(stepping, ids, [], [*guesses, 1])
        decoder.reset()
        found = decoder.begin(ids, (), guesses)
        held = decoder.position
        decoder.rewind(length)
        again = decoder.step(guesses[0])  # also after what did not hold was taken back
        if not (np.array_equal(found, expected) and np.array_equal(again, expected[1]) and held == length + guessed):
            wrong.append((length, guessed))
    assert wrong == []


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("reuse", [False, True])
def test_guesses_behind_a_clip_are_no_part_of_the_prompt(tiny, flavour, reuse):
    manifest = tiny("fp32", flavour, seq_length=64)
    clips = listen(manifest, [33])
    ids, guesses = make_prompt(3, 60 - len(clips[0]), [len(clips[0])]), make_prompt(6, 9)
    expected = forced(open_decoder(manifest), ids, clips, [*guesses, 1])
    decoder = open_decoder(manifest)
    for _ in range(2):  # the second time over what the first one left
        found = decoder.begin(ids, clips, guesses, reuse=reuse)
        np.testing.assert_allclose(found, expected, rtol=0, atol=SAME)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("guesses", "words"), [([1, 320], "token id 320 is outside"), ([1] * 5, "25 tokens are over")])
def test_guesses_that_cannot_be_are_refused_and_the_old_sequence_kept(tiny, flavour, guesses, words):
    decoder = open_decoder(tiny("fp32", flavour, max_position_embeddings=24))
    expected = forced(decoder, make_prompt(16, 9), [], [1, 2])[1]
    decoder.rewind(9)
    with pytest.raises(PromptError, match=words):
        decoder.begin(make_prompt(17, 20), (), guesses)
    np.testing.assert_array_equal(decoder.step(1), expected)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_rewind_then_step_equals_the_first_time(tiny, flavour):
    decoder, ids, new_ids = open_decoder(tiny("fp32", flavour)), make_prompt(7, 14), [11, 22, 33, 44, 55]
    first = forced(decoder, ids, [], [*new_ids, 0])[1:]  # crosses the trained context of 16
    for back in (1, 3, 5):
        decoder.rewind(19 - back)
        again = [decoder.step(new_id) for new_id in new_ids[5 - back :]]
        np.testing.assert_array_equal(again, first[5 - back :])
        assert decoder.position == 19


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_rewinding_twice_is_rewinding_to_the_lower_position(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour))
    first = forced(decoder, make_prompt(7, 9), [], [1, 2, 3, 4, 5])
    for position in (12, 11, 10):
        decoder.rewind(position)
    np.testing.assert_array_equal(decoder.step(2), first[2])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_rewind_into_the_prompt_continues_from_there(tiny, flavour):
    decoder, ids = open_decoder(tiny("fp32", flavour)), make_prompt(8, 14)
    expected = decoder.prefill([*ids[:9], 77])
    decoder.prefill(ids)
    decoder.rewind(9)
    np.testing.assert_allclose(decoder.step(77), expected, rtol=0, atol=SAME)


def test_rewind_into_a_long_prompt_keeps_its_alpha(tiny):
    decoder, ids = open_decoder(tiny()), make_prompt(9, 40)
    decoder.prefill(ids)
    whole = decoder.prefill(ids)
    decoder.rewind(10)
    for one in ids[10:]:
        logits = decoder.step(one)
    np.testing.assert_allclose(logits, whole, rtol=0, atol=SAME)


def test_a_plain_graph_refuses_to_rewind_where_it_would_forget_alpha(tiny):
    decoder = open_decoder(tiny("fp32", "plain"))
    decoder.prefill(make_prompt(9, 40))
    decoder.rewind(33)
    with pytest.raises(ValueError, match="cannot rewind to 10"):
        decoder.rewind(10)
    assert decoder.position == 33


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("forget", [lambda decoder: decoder.reset(), lambda decoder: decoder.rewind(0)])
def test_a_forgotten_sequence_leaves_nothing_behind(tiny, flavour, forget):
    manifest, ids = tiny("fp32", flavour), make_prompt(10, 20)
    expected = greedy(open_decoder(manifest), ids)
    decoder = open_decoder(manifest)
    greedy(decoder, make_prompt(11, 60))
    forget(decoder)
    assert decoder.position == 0
    with pytest.raises(PromptError, match="prefill comes before step"):
        decoder.step(1)
    assert greedy(decoder, ids) == expected


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_second_prompt_does_not_depend_on_the_first(tiny, flavour):
    manifest = tiny("fp32", flavour)
    clips = listen(manifest, [44])
    ids = make_prompt(12, 6, [len(clips[0])])
    expected = forced(open_decoder(manifest), ids, clips, [1, 2, 3])
    decoder = open_decoder(manifest)
    for n_text in (3, 50, 300):  # other alphas and other lengths of cache
        greedy(decoder, make_prompt(13, n_text), n=4)
        np.testing.assert_array_equal(forced(decoder, ids, clips, [1, 2, 3]), expected)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_running_twice_gives_the_same_bits(tiny, flavour):
    rows = [forced(open_decoder(tiny("fp32", flavour)), make_prompt(14, 30), [], [4, 5, 6]) for _ in range(2)]
    np.testing.assert_array_equal(*rows)


def test_the_plain_mask_holds_only_ones_while_alpha_stays(tiny):
    """So that a graph that knows no other mark than 1, as the published one may not, is fed as it expects."""
    masks = recorded_masks(tiny("fp32", "plain"), 17, 16)
    assert all((mask == 1).all() for mask in masks)
    assert [mask.size for mask in masks] == list(range(17, 33))


def test_the_plain_mask_marks_what_was_generated_once_alpha_would_change(tiny):
    masks = recorded_masks(tiny("fp32", "plain"), 15, 4)
    assert [mask.tolist() for mask in masks] == [[1] * 15, [1] * 16, [1] * 15 + [2] * 2, [1] * 15 + [2] * 3]


def recorded_masks(manifest, n_text, n):
    decoder, masks = open_decoder(manifest), []
    run = decoder._contract._session.run

    def record(feeds, *, lengths):
        masks.append(feeds["attention_mask"][0])
        return run(feeds, lengths=lengths)

    decoder._contract._session.run = record
    forced(decoder, make_prompt(15, n_text), [], [1] * n)
    return masks


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_logits_stay_what_they_were(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour))
    first = decoder.prefill(make_prompt(18, 12))
    before = first.copy()
    for new_id in range(300):
        decoder.step(new_id)
    del decoder
    np.testing.assert_array_equal(first, before)


# --- what is refused


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_step_before_a_prefill_is_refused(tiny, flavour):
    with pytest.raises(PromptError, match="nothing to continue: prefill comes before step"):
        open_decoder(tiny("fp32", flavour)).step(1)


@pytest.mark.parametrize("position", [-1, 6, 100])
def test_rewinding_beyond_the_sequence_is_refused(tiny, position):
    decoder = open_decoder(tiny())
    decoder.prefill([1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=f"cannot rewind to {position}: 5 positions are cached"):
        decoder.rewind(position)
    assert decoder.position == 5


REFUSED = {
    "the prompt is empty": ([], []),
    "token id -1 is outside this model's vocabulary of 320": ([5, -1], []),
    "token id 320 is outside this model's vocabulary of 320": ([5, 320], []),
    "1025 tokens are over this model's context of 1024": ([1] * 1025, []),
    "1 <audio> and 1 </audio> for 0 clips": ([START, END], []),
    "0 <audio> and 0 </audio> for 1 clips": ([1], [3]),
    "1 <audio> and 1 </audio> for 2 clips": ([START, 9, END], [3, 3]),
    "1 <audio> and 0 </audio> for 1 clips": ([START, 9], [3]),
    "1 <audio> and 2 </audio> for 1 clips": ([START, 9, END, END], [3]),
    "audio 1 has embeddings of shape [4, 32], its span in the prompt is 3 x 32": ([START, 9, END], [4]),
    "audio 2 has embeddings of shape [3, 32], its span in the prompt is 2 x 32": ([START, 9, END, START, END], [3, 3]),
    "its span in the prompt is -1 x 32": ([END, 9, START], [3]),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("words", REFUSED)
def test_a_prompt_that_cannot_be_is_refused_and_the_old_sequence_kept(tiny, words, flavour):
    ids, spans = REFUSED[words]
    decoder = open_decoder(tiny("fp32", flavour))
    expected = forced(decoder, make_prompt(16, 20), [], [1, 2])[1]
    decoder.rewind(20)
    with pytest.raises(PromptError) as caught:
        decoder.prefill(ids, [np.zeros((span, 32), np.float32) for span in spans])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert decoder.position == 20
    np.testing.assert_array_equal(decoder.step(1), expected)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_after_a_backend_failed_there_is_nothing_to_continue(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour))
    decoder.prefill([1, 2, 3])
    run = decoder._contract._session.run

    def fail(*_, **__):
        raise BackendError("out of memory")

    decoder._contract._session.run = fail
    with pytest.raises(BackendError, match="out of memory"):
        decoder.prefill([4, 5, 6])
    decoder._contract._session.run = run
    with pytest.raises(PromptError, match="prefill comes before step"):
        decoder.step(1)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("new_id", [-1, 320])
def test_a_step_outside_the_vocabulary_is_refused_and_changes_nothing(tiny, new_id, flavour):
    decoder = open_decoder(tiny("fp32", flavour))
    decoder.prefill([1, 2, 3])
    with pytest.raises(PromptError, match=f"token id {new_id} is outside"):
        decoder.step(new_id)
    assert decoder.position == 3


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_full_context_takes_no_more(tiny, flavour):
    decoder = open_decoder(tiny("fp32", flavour, max_position_embeddings=24))
    decoder.prefill(make_prompt(17, 23))
    decoder.step(1)
    with pytest.raises(PromptError, match="25 tokens are over this model's context of 24"):
        decoder.step(1)
    assert decoder.position == 24


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_lone_audio_end_is_an_ordinary_id(tiny, flavour):
    logits = open_decoder(tiny("fp32", flavour)).prefill([1, END, 2])
    assert np.isfinite(logits).all()


def test_clips_are_placed_at_their_spans_in_order(tiny):
    ids = np.array([1, START, 9, END, 2, START, END, 3])
    clips = [np.full((span, 32), span, np.float32) for span in (3, 2)]
    placed = place_audio(ids, clips, tiny().decoder_sizes)
    assert [(start, rows[0, 0]) for start, rows in placed] == [(1, 3), (5, 2)]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_ids_inside_a_span_do_not_matter(tiny, flavour):
    decoder, clip = open_decoder(tiny("fp32", flavour)), np.ones((4, 32), np.float32)
    first, second = (decoder.prefill([1, START, pad, pad, END, 2], [clip]) for pad in (290, 17))
    np.testing.assert_array_equal(first, second)
