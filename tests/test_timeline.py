"""Sound that was lost inside a file is told, however little it is, and what a whole file leaves out is not."""

import shutil
import subprocess

import pytest

from audio_encoder.waveform import stream_waveform
from errors import AudioError
from tests.conftest import GOLDEN
from tests.test_parts import encoded, moved, noise, write

RATE = 16_000


def heard(folder, data):
    """(seconds, notes) of a file."""
    notes = []
    return sum(map(len, stream_waveform(write(folder, data), notes))) / RATE, " ".join(notes)


def with_hole(data, first, last):
    """Zeros in the place of some of the bytes."""
    start, end = int(first * len(data)), int(last * len(data))
    return data[:start] + bytes(end - start) + data[end:]


@pytest.mark.parametrize(("first", "last"), [(0.4, 0.5), (0.5, 0.52)])
@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libopus"), ("mpegts", "libopus"), ("mpegts", "mp2"), ("wav", "mp2"), ("w64", "mp2"),
     ("wav", "ac3"), ("wtv", "mp2"), ("asf", "mp2"), ("nut", "mp2")],
)  # fmt: skip
def test_packets_that_are_lost_inside_are_told(tmp_path, kind, codec, first, last):
    data = encoded(kind, codec, seconds=6)
    whole, notes = heard(tmp_path, data)
    assert "missing" not in notes
    try:
        seconds, notes = heard(tmp_path, with_hole(data, first, last))
    except AudioError as error:
        seconds, notes = 0.0, f"refused, for {error}"
    assert seconds < whole - 0.04
    assert "are missing inside" in notes or "damaged" in notes


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize(
    ("ending", "codec"), [("caf", "libopus"), ("mp4", "libvorbis"), ("wav", "dca"), ("wav", "flac")]
)
def test_what_ffmpeg_wrote_is_told_to_be_lost_inside(tmp_path, ending, codec):
    path = tmp_path / f"whole.{ending}"
    command = ["ffmpeg", "-v", "error", "-i", GOLDEN / "1272-128104-0000.flac", "-strict", "-2", "-c:a", codec, path]
    if subprocess.run(command, check=False).returncode:
        pytest.skip("this ffmpeg was built without that coder")
    data = path.read_bytes()
    whole, notes = heard(tmp_path, data)
    assert notes == ""
    seconds, notes = heard(tmp_path, with_hole(data, 0.5, 0.52))
    assert seconds < whole - 0.04
    assert "are missing inside" in notes


def test_sound_that_its_wav_header_counts_and_that_a_pipe_does_not_count_has_no_hole(tmp_path):
    data = encoded("wav", "mp2")
    at = data.index(b"data") + 4
    streamed = data[:at] + b"\xff\xff\xff\xff" + data[at + 4 :]
    seconds, notes = heard(tmp_path, streamed)
    assert seconds == pytest.approx(3, abs=0.1)
    assert "does not say how long it is" in notes
    assert "missing" not in notes


@pytest.mark.parametrize("codec", ["pcm_s16le", "adpcm_ms", "adpcm_ima_wav", "libmp3lame", "ac3"])
def test_whole_sound_in_a_wav_file_has_no_hole(tmp_path, codec):
    rate = 44_100 if codec == "libmp3lame" else 48_000
    assert heard(tmp_path, noise("wav", codec, 1, rate))[1] == ""


def test_a_first_packet_that_lasts_too_long_is_no_hole(tmp_path):
    """As ffmpeg writes pieces of MP4 beside a picture that begins late."""
    late = moved(encoded("mp4", "aac"), "mp4", lambda at: 0.2 if at > 0.01 else 0.0)
    seconds, notes = heard(tmp_path, late)
    assert seconds == pytest.approx(3, abs=0.1)
    assert notes == ""


@pytest.mark.parametrize("kind", ["mpegts", "mpeg"])
@pytest.mark.parametrize("hours", [1, -1])
def test_joined_recordings_of_other_times_have_no_hole(tmp_path, kind, hours):
    data = encoded(kind, "mp2")
    parts = [data, moved(data, kind, lambda _: 3_600.0)][::hours]
    seconds, notes = heard(tmp_path, b"".join(parts))
    assert seconds == pytest.approx(6, abs=0.2)
    assert "missing" not in notes
