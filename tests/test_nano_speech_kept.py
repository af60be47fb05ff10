"""`speech_kept`: an encoder with sound channels comes nearer to Whisper, and its channels stay."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import soundfile

torch = pytest.importorskip("torch", reason="training nano needs torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from models.nano.train import recordings, speech_kept, whisper_base  # noqa: E402
from models.nano.train.model import AudioEncoder, Sizes  # noqa: E402
from models.nano.train.sound_units import CHANNELS  # noqa: E402

SIZES = Sizes(vocab_size=1, audio_start=0, audio_state=64, audio_head=4, audio_layer=2)


@pytest.fixture
def encoders():
    """What Whisper would be, and the same a little off."""
    torch.manual_seed(0)
    whisper = AudioEncoder(SIZES)
    with torch.no_grad():
        whisper.ln_post.weight.uniform_(0.5, 1.5)
        given = copy.deepcopy(whisper)
        for name, value in given.named_parameters():
            if name.startswith("blocks."):
                value.add_(0.1 * value.std(correction=0) * torch.randn(value.shape))
    return whisper, given


@pytest.fixture
def sounds():
    dice = np.random.default_rng(0)
    return [dice.standard_normal(16_000 * seconds).astype(np.float32) * 0.1 for seconds in (1, 2, 3)]


def rows_of(gain):
    free = torch.linalg.qr(torch.randn(64, CHANNELS)).Q
    return free, torch.randn(32, CHANNELS) @ free.T / gain


def test_what_lies_in_the_channels_is_found_by_the_rows_of_the_projection(encoders):
    _, given = encoders
    gain, shift = given.ln_post.weight.detach(), given.ln_post.bias.detach()
    free, rows = rows_of(gain)
    inside = speech_kept.channels(given, rows)
    said = torch.randn(5, CHANNELS)
    other = torch.linalg.qr(free, mode="complete").Q[:, CHANNELS:]
    heard = (said @ free.T + torch.randn(5, 64 - CHANNELS) @ other.T) * gain + shift
    assert torch.allclose(inside(heard), said @ free.T * gain, atol=1e-4)


def test_losses_count_the_channels_of_the_given_encoder_and_all_else_of_whisper(encoders, sounds):
    whisper, given = encoders
    inside = speech_kept.channels(given, rows_of(given.ln_post.weight.detach())[1])
    far, moved = speech_kept.losses(given, given, whisper, inside, sounds)
    assert float(moved) == 0.0
    assert float(far) > 0.001
    far, moved = speech_kept.losses(whisper, given, whisper, inside, sounds)
    assert float(moved) > 0.001
    far, moved = speech_kept.losses(whisper, whisper, whisper, inside, sounds)
    assert (float(far), float(moved)) == (pytest.approx(0.0, abs=1e-4), 0.0)


def test_it_comes_nearer_and_goes_on_where_it_stopped(encoders, sounds, tmp_path, monkeypatch):
    whisper, given = encoders
    rows = rows_of(given.ln_post.weight.detach())[1]
    states = {
        name: {key: value.clone() for key, value in one.state_dict().items() if "proj." not in key and "eos" not in key}
        for name, one in (("whisper", whisper), ("given", given))
    }
    save_file(states["whisper"], tmp_path / "whisper.safetensors")
    save_file(
        states["given"] | dict(zip(whisper_base.ROWS, (rows, torch.zeros(32)), strict=True)),
        tmp_path / "given.safetensors",
    )

    def load(path):
        encoder = AudioEncoder(SIZES)
        stored = {name: value for name, value in load_file(path).items() if name not in whisper_base.ROWS}
        encoder.load_state_dict(stored, strict=False)
        return encoder

    monkeypatch.setattr(speech_kept, "load_encoder", load)
    found = []
    for number, sound in enumerate(sounds):
        soundfile.write(tmp_path / f"{number}.flac", sound, 16_000)
        found.append({"id": str(number), "audio": str(tmp_path / f"{number}.flac"), "source": "made"})
    monkeypatch.setattr(recordings, "recordings", lambda _: found)
    monkeypatch.setattr(recordings, "training", lambda rows: rows)
    monkeypatch.setattr(speech_kept, "SAVED_EVERY", 5)
    asked = [str(tmp_path / "given.safetensors"), str(tmp_path / "out.safetensors"), "--recordings", str(tmp_path)]
    asked += ["--whisper", str(tmp_path / "whisper.safetensors"), "--rate", "1e-3"]
    whole = [*asked, "--steps", "20"]
    speech_kept.main(whole)
    inside = speech_kept.channels(given, rows)
    learned = load(tmp_path / "out.safetensors")
    before, _ = speech_kept.losses(given, given, whisper, inside, sounds)
    after, _ = speech_kept.losses(learned, given, whisper, inside, sounds)
    assert float(after) < 0.7 * float(before)
    assert torch.equal(load_file(tmp_path / "out.safetensors")["channels.weight"], rows)
    stored = load_file(tmp_path / "out.safetensors")
    (tmp_path / "out.safetensors").unlink()
    monkeypatch.setattr(speech_kept, "losses", None)  # all steps are done: nothing is learned again
    speech_kept.main(whole)
    again = load_file(tmp_path / "out.safetensors")
    assert stored.keys() == again.keys()
    assert all(torch.equal(stored[name], again[name]) for name in stored)


def test_folders_without_recordings_are_named_before_anything_is_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "recordings", lambda _: [])
    with pytest.raises(SystemExit, match="no recordings to train on"):
        speech_kept.drawing([tmp_path])


def test_recordings_that_cannot_be_read_end_it(tmp_path, monkeypatch):
    rows = [{"id": "0", "audio": str(tmp_path / "missing.flac"), "source": "made"}]
    monkeypatch.setattr(recordings, "recordings", lambda _: rows)
    monkeypatch.setattr(recordings, "training", lambda rows: rows)
    with pytest.raises(SystemExit, match="no recording can be read"):
        speech_kept.drawing([tmp_path])(random.Random(0))
