"""`sound_channels`: what early layers hear of sounds reaches the projection, and speech stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training nano needs torch")

from pathlib import Path  # noqa: E402

from safetensors.numpy import load_file  # noqa: E402

from models.nano.train import graft, grafted, heard_anew, sound_units, whisper_base, whole_sound  # noqa: E402
from models.nano.train import sound_channels as channels  # noqa: E402
from models.nano.train.features import load_encoder  # noqa: E402
from models.nano.train.mels import log_mels  # noqa: E402
from models.nano.train.model import AudioEncoder, Nano, Sizes  # noqa: E402

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


def test_what_a_norm_makes_faint_keeps_its_weights_so_that_8_bits_hold_all_others(made):
    encoder, waveforms, units, free, _ = made
    state = {name: value.clone() for name, value in encoder.state_dict().items() if name.startswith("blocks.")}
    state["blocks.2.mlp_ln.weight"][7] = 1e-4
    changed = channels.implant(state, units, channels.Streams(encoder, waveforms, lambda x: x), free)
    read, gain = changed["blocks.2.mlp.0.weight"], state["blocks.2.mlp_ln.weight"]
    kept = sorted(range(len(read)), key=lambda row: float((read[row] * gain @ free).norm()))[: -sound_units.UNITS]
    assert float((read[kept] * gain @ free).norm()) < 1e-3 * float((read[kept] * gain).norm())
    assert torch.equal(read[kept, 7], state["blocks.2.mlp.0.weight"][kept, 7])


def encoder_sizes(encoder):
    return Sizes(vocab_size=1, audio_start=0, audio_state=128, audio_head=4, audio_layer=len(encoder.blocks))


@pytest.fixture(scope="module")
def decoder():
    """A small decoder of nano's width whose projection hands on channels, and features of six sounds."""
    torch.manual_seed(0)
    nano = Nano(Sizes(vocab_size=300, audio_start=299, n_layer=9))
    with torch.no_grad():
        nano.transformer.audio.proj.weight.copy_(torch.eye(576, 512) * graft.LOUD)
        nano.transformer.audio.proj.bias.zero_()
        nano.transformer.audio.proj.bias[graft.MARKS] = 20 * graft.LOUD
        nano.transformer.audio.audio_bos_eos_token.weight[1, graft.FINISH] = 1e4
    return nano, [torch.randn(tokens, 512) + torch.randn(512) for tokens in (900, 600, 1200, 800, 700, 1000)]


def test_the_projection_gives_channels_that_hold_the_free_directions(made, decoder):
    encoder, waveforms, _, free, _ = made
    heard = torch.cat([encoder.features(*log_mels([waveform]))[0] for waveform in waveforms]).detach()
    norm = (torch.rand(128) + 0.5, torch.randn(128))
    weight, bias = channels.channel_rows(norm, free, heard).values()
    even = heard @ weight.T + bias
    assert even.sum(1).std() < 0.1 * even.std() * len(even[0]) ** 0.5
    told = ((heard - norm[1]) / norm[0]) @ free
    solved = torch.linalg.lstsq(told, even).solution
    assert (told @ solved - even).std() < 0.1 * even.std()
    assert float(even.std(0).mean()) == pytest.approx(graft.LOUD * float(heard.square().mean().sqrt()), rel=0.3)


def test_one_head_hands_on_the_mean_of_the_channels(decoder):
    nano, sounds = decoder
    rows = DICE.standard_normal((32, 512)).astype(np.float32)
    whole_sound.hand_on(nano, {"channels.weight": torch.from_numpy(rows), "channels.bias": torch.zeros(32)})
    assert torch.equal(nano.transformer.audio.proj.weight[graft.EVEN], torch.from_numpy(rows))
    text = torch.randn(400, 576)
    whole_sound.listen(nano, sounds, text)
    layer, head = grafted.WHOLE
    block = nano.transformer.h[layer]
    ends = whole_sound.normed(nano, block, nano.transformer.audio.audio_bos_eos_token.weight)
    heard = [whole_sound.normed(nano, block, nano.transformer.audio.proj(sound)) for sound in sounds]
    stream = torch.cat([block.ln_1(text[:3]), heard[1], ends[1:], block.ln_1(text[3:4])])[None]
    still = (torch.ones(stream.shape[1], graft.DIM // 2), torch.zeros(stream.shape[1], graft.DIM // 2))
    q, k, v = (part[:, head] for part in block.attn.project(stream, still))
    seen = (q[:, -1:] @ k.transpose(1, 2) / graft.DIM**0.5).softmax(-1)[0, 0]
    sound = seen[3 : 3 + len(heard[1])]
    assert float(sound.sum()) > 0.99, "text and the row behind the sound are not heard"
    assert float(sound.max() / sound.min()) < 6  # nearly alike: other heads choose by factors of thousands
    said = (seen @ v[0])[:32]
    means = torch.stack([rows.mean(0)[graft.EVEN] for rows in heard])
    wanted = (means[1] - means.mean(0)) / means.std(0).mean()
    assert torch.allclose(said, wanted, atol=0.1 * float(wanted.abs().max()))
    assert not block.attn.c_proj.weight[:, head * graft.DIM : (head + 1) * graft.DIM].any()


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


@pytest.mark.parametrize("hears", [False, True])
def test_what_is_told_is_learned_only_where_channels_are(hears):
    nano = Nano(Sizes(vocab_size=300, audio_start=299, n_layer=9))
    with torch.no_grad():
        nano.transformer.audio.proj.weight[graft.EVEN] = float(hears)
    grafted.whiten(nano, torch.randn(50, 512))
    tool = grafted.optimizer(nano, 1e-3)
    learned = {id(value) for group in tool.param_groups for value in group["params"]}
    told = [value for name, value in nano.named_parameters() if name.endswith(".told")]
    assert len(told) == 4 + hears  # four layers of cross-attention, and the head that hears all
    assert [value.requires_grad for value in told] == [hears] * len(told)
    assert [id(value) in learned for value in told] == [hears] * len(told)
