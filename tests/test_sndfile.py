"""Files that libsndfile reads and FFmpeg does not, or as noise: they are heard as what they are."""

import io
import struct

import numpy as np
import pytest
import soundfile

from audio_encoder.waveform import load_waveform, stream_waveform
from errors import AudioError

RATE = 16_000


def tone(channels=1, seconds=1):
    left = (np.sin(np.arange(RATE * seconds) / 9) * 9_000).astype(np.int16)
    return left if channels == 1 else np.stack([left, left // 2], axis=1)


def encoded(samples, kind, subtype, endian):
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=kind, subtype=subtype, endian=endian)
    return file.getvalue()


def heard(folder, data):
    path, notes = folder / "sound", []
    path.write_bytes(data)
    return np.concatenate(list(stream_waveform(path, notes))) * 32_768, notes


@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [
        ("WAV", "PCM_16", "BIG"), ("WAV", "PCM_24", "BIG"), ("WAV", "PCM_32", "BIG"), ("AU", "PCM_16", "LITTLE"),
        ("AU", "PCM_24", "LITTLE"), ("AIFF", "PCM_24", "LITTLE"), ("AIFF", "PCM_32", "LITTLE"),
        ("MAT5", "PCM_16", "LITTLE"), ("PAF", "PCM_24", "BIG"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_of_any_byte_order_are_heard_as_they_are(tmp_path, kind, subtype, endian, channels):
    samples = tone(channels)
    waveform, _ = heard(tmp_path, encoded(samples, kind, subtype, endian))
    expected = samples if channels == 1 else samples.mean(axis=1)
    np.testing.assert_allclose(waveform, expected, atol=1)


@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [("WAV", "ULAW", "BIG"), ("WAV", "NMS_ADPCM_32", "FILE"), ("AU", "ALAW", "LITTLE"), ("AIFF", "DWVW_16", "FILE")],
)
def test_coded_samples_are_heard_as_they_are(tmp_path, kind, subtype, endian):
    samples = tone()
    waveform, _ = heard(tmp_path, encoded(samples, kind, subtype, endian))
    assert abs(len(waveform) - RATE) <= 160
    likeness = np.corrcoef(waveform[1_000:15_000], samples[1_000:15_000])[0, 1]
    assert likeness > 0.9


@pytest.mark.parametrize(("kind", "endian"), [("WAV", "BIG"), ("AU", "LITTLE")])
def test_a_cut_one_is_refused(tmp_path, kind, endian):
    data = encoded(tone(), kind, "PCM_16", endian)
    with pytest.raises(AudioError, match="cut short"):
        heard(tmp_path, data[: len(data) * 6 // 10])
    assert heard(tmp_path, data)[1] == []


def test_a_kind_that_is_not_known_to_say_its_length_is_heard_with_a_note(tmp_path):
    _, (note,) = heard(tmp_path, encoded(tone(), "MAT5", "PCM_16", "LITTLE"))
    assert "a cut cannot be noticed" in note


def test_an_aiff_of_a_pipe_that_filled_in_no_size_is_heard(tmp_path):
    data = bytearray(encoded(tone(), "AIFF", "PCM_16", "FILE"))
    for place in (4, data.index(b"SSND") + 4):
        data[place : place + 4] = bytes(4)
    waveform, (note,) = heard(tmp_path, bytes(data))
    assert "whether it is whole cannot be told" in note
    np.testing.assert_array_equal(waveform, tone())


def test_a_damaged_rate_is_refused(tmp_path):
    data = bytearray(encoded(tone(), "WAV", "PCM_16", "BIG"))
    data[24:28] = struct.pack(">I", 2_000_000_000)
    path = tmp_path / "sound"
    path.write_bytes(data)
    with pytest.raises(AudioError, match="samples per second"):
        load_waveform(path)
