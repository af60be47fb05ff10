"""`sound_channels`: what early layers hear of sounds reaches the projection, and speech stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training nano needs torch")

from pathlib import Path  # noqa: E402

from safetensors.numpy import load_file  # noqa: E402

from models.nano.train import graft, heard_anew, sound_units, whisper_base  # noqa: E402
from models.nano.train import sound_channels as channels  # noqa: E402
from models.nano.train.features import load_encoder  # noqa: E402
from models.nano.train.mels import log_mels  # noqa: E402
from models.nano.train.model import AudioEncoder, Sizes  # noqa: E402

SHIPPED = Path(__file__).parents[1] / "models/nano/checkpoint/model-00001-of-00002.safetensors"
DICE = np.random.default_rng(0)


@pytest.fixture(scope="module")
def made():
    """A small encoder, speech-like noise, units, free directions and the encoder with the units."""
    torch.manual_seed(0)
    encoder = AudioEncoder(Sizes(vocab_size=1, audio_start=0, audio_state=128, audio_head=4, audio_layer=4))
    waveforms = [DICE.standard_normal(16_000 * (2 + n % 3)).astype(np.float32) * 0.1 for n in range(6)]
    state = {name: value for name, value in encoder.state_dict().items() if not name.startswith(channels.OWN_AUDIO)}
    streams = channels.Streams(encoder, waveforms, lambda x: x)
    units = []
    for _ in range(channels.LAYERS):
        up = torch.randn(sound_units.UNITS, 128) / 11
        down = torch.randn(sound_units.CHANNELS, sound_units.UNITS) / 8
        units.append(sound_units.Units(up, torch.zeros(sound_units.UNITS), down, torch.zeros(sound_units.CHANNELS)))
    free = channels.quiet_directions(state, streams, channels.norms_behind_first(4))
    return encoder, waveforms, units, free, channels.implant(state, units, streams, free)


def test_free_directions_are_orthonormal_and_have_no_mean(made):
    *_, free, _ = made
    assert torch.allclose(free.T @ free, torch.eye(sound_units.CHANNELS), atol=1e-5)
    assert free.sum(0).abs().max() < 1e-4


def test_what_the_units_say_arrives_behind_the_last_layer_and_nothing_else_joins_it(made):
    encoder, waveforms, units, free, changed = made
    other = AudioEncoder(encoder_sizes(encoder))
    other.load_state_dict(changed, strict=False)
    heard = channels.Streams(other, waveforms[:1], lambda x: x)
    before = heard["blocks.0.mlp_ln"] @ free  # what stands in the directions before any layer writes
    said = sum(unit(sound_units.normed(heard[f"blocks.{layer}.mlp_ln"])) for layer, unit in enumerate(units))
    last = heard["blocks.1.mlp_ln"]
    loud = channels.LOUDNESS * float((last - last.mean(-1, keepdim=True)).std())
    found = heard["blocks.3.mlp_ln"] @ free - before  # the last layer's attention has written by then
    size = found.std() / said.std()
    assert torch.allclose(found, said * size, atol=0.05 * float(found.std()))
    assert size == pytest.approx(loud, rel=0.5)


def encoder_sizes(encoder):
    return Sizes(vocab_size=1, audio_start=0, audio_state=128, audio_head=4, audio_layer=len(encoder.blocks))


def test_the_projection_gives_channels_that_hold_the_free_directions(made):
    encoder, waveforms, _, free, _ = made
    heard = torch.cat([encoder.features(*log_mels([waveform]))[0] for waveform in waveforms]).detach()
    norm = (torch.rand(128) + 0.5, torch.randn(128))
    name = "transformer.audio.proj."
    weight = torch.zeros(576, 128)
    weight[:128] = torch.eye(128) * graft.LOUD
    rows = channels.channel_rows(norm, free, heard)
    state = channels.with_rows({f"{name}weight": weight, f"{name}bias": torch.zeros(576)}, rows)
    given = heard @ state[f"{name}weight"].T + state[f"{name}bias"]
    even = given[:, graft.EVEN]
    assert even.sum(1).std() < 0.1 * even.std() * len(even[0]) ** 0.5
    told = ((heard - norm[1]) / norm[0]) @ free
    solved = torch.linalg.lstsq(told, even).solution
    assert (told @ solved - even).std() < 0.1 * even.std()
    assert torch.allclose(given[:, :128], heard * graft.LOUD, atol=1e-2 * graft.LOUD)


def test_the_encoder_that_ships_is_read_as_features_read_it():
    stored = load_file(SHIPPED)
    found = whisper_base.encoder_tensors(SHIPPED)
    name = "blocks.3.mlp.0.weight"
    scales = stored[f"transformer.audio.{name}.scales"]
    assert np.allclose(found[name], stored[f"transformer.audio.{name}"] * scales[:, None])
    assert not [name for name in found if "scales" in name or name.startswith("transformer.")]
    assert load_encoder(SHIPPED).conv1.weight.shape == (512, 80, 3)


def test_a_sound_in_the_body_of_another_keeps_what_the_channels_say():
    rows = DICE.standard_normal((4, 32)).astype(np.float32)
    heard, other = (DICE.standard_normal((length, 32)).astype(np.float16) for length in (9, 5))
    found = heard_anew.exchanged(heard, other, (rows, np.linalg.pinv(rows).astype(np.float32))).astype(np.float32)
    assert np.allclose(found @ rows.T, heard.astype(np.float32) @ rows.T, atol=0.05)
    back = found - found @ rows.T @ np.linalg.pinv(rows).T
    like = other[[0, 0, 1, 2, 2, 2, 3, 4, 4]].astype(np.float32)
    assert np.allclose(back, like - like @ rows.T @ np.linalg.pinv(rows).T, atol=0.05)
