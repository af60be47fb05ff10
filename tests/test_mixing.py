"""Two channels that cancel each other out: one of them is heard, however they are coded."""

import io

import av
import numpy as np
import pytest
import soundfile

from audio_encoder.waveform import stream_waveform

RATE = 16_000


def antiphase(kind, codec, rate):
    """A tone in the left channel and its inverse in the right one."""
    tone = (np.sin(np.arange(3 * RATE) / 9) * 9_000).astype(np.int16)
    both = np.stack([tone, -tone], axis=1).reshape(1, -1)
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        sound = container.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(sound.format, "stereo", rate, frame_size=sound.frame_size or 1_024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(piece))
    return file.getvalue()


@pytest.mark.parametrize(
    ("kind", "codec", "rate"),
    [("adts", "aac", 16_000), ("ogg", "libopus", 48_000), ("wav", "pcm_u8", 16_000), ("wav", "pcm_u8", 44_100),
     ("wav", "pcm_mulaw", 8_000), ("wav", "pcm_s16le", 16_000), ("wav", "pcm_s24le", 44_100), ("ac3", "ac3", 48_000)],
)  # fmt: skip
def test_of_channels_that_cancel_each_other_out_one_is_heard(tmp_path, kind, codec, rate):
    path, notes = tmp_path / "sound", []
    path.write_bytes(antiphase(kind, codec, rate))
    waveform = np.concatenate(list(stream_waveform(path, notes)))
    assert np.abs(waveform[8_000:40_000]).max() == pytest.approx(9_000 / 32_768, rel=0.1)
    assert [note for note in notes if "cancel each other out; the left one is heard" in note]


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_channels_that_cancel_each_other_out_in_some_of_a_recording_are_heard_there(tmp_path, kind, rate):
    tone = np.sin(np.arange(12 * rate) / 9) * 0.3
    other = np.where(np.arange(len(tone)) < 5 * rate, tone, -tone)
    notes = []
    soundfile.write(tmp_path / "a", np.stack([tone, other], 1), rate, format=kind, subtype="PCM_16")
    waveform = np.concatenate(list(stream_waveform(tmp_path / "a", notes)))
    assert [round(float(np.abs(waveform[at : at + 8_000]).max()), 1) for at in (8_000, 120_000, 180_000)] == [0.3] * 3
    assert len([note for note in notes if "cancel each other out; the left one is heard" in note]) == 1


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize(("channels", "heard"), [(4, [1, -1]), (6, [1, -1]), (3, [0, 0, 1]), (6, [0, 0, 0, 1])])
def test_of_many_channels_of_which_nothing_is_left_one_is_heard(tmp_path, channels, heard, subtype):
    samples, notes = np.zeros((48_000, channels)), []
    samples[:, : len(heard)] = np.sin(np.arange(48_000) / 9)[:, None] * heard * 0.25
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype=subtype)
    waveform = np.concatenate(list(stream_waveform(tmp_path / "a.wav", notes)))
    assert np.abs(waveform).max() == pytest.approx(0.25, abs=0.01)
    assert f"mixed, its channels are silent; channel {np.argmax(heard) + 1} is heard" in notes[0]


def test_low_tones_are_left_out_of_a_mix_in_which_there_is_sound(tmp_path):
    samples, notes = np.zeros((48_000, 6)), []
    samples[:, 2] = np.sin(np.arange(48_000) / 9) * 0.05
    samples[:, 3] = np.sin(np.arange(48_000) / 50) * 0.9
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    waveform = np.concatenate(list(stream_waveform(tmp_path / "a.wav", notes)))
    assert (np.abs(waveform).max() < 0.05, notes) == (True, [])
