"""Embeddings equal those of the original, for one clip and for several that feel each other, in both flavours."""

import json
import weakref

import numpy as np
import pytest

from audio_encoder.encoder import audio_token_count, conv_frames
from tests.tiny_models import FLAVOURS, make_mels, open_encoder, reference_case, reference_mels

ENCODER = 2e-5  # ../shared/reference/README.md; LayerNorm's epsilon shows at 3e-5
EDGES = ["edge480", "edge799", "edge800", "edge960", "edge1279", "edge1600", "edge4801", "edge16000", "edge16160"]
CASES = [
    ("tiny-a", "a_30s"),
    ("tiny-a", "a_short"),
    ("tiny-a", "a_two_audio"),
    ("tiny-a", "a_two_turn"),
    ("tiny-long", "l_two_audio"),
]


def assert_encoded(found, expected, atol=ENCODER):
    assert [rows.shape for rows in found] == [rows.shape for rows in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


def encode(manifest, frames, seed=0):
    return open_encoder(manifest).encode(make_mels(seed, frames))


# --- the original


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_two_audios_of_one_prompt_are_the_originals(golden, golden_case, original, flavour):
    case = golden_case("l_two_audio")
    found = open_encoder(original(golden / "tiny-long", flavour)).encode(case.mels)
    assert_encoded(found, [case["enc_0"], case["enc_1"]])


def test_an_encoder_that_was_closed_opens_again(tiny):
    encoder, mels = open_encoder(tiny()), make_mels(0, [40])
    first = encoder.encode(mels)[0]
    session = weakref.ref(encoder._session)
    encoder.close()
    assert session() is None  # its memory is free
    np.testing.assert_array_equal(encoder.encode(mels)[0], first)


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize(("checkpoint", "name"), CASES)
def test_every_case_is_the_originals(reference, original, checkpoint, name, flavour):
    case = reference_case(reference, checkpoint, name)
    found = open_encoder(original(reference / "ckpt" / checkpoint, flavour)).encode(case.mels)
    assert [len(rows) for rows in found] == case["audio_span"].tolist()
    assert_encoded(found, [case[f"enc_{k}"] for k in range(len(case.mels))])


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", EDGES)
def test_a_very_short_clip_alone_is_the_originals(reference, original, name, flavour):
    encoder = open_encoder(original(reference / "ckpt" / "tiny-a", flavour))
    with np.load(reference / "model" / "tiny-a" / "encoder_edges.npz") as expected:
        assert_encoded(encoder.encode(reference_mels(reference, [name])), [expected[f"solo_{name}"]])


@pytest.mark.reference
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_very_short_clips_in_one_batch_are_the_originals(reference, original, flavour):
    encoder = open_encoder(original(reference / "ckpt" / "tiny-a", flavour))
    path = reference / "model" / "tiny-a" / "encoder_edges"
    order = json.loads(path.with_suffix(".json").read_text())["order"]
    with np.load(path.with_suffix(".npz")) as expected:
        assert sorted(order) == sorted(EDGES)
        found = encoder.encode(reference_mels(reference, order))
        assert_encoded(found, [expected[f"batch_{name}"] for name in order])


# --- without goldens


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("frames", [[80], [79], [3], [4, 5, 6, 7], [80, 30, 31], [12, 77, 3]])
def test_both_flavours_agree(tiny, frames, seed):
    fused, plain = (encode(tiny("fp32", flavour, seed=seed), frames, seed) for flavour in FLAVOURS)
    assert_encoded(fused, plain)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_rows_are_the_span_of_each_clip(tiny, flavour):
    frames = [80, 3, 4, 5, 41]
    assert [len(rows) for rows in encode(tiny("fp32", flavour), frames)] == [22, 3, 3, 3, 12]


@pytest.mark.parametrize(
    ("mel_frames", "frames", "tokens"), [(0, 0, 0), (1, 1, 0), (2, 1, 0), (3, 2, 1), (93, 47, 23), (3000, 1500, 750)]
)
def test_lengths_are_the_originals_arithmetic(mel_frames, frames, tokens):
    assert (conv_frames(mel_frames), audio_token_count(mel_frames)) == (frames, tokens)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_boundary_rows_enclose_every_clip(tiny, flavour):
    manifest = tiny("fp32", flavour)
    for rows in encode(manifest, [30, 12]):
        np.testing.assert_array_equal(rows[0], np.load(manifest.path("bos.npy")))
        np.testing.assert_array_equal(rows[-1], np.load(manifest.path("eos.npy")))


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("short", [0, 1, 2])
def test_a_clip_of_no_token_beside_a_longer_one_is_its_boundary_rows(tiny, flavour, short):
    manifest = tiny("fp32", flavour)
    empty, other = encode(manifest, [short, 20])
    expected = np.stack([np.load(manifest.path(name)) for name in manifest.boundary_rows])
    np.testing.assert_array_equal(empty, expected)
    assert np.isfinite(other).all()


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("frames", [[0], [2], [1, 2, 0]])
def test_only_clips_of_no_token_are_refused(tiny, flavour, frames):
    with pytest.raises(ValueError, match="every clip is shorter than"):
        encode(tiny("fp32", flavour), frames)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_clip_gives_no_embeddings(tiny, flavour):
    assert encode(tiny("fp32", flavour), []) == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_shorter_clip_feels_its_neighbour_and_the_longest_does_not(tiny, flavour):
    encoder, (short, long) = open_encoder(tiny("fp32", flavour)), make_mels(5, [30, 60])
    together, alone = encoder.encode([short, long]), [encoder.encode([one])[0] for one in (short, long)]
    assert np.abs(together[0] - alone[0]).max() > 1e-3
    np.testing.assert_allclose(together[1], alone[1], rtol=0, atol=ENCODER)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_columns_behind_the_clip_do_not_matter(tiny, flavour):
    encoder, ((mel, frames),) = open_encoder(tiny("fp32", flavour)), make_mels(6, [31])
    changed = mel.copy()
    changed[:, 32:] = 9.0  # column 31 is one of the two that the last frame is made of
    assert_encoded(encoder.encode([(changed, frames)]), encoder.encode([(mel, frames)]), atol=0)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_encoding_twice_gives_the_same_bits(tiny, flavour):
    encoder, mels = open_encoder(tiny("fp32", flavour)), make_mels(7, [64, 33])
    assert_encoded(encoder.encode(mels), encoder.encode(mels), atol=0)


def test_float16_outside_gives_float32_embeddings_nearby(tiny):
    found, expected = encode(tiny("fp16", "plain"), [50, 20]), encode(tiny("fp32", "plain"), [50, 20])
    assert_encoded(found, expected, atol=0.02)
