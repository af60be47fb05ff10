"""What a header says of the length of a file: it is kept to, or a note says that nothing is known."""

import contextlib
import io
import os
import struct

import av
import numpy as np
import pytest
import soundfile

from audio_encoder import media
from audio_encoder.checks import check_sizes
from audio_encoder.sndfile import Forgiving
from audio_encoder.waveform import stream_waveform
from errors import AudioError

RATE = 16_000
TONE = (np.sin(np.arange(3 * RATE) / 9) * 9_000).astype(np.int16)
UNSAID, SEVERAL = "a cut cannot be noticed", "several recordings are joined in it"
ID3 = b"ID3\3\0\0\0\0\1\0" + bytes(128)


class Pipe:
    """A file in which nothing can be written once more."""

    def __init__(self):
        self.data = io.BytesIO()
        self.write, self.getvalue = self.data.write, self.data.getvalue


def coded(kind, codec, rate=RATE, picture=None, file=None, **options):
    """The tone in a container of FFmpeg's, beside a picture where a codec for it is named."""
    file = file or io.BytesIO()
    with av.open(file, "w", format=kind, options=options) as container:
        sound = container.add_stream(codec, rate=rate, layout="mono")
        if picture:
            frames = container.add_stream(picture, rate=25)
            frames.width = frames.height = 64
            for _ in range(75):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                container.mux(frames.encode(frame))
            container.mux(frames.encode(None))
        frame = av.AudioFrame.from_ndarray(TONE[None], format="s16", layout="mono")
        frame.sample_rate = RATE
        resampler = av.AudioResampler(sound.format, "mono", rate, frame_size=sound.frame_size or 1_024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(sound.encode(piece))
    return file.getvalue()


def pcm(kind):
    file = io.BytesIO()
    soundfile.write(file, TONE, RATE, format=kind, subtype="PCM_16")
    return file.getvalue()


def wav(*chunks, magic=b"RIFF", size=None, large=None):
    """A WAV file of the format chunk and others: (name, content, or the size that it says); `large` is that of BW64."""
    body = b"WAVE" + (b"" if large is None else b"ds64" + struct.pack("<IQQQI", 28, large + 72, large, large // 2, 0))
    body += b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    for name, content, *said in chunks:
        body += name + struct.pack("<I", *said or [len(content)]) + content
    return magic + struct.pack("<I", len(body) if size is None else size) + body


def heard(folder, data):
    """(seconds, notes) of a file."""
    path, notes = folder / "sound", []
    path.write_bytes(data)
    return sum(map(len, stream_waveform(path, notes))) / RATE, " ".join(notes)


def without_index(data):
    """An MP4 file of pieces, as a stream of them is stored."""
    return data[: data.rindex(b"mfra") - 4]


def cut(data):
    return data[: len(data) * 6 // 10]


@pytest.mark.parametrize(
    "data",
    [
        lambda: coded("avi", "pcm_s16le", 44_100, "mpeg4"), lambda: coded("avi", "aac", 44_100),
        lambda: coded("flv", "aac", 44_100, "flv1"), lambda: coded("flv", "pcm_mulaw", 8_000),
        lambda: wav((b"data", TONE.tobytes(), 0xFFFFFFFF), magic=b"BW64", size=0xFFFFFFFF, large=2 * len(TONE)),
        lambda: ID3 + coded("ogg", "libopus", 48_000),
    ],
    ids=["avi with a picture", "avi", "flv with a picture", "flv", "bw64", "ogg behind a tag"],
)  # fmt: skip
def test_a_cut_file_is_refused_and_a_whole_one_heard_without_a_note(tmp_path, data):
    assert heard(tmp_path, data()) == (pytest.approx(3, abs=0.6), "")
    with pytest.raises(AudioError, match="cut short"):
        heard(tmp_path, cut(data()))


@pytest.mark.parametrize(
    "data",
    [
        lambda: coded("adx", "adpcm_adx", 44_100), lambda: coded("sox", "pcm_s32le"), lambda: coded("nut", "pcm_s16le"),
        lambda: coded("ircam", "pcm_s16le"), lambda: coded("spdif", "ac3", 48_000), lambda: pcm("SVX"),
        lambda: coded("matroska", "libopus", 48_000, live="1"),
        lambda: coded("avi", "libmp3lame", 44_100, file=Pipe()), lambda: coded("asf", "libmp3lame", 44_100, file=Pipe()),
        lambda: without_index(coded("mp4", "aac", movflags="cmaf", frag_duration="500000")),
    ],
    ids=["adx", "sox", "nut", "ircam", "spdif", "svx", "live matroska", "avi of a pipe", "asf of a pipe", "pieces of mp4"],
)  # fmt: skip
def test_a_kind_that_is_not_known_to_say_its_length_has_a_note(tmp_path, data):
    seconds, notes = heard(tmp_path, data())
    assert seconds == pytest.approx(3, abs=0.1)
    assert UNSAID in notes


@pytest.mark.parametrize(("length", "word"), [(0, "cannot be told"), (0xFFFFFFFF, "cannot be told"), (48_000, None)])
def test_an_au_file_is_heard_to_its_end_whatever_its_header_says(tmp_path, length, word):
    data = pcm("AU")
    seconds, notes = heard(tmp_path, data[:8] + struct.pack(">I", length) + data[12:])
    assert seconds == 3
    assert (word in notes) if word else not notes


def test_a_flac_stream_without_a_count_has_a_note(tmp_path):
    data = bytearray(pcm("FLAC"))
    data[21:26] = bytes([data[21] & 0xF0, 0, 0, 0, 0])
    assert UNSAID in heard(tmp_path, bytes(data))[1]


@pytest.mark.parametrize(
    "data",
    [lambda: pcm("WAV"), lambda: pcm("AIFF"), lambda: pcm("W64"), lambda: pcm("CAF"), lambda: pcm("AU"),
     lambda: pcm("FLAC"), lambda: coded("mp4", "aac"), lambda: coded("flv", "aac", 44_100),
     lambda: coded("matroska", "aac"), lambda: coded("avi", "pcm_s16le"), lambda: coded("nut", "pcm_s16le")],
    ids=["wav", "aiff", "w64", "caf", "au", "flac", "mp4", "flv", "matroska", "avi", "nut"],
)  # fmt: skip
def test_files_that_were_joined_are_all_heard(tmp_path, data):
    seconds, notes = heard(tmp_path, data() * 3)
    assert seconds == pytest.approx(9, abs=0.3)
    assert SEVERAL in notes
    with pytest.raises(AudioError) if UNSAID not in notes else contextlib.nullcontext():
        heard(tmp_path, (data() * 2)[:-3_000])


@pytest.mark.parametrize("second", [lambda: pcm("FLAC"), lambda: coded("mp4", "aac")], ids=["flac", "mp4"])
@pytest.mark.parametrize(
    "first",
    [lambda: pcm("WAV"), lambda: pcm("AIFF"), lambda: pcm("W64"), lambda: pcm("CAF"), lambda: pcm("AU"),
     lambda: coded("3gp", "aac"), lambda: coded("ogg", "libopus", 48_000), lambda: coded("flv", "aac", 44_100),
     lambda: coded("matroska", "aac"), lambda: coded("avi", "pcm_s16le"), lambda: coded("asf", "libmp3lame", 44_100),
     lambda: pcm("FLAC"), lambda: coded("mp3", "libmp3lame")],
    ids=["wav", "aiff", "w64", "caf", "au", "3gp", "ogg", "flv", "matroska", "avi", "asf", "flac", "mp3"],
)  # fmt: skip
def test_files_of_different_kinds_that_were_joined_are_all_heard(tmp_path, first, second):
    seconds, notes = heard(tmp_path, first() + second())
    assert seconds == pytest.approx(6, abs=0.3)
    assert SEVERAL in notes


@pytest.mark.parametrize(
    "second",
    [lambda: pcm("WAV"), lambda: coded("ogg", "libopus", 48_000), lambda: coded("matroska", "aac"),
     lambda: coded("asf", "libmp3lame", 44_100), lambda: pcm("CAF")],
    ids=["wav", "ogg", "matroska", "asf", "caf"],
)  # fmt: skip
@pytest.mark.parametrize("first", [lambda: pcm("FLAC"), lambda: coded("mp3", "libmp3lame")], ids=["flac", "mp3"])
def test_what_follows_frames_without_sizes_is_heard(tmp_path, first, second):
    seconds, notes = heard(tmp_path, first() + second())
    assert seconds == pytest.approx(6, abs=0.3)
    assert SEVERAL in notes


def test_a_file_of_which_a_library_would_hear_one_part_is_refused(tmp_path):
    half = len(TONE) // 2
    chunks = (b"data", TONE[:half].tobytes()), (b"LIST", b"INFO"), (b"data", TONE[half:].tobytes())
    with pytest.raises(AudioError, match="several chunks of sound"):
        heard(tmp_path, wav(*chunks))


def test_two_joined_mp3_files_of_which_the_second_is_cut_have_a_note(tmp_path):
    whole = coded("mp3", "libmp3lame")
    assert UNSAID in heard(tmp_path, whole + cut(whole))[1]


def test_a_caf_file_whose_size_is_too_small_is_heard_so_far_with_a_note(tmp_path):
    data = bytearray(pcm("CAF"))
    place = data.index(b"data") + 4
    data[place : place + 8] = struct.pack(">q", 4 + len(TONE))
    seconds, notes = heard(tmp_path, bytes(data))
    assert seconds == pytest.approx(1.5, abs=0.01)
    assert "bytes after the end of the sound are ignored" in notes


def test_sound_whose_end_cannot_be_decoded_is_damaged(tmp_path):
    """FFmpeg writes AAC into a WAV file, but cannot read it from there."""
    with pytest.raises(AudioError, match="damaged"):
        heard(tmp_path, coded("wav", "aac"))


def test_bytes_that_are_mostly_no_frames_are_no_sound(tmp_path, monkeypatch):
    """A library of machine code has 2,295 frames of MP3, and between them 31,772 parts that are none."""
    frames = media._Sound.frames

    def mostly_none(sound):
        yield from frames(sound)
        sound.damaged = sound.decoded + 1

    monkeypatch.setattr(media._Sound, "frames", mostly_none)
    with pytest.raises(AudioError, match="no sound that can be read"):
        heard(tmp_path, coded("mp3", "libmp3lame"))


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"RIFF\0\0\0\0WAVE", 1 << 30),
        # Of unknown size: all of it is searched for a second file.
        pytest.param(b"riff" + bytes(36), 1 << 27, marks=pytest.mark.slow),
        (b"caff\0\1\0\0", 1 << 30),
        (b"FORM\0\0\0\0AIFF", 1 << 30),
    ],
)
def test_a_gigabyte_of_zeros_is_not_walked_through(tmp_path, head, size):
    """As a recorder leaves it that made room for its file and then lost power."""
    path = tmp_path / "sound"
    path.write_bytes(head)
    os.truncate(path, size)

    class Counted:
        count = 0

        def __init__(self, file):
            self._file, self.seek = file, file.seek

        def read(self, size):
            Counted.count += 1
            return self._file.read(size)

    with path.open("rb") as file:
        assert not check_sizes(Counted(file), "sound", [])
    assert Counted.count < size // 1000


@pytest.mark.parametrize("is_recorded", [True, False])
def test_room_that_a_recorder_left_unused_is_not_walked_through(tmp_path, is_recorded, monkeypatch):
    path, seen = tmp_path / "sound", []
    path.write_bytes(wav((b"data", TONE.tobytes())) if is_recorded else wav()[:12])
    os.truncate(path, 1 << 30)
    read = Forgiving.read
    monkeypatch.setattr(Forgiving, "read", lambda file, size: seen.append(size) or read(file, size))
    if is_recorded:
        assert sum(map(len, stream_waveform(path))) == len(TONE)
    else:
        with pytest.raises(AudioError):
            list(stream_waveform(path))
    assert sum(seen) < 10_000_000


def test_streamed_sound_that_begins_with_silence_is_heard(tmp_path):
    sound = bytes(64) + TONE.tobytes()
    seconds, _ = heard(tmp_path, wav((b"data", sound, 0)))
    assert seconds == len(sound) / 2 / RATE


@pytest.mark.parametrize("size", [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 100])
@pytest.mark.parametrize(("kind", "chunk", "place"), [("W64", b"fmt ", 16), ("CAF", b"desc", 4), ("CAF", b"data", 4)])
def test_a_size_beyond_all_files_is_refused_or_heard_with_a_note(tmp_path, kind, chunk, place, size):
    data = bytearray(pcm(kind))
    at = data.index(chunk) + place
    data[at : at + 8] = struct.pack("<Q" if kind == "W64" else ">Q", size)
    try:
        assert heard(tmp_path, bytes(data))[1]
    except AudioError:
        return


@pytest.mark.parametrize("second", [lambda: pcm("FLAC"), None], ids=["flac", "the same"])
@pytest.mark.parametrize(
    ("kind", "codec"),
    [("wav", "pcm_s16le"), ("wav", "pcm_mulaw"), ("wav", "ac3"), ("w64", "pcm_s16le"), ("au", "pcm_s16be"),
     ("aiff", "pcm_s16be"), ("caf", "pcm_s16le"), ("rf64", "pcm_s16le")],
)  # fmt: skip
def test_what_is_joined_to_sound_of_a_pipe_is_heard_and_no_header_is(tmp_path, kind, codec, second):
    options = {"rf64": "always"} if kind == "rf64" else {}
    data = coded("wav" if options else kind, codec, 48_000 if codec == "ac3" else RATE, file=Pipe(), **options)
    whole, notes = heard(tmp_path, data)
    assert whole == pytest.approx(3, abs=0.1)
    assert "cannot be told" in notes
    seconds, notes = heard(tmp_path, data + (second() if second else data))
    assert seconds == pytest.approx(whole + (3 if second else whole))
    assert SEVERAL in notes


@pytest.mark.parametrize(("kind", "codec"), [("wtv", "mp2"), ("rm", "ac3")])
def test_recordings_without_sizes_that_were_joined_are_all_heard(tmp_path, kind, codec):
    data = coded(kind, codec, 48_000)
    seconds, notes = heard(tmp_path, data + data + pcm("FLAC"))
    assert seconds == pytest.approx(9, abs=0.2)
    assert SEVERAL in notes
