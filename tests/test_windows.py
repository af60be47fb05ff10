"""A recording of any length becomes windows that join to it, cut in its pauses, in memory that does not grow."""

import tracemalloc

import numpy as np
import pytest
import soundfile

from audio_encoder.log_mel import SAMPLE_RATE
from audio_encoder.waveform import MIN_SAMPLES, load_waveform, stream_waveform
from audio_encoder.windows import SILENCE_DB, cut_windows, is_silent
from errors import AudioError
from tests.conftest import GOLDEN

DB = {level: 10 ** (level / 20) for level in range(-90, 1)}


def noise(seconds, level=-20, seed=0):
    """White noise of a level in dB (RMS), float32 [samples] in 16-bit steps."""
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE)) * DB[level]
    return (np.rint(samples * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def talk(seconds, *, floor=-90, pause=0.4, every=(1.5, 5.0), seed=0):
    """Bursts of noise as long as phrases, their loudness changing like syllables; (waveform, pauses in seconds)."""
    rng = np.random.default_rng(seed)
    loudness, pauses, place = np.full(round(seconds * SAMPLE_RATE), 0.0), [], 0.0
    while place < seconds:
        phrase = rng.uniform(*every)
        for syllable in np.arange(place, place + phrase, 0.2):
            first, last = round(syllable * SAMPLE_RATE), round(min(syllable + 0.2, place + phrase) * SAMPLE_RATE)
            loudness[first:last] = DB[int(rng.integers(-26, -14))]
        pauses.append((place + phrase, place + phrase + pause))
        place += phrase + pause
    samples = rng.standard_normal(len(loudness)) * np.maximum(loudness, DB[floor])
    return (np.rint(samples * 32768).clip(-32768, 32767) / 32768).astype(np.float32), pauses


def in_blocks(waveform, size):
    return (waveform[first : first + size] for first in range(0, len(waveform), size))


def windows_of(waveform, *, size=3 * SAMPLE_RATE, **options):
    """The windows, after a look at what holds of any: nothing lost or twice, none too long, the times right."""
    windows = list(cut_windows(in_blocks(waveform, size), **options))
    longest = options.get("longest", 30.0)
    assert np.array_equal(np.concatenate([np.zeros(0, np.float32), *(window.waveform for window in windows)]), waveform)
    assert all(len(window.waveform) <= longest * SAMPLE_RATE for window in windows)
    assert [window.start for window in windows[1:]] == [window.end for window in windows[:-1]]
    if len(windows) > 1:
        assert min(len(window.waveform) for window in windows) >= longest / 3 * SAMPLE_RATE - 320
    return windows


def cuts_of(waveform, **options):
    return [window.start for window in windows_of(waveform, **options)][1:]


@pytest.mark.parametrize("samples", [1, MIN_SAMPLES - 1, MIN_SAMPLES, 16_001, 30 * SAMPLE_RATE])
@pytest.mark.parametrize("level", [-90, -20])
def test_what_fits_is_one_window(samples, level):
    (window,) = windows_of(noise(samples / SAMPLE_RATE, level))
    assert (window.start, window.end) == (0.0, samples / SAMPLE_RATE)


def test_no_samples_give_no_window():
    assert windows_of(np.zeros(0, np.float32)) == []


@pytest.mark.slow
@pytest.mark.parametrize("floor", [-90, -60, -40, -34])
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
@pytest.mark.parametrize("pause", [0.2, 0.5, 1.5])
def test_cuts_lie_inside_pauses(floor, seed, pause):
    waveform, pauses = talk(130, floor=floor, pause=pause, seed=seed)
    cuts = cuts_of(waveform)
    assert 4 <= len(cuts) <= 7
    for cut in cuts:
        assert any(start + 0.06 < cut < end - 0.06 for start, end in pauses), cut


def test_a_speaker_who_becomes_softer_is_cut_in_pauses_too():
    loud, pauses = talk(60, seed=4, floor=-60)
    soft, soft_pauses = talk(60, seed=5, floor=-60)
    pauses += [(start + 60, end + 60) for start, end in soft_pauses]
    for cut in cuts_of(np.concatenate([loud, soft * np.float32(DB[-30])])):
        assert any(start < cut < end for start, end in pauses), cut


@pytest.mark.parametrize("offset", [-0.5, 0.01, 0.25])
def test_a_dc_offset_moves_no_cut(offset):
    waveform, _ = talk(100, seed=6)
    assert cuts_of(waveform * np.float32(0.4) + np.float32(offset)) == cuts_of(waveform * np.float32(0.4))


def with_dips(seconds, dips):
    """Noise that is silent at the dips: (start, length) in seconds."""
    waveform = noise(seconds)
    for start, length in dips:
        waveform[round(start * SAMPLE_RATE) : round((start + length) * SAMPLE_RATE)] = 0
    return waveform


@pytest.mark.parametrize(
    ("dips", "cut"),
    [
        ([(20, 0.4)], 20.2),
        ([(18, 0.8), (28, 0.3)], 18.4),  # the longer
        ([(18, 0.4), (28, 0.4)], 28.2),  # of equals, the later
        ([(18, 0.5), (29, 0.4)], 29.2),  # a little shorter, but much later
        ([(5, 1.0), (16, 0.2)], 16.1),  # an early one would make a short window
        ([(22, 3.0)], 24.5),  # a long one is cut shortly before the sound returns
        ([(29.8, 1.0)], 30.0),  # its middle would be too late
        ([(14, 1.4)], 15.0),  # its middle would be too early
        ([(27, 0.08)], 27.04),  # too short for a pause, but the quietest moment
    ],
)
def test_the_best_pause_is_taken(dips, cut):
    assert cuts_of(with_dips(60, dips))[0] == pytest.approx(cut, abs=0.021)


@pytest.mark.parametrize("seconds", [30.0001, 30.5, 31, 33, 44.9, 45, 45.0001, 46, 60, 75.01, 90.5])
@pytest.mark.parametrize("level", [-90, -20])
def test_the_last_window_is_no_sliver(seconds, level):
    windows = windows_of(noise(seconds, level))
    assert len(windows) <= -(-seconds // 25)
    assert min(window.end - window.start for window in windows) >= 10


def test_what_is_left_is_cut_in_its_middle_third():
    assert cuts_of(with_dips(33, [(8, 1), (15, 0.3), (24, 1)])) == [pytest.approx(15.16, abs=0.021)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, 16_000, 99_999, 480_000, 10_000_000])
def test_how_the_blocks_are_cut_moves_no_window(size):
    waveform, _ = talk(130, seed=7, floor=-50)
    assert cuts_of(waveform, size=size) == cuts_of(waveform)


def test_empty_blocks_and_blocks_of_one_sample_are_fine():
    waveform = with_dips(2.5, [(1, 0.2)])
    assert cuts_of(waveform, size=1, longest=1.5) == cuts_of(waveform, longest=1.5)
    blocks = [waveform[:0], waveform, waveform[:0]]
    assert [window.start for window in cut_windows(blocks, longest=1.5)][1:] == cuts_of(waveform, longest=1.5)


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(150 * SAMPLE_RATE, np.float32),
        np.full(150 * SAMPLE_RATE, 0.3, np.float32),
        noise(150, -60),
        noise(150, -3),
        (0.5 * np.sin(2 * np.pi * 55 * np.arange(150 * SAMPLE_RATE) / SAMPLE_RATE)).astype(np.float32),
    ],
    ids=["silence", "offset", "faint noise", "loud noise", "tone"],
)
def test_without_a_pause_the_windows_are_nearly_full(waveform):
    windows = windows_of(waveform)
    assert 5 <= len(windows) <= 7
    assert all(window.end - window.start >= 25 for window in windows[:-2])


def test_silence_is_cut_into_full_windows():
    assert cuts_of(np.zeros(120 * SAMPLE_RATE, np.float32)) == [30, 60, 90]


def test_music_without_pauses_is_cut_between_its_beats():
    seconds = np.arange(100 * SAMPLE_RATE) / SAMPLE_RATE
    beat = seconds % 0.5
    waveform = (0.5 * np.sin(2 * np.pi * 220 * seconds) * np.exp(-4 * beat) + 0.05 * noise(100)).astype(np.float32)
    for cut in cuts_of(waveform):
        assert cut % 0.5 > 0.25 or cut % 0.5 == 0


@pytest.mark.parametrize("longest", [1, 2.5, 10.01, 29.99, 30])
@pytest.mark.parametrize("seed", range(4))
def test_any_longest_holds(longest, seed):
    seconds = float(np.random.default_rng(seed).uniform(0.5, 4)) * longest
    waveform = talk(seconds, seed=seed, every=(0.2, 0.9))[0]
    windows = windows_of(waveform, longest=longest)  # and what it asserts of any
    assert windows[-1].end == len(waveform) / SAMPLE_RATE


@pytest.mark.parametrize("longest", [0, 0.99, 30.01, -1, float("nan")])
def test_an_impossible_longest_is_refused(longest):
    with pytest.raises(ValueError, match="1 to 30 s"):
        next(cut_windows([], longest=longest))


def test_a_window_comes_as_soon_as_a_look_ahead_of_45_s_is_read():
    read = 0

    def blocks():
        nonlocal read
        for block in in_blocks(talk(300, seed=8)[0], SAMPLE_RATE):
            read += len(block)
            yield block

    for window in cut_windows(blocks()):
        assert read <= round(window.start * SAMPLE_RATE) + 46 * SAMPLE_RATE


def test_a_window_holds_nothing_but_its_samples():
    assert all(window.waveform.base is None for window in cut_windows([noise(100)]))


def test_an_error_of_the_reader_comes_after_the_windows_before_it(tmp_path):
    path = tmp_path / "cut.flac"
    soundfile.write(path, talk(200)[0], SAMPLE_RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    ends = []
    with pytest.raises(AudioError, match=r"cut\.flac"):
        ends.extend(window.end for window in cut_windows(stream_waveform(path)))
    assert ends == [] or ends[-1] < 150


def test_real_speech_is_cut_between_its_sentences():
    clip = load_waveform(GOLDEN / "1272-128104-0000.flac")
    waveform = np.tile(clip, 12)
    seams = np.arange(1, 12) * len(clip) / SAMPLE_RATE  # the clip begins and ends with its longest pauses
    for cut in cuts_of(waveform):
        assert np.abs(seams - cut).min() < 0.5


def write_talk(path, minutes, rate=8_000):
    with soundfile.SoundFile(path, "w", rate, 1, "PCM_16") as sound:
        minute = talk(60 * rate / SAMPLE_RATE, seed=9)[0]
        for _ in range(minutes):
            sound.write(minute)
    return path


def peak_megabytes(path, minutes):
    """Memory of python and numpy at its highest, while the windows of a recording are asked for and dropped."""
    tracemalloc.start()
    for window in cut_windows(stream_waveform(path)):
        end = window.end
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert end == minutes * 60
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    stream_waveform_once = list(stream_waveform(write_talk(tmp_path / "warm.wav", 1)))  # what is imported is no block
    assert stream_waveform_once
    peaks = [peak_megabytes(write_talk(tmp_path / f"{minutes}.wav", minutes), minutes) for minutes in (5, 20, 60)]
    assert max(peaks) < 16, peaks
    assert max(peaks) - min(peaks) < 0.5, peaks


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(0, np.float32),
        np.zeros(1, np.float32),
        np.zeros(160_000, np.float32),
        np.full(160_000, 0.5, np.float32),
        noise(10, -63),
        noise(0.03, -70),
        np.random.default_rng(0).integers(-1, 2, 160_000).astype(np.float32) / 32_768,
    ],
    ids=["nothing", "one sample", "digital silence", "offset", "noise floor", "short", "dither"],
)
def test_what_nobody_would_hear_is_silent(waveform):
    assert is_silent(waveform) is True


@pytest.mark.parametrize("sound", [noise(0.02, -57), noise(3, -45), noise(0.5, -57)], ids=["tick", "whisper", "faint"])
@pytest.mark.parametrize("before", [0.0, 0.0307, 20])
def test_one_faint_sound_is_not_silence(sound, before):
    assert is_silent(np.concatenate([np.zeros(round(before * SAMPLE_RATE), np.float32), sound])) is False


def test_soft_talk_is_not_silence():
    waveform, _ = talk(20, seed=10)
    assert not is_silent(waveform * np.float32(DB[-30]))  # -44 to -56 dB
    assert SILENCE_DB == -60


@pytest.mark.parametrize("level", [-26, -36, -44])
def test_quiet_talk_in_a_quieter_room_is_not_silence(level):
    waveform, _ = talk(10, seed=3)
    loud = float(np.sqrt(np.mean(np.square(waveform))))
    quiet = waveform * np.float32(10 ** ((level - 26) / 20) / loud)  # -52, -62 and -70 dB of full scale
    assert not is_silent((np.rint(quiet * 32_768) / 32_768).astype(np.float32))
