"""Files that people have: each is heard whole, or refused with the true reason; a cut one is never heard as whole.

They lie outside the repository, as they come from other programs (QWEN_AUDIO_CASES names the folder).
"""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from audio_encoder.kinds import is_recording
from audio_encoder.waveform import load_waveform, stream_waveform
from audio_encoder.windows import is_silent
from errors import AudioError

CASES = Path(os.environ.get("QWEN_AUDIO_CASES", Path(__file__).parents[2] / "shared" / "cases"))
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no files at {CASES} (set QWEN_AUDIO_CASES)")

# What ffmpeg 5.1.9 makes of each. It loses the four pauses in phone_amr.3gp, which is 83200 samples long.
SAMPLES = {
    "a.caf": 50528, "ios_alac.caf": 82960, "a.m4a": 51200, "iphone_memo.m4a": 83285, "raw.aac": 83627,
    "a.mp4": 48128, "video.mov": 80213, "video.mkv": 80555, "a.w64": 50528, "aiff_from_sox_pipe.aiff": 50528,
    "chained_two_links.opus": 87594, "dvd.ac3": 83456, "old.wma": 82603, "speex.spx": 83200, "sun.au": 82960,
    "telegram.oga": 82960, "ffmpeg_flac_in_ogg.oga": 50528, "flac_streaminfo_total_too_small.flac": 50528,
    "mp3_cbr_with_apev2_5k.mp3": 50735, "mp3_padded_4k_zeros.mp3": 50735, "mp3_vbr_from_pipe.mp3": 50991,
    "mp3_inside_wav.wav": 51840, "phone_amr.3gp": 83200, "phone_av.amr": 83200, "quiet_-56dBFS_24bit.wav": 50528,
    "stereo_antiphase.wav": 50528, "wav_data_size_0_riff_ok.wav": 50528, "wav_stream_size_2e9.wav": 50528,
    "wav_data_size_too_small.wav": 25264, "silence_2s.wav": 32000,
}  # fmt: skip
# No header of these says how much there should be, or it was never filled in.
UNKNOWN = {
    "raw.aac", "dvd.ac3", "phone_av.amr", "mp3_vbr_from_pipe.mp3", "aiff_from_sox_pipe.aiff",
    "wav_stream_size_2e9.wav", "wav_data_size_too_small.wav",
}  # fmt: skip
TOLD = {"wav_data_size_too_small.wav": "after the end of the sound", "stereo_antiphase.wav": "cancel each other"}
# Steps of 16 bits by which FFmpeg 8 may differ from ffmpeg 5.1.9, more than 3 where a loud 48 kHz tone is resampled.
STEPS = {"ios_alac.caf": 6}
OTHER_SAMPLES = {"phone_amr.3gp", "stereo_antiphase.wav"}  # on purpose


def test_every_file_has_its_samples():
    wrong = {}
    for name, samples in SAMPLES.items():
        notes = []
        found = sum(map(len, stream_waveform(CASES / name, notes)))
        if found != samples or TOLD.get(name, "") not in " ".join(notes) or (name in TOLD and not notes):
            wrong[name] = found, notes
    assert not wrong


def test_every_file_that_is_cut_is_refused_if_its_container_says_how_long_it_is(tmp_path):
    wrong = {}
    for name in SAMPLES.keys() - UNKNOWN:
        data = (CASES / name).read_bytes()
        path = tmp_path / name
        path.write_bytes(data[: int(len(data) * 0.6)])
        try:
            wrong[name] = len(load_waveform(path))
        except AudioError as error:
            if error.kind != "cut short":
                wrong[name] = str(error)
    assert not wrong


def test_only_silence_is_silent():
    silent = {name for name in SAMPLES if is_silent(load_waveform(CASES / name))}
    assert silent == {"silence_2s.wav"}


def test_every_recording_is_found_by_its_content(tmp_path):
    missed = set()
    for name in SAMPLES:
        path = tmp_path / f"{name}.bin"
        shutil.copyfile(CASES / name, path)
        if not is_recording(str(path)):
            missed.add(name)
    assert not missed
    assert not is_recording(str(CASES / "list.m3u"))


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_the_samples_are_those_of_the_ffmpeg_command():
    far = {}
    for name in SAMPLES.keys() - OTHER_SAMPLES:
        command = ["ffmpeg", "-v", "quiet", "-i", CASES / name, "-map", "a:0", "-f", "s16le", "-ac", "1"]
        output = subprocess.run([*command, "-ar", "16000", "-"], capture_output=True, check=True).stdout
        expected, found = np.frombuffer(output, "<i2").astype(int), load_waveform(CASES / name) * 32_768
        if len(expected) != len(found) or np.abs(expected - found).max() > STEPS.get(name, 3):
            far[name] = len(expected), len(found)
    assert not far
