"""Calibration rounds by what the exact model does: nearer than without, resumable, deterministic, told in the manifest."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from decoder.decoder import Decoder
from errors import ModelError
from models.convert import calibrate
from models.convert.__main__ import main
from models.convert.calibrate import Calibration
from models.convert.calibration_set import embed_clips, load_set
from models.convert.checkpoint import Checkpoint
from models.convert.convert import convert
from models.convert.exact import Positions, rms_norm, run_layer
from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.linear import CALIBRATED
from models.convert.residual_rotation import RotatedCheckpoint, Rotation
from models.convert.sizes import read_sizes
from models.manifest import load_manifest
from models.nano.embedded import CHECKPOINT
from tests.benchmarks.geometry import Geometry
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import ONNX_RUNTIME, make_tiny
from tokenizer.tokenizer import Tokenizer

D, LAYERS = 64, 2
TOKENIZER = Tokenizer(CHECKPOINT / "qwen.tiktoken")
CLIP = Path(__file__).parent / "golden/nano/man.flac"
# NTK and LogN start beyond 600 positions; blocks of 256 do not divide the MLP's width.
SMALL = Geometry(hidden_size=D, intermediate_size=2 * 272, num_attention_heads=2, num_hidden_layers=LAYERS,
                 vocab_size=TOKENIZER.vocab_size, audio_start_id=TOKENIZER.audio_start, seq_length=600, n_state=32,
                 n_head=2, n_layer=1)  # fmt: skip
TEXT = (
    "The boats came back in the evening with {} baskets of fish. My brother {} said that it would rain, {} went home. "
    "Who is ringing the bell at this hour, and why did nobody open the door for the {} men from the village? "
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights and a small vocabulary."""
    path = tmp_path_factory.mktemp("calibrate") / "checkpoint"
    make_checkpoint(path, SMALL, seed=1)
    shutil.copyfile(CHECKPOINT / "qwen.tiktoken", path / "qwen.tiktoken")
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text of the user's, long enough to hold some of it out."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(TEXT.format(*range(i, i + 4)) for i in range(0, 80, 4)))
    return path


@pytest.fixture(scope="module")
def model(checkpoint, text, tmp_path_factory):
    """Makes and remembers the models of the checkpoint: (precision, whether calibrated) -> manifest."""
    made, folder = {}, tmp_path_factory.mktemp("models")

    def make(precision, *, calibrated):
        key = f"{precision}-{calibrated}"
        if key not in made:
            files = [text] if calibrated else None
            convert(checkpoint, folder / key, precision=precision, flavour="fused", calibration=files)
            made[key] = load_manifest(folder / key)
        return made[key]

    return make


def examples(checkpoint, text):
    return load_set(checkpoint / "qwen.tiktoken", chat=True, longest=2048, files=[text])


def log_softmax(logits):
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def log_p(manifest, ids):
    """Log-probabilities behind each id."""
    decoder = Decoder(manifest, ONNX_RUNTIME)
    return log_softmax(np.concatenate([decoder.prefill(ids[:1])[None], decoder.extend({0: ids[1:]})[0]]))


def answer_log_p(decoder, ids, clip, answer):
    """Log-probabilities of each id of an answer about a clip."""
    first = decoder.prefill(ids[:-answer], [clip])[None]
    return log_softmax(np.concatenate([first, decoder.extend({0: ids[-answer:-1]})[0]]))


def divergence(exact, found, ids):
    p, q = (log_p(one, ids) for one in (exact, found))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


@pytest.mark.parametrize("rotated", [False, True])
def test_the_exact_model_in_numpy_is_the_float_graph(checkpoint, model, tmp_path, rotated):
    ids = np.random.default_rng(0).integers(0, 5000, 700).tolist()
    tensors = Checkpoint(checkpoint)
    _, sizes = read_sizes(tensors.config, checkpoint)
    tensors = RotatedCheckpoint(tensors, D, 2) if rotated else tensors
    found = Calibration(tensors, sizes, None, tmp_path)
    h = tensors.look_up("transformer.wte.weight", SMALL.vocab_size, D).read()[ids]
    h = tensors.stream.rows(h) if rotated else h

    def product(number, part, x):
        return x @ found.matrix(tensors, number, part).read().T

    for number in range(LAYERS):
        h = run_layer(h, found.layer(tensors, number), Positions([700], sizes), found.epsilon, partial(product, number))
    y = rms_norm(h, tensors.look_up("transformer.ln_f.weight", D).read(), found.epsilon)
    logits = y[-1] @ tensors.look_up("lm_head.weight", SMALL.vocab_size, D).read().T
    exact = Decoder(model("fp32", calibrated=False), ONNX_RUNTIME).prefill(ids)
    np.testing.assert_allclose(logits, exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision",
    [pytest.param("int8", marks=pytest.mark.slow), pytest.param("int4-fine", marks=pytest.mark.slow), "int4"],
)
def test_the_loss_that_is_told_is_that_of_the_graph(checkpoint, model, text, precision):
    """Held-out text, run by ONNX Runtime."""
    manifest, exact = model(precision, calibrated=True), model("fp32", calibrated=False)
    held_out = examples(checkpoint, text).held_out
    found = np.average(
        [divergence(exact, manifest, one.ids) for one in held_out], weights=[len(one.ids) for one in held_out]
    )
    assert manifest.loss == pytest.approx(found, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", pytest.param("int4-fine", marks=pytest.mark.slow)])
def test_a_calibrated_model_is_nearer_on_text_that_it_did_not_see(checkpoint, model, text, precision):
    ids = examples(checkpoint, text).held_out[-1].ids
    exact = model("fp32", calibrated=False)
    losses = [divergence(exact, model(precision, calibrated=one), ids) for one in (True, False)]
    assert losses[0] < losses[1]


def test_a_token_is_turned_alike_alone_and_among_others(tmp_path):
    """So that answers side by side stay those given alone."""
    import onnxruntime

    with WeightsFile(tmp_path / "weights") as weights:
        graph = GraphBuilder("turned", weights, opset=17, contrib=True)
        x = graph.input("x", "float32", [1, "tokens", 896])
        graph.node("Identity", [Rotation(896, 0).graph_rows(graph, x)], "y")
        graph.output("y", "float32", [1, "tokens", 896])
        graph.save(tmp_path / "turned.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "turned.onnx"))
    tokens = np.random.default_rng(0).normal(size=(1, 21, 896)).astype(np.float32)
    (together,) = session.run(None, {"x": tokens})
    np.testing.assert_allclose(together, Rotation(896, 0).rows(tokens), atol=1e-5)
    for first in range(21):
        (alone,) = session.run(None, {"x": tokens[:, first : first + 1]})
        assert np.array_equal(alone[0, 0], together[0, first])


def test_some_of_int4_is_finer_and_no_more_than_it_may(checkpoint, tmp_path):
    tensors = Checkpoint(checkpoint)
    _, sizes = read_sizes(tensors.config, checkpoint)
    found = Calibration(RotatedCheckpoint(tensors, D, 2), sizes, replace(CALIBRATED["int4"], finer=0.2), tmp_path)
    names = [f"transformer.h.{number}.{part}.weight" for number in range(LAYERS) for part in calibrate.MATRICES]
    found.losses = {name: float(place) for place, name in enumerate(names)}
    size = {name: int(np.prod(found.shape(name.split(".", 3)[3].removesuffix(".weight")))) for name in names}
    chosen = found.chosen()
    assert 0 < sum(size[name] for name in chosen) <= 0.2 * sum(size.values())
    assert max(names, key=lambda name: found.losses[name] / size[name]) in chosen


@pytest.mark.slow
def test_a_calibration_that_was_interrupted_goes_on_and_ends_the_same(checkpoint, model, text, tmp_path):
    def interrupted(numbers):
        for number in numbers:
            if number == 1:
                raise KeyboardInterrupt
            yield number

    out, asked = tmp_path / "int4", []
    go = partial(convert, checkpoint, out, precision="int4", flavour="fused", calibration=[text])
    with pytest.raises(KeyboardInterrupt):
        go(progress=interrupted)
    assert not out.exists()
    go(progress=lambda numbers: asked.extend(numbers) or iter(asked))
    assert asked == [1]
    whole = model("int4", calibrated=True)
    assert {name: one.sha256 for name, one in load_manifest(out).files.items()} == {
        name: one.sha256 for name, one in whole.files.items()
    }
    assert load_manifest(out).loss == whole.loss
    assert [path.name for path in tmp_path.iterdir()] == ["int4"]


@pytest.mark.slow
def test_another_calibration_begins_again(checkpoint, text, tmp_path):
    def interrupted(numbers):
        yield next(iter(numbers))
        raise KeyboardInterrupt

    other, asked = tmp_path / "other.txt", []
    other.write_text(text.read_text().upper())
    with pytest.raises(KeyboardInterrupt):
        convert(checkpoint, tmp_path / "m", precision="int8", flavour="fused", calibration=[text], progress=interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(
            checkpoint, tmp_path / "m", precision="int8", flavour="fused", calibration=[other],
            progress=lambda numbers: interrupted(asked.extend(numbers) or asked),
        )  # fmt: skip
    assert asked == [0, 1]


@pytest.mark.slow
def test_the_set_that_ships_is_what_the_command_calibrates_with(checkpoint, model, tmp_path, capsys):
    """And what is told of answers about clips is what the graphs give."""
    assert main([str(checkpoint), str(tmp_path / "m"), "--precision", "int8"]) == 0
    manifest, exact = load_manifest(tmp_path / "m"), model("fp32", calibrated=False)
    assert 0 < manifest.loss < 0.1
    told = (
        f"{manifest.loss:.4f} nats in held-out text; {manifest.answers_loss:.4f} nats in answers about held-out clips"
    )
    assert told in capsys.readouterr().err
    held_out = load_set(CHECKPOINT / "qwen.tiktoken", chat=True, longest=2048).held_out
    clips = [
        (one.ids, clip, one.answer)
        for one, clip in zip(held_out, embed_clips(manifest, held_out), strict=True)
        if one.mel
    ]
    p, q = (
        np.concatenate([answer_log_p(Decoder(one, ONNX_RUNTIME), *clip) for clip in clips]) for one in (exact, manifest)
    )
    assert manifest.answers_loss == pytest.approx((np.exp(p) * (p - q)).sum(axis=1).mean(), rel=0.05)


@pytest.mark.parametrize(("precision", "vocabulary"), [("int4", False), ("int8-fine", True)])
def test_what_cannot_be_calibrated_is_converted_without(checkpoint, tmp_path, capsys, precision, vocabulary):
    source = checkpoint
    if not vocabulary:
        make_tiny(tmp_path / "tiny")
        source = tmp_path / "tiny"
    assert main([str(source), str(tmp_path / "m"), "--precision", precision]) == 0
    assert load_manifest(tmp_path / "m").loss is None
    assert ("no qwen.tiktoken" in capsys.readouterr().err) is not vocabulary


def test_what_stands_outside_the_decoder_is_the_same_with_a_calibration(model):
    """Embeddings and encoder are not turned: the decoder's graph turns what comes in."""
    calibrated, plain = (model("int8", calibrated=one) for one in (True, False))
    names = ["encoder.onnx", "encoder.data", "embeddings.npy", "bos.npy", "eos.npy"]
    assert [calibrated.files[name] for name in names] == [plain.files[name] for name in names]


def test_calibrate_none_is_the_conversion_by_the_weights_alone(checkpoint, model, tmp_path):
    assert main([str(checkpoint), str(tmp_path / "m"), "--precision", "int4", "--calibrate", "none"]) == 0
    found, before = load_manifest(tmp_path / "m"), model("int4", calibrated=False)
    assert found.files == before.files
    assert found.loss is None


@pytest.fixture(scope="module")
def shipped():
    return load_set(CHECKPOINT / "qwen.tiktoken", chat=True, longest=2048)


def test_the_set_that_ships_has_clips_and_texts_and_holds_some_out(shipped):
    assert [sum(one.mel is not None for one in part) for part in (shipped.seen, shipped.held_out)] == [9, 4]
    assert sum(len(one.ids) for one in shipped.held_out if not one.mel) > 500
    seen = {one.mel[0].tobytes() if one.mel else tuple(one.ids) for one in shipped.seen}
    assert not any((one.mel[0].tobytes() if one.mel else tuple(one.ids)) in seen for one in shipped.held_out)


def test_clips_count_at_most_as_much_as_texts_and_at_least_a_quarter_of_that(shipped):
    counted = np.square(shipped.roots())
    is_clip = np.concatenate([np.full(len(one.ids), one.mel is not None) for one in shipped.seen])
    assert 1 / 4 <= counted[is_clip].sum() / counted[~is_clip].sum() <= 1
    alone = [
        replace(shipped, seen=tuple(one for one in shipped.seen if bool(one.mel) is kind)) for kind in (True, False)
    ]
    assert all((one.roots() == 1).all() for one in alone)


def test_matrices_are_tried_on_a_text_and_on_a_clip(shipped):
    every = [*shipped.seen, *shipped.held_out]
    ids = np.concatenate([one.ids for one in every])
    tried = [ids[place].tolist() for place in shipped.probes()]
    assert len(tried) == 2
    assert all(0 < len(one) <= 256 for one in tried)
    kinds = {one.mel is not None for one in shipped.held_out for found in tried if one.ids[: len(found)] == found}
    assert kinds == {True, False}


def test_of_a_clip_the_ids_of_its_answer_are_measured(shipped):
    for one in shipped.held_out:
        predicted = [one.ids[place + 1] for place in np.flatnonzero(one.measured()[:-1])]
        if one.mel:
            assert TOKENIZER.decode(predicted[:-1]) in {
                'The person says: "And without fear of being arrested.".', "in the then existing state of the law",
                "This is the sound of a xylophone.", "The language is Chinese.",
            }  # fmt: skip
            assert predicted[-1] == TOKENIZER.im_end
        else:
            assert len(predicted) == len(one.ids) - 1


def test_of_a_clip_without_an_answer_the_place_of_its_first_id_is_measured():
    """So it is with sounds of the user's."""
    set_of_sounds = load_set(CHECKPOINT / "qwen.tiktoken", chat=True, longest=2048, files=[CLIP, CLIP])
    (one,) = set_of_sounds.held_out
    assert np.flatnonzero(one.measured()).tolist() == [len(one.ids) - 1]
    assert TOKENIZER.decode(one.ids[-6:]).endswith("assistant\n")


def test_tokens_are_counted_by_their_weight_and_left_as_they_are():
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    before, roots = x.copy(), np.array([1, 1, 4, 4], np.float32)
    found = calibrate.Sequences((4, 2), roots, ()).squares(x)
    np.testing.assert_allclose(found, (before[:4] * np.square(roots)[:, None]).T @ before[:4], rtol=1e-5)
    assert np.array_equal(x, before)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("short.txt", b"too short", "too little"),
        ("broken.wav", b"RIFF\0\0", "broken.wav"),
        ("none.txt", None, "none.txt"),
    ],
)
def test_a_file_that_is_no_calibration_is_named(checkpoint, tmp_path, capsys, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert main([str(checkpoint), str(tmp_path / "m"), "--calibration", str(tmp_path / name)]) == 3
    assert words in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_checkpoint_without_vocabulary_cannot_be_calibrated(tmp_path):
    make_tiny(tmp_path / "tiny")
    with pytest.raises(ModelError, match="--calibrate none"):
        convert(tmp_path / "tiny", tmp_path / "m", precision="int8", flavour="fused", calibration=[])


@pytest.mark.parametrize("precision", ["fp32", "int8-fine"])
def test_a_precision_that_takes_no_calibration_says_so(checkpoint, tmp_path, capsys, precision):
    assert main([str(checkpoint), str(tmp_path / "m"), "--precision", precision, "--calibrate", "shipped"]) == 3
    assert f"--precision {precision} of --flavour fused takes no calibration" in capsys.readouterr().err
