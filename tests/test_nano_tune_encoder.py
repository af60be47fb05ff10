"""`tune_encoder`: the encoder learns from what a decoder that stands reads, and stays near what it was."""

from __future__ import annotations

import copy
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="training nano needs torch")

from safetensors.numpy import load_file as numpy_file  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from models.nano.train import lessons, recordings, tune_encoder, whisper_base  # noqa: E402
from models.nano.train.eight_bits import from_eight_bits  # noqa: E402
from models.nano.train.export import AUDIO  # noqa: E402
from models.nano.train.lessons import Lesson, Lessons  # noqa: E402
from models.nano.train.model import AudioEncoder, Nano, Sizes  # noqa: E402
from models.nano.train.train import build  # noqa: E402

VOCABULARY = Path("models/nano/checkpoint/qwen.tiktoken")
SMALL = {"d_model": 64, "n_layer": 3, "n_head": 4, "width": 64, "audio_state": 64, "audio_head": 4, "audio_layer": 2}


@pytest.fixture
def rows(tmp_path):
    """Readable clips of words, of two languages and of sounds, and one file that cannot be read."""
    dice = np.random.default_rng(0)
    found = []
    for number in range(8):
        path = tmp_path / f"{number}.flac"
        soundfile.write(path, dice.standard_normal(16_000 * (1 + number % 3)).astype(np.float32) * 0.1, 16_000)
        found.append({"id": str(number), "audio": str(path), "source": "made", "speaker": "a"})
    for row in found[:4]:
        row |= {"text": "one two three", "language": "en"}
    found[4] |= {"language": "de", "text": "eins"}
    found[5] |= {"sound": "rain"}
    found[6] |= {"sound": "dog"}
    found[7] |= {"sound": "dog", "audio": str(tmp_path / "missing.flac")}
    return found


@pytest.fixture
def drawn(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "recordings", lambda _: rows)
    monkeypatch.setattr(recordings, "training", lambda rows: rows)
    return Lessons([tmp_path])


def test_only_english_words_have_labels(drawn):
    dice = random.Random(0)
    for kind in (lessons.SOUNDS, lessons.FOREIGN, lessons.NOISES):
        one = drawn.lesson(kind, dice)
        assert one.labels is None
        assert one.clean is one.heard
        assert 0 < abs(one.heard).max() <= 1
    said = [drawn.lesson(lessons.WORDS, dice) for _ in range(40)]
    assert {one.labels["language"] for one in said if "language" in one.labels} == {"en"}
    assert {word for one in said for word in one.labels["text"].split()} == {"one", "two", "three"}
    assert any(np.array_equal(one.clean, one.heard) for one in said)
    assert any(not np.array_equal(one.clean, one.heard) for one in said)
    assert all(len(one.clean) == len(one.heard) for one in said)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_by_telephone_is_what_is_asked_for(drawn, monkeypatch, share):
    """Of the other words half are in rooms."""
    drawn.telephone = share
    called = []
    for name in ("telephone", "degrade"):
        monkeypatch.setattr(lessons.acoustics, name, lambda clip, _, name=name: called.append(name) or clip)
    for seed in range(200):
        drawn.lesson(lessons.WORDS, random.Random(seed))
    assert called.count("telephone") / 200 == pytest.approx(share, abs=0.08)
    assert called.count("degrade") / 200 == pytest.approx((1 - share) / 2, abs=0.08)


def test_words_in_a_row_are_those_of_all_clips(drawn, monkeypatch):
    monkeypatch.setattr(lessons, "IN_A_ROW", 1.0)
    said = [drawn.lesson("words", random.Random(seed)).labels for seed in range(5)]
    assert max(len(one["text"].split()) for one in said) > 3
    assert all(one["written"].count("One two three.") == len(one["text"].split()) / 3 for one in said)


def test_a_step_has_as_many_frames_as_asked_in_groups_of_like_lengths(drawn):
    found = drawn.draw(random.Random(0), 500)
    assert sum(len(one.heard) for one in found) >= 500 * 320
    groups = lessons.by_length(found, 3)
    assert sorted(id(one) for group in groups for one in group) == sorted(map(id, found))
    for group in groups:
        lengths = [len(one.heard) for one in group]
        assert len(group) <= 3
        assert max(lengths) <= 1.5 * min(lengths) + 16_000


def test_folders_without_words_sounds_or_other_languages_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "recordings", lambda _: [])
    with pytest.raises(SystemExit, match="English words, sounds and other languages"):
        Lessons([tmp_path])


def test_recordings_that_cannot_be_read_end_it(rows, tmp_path, monkeypatch):
    for row in rows:
        row["audio"] = str(tmp_path / "missing.flac")
    monkeypatch.setattr(recordings, "recordings", lambda _: rows)
    monkeypatch.setattr(recordings, "training", lambda rows: rows)
    for kind in (lessons.WORDS, lessons.SOUNDS, lessons.FOREIGN):
        with pytest.raises(SystemExit, match="can be read"):
            Lessons([tmp_path]).lesson(kind, random.Random(0))


@pytest.fixture
def small(monkeypatch):
    """Small random models in the place of Whisper and nano's decoder."""
    torch.manual_seed(0)
    tokenizer, _ = build(VOCABULARY)
    sizes = Sizes(tokenizer.vocab_size, tokenizer.audio_start, **SMALL)
    model, encoder = Nano(sizes), AudioEncoder(sizes)
    monkeypatch.setattr(tune_encoder, "build", lambda _: (tokenizer, model))
    monkeypatch.setattr(tune_encoder, "begin", lambda *_: None)
    names = [name for name in encoder.state_dict() if "proj." not in name and "eos" not in name]

    def load(path):
        found = copy.deepcopy(encoder)
        found.load_state_dict(load_file(path), strict=False)
        return found

    monkeypatch.setattr(tune_encoder, "load_encoder", load)
    monkeypatch.setattr(whisper_base, "encoder_tensors", lambda _: dict.fromkeys(names))
    return model, {name: encoder.state_dict()[name] for name in names}


def test_nearness_is_nothing_for_the_same_and_one_for_the_mean(small):
    model, _ = small
    features = torch.randn(200, 64) + 5 * torch.randn(64)  # a norm makes little of a mean of nothing
    near = tune_encoder.nearness(model, features)
    assert float(near(features, features).detach()) == 0.0
    assert float(near(features, features.mean(0).expand(200, -1)).detach()) == pytest.approx(1.0, rel=0.3)
    assert float(near(features + 0.01 * torch.randn(200, 64), features).detach()) < 0.01


def test_only_the_encoder_learns_and_a_second_run_goes_on(small, drawn, rows, tmp_path, monkeypatch):
    model, before = small
    save_file(before, tmp_path / "before.safetensors")
    decoder = {name: value.clone() for name, value in model.state_dict().items()}
    monkeypatch.setattr(tune_encoder, "SAVED_EVERY", 2)
    monkeypatch.setattr(tune_encoder, "FRAMES", 200)

    def run(name, steps):
        asked = [str(tmp_path / "before.safetensors"), str(tmp_path / name), "--recordings", str(tmp_path)]
        asked += ["--decoder", "none", "--vocabulary", str(VOCABULARY), "--rate", "3e-3", "--steps", str(steps)]
        assert tune_encoder.main(asked) == 0
        return from_eight_bits(numpy_file(tmp_path / name))

    whole = run("whole.safetensors", 4)
    assert all(torch.equal(value, decoder[name]) for name, value in model.state_dict().items())
    names = set(before) - {"positional_embedding"}
    assert set(whole) == {AUDIO + name for name in names}
    learned = torch.load(tmp_path / "whole.state", weights_only=True)["encoder"]
    for name in names:
        mean = 0.3 * before[name] + 0.7 * learned[name]
        assert np.allclose(whole[AUDIO + name], mean, atol=float(mean.abs().max()) / 200), name
        assert not torch.equal(learned[name], before[name]), name
    monkeypatch.setattr(tune_encoder.Tuning, "step", None)  # all steps are done: nothing is learned again
    again = run("whole.safetensors", 4)
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_a_step_makes_the_answers_likelier(small, tmp_path, drawn):
    _, before = small
    save_file(before, tmp_path / "before.safetensors")
    tuning = tune_encoder._tuning(tmp_path / "before.safetensors", Path(), VOCABULARY, drawn)
    clip = np.random.default_rng(1).standard_normal(32_000).astype(np.float32) * 0.1
    lesson = Lesson(clip, clip, {"text": "one two three"})
    tool = torch.optim.Adam([one for one in tuning.learner.parameters() if one.requires_grad], lr=1e-3)
    found = []
    for _ in range(12):
        tool.zero_grad()
        found.append(tuning.step([lesson], random.Random(0))["answer"])
        tool.step()
    assert found[-1] < found[0] - 0.05
