"""Recordings are known by their first bytes, and other files are not taken for them."""

import os

import pytest

from audio_encoder.kinds import is_recording

PACKET = b"G\x40\x11\x10" + b"\xff" * 184


def write(folder, data):
    path = folder / "file"
    path.write_bytes(data)
    return str(path)


@pytest.mark.parametrize(
    "data",
    [b"fLaC\0\0\0\x22", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x20ftypM4A ", b"\0\0\0\x08wide", b"\xff\xfb\x90\x64", PACKET * 3,
     b"dns.\0\0\0\x18", b"BW64\xff\xff\xff\xffWAVE", b"nut/multimedia container\0", b"\x64\xa3\2\0",
     b"STRM\0\1\0\0", b"MMMD\0\1\0\0", b"\0\0\0\0\1\xbc\0\0"],
    ids=["flac", "wav", "m4a", "mov", "mp3", "transport stream", "little-endian au", "bw64", "nut", "ircam",
         "ast", "mmf", "gxf"],
)  # fmt: skip
def test_a_recording_is_known_by_its_first_bytes(tmp_path, data):
    assert is_recording(write(tmp_path, data))


@pytest.mark.parametrize("name", ["a.rso", "a.722", "a.sln", "a.swf"])
def test_a_recording_that_nothing_but_its_ending_tells_is_found(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(range(256)))
    assert is_recording(str(tmp_path / name))


def test_a_text_with_the_ending_of_a_recording_without_a_header_is_none(tmp_path):
    (tmp_path / "a.sln").write_bytes(b"\xef\xbb\xbf\r\nMicrosoft Visual Studio Solution File\r\n")
    assert not is_recording(str(tmp_path / "a.sln"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ID",
        b"Good text. " * 100,
        b"G" * 1_000,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"%PDF-1.7",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x20ftypheic",
        b"PK\3\4",
        b"\xff\xfea\0.\0w\0a\0v\0",
        bytes(1_000),
        b"caffeine is in it",
        b"The wide world",
        b"ID3 tags are read",
        b"new_moov.wav\nold_moov.wav\n",
        "MAC größer".encode(),
        ("RIFF\t" + "ä" * 400).encode(),
    ],
)
def test_other_files_are_no_recordings(tmp_path, data):
    assert not is_recording(write(tmp_path, data))


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/zero", tmp_path / "none", "\0"):
        assert not is_recording(str(path))
