"""What is no sound is called what it is, with the fix that fits."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile

import av
import numpy as np
import pytest

from audio_encoder.waveform import load_waveform, stream_waveform
from errors import AudioError
from tests.conftest import GOLDEN
from tests.test_parts import encoded, write

SPEECH = GOLDEN / "1272-128104-0000.flac"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(SPEECH, "a.flac")
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(SPEECH, "a.flac")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "word", "fix"),
    [
        (zipped, "an archive", "unpack it"), (tarred, "an archive", "unpack it"),
        (lambda: gzip.compress(SPEECH.read_bytes()), "compressed", "unpack it"),
        (lambda: bz2.compress(SPEECH.read_bytes()), "compressed", "unpack it"),
        (lambda: lzma.compress(SPEECH.read_bytes()), "compressed", "unpack it"),
        (lambda: LFS, "Git LFS", "git lfs pull"),
        (lambda: b"\n<!DOCTYPE HTML><html>404</html>", "a web page", "download the sound itself"),
        (lambda: b'{"error": "not found"}', "JSON", "download the sound itself"),
        (lambda: b"a.wav\nb.wav\n", "a text", "--files-from"), (lambda: "نمی‌دانم.wav".encode("utf-16"), "a text", "a recording"),
        (lambda: bytes(100_000), "begins with zeros", "copy it again"),
    ],
    ids=["zip", "tar", "gz", "bz2", "xz", "lfs", "html", "json", "list", "utf-16", "zeros"],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["wav", "mp3", "flac", "m4a"])
def test_what_is_no_sound_is_called_what_it_is(tmp_path, data, word, fix, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(data())
    with pytest.raises(AudioError) as caught:
        load_waveform(path)
    assert word in str(caught.value)
    assert fix in str(caught.value)


@pytest.mark.parametrize("kind", [b"enca", b"drms"])
def test_encrypted_sound_is_called_so(tmp_path, kind):
    """Its packets are there, and none of them can be decoded."""
    data = encoded("mp4", "aac").replace(b"mp4a", kind, 1)
    start = data.index(b"mdat") + 4
    end = data.index(b"moov", start) - 4
    noise = np.random.default_rng(0).integers(0, 256, end - start, np.uint8).tobytes()
    with pytest.raises(AudioError, match="its sound is encrypted"):
        load_waveform(write(tmp_path, data[:start] + noise + data[end:]))


def test_of_several_sounds_in_a_file_it_is_told_that_the_first_is_heard(tmp_path):
    path, notes = tmp_path / "a.mkv", []
    with av.open(path, "w") as container:
        sounds = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        for loudness, sound in enumerate(sounds):
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), loudness, np.int16), format="s16", layout="mono")
            frame.sample_rate = 16_000
            container.mux(sound.encode(frame))
    assert not np.concatenate(list(stream_waveform(path, notes))).any()
    assert notes == [f"{path}: the first of its 2 sounds is heard"]
