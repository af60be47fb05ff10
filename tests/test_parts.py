"""A file made of parts is cut where one of them is longer than what is there; what others append is no part."""

import contextlib
import io
import re
import shutil
import struct
import subprocess
import zlib

import av
import numpy as np
import pytest
import soundfile

from audio_encoder.parts import search
from audio_encoder.waveform import load_waveform, stream_waveform
from errors import AudioError
from tests.conftest import GOLDEN

KINDS = {"mp4": "aac", "mov": "pcm_s16le", "matroska": "libopus", "webm": "libopus", "asf": "wmav2"}


def encoded(kind, codec, seconds=3, picture_seconds=0):
    """A tone at 48 kHz, and a picture where it has seconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        sound = container.add_stream(codec, rate=48_000, layout="mono")
        if sound.codec.name != "pcm_s16le":
            sound.bit_rate = 64_000
        picture = container.add_stream("mpeg4", rate=10) if picture_seconds else None
        if picture:
            picture.width = picture.height = 16
            for _ in range(10 * picture_seconds):
                frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        tone = (np.sin(np.arange(48_000 * seconds) / 20) * 8_000).astype(np.int16)
        resampler = av.AudioResampler(sound.format, "mono", 48_000, frame_size=sound.frame_size or 1_024)
        frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        frame.sample_rate = 48_000
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(piece))
    return file.getvalue()


def write(folder, data):
    path = folder / "sound"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_refused_and_a_whole_one_heard(tmp_path, kind):
    data = encoded(kind, KINDS[kind])
    assert abs(len(load_waveform(write(tmp_path, data))) - 48_000) < 3_000
    for keep in (0.3, 0.6, 0.95):
        with pytest.raises(AudioError) as caught:
            load_waveform(write(tmp_path, data[: int(len(data) * keep)]))
        assert caught.value.kind == "cut short", keep


@pytest.mark.parametrize("kind", ["matroska", "mp4", "mov"])
def test_a_sound_that_is_shorter_than_its_picture_is_whole(tmp_path, kind):
    waveform = load_waveform(write(tmp_path, encoded(kind, "aac", picture_seconds=5)))
    assert abs(len(waveform) - 48_000) < 3_000


def test_what_is_appended_is_no_part(tmp_path):
    data = encoded("mp4", "aac")
    whole = load_waveform(write(tmp_path, data))
    for appended in (bytes(3_000), b"TAG" + b"q" * 125, b"ID3"):
        assert np.array_equal(load_waveform(write(tmp_path, data + appended)), whole)


def test_joined_mp3_files_with_tags_are_heard_to_the_end_with_a_note(tmp_path):
    data = encoded("mp3", "libmp3lame")
    notes = []
    blocks = list(stream_waveform(write(tmp_path, data + b"TAG" + b"q" * 125 + data), notes))
    assert abs(sum(map(len, blocks)) - 96_000) < 3_000


def test_a_tag_behind_the_last_page_of_an_ogg_file_is_no_cut(tmp_path):
    data = encoded("ogg", "libopus")
    assert np.array_equal(load_waveform(write(tmp_path, data + bytes(500))), load_waveform(write(tmp_path, data)))


@pytest.mark.slow
@pytest.mark.parametrize("damage", range(4))
def test_random_bytes_in_the_parts_never_crash(tmp_path, damage):
    rng = np.random.default_rng(damage)
    for kind, codec in KINDS.items():
        data = bytearray(encoded(kind, codec, seconds=1))
        for place in rng.integers(0, len(data), 20):
            data[place] = rng.integers(256)
        with contextlib.suppress(AudioError):
            assert np.isfinite(load_waveform(write(tmp_path, bytes(data)))).all()


def noise(kind, codec, channels, rate, **options):
    """One second in which the channels differ."""
    samples = np.random.default_rng(0).integers(-8_000, 8_000, (1, rate * channels)).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(
        samples, format="s16", layout={1: "mono", 2: "stereo"}.get(channels, f"{channels} channels")
    )
    frame.sample_rate = rate
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        sound = container.add_stream(codec, rate=rate, layout=frame.layout, options=options)
        resampler = av.AudioResampler(sound.format, frame_size=sound.frame_size or 4_096)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(piece))
    return file.getvalue()


def test_more_channels_than_pyav_can_list_are_mixed(tmp_path):
    data = noise("ogg", "libopus", 12, 48_000, mapping_family="255")  # PyAV alone ends by a segmentation fault
    assert abs(len(load_waveform(write(tmp_path, data))) - 16_000) < 400


def test_a_cut_wavpack_file_is_called_cut_short(tmp_path):
    data = noise("wv", "wavpack", 2, 16_000)
    assert len(load_waveform(write(tmp_path, data))) == 16_000
    with pytest.raises(AudioError) as caught:
        load_waveform(write(tmp_path, data[: len(data) * 6 // 10]))
    assert caught.value.kind == "cut short"


def moved(data, kind, later):
    """The same packets, each by `later(seconds)` seconds later; those for which that is None are left out."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=kind) as container:
        stream = container.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            delay = None if packet.pts is None else later(float(packet.pts * packet.time_base))
            if delay is not None:
                steps = round(delay / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + steps, packet.dts + steps, stream
                container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["matroska", "mp4", "webm", "nut", "avi"])
def test_a_recording_that_begins_late_is_whole(tmp_path, kind):
    notes = []
    path = write(tmp_path, moved(encoded(kind, KINDS.get(kind, "libmp3lame")), kind, lambda _: 5.0))
    assert abs(sum(map(len, stream_waveform(path, notes))) - 48_000) < 3_000
    assert kind == "avi" or not any("missing" in note for note in notes)


@pytest.mark.parametrize("kind", ["matroska", "mp4", "webm", "nut"])
def test_a_pause_of_the_recorder_is_told(tmp_path, kind):
    notes = []
    data = encoded(kind, KINDS.get(kind, "libmp3lame"))
    path = write(tmp_path, moved(data, kind, lambda at: None if 1 < at < 2 else 0.0))
    assert abs(sum(map(len, stream_waveform(path, notes))) - 32_000) < 3_000
    assert any("1.0 s are missing inside, after 1.0 s of sound" in note for note in notes)


@pytest.mark.parametrize("kind", ["avi", "nut"])
def test_lost_bytes_between_pictures_are_damage(tmp_path, kind):
    data = bytearray(encoded(kind, "pcm_s16le" if kind == "avi" else "libmp3lame", picture_seconds=6, seconds=6))
    hole = slice(int(0.4 * len(data)), int(0.7 * len(data)))
    data[hole] = bytes(hole.stop - hole.start)
    with pytest.raises(AudioError, match="damaged"):
        load_waveform(write(tmp_path, bytes(data)))


def test_lost_bytes_in_a_wma_file_are_damage(tmp_path):
    data = bytearray(encoded("asf", "wmav2", seconds=6))
    data[int(0.4 * len(data)) : int(0.7 * len(data))] = bytes(int(0.7 * len(data)) - int(0.4 * len(data)))
    with pytest.raises(AudioError):
        load_waveform(write(tmp_path, bytes(data)))


@pytest.mark.parametrize("kind", ["matroska", "webm"])
def test_zeros_in_place_of_the_rest_are_damage(tmp_path, kind):
    data = encoded(kind, KINDS[kind], seconds=6)
    for first, last in ((0.6, 1.0), (0.4, 0.7)):
        hole = slice(int(first * len(data)), int(last * len(data)))
        with pytest.raises(AudioError) as caught:
            load_waveform(write(tmp_path, data[: hole.start] + bytes(hole.stop - hole.start) + data[hole.stop :]))
        assert caught.value.kind in ("damaged", "cut short")


def test_more_sound_than_a_true_audio_file_counts_is_damage(tmp_path):
    data = noise("tta", "tta", 2, 16_000)
    place = data.index(b"TTA1") + 14
    fewer = struct.pack("<I", 16_000 - 6_000)
    header = data[:place] + fewer
    header += struct.pack("<I", zlib.crc32(header[place - 14 :]))
    with pytest.raises(AudioError):
        load_waveform(write(tmp_path, header + data[place + 8 :]))


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("voc", "pcm_u8"), ("mp4", "aac"), ("wv", "wavpack"), ("ogg", "libopus"), ("flac", "flac"), ("matroska", "pcm_s16le"),
     ("tta", "tta")],
)  # fmt: skip
def test_files_of_different_kinds_of_sound_that_were_joined_are_all_heard(tmp_path, kind, codec):
    one, two = noise(kind, codec, 1, 16_000), noise(kind, codec, 1 if kind == "voc" else 2, 48_000)
    joined = np.concatenate([load_waveform(write(tmp_path, data)) for data in (one, two, one)])
    notes = []
    blocks = list(stream_waveform(write(tmp_path, one + two + one), notes))
    assert np.array_equal(np.concatenate(blocks), joined)
    assert [note for note in notes if "several recordings are joined in it" in note] == notes


def test_wma_files_that_were_joined_are_all_heard_and_a_cut_second_one_is_refused(tmp_path):
    data = encoded("asf", "wmav2")
    one = load_waveform(write(tmp_path, data))
    assert np.array_equal(load_waveform(write(tmp_path, data + data)), np.concatenate([one, one]))
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(write(tmp_path, data + data[: len(data) // 2]))


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_links_of_speex_are_all_heard(tmp_path):
    command = ["ffmpeg", "-v", "error", "-i", GOLDEN / "1272-128104-0000.flac", "-c:a", "libspeex"]
    links = [tmp_path / "wide.spx", tmp_path / "narrow.spx"]
    if any(
        subprocess.run([*command, "-ar", f"{rate}000", path], check=False).returncode
        for rate, path in zip((16, 8), links, strict=True)
    ):
        pytest.skip("this ffmpeg was built without libspeex")
    expected = np.concatenate([load_waveform(path) for path in links])
    assert np.array_equal(load_waveform(write(tmp_path, b"".join(path.read_bytes() for path in links))), expected)


def test_sound_behind_the_end_that_a_wave64_file_names_is_told(tmp_path):
    data = bytearray(noise("w64", "pcm_s16le", 1, 16_000))
    place = data.index(b"data") + 16
    (length,) = struct.unpack_from("<Q", data, place)
    struct.pack_into("<Q", data, place, (length - 24) // 2 + 24)
    notes = []
    assert sum(map(len, stream_waveform(write(tmp_path, bytes(data)), notes))) == 8_000
    assert "bytes after the end of the sound are ignored" in notes[0]


@pytest.mark.parametrize("kind", ["wav", "aiff", "caf"])
def test_a_tag_before_a_sound_is_skipped(tmp_path, kind):
    data = noise(kind, "pcm_s16le" if kind == "wav" else "pcm_s16be", 1, 16_000)
    tag = b"ID3\x04\0\0\0\0\x10\0" + bytes(2_048)
    plain = load_waveform(write(tmp_path, data))
    assert np.array_equal(load_waveform(write(tmp_path, tag + data)), plain)
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(write(tmp_path, tag + data[:20_000]))


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "aac"), ("matroska", "libopus"), ("ogg", "libopus"), ("flac", "flac")]
)
def test_a_tag_with_a_footer_is_skipped_before_every_kind(tmp_path, kind, codec):
    data = noise(kind, codec, 1, 48_000)
    plain = load_waveform(write(tmp_path, data))
    for flags, footer in ((0, b""), (0x10, b"3DI\x04\0\x10\0\0\x10\0")):
        tag = b"ID3\x04\0" + bytes([flags]) + b"\0\0\x10\0" + bytes(2_048) + footer
        assert np.array_equal(load_waveform(write(tmp_path, tag + data)), plain)


@pytest.mark.parametrize("behind", [bytes(5_000), b"no packet of it\n" * 100, bytes(500_000)])
@pytest.mark.parametrize(
    ("kind", "codec"), [("mpegts", "aac"), ("mpegts", "mp2"), ("matroska", "libopus"), ("mp4", "aac")]
)
def test_what_lies_behind_a_recording_is_no_damage(tmp_path, kind, codec, behind):
    data = noise(kind, codec, 1, 48_000)
    plain = load_waveform(write(tmp_path, data))
    assert np.array_equal(load_waveform(write(tmp_path, data + behind)), plain)


def test_a_tag_behind_a_true_audio_file_is_no_sound(tmp_path):
    data = noise("tta", "tta", 2, 16_000)  # FFmpeg puts a tag behind it
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(write(tmp_path, data[:25]))  # within the sizes of its frames
    notes = []
    assert sum(map(len, stream_waveform(write(tmp_path, data), notes))) == 16_000
    assert not notes
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(write(tmp_path, (data + data)[: len(data) * 16 // 10]))


BARE = {
    "g722": ("g722", 1, 16_000),
    "sbc": ("sbc", 2, 16_000),
    "aptx": ("aptx", 2, 48_000),
    "sln": ("pcm_s16le", 1, 8_000),
}


@pytest.mark.parametrize("ending", BARE)
def test_what_only_an_ending_tells_is_heard_with_a_note(tmp_path, ending):
    codec, channels, rate = BARE[ending]
    path = tmp_path / f"sound.{ending.upper()}"
    path.write_bytes(noise("s16le" if ending == "sln" else ending, codec, channels, rate))
    notes = []
    assert abs(sum(map(len, stream_waveform(path, notes))) - 16_000) < 500
    assert "only its ending says" in notes[0]
    assert "a cut cannot be noticed" in notes[1]
    with pytest.raises(AudioError):  # nothing says what this is
        load_waveform(write(tmp_path, path.read_bytes()))


def test_what_only_seems_to_begin_a_file_is_looked_at_so_often_and_no_more(monkeypatch):
    tries = []
    match = re.match
    monkeypatch.setattr("audio_encoder.parts.re.match", lambda *given: tries.append(given) or match(*given))
    search(io.BytesIO(b"WAVE" * (1 << 19)))
    assert 0 < len(tries) < 5_000


@pytest.mark.parametrize(("codec", "block"), [("aptx", 4), ("aptx_hd", 6)])
def test_joined_aptx_is_refused_with_what_is_wrong(tmp_path, codec, block):
    path = tmp_path / f"a.{codec.replace('_', '')}"
    data = noise(codec, codec, 2, 48_000)
    path.write_bytes(data)
    assert len(load_waveform(path)) == pytest.approx(16_000, abs=200)
    for blocks in (1, 4):
        path.write_bytes(data[: -blocks * block] + data)
        with pytest.raises(AudioError, match="out of step, as behind the place where two files were joined"):
            load_waveform(path)


def test_samples_without_a_rate_are_refused_with_the_command_that_takes_it(tmp_path):
    (tmp_path / "call.ul").write_bytes(noise("mulaw", "pcm_mulaw", 1, 8_000))
    with pytest.raises(AudioError, match="no sound that can be read") as caught:
        load_waveform(tmp_path / "call.ul")
    assert "ffmpeg -f mulaw -ar RATE" in caught.value.fix


def test_a_text_is_no_sound_whatever_its_ending(tmp_path):
    (tmp_path / "program.sln").write_text("\ufeff\nMicrosoft Visual Studio Solution File\n" * 9, encoding="utf-8-sig")
    with pytest.raises(AudioError, match="a text, not a sound"):
        load_waveform(tmp_path / "program.sln")


def test_a_caf_file_that_counts_its_last_packet_as_full_is_whole(tmp_path):
    data = bytearray(noise("caf", "alac", 2, 12_500))  # 212 samples in the last packet
    place = data.index(b"pakt") + 12  # behind the name and the size
    (packets,) = struct.unpack_from(">q", data, place)
    struct.pack_into(">qii", data, place + 8, packets * 4_096, 0, 0)  # as ffmpeg 5.1.9 writes it
    assert len(load_waveform(write(tmp_path, bytes(data)))) == 16_000


def test_the_last_packet_of_apple_lossless_in_caf_is_heard_to_its_end(tmp_path):
    tone = (np.sin(np.arange(16_000) / 20) * 8_000).astype(np.int16)
    soundfile.write(tmp_path / "a.caf", tone, 16_000, subtype="ALAC_16")  # 384 lack in the last packet of 4,096
    assert np.array_equal(load_waveform(tmp_path / "a.caf"), tone / np.float32(32_768))


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav"])
def test_sound_that_avi_counts_in_another_way_has_no_gap(tmp_path, codec):
    notes = []
    list(stream_waveform(write(tmp_path, noise("avi", codec, 1, 16_000)), notes))
    assert not notes


@pytest.mark.parametrize(("kind", "codec"), [("voc", "pcm_u8"), ("asf", "wmav2")])
def test_zeros_in_place_of_the_beginning_are_told(tmp_path, kind, codec):
    data = noise(kind, codec, 1, 16_000) if kind == "voc" else encoded(kind, codec, seconds=6)
    hole = slice(1_000, 1_000 + len(data) // 4)
    notes = []
    list(
        stream_waveform(write(tmp_path, data[: hole.start] + bytes(hole.stop - hole.start) + data[hole.stop :]), notes)
    )
    assert notes


def test_a_wav_file_without_the_size_of_its_data_is_held_against_its_own(tmp_path):
    data = b"RIFF" + struct.pack("<I", 32_036) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16)
    data += b"data" + bytes(4) + b"\1\2" * 16_000
    assert len(load_waveform(write(tmp_path, data))) == 16_000
    with pytest.raises(AudioError) as caught:
        load_waveform(write(tmp_path, data[:20_000]))
    assert caught.value.kind == "cut short"
