"""Every readable file gives mono 16 kHz in 16-bit steps; every other one an AudioError of one line, with the fix."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.testing import assert_allclose

from audio_encoder.samples import SAMPLE_RATE
from audio_encoder.waveform import load_waveform, stream_waveform
from errors import AudioError
from tests.conftest import GOLDEN

FLAC = GOLDEN / "1272-128104-0000.flac"
WAV = GOLDEN / "1272-128104-0000-middle_classes.wav"
FIX = "ffmpeg -i IN -ar 16000 -ac 1 OUT.flac"


def sound(frames=16_000, channels=1, seed=0):
    """Noise that swells and fades, int16: [frames] or [frames, channels]."""
    rng = np.random.default_rng(seed)
    swell = np.sin(np.linspace(0, 20, frames)) ** 2 * 6_000 + 50
    samples = (rng.standard_normal((frames, channels)) * swell[:, None]).astype(np.int16)
    return samples[:, 0] if channels == 1 else samples


def encoded(samples, kind="WAV", subtype=None, rate=SAMPLE_RATE):
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, subtype=subtype)
    return stream.getvalue()


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


def error_of(path):
    """The message of the AudioError, which is one line and names the file."""
    with pytest.raises(AudioError) as caught:
        load_waveform(path)
    message = str(caught.value)
    assert os.fspath(path) in message
    assert "\n" not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return message


def from_stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    return load_waveform("-")


def ffmpeg(path):
    """The samples that ffmpeg's own command gives: int16 [samples]."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    command = ["ffmpeg", "-v", "quiet", "-i", path, "-map", "a:0", "-f", "s16le", "-ac", "1", "-ar", "16000", "-"]
    return np.frombuffer(
        subprocess.run(command, capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout, "<i2"
    )


@pytest.mark.parametrize(("path", "clip"), [(FLAC, "flac"), (WAV, "short")])
def test_a_16_khz_file_is_bit_exact(path, clip):
    waveform = load_waveform(path)
    expected = json.loads((GOLDEN / "features.json").read_text())[clip]
    assert waveform.dtype == np.float32
    assert waveform.shape == (expected["samples"],)
    steps = (waveform * 32768).astype("<i2")
    assert np.array_equal(steps / np.float32(32768), waveform)
    assert hashlib.sha256(steps.tobytes()).hexdigest() == expected["pcm_sha256"]


@pytest.mark.reference
@pytest.mark.parametrize("name", ["es.mp3", "1089_134686_000007_000004.wav"])
def test_another_rate_gives_as_many_samples_as_the_original(name, reference):
    expected = {"es.mp3": 133_120, "1089_134686_000007_000004.wav": 144_000}
    assert len(load_waveform(reference / "assets" / "audio" / name)) == expected[name]


@pytest.mark.reference
def test_resampled_16_bit_speech_is_within_3_steps_of_an_older_ffmpeg(reference):
    expected = np.load(reference / "features" / "features.npz")["libri9.pcm"]  # 24 kHz, through ffmpeg 5.1.9
    waveform = load_waveform(reference / "assets" / "audio" / "1089_134686_000007_000004.wav")
    assert_allclose(waveform * 32768, expected, rtol=0, atol=3)


RESAMPLED = json.loads((GOLDEN / "resample.json").read_text())["cases"]


@pytest.mark.parametrize("case", RESAMPLED, ids=lambda case: f"{case['rate']}")
def test_another_rate_is_within_3_steps_of_an_older_ffmpeg(tmp_path, case):
    samples = np.array(case["input"], np.int16)
    waveform = load_waveform(write(tmp_path, "a.wav", encoded(samples, rate=case["rate"])))
    assert_allclose(waveform * 32768, case["output"], rtol=0, atol=3)


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_lossless_formats_give_the_samples(tmp_path, kind):
    samples = sound()
    waveform = load_waveform(write(tmp_path, "clip", encoded(samples, kind)))
    assert np.array_equal(waveform, samples / np.float32(32768))


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_give_about_the_samples(tmp_path, kind, subtype):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    waveform = load_waveform(write(tmp_path, "clip", encoded(tone, kind, subtype)))
    assert abs(len(waveform) - 16_000) < 2_304  # two MP3 frames: the decoder decides
    loudest = np.argmax(np.abs(np.fft.rfft(waveform[4_000:12_000])))
    assert loudest * 2 == 440  # bins of 2 Hz


def test_24_bit_samples_lose_their_lower_bits_as_in_the_original(tmp_path):
    samples = np.array([0, 1, 255, 256, -1, -255, -256, 300], np.int32) << 8  # 24 bits, left-aligned in 32
    waveform = load_waveform(write(tmp_path, "a.wav", encoded(samples, subtype="PCM_24")))
    assert (waveform * 32768).tolist() == [0, 0, 0, 1, -1, -1, -1, 1]


def test_float_samples_are_rounded_and_clipped_to_16_bits(tmp_path):
    samples = np.array([0.4, 0.6, -0.6, 1.5, 2.5, 40_000, -40_000]) / 32768
    waveform = load_waveform(write(tmp_path, "a.wav", encoded(samples, subtype="FLOAT")))
    assert (waveform * 32768).tolist() == [0, 1, -1, 2, 2, 32_767, -32_768]


def test_stereo_is_mixed_to_the_mean_with_halves_going_up(tmp_path):
    samples = np.array([[100, 200], [1, 2], [-1, -2], [30_000, -20_000]], np.int16)
    waveform = load_waveform(write(tmp_path, "a.wav", encoded(samples)))
    assert (waveform * 32768).tolist() == [150, 2, -1, 5_000]


@pytest.mark.parametrize("channels", [3, 6, 8])
def test_many_channels_are_mixed_with_the_matrix_of_ffmpeg(tmp_path, channels):
    samples = sound(1_000, channels=channels)
    path = write(tmp_path, "a.wav", encoded(samples))
    assert_allclose(load_waveform(path) * 32768, ffmpeg(path), rtol=0, atol=3)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_any_rate_becomes_16_khz(tmp_path, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    waveform = load_waveform(write(tmp_path, "a.wav", encoded(tone, rate=rate)))
    assert abs(len(waveform) - 16_000) <= 1
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert_allclose(waveform[1_000:15_000], expected[1_000:15_000], rtol=0, atol=1e-3)
    assert np.array_equal(np.rint(waveform * 32768) / np.float32(32768), waveform)


def test_a_file_of_many_blocks_equals_its_part_in_one_block(tmp_path):
    samples = sound(600_000)
    whole = load_waveform(write(tmp_path, "a.flac", encoded(samples, "FLAC", rate=48_000)))
    part = load_waveform(write(tmp_path, "b.flac", encoded(samples[:200_000], "FLAC", rate=48_000)))
    assert np.array_equal(whole[:66_000], part[:66_000])
    assert len(whole) == 200_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "channels"),
    [(8_000, 1), (8_000, 2), (16_000, 1), (16_000, 2), (16_001, 1), (44_100, 1), (48_000, 2), (192_000, 1)],
)
def test_the_blocks_are_the_waveform_converted_as_a_whole(tmp_path, rate, channels):
    samples = sound(min(18 * rate, 1_200_000) + 123, channels)
    path = write(tmp_path, "a.wav", encoded(samples, rate=rate))
    blocks = list(stream_waveform(path))
    assert np.array_equal(np.concatenate(blocks), load_waveform(path))
    assert all(block.dtype == np.float32 and len(block) <= 32_100 for block in blocks) or len(blocks) == 1
    if rate == SAMPLE_RATE:
        steps = np.floor(samples.reshape(len(samples), -1).mean(axis=1) + 0.5)
        assert np.array_equal(np.concatenate(blocks), (steps / 32768).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_other_samples_are_the_same_whatever_follows_them(tmp_path, subtype, rate):
    samples = sound(14 * rate, 2).astype(np.float64) / 40_000
    whole = load_waveform(write(tmp_path, "a.wav", encoded(samples, subtype=subtype, rate=rate)))
    part = load_waveform(write(tmp_path, "b.wav", encoded(samples[: 9 * rate], subtype=subtype, rate=rate)))
    assert np.array_equal(part[: 9 * 16_000 - 100], whole[: 9 * 16_000 - 100])


def test_what_is_wrong_at_the_end_shows_after_the_blocks_before_it(tmp_path):
    samples = np.append(sound(160_000) / 32768, np.nan)
    blocks = stream_waveform(write(tmp_path, "a.wav", encoded(samples, subtype="FLOAT", rate=8_000)))
    assert len(next(blocks)) > 20_000
    with pytest.raises(AudioError, match="finite"):
        list(blocks)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files here")
def test_a_stream_that_is_left_early_closes_its_file(tmp_path):
    path = write(tmp_path, "a.wav", encoded(sound(160_000), rate=8_000))
    blocks = stream_waveform(path)
    next(blocks)
    assert path.resolve() in {link.resolve() for link in Path("/proc/self/fd").iterdir()}
    blocks.close()
    assert path.resolve() not in {link.resolve() for link in Path("/proc/self/fd").iterdir()}


def test_a_file_whose_header_has_no_length_is_read_in_little_memory(tmp_path):
    data = bytearray(encoded(np.ones(4_000_000, np.int16)))
    data[4:8] = data[40:44] = bytes(4)  # as a recorder leaves it that was switched off
    path = write(tmp_path, "a.wav", bytes(data))
    tracemalloc.start()
    samples = sum(len(block) for block in stream_waveform(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert samples == 4_000_000
    assert peak < len(data) / 2  # no copy of the file was made


def test_hours_of_silence_in_a_small_file_are_read_in_little_memory(tmp_path):
    path, notes = tmp_path / "a.flac", []
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for _ in range(10):
            file.write(np.zeros(1_000_000))
    tracemalloc.start()
    samples = sum(len(block) for block in stream_waveform(path, notes))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 100_000
    assert (samples, notes) == (10_000_000, [])
    assert peak < 80_000_000  # all of it would be 80 MB in one copy


def test_a_clip_under_one_token_is_returned_as_it_is(tmp_path):
    assert len(load_waveform(write(tmp_path, "a.wav", encoded(sound(1))))) == 1


def test_dash_is_standard_input(monkeypatch):
    assert np.array_equal(from_stdin(monkeypatch, FLAC.read_bytes()), load_waveform(FLAC))


def test_empty_standard_input_is_named(monkeypatch):
    with pytest.raises(AudioError, match="standard input: the file is empty"):
        from_stdin(monkeypatch, b"")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the platform has no named pipes")
def test_a_named_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=[WAV.read_bytes()])
    writer.start()
    waveform = load_waveform(pipe)
    writer.join()
    assert np.array_equal(waveform, load_waveform(WAV))


@pytest.mark.parametrize("riff_size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("data_size", [0, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wav_stream_that_could_not_know_its_length_is_read_to_its_end(monkeypatch, riff_size, data_size):
    samples = sound(1_000)
    data = bytearray(encoded(samples))
    data[4:8] = struct.pack("<I", riff_size)
    data[40:44] = struct.pack("<I", data_size)
    assert np.array_equal(from_stdin(monkeypatch, bytes(data)), samples / np.float32(32768))


def test_a_flac_stream_that_could_not_know_its_length_is_read_to_its_end(monkeypatch):
    samples = sound(300_000)
    data = bytearray(encoded(samples, "FLAC"))
    data[21] &= 0xF0  # the upper 4 of the 36 bits of the sample count
    data[22:26] = bytes(4)
    assert np.array_equal(from_stdin(monkeypatch, bytes(data)), samples / np.float32(32768))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
@pytest.mark.parametrize(
    ("kind", "subtype"),
    [("WAV", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")],
)
def test_a_file_that_was_cut_short_is_refused(tmp_path, kind, subtype, keep):
    data = encoded(sound(160_000), kind, subtype)
    assert FIX in error_of(write(tmp_path, "cut", data[: int(len(data) * keep)]))


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_an_mp3_that_was_cut_short_is_refused(tmp_path, keep):
    data = encoded(sound(160_000), "MP3")
    assert "cut short" in error_of(write(tmp_path, "cut.mp3", data[: int(len(data) * keep)]))


def test_a_cut_flac_on_standard_input_is_refused(monkeypatch):
    with pytest.raises(AudioError, match="standard input"):
        from_stdin(monkeypatch, FLAC.read_bytes()[:60_000])


def test_an_mp3_that_does_not_say_its_length_is_heard_with_a_note(tmp_path):
    data = encoded(sound(160_000), "MP3")
    second_frame = data.find(data[:2], 4)  # without the first, which has the length
    notes = []
    blocks = list(stream_waveform(write(tmp_path, "a.mp3", data[second_frame:]), notes))
    assert abs(sum(map(len, blocks)) - 160_000) < 3_000
    assert "does not say how long" in notes[0]


def test_joined_files_are_heard_to_the_end(tmp_path):
    for kind, subtype in (("MP3", None), ("FLAC", None), ("OGG", "OPUS"), ("OGG", "VORBIS")):
        first, second = (encoded(sound(48_000, seed=seed), kind, subtype) for seed in (1, 2))
        both = load_waveform(write(tmp_path, "both", first + second))
        assert abs(len(both) - 96_000) < 5_000, kind


def test_bytes_behind_a_sound_whose_size_is_too_small_are_told(tmp_path):
    data = bytearray(encoded(sound(32_000)))
    data[40:44] = struct.pack("<I", 32_000)
    notes = []
    blocks = list(stream_waveform(write(tmp_path, "a.wav", bytes(data)), notes))
    assert sum(map(len, blocks)) == 16_000
    assert "after the end of the sound" in notes[0]


def test_a_size_that_no_pipe_writes_is_a_promise(tmp_path):
    data = bytearray(encoded(sound(16_000)))
    data[40:44] = struct.pack("<I", 3_000_000_000)
    assert "cut short" in error_of(write(tmp_path, "a.wav", bytes(data)))


def test_channels_that_cancel_each_other_out_are_heard_and_told(tmp_path):
    samples = sound(32_000)
    for rate in (16_000, 44_100):
        notes = []
        path = write(tmp_path, "a.wav", encoded(np.stack([samples, -samples], 1), rate=rate))
        blocks = list(stream_waveform(path, notes))
        assert np.abs(np.concatenate(blocks)).max() > 0.1
        assert "cancel each other" in notes[0]


def test_samples_beyond_all_measure_are_refused(tmp_path):
    samples = np.append(sound(16_000) / 32768, 1e36)
    for rate in (16_000, 44_100):
        assert "far too loud" in error_of(write(tmp_path, "a.wav", encoded(samples, subtype="FLOAT", rate=rate)))


@pytest.mark.parametrize("kind", ["FLAC", "OGG"])
def test_damage_in_the_middle_is_refused(tmp_path, kind):
    data = bytearray(encoded(sound(160_000), kind))
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    assert FIX in error_of(write(tmp_path, "damaged", bytes(data)))


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in error_of(tmp_path / "none.wav")


def test_a_folder_is_named(tmp_path):
    assert "folder" in error_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    path = write(tmp_path, "a.wav", WAV.read_bytes())
    path.chmod(0)
    assert "permission" in error_of(path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that opens and cannot be read")
def test_a_file_that_opens_but_cannot_be_read_is_named():
    assert "cannot be read" in error_of("/proc/self/mem")


def test_an_empty_file_is_named(tmp_path):
    assert "empty" in error_of(write(tmp_path, "a.wav", b""))


@pytest.mark.parametrize("kind", ["WAV", "OGG", "AIFF"])
def test_a_file_without_samples_is_named(tmp_path, kind):
    assert "no samples" in error_of(write(tmp_path, "a", encoded(sound(0), kind)))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("data.wav", b"\1this is no sound\n" * 50),
        ("a.bin", bytes(600)),
        ("a.wav", b"RIFF"),
        ("b.wav", b"RIFF\xff\xff\xff\xffWAVE"),
        ("a.ogg", b"OggS" + bytes(100)),
        ("a.flac", b"fLaC" + bytes(100)),
        ("a.mp3", b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f"),
    ],
)
def test_what_is_no_sound_says_how_to_convert(tmp_path, name, data):
    assert FIX in error_of(write(tmp_path, name, data))


@pytest.mark.parametrize("kind", ["AU", "CAF", "W64", "RF64", "AIFF"])
def test_other_pcm_containers_are_read_whole_or_refused(tmp_path, kind):
    data = encoded(sound(), kind)
    assert np.array_equal(load_waveform(write(tmp_path, "a", data)), sound() / np.float32(32768))
    assert "cut short" in error_of(write(tmp_path, "cut", data[:20_000]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused(tmp_path, value):
    samples = np.array([0, 0.1, value, 0.2])
    assert "finite" in error_of(write(tmp_path, "a.wav", encoded(samples, subtype="FLOAT")))


@pytest.mark.parametrize("rate", [1, 2_000_000_000])
def test_an_impossible_rate_is_refused_before_it_asks_for_gigabytes(tmp_path, rate):
    assert "damaged header" in error_of(write(tmp_path, "a.wav", encoded(sound(), rate=rate)))


def test_nothing_is_printed_about_damaged_files(tmp_path, capfd):
    mp3 = encoded(sound(16_000), "MP3")
    riff = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 0x55, 1, 16_000, 4_000, 1, 0)
    riff += b"data" + struct.pack("<I", len(mp3) - 100) + mp3[100:] + bytes(len(mp3) % 2)
    files = [b"RIFF" + struct.pack("<I", len(riff)) + riff, mp3[:300] + bytes(500) + mp3[700:]]
    files += [b"\x00\x00\x00\x20ftypM4A " + bytes(16) + b"\xff" * 300, b"fLaC" + b"\xff" * 300]
    for data in files:
        with contextlib.suppress(AudioError):
            load_waveform(write(tmp_path, "a", data))
    assert capfd.readouterr() == ("", "")


@pytest.mark.filterwarnings("error")  # an exception in libsndfile's callbacks would only be a warning
def test_random_bytes_in_a_header_never_crash(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("WAV", "FLAC", "OGG", "AIFF"):
        whole = encoded(sound(4_000), kind)
        for _ in range(40):
            data = bytearray(whole)
            for position in rng.integers(0, min(len(data), 200), 3):
                data[position] = rng.integers(256)
            with contextlib.suppress(AudioError):
                assert np.isfinite(load_waveform(write(tmp_path, "a", bytes(data)))).all()


def test_importing_the_module_loads_no_sound_library():
    code = "import sys, audio_encoder.waveform as _; print({'soundfile', 'av'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=GOLDEN.parents[1], text=True).strip() == "set()"


def notes_of(path):
    notes = []
    list(stream_waveform(path, notes))
    return notes


def voc(blocks):
    return b"Creative Voice File\x1a\x1a\0\x0a\x01\x29\x11" + blocks


SOUND_BLOCK = b"\x01" + (2 + 4000).to_bytes(3, "little") + bytes([131, 0]) + bytes(range(0, 250, 1)) * 16


@pytest.mark.parametrize(
    ("kind", "place", "size"),
    [("wav", 40, b"\xff\xff\xff\xff"), ("wav", 40, b"\xdc\xef\xff\x7f"), ("au", 8, b"\xff\xff\xff\xff"),
     ("aiff", 42, b"\x7f\xff\xff\xff"), ("caf", 60, b"\xff" * 8)],
)  # fmt: skip
def test_what_does_not_say_how_long_it_is_is_heard_with_a_note(tmp_path, kind, place, size):
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, np.sin(np.arange(16_000) / 9) / 2, 16_000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    if kind == "caf":
        place = data.index(b"data") + 4
    elif kind == "aiff":
        place = data.index(b"SSND") + 4
    assert notes_of(path) == []
    data[place : place + len(size)] = size
    path.write_bytes(data)
    assert len(load_waveform(path)) >= 15_990
    (note,) = notes_of(path)
    assert "whether it is whole cannot be told" in note


@pytest.mark.parametrize("size", [(1 << 63) - 1, (1 << 64) - 1], ids=["as ffmpeg writes to a pipe", "all bits set"])
def test_a_wave64_of_unknown_length_is_heard_whole_with_a_note(tmp_path, size):
    path = write(tmp_path, "a.w64", encoded(sound(), "W64"))
    assert notes_of(path) == []
    data = bytearray(path.read_bytes())
    data[16:24] = struct.pack("<Q", size)  # behind the GUID; FFmpeg wants the size of the sound
    path.write_bytes(data)
    assert np.array_equal(load_waveform(path), sound() / np.float32(32768))
    (note,) = notes_of(path)
    assert "whether it is whole cannot be told" in note


@pytest.mark.parametrize("place", ["the whole", "the sound"])
def test_a_wave64_that_is_shorter_than_it_says_is_refused(tmp_path, place):
    data = bytearray(encoded(sound(), "W64"))
    at = 16 if place == "the whole" else data.index(b"data\xf3\xac\xd3\x11") + 16
    data[at : at + 8] = struct.pack("<Q", struct.unpack("<Q", data[at : at + 8])[0] + 1_000)
    assert "cut short" in error_of(write(tmp_path, "a.w64", data))


def test_a_voice_file_is_whole_with_its_end_told_without_it_and_refused_when_cut(tmp_path):
    path = tmp_path / "a.voc"
    path.write_bytes(voc(SOUND_BLOCK + b"\0"))
    assert notes_of(path) == []
    path.write_bytes(voc(SOUND_BLOCK))
    assert "whether it is whole cannot be told" in notes_of(path)[0]
    path.write_bytes(voc(SOUND_BLOCK[:2000]))
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_an_end_is_not_read(device):
    assert "a device, which may have no end" in error_of(device)


def test_a_file_that_grows_while_it_is_read_is_told(tmp_path):
    path, notes = tmp_path / "a.wav", []
    soundfile.write(path, np.zeros(200 * 16_000, np.int16), 16_000)
    for number, _ in enumerate(stream_waveform(path, notes)):
        if number == 1:
            with path.open("ab") as file:
                file.write(bytes(64_000))
    assert notes == [f"{path}: it grew while it was read; its end may be missing"]
