"""An MP3 file with a table of its frames is whole or refused, to the frame."""

import struct

import pytest

from audio_encoder.waveform import load_waveform
from errors import AudioError
from tests.test_parts import encoded, write


def table_at(data):
    return max(data.find(b"Xing"), data.find(b"Info"))


def changed(data, *, frames=0, size=0, flags=None):
    """The table with other numbers: more or fewer of each."""
    at, data = table_at(data), bytearray(data)
    counts = struct.unpack_from(">II", data, at + 8)
    struct.pack_into(">II", data, at + 8, counts[0] + frames, counts[1] + size)
    if flags is not None:
        data[at + 7] = flags
    return bytes(data)


def as_fraunhofer(data, *, frames=0, size=0):
    """The same numbers as Fraunhofer's coder writes them."""
    at, data = table_at(data), bytearray(data)
    counts = struct.unpack_from(">II", data, at + 8)
    data[at : at + 18] = struct.pack(">4sHHHII", b"VBRI", 1, 0, 0, counts[1] + size, counts[0] + frames)
    return bytes(data)


@pytest.mark.parametrize("lost", [1, 2, 4])
def test_a_file_that_lacks_frames_at_its_end_is_refused(tmp_path, lost):
    data = encoded("mp3", "libmp3lame")  # 24 ms and 192 bytes a frame
    assert len(load_waveform(write(tmp_path, data))) == 48_000
    with pytest.raises(AudioError, match=r"cut short \(\d+ of \d+ bytes of sound\)"):
        load_waveform(write(tmp_path, data[: -lost * 192]))


def test_a_table_of_fraunhofer_is_kept_to(tmp_path):
    data = encoded("mp3", "libmp3lame")
    assert len(load_waveform(write(tmp_path, as_fraunhofer(data)))) >= 48_000
    with pytest.raises(AudioError, match="cut short"):
        load_waveform(write(tmp_path, as_fraunhofer(data)[:-400]))


def test_a_table_without_bytes_is_kept_to(tmp_path):
    data = changed(encoded("mp3", "libmp3lame"), flags=1)
    load_waveform(write(tmp_path, data))
    with pytest.raises(AudioError, match=r"cut short \(\d+ of \d+ frames\)"):
        load_waveform(write(tmp_path, data[:-400]))


@pytest.mark.parametrize("front", [0, 700])
def test_a_table_that_counts_itself_and_the_tag_in_front_is_no_cut(tmp_path, front):
    tag = b"ID3\3\0\0\0\0" + bytes([front >> 7, front & 127]) + bytes(front) if front else b""
    data = changed(encoded("mp3", "libmp3lame"), frames=1, size=len(tag))
    start = data.index(b"ID3")  # PyAV's own tag
    assert start == 0
    own = 10 + data[9]
    assert len(load_waveform(write(tmp_path, tag + data[own:]))) >= 48_000


@pytest.mark.parametrize("behind", [b"TAG" + bytes(125), bytes(4_096), b"APETAGEX" + bytes(24)])
def test_what_follows_the_last_frame_is_no_frame(tmp_path, behind):
    assert abs(len(load_waveform(write(tmp_path, encoded("mp3", "libmp3lame") + behind))) - 48_000) < 20
