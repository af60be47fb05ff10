"""Every kind of file that ffmpeg's command writes is heard with the samples that the same command reads."""

import shutil
import subprocess

import numpy as np
import pytest

from audio_encoder.waveform import load_waveform, stream_waveform
from tests.conftest import GOLDEN

SPEECH = GOLDEN / "1272-128104-0000.flac"
FAR = {"ima.wav": 400}  # steps of 16 bits: decoders of IMA ADPCM round otherwise since FFmpeg 7
STEPS = 3
KINDS = {
    "aac.m4a": "-c:a aac", "alac.m4a": "-c:a alac", "aac.mp4": "-c:a aac", "pcm.mov": "-c:a pcm_s16le",
    "vorbis.mkv": "-c:a libvorbis", "flac.mka": "-c:a flac", "opus.webm": "-c:a libopus", "aac.3gp": "-c:a aac",
    "v2.wma": "-c:a wmav2", "v1.asf": "-c:a wmav1", "a.aac": "", "a.ac3": "", "a.eac3": "", "a.opus": "",
    "vorbis.ogg": "-c:a libvorbis", "flac.oga": "-c:a flac", "a.spx": "-c:a libspeex -ar 16000 -ac 1", "a.mp2": "",
    "cbr.mp3": "-b:a 64k", "vbr.mp3": "-q:a 4", "a.caf": "-c:a pcm_s24le", "a.aiff": "",
    "ulaw.au": "-c:a pcm_mulaw -ar 8000", "a.w64": "", "24.wav": "-c:a pcm_s24le", "float.wav": "-c:a pcm_f32le",
    "ms.wav": "-c:a adpcm_ms", "ima.wav": "-c:a adpcm_ima_wav", "ulaw.wav": "-c:a pcm_mulaw -ar 8000", "a.flac": "",
    "a.wv": "-c:a wavpack", "a.tta": "", "mp3.avi": "-c:a libmp3lame", "aac.flv": "-c:a aac", "aac.ts": "-c:a aac",
    "mp2.mpg": "-c:a mp2", "a.dts": "-strict -2 -c:a dca", "a.gsm": "-c:a libgsm -ar 8000 -ac 1", "a.voc": "",
    "a.g722": "-c:a g722 -ar 16000 -ac 1", "a.sbc": "-c:a sbc", "a.aptx": "-c:a aptx -ar 48000",
    "a.latm": "-c:a aac -f latm", "a.ra": "-f rm -c:a ac3",
}  # fmt: skip


def ffmpeg(*arguments):
    return subprocess.run(["ffmpeg", "-y", "-v", "error", *arguments], capture_output=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_every_kind_is_heard_as_ffmpeg_hears_it(tmp_path):
    source, far, made = tmp_path / "source.wav", {}, 0
    ffmpeg("-i", SPEECH, "-ar", "44100", "-ac", "2", source)
    for name, flags in KINDS.items():
        if ffmpeg("-i", source, *flags.split(), tmp_path / name).returncode:
            continue  # this ffmpeg was built without that coder
        made += 1
        output = ffmpeg("-i", tmp_path / name, "-f", "s16le", "-ac", "1", "-ar", "16000", "-").stdout
        expected, found = np.frombuffer(output, "<i2").astype(int), load_waveform(tmp_path / name) * 32_768
        both = min(len(expected), len(found))
        steps = np.abs(expected[:both] - found[:both]).max(initial=0)
        if abs(len(expected) - len(found)) > 2 or steps > FAR.get(name, STEPS):
            far[name] = len(expected), len(found), steps
    assert not far
    assert made > 30


PICTURES = {
    "a.wmv": "wmav2",
    "a.mkv": "aac",
    "a.mp4": "aac",
    "a.avi": "libmp3lame",
    "a.flv": "aac",
    "a.webm": "libopus",
}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("begins", [0, 2])
def test_the_sound_of_a_video_may_be_shorter_than_its_picture(tmp_path, begins):
    picture, sound = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=12"], ["-itsoffset", str(begins), "-i", SPEECH]
    heard = {}
    for name, coder in PICTURES.items():
        ffmpeg(*picture, *sound, "-c:a", coder, tmp_path / name)
        notes = []
        heard[name] = sum(map(len, stream_waveform(tmp_path / name, notes))) / 16_000, bool(notes)
    length = len(load_waveform(SPEECH)) / 16_000
    assert {name: seconds for name, (seconds, _) in heard.items() if abs(seconds - length) > 0.2} == {}
    assert begins or not any(is_noted for _, is_noted in heard.values())
