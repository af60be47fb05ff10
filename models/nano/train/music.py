"""Music from a General MIDI soundfont by fluidsynth: single notes and melodies of one instrument.

In: the name of an instrument, a pitch and a velocity as MIDI counts them, or a tempo; seconds; a seeded
`random.Random`. Out: `[seconds * 16000]` float32 at 16 kHz, |x| <= 1. The gain is fixed for each instrument, so
velocity is heard as loudness. The same call gives the same samples, whatever was played before. Rooms and noise
are `acoustics`' business. Training only: needs libfluidsynth3 and fluid-soundfont-gm.
"""

import ctypes
import ctypes.util
import random
from functools import cache
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.nano.train.signals import RATE, Waveform, between, decibels, fade, generator

# Names and General MIDI programs, counted from 0.
INSTRUMENTS: dict[str, tuple[int, ...]] = {
    "piano": (0, 1),
    "guitar": (24, 25),
    "bass": (32, 33),
    "violin": (40,),
    "harp": (46,),
    "choir": (52, 53),
    "trumpet": (56,),
    "clarinet": (71,),
    "flute": (73,),
    "organ": (16, 19),
    "xylophone": (13,),
    "accordion": (21,),
}
# The pitches that each plays in life, lowest and highest, as MIDI counts: 60 is the middle C.
RANGES: dict[str, tuple[int, int]] = {
    "piano": (36, 90),
    "guitar": (40, 79),
    "bass": (28, 52),
    "violin": (55, 93),
    "harp": (38, 91),
    "choir": (48, 79),
    "trumpet": (54, 84),
    "clarinet": (50, 86),
    "flute": (60, 93),
    "organ": (48, 84),
    "xylophone": (65, 100),
    "accordion": (53, 86),
}
# Decibels that bring a note of velocity 127 in the middle of the range to a peak near -4 dB.
_GAINS: dict[int, float] = {
    0: 8.5,
    1: 9.0,
    13: 8.5,
    16: 4.5,
    19: 2.0,
    21: 4.5,
    24: 2.0,
    25: 2.0,
    32: 2.0,
    33: 2.0,
    40: 5.5,
    46: 6.5,
    52: 5.5,
    53: 4.0,
    56: 2.0,
    71: 3.0,
    73: 5.5,
}

TEMPOS: dict[str, tuple[float, float]] = {"fast": (5.0, 8.0), "slow": (1.0, 1.7)}  # notes a second
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10), (0, 2, 3, 5, 7, 9, 10))
_SOUNDFONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/TimGM6mb.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
)
_OVERSAMPLING = 3  # fluidsynth does not filter what it resamples: render at 48 kHz, then cut off at 8 kHz
_BLOCK = 64  # samples in which fluidsynth thinks; a render of whole blocks leaves nothing over for the next

_VOICES = 64
_CHANNELS = 32  # more than there are programs
_DRUMS = 9  # the channel that has no programs of pitch
_WARNINGS = 2  # fluidsynth's level: it warns of each channel without a soundfont, of which every synthesizer has 32

Moment = tuple[float, int, int]  # seconds, pitch, velocity; velocity 0 ends a note


class NoSynthesizerError(RuntimeError):
    """libfluidsynth or a General MIDI soundfont is not installed."""


def note(instrument: str, pitch: int, velocity: int, seconds: float, rng: random.Random) -> Waveform:
    """Give one note, held for most of the time and then let go, as `[seconds * 16000]`."""
    gen = generator(rng)
    start = gen.uniform(0, 0.08 * seconds)
    end = start + (seconds - start) * gen.uniform(0.6, 0.9)
    program = int(gen.choice(INSTRUMENTS[instrument]))
    return _render(program, [(start, pitch, velocity), (end, pitch, 0)], seconds)


def melody(instrument: str, *, tempo: str, seconds: float, rng: random.Random) -> Waveform:
    """Give a walk along a random scale, fast (5 to 8 notes a second) or slow (1 to 1.7), as `[seconds * 16000]`."""
    gen = generator(rng)
    low, high = RANGES[instrument]
    scale = _SCALES[gen.integers(len(_SCALES))]
    tonic = gen.integers(12)
    ladder = [pitch for pitch in range(low, high + 1) if (pitch - tonic) % 12 in scale]
    step = int(gen.integers(len(ladder) // 5, len(ladder) * 4 // 5))
    period = 1 / between(gen, *TEMPOS[tempo])
    held, loudness = gen.uniform(0.6, 1.0), gen.uniform(60, 112)
    moments: list[Moment] = []
    for start in np.arange(gen.uniform(0, 0.15), seconds - 0.1, period):
        begun = float(start + gen.uniform(0, 0.06) * period)
        velocity = int(loudness + gen.uniform(-12, 12))
        moments += [(begun, ladder[step], velocity), (begun + held * 0.93 * period, ladder[step], 0)]
        step = int(np.clip(step + gen.choice([-3, -2, -1, 1, 2, 3], p=_LEAPS), 0, len(ladder) - 1))
    return _render(int(gen.choice(INSTRUMENTS[instrument])), moments, seconds)


_LEAPS = (0.06, 0.16, 0.28, 0.28, 0.16, 0.06)  # small steps more than great ones


def _render(program: int, moments: list[Moment], seconds: float) -> Waveform:
    """Play the moments on a synthesizer of their own, for a used one remembers, and give `[seconds * 16000]`."""
    library, settings, soundfont = _open()
    synth = library.new_fluid_synth(settings)
    library.fluid_synth_add_sfont(synth, soundfont)
    samples = round(seconds * RATE)
    blocks = -(-samples * _OVERSAMPLING // _BLOCK)
    stereo = np.zeros((2, blocks * _BLOCK), np.float32)
    library.fluid_synth_program_change(synth, 0, program)
    done = 0
    for moment, pitch, velocity in sorted(moments):
        until = min(round(moment * RATE * _OVERSAMPLING / _BLOCK), blocks)
        _write(library, synth, stereo, done * _BLOCK, until * _BLOCK)
        done = until
        if velocity:
            library.fluid_synth_noteon(synth, 0, pitch, velocity)
        else:
            library.fluid_synth_noteoff(synth, 0, pitch)
    _write(library, synth, stereo, done * _BLOCK, blocks * _BLOCK)
    library.fluid_synth_remove_sfont(synth, soundfont)  # else it would be closed with the synthesizer
    library.delete_fluid_synth(synth)
    played = _decimate(stereo.mean(0)[: samples * _OVERSAMPLING], samples)
    played *= np.float32(decibels(_GAINS.get(program, 0.0)))
    played *= fade(samples, 0.002, 0.02)
    return np.clip(played, -1, 1, out=played)


def _write(library: ctypes.CDLL, synth: int, stereo: NDArray[np.float32], first: int, last: int) -> None:
    """Fill `stereo[:, first:last]` with the next samples."""
    if last <= first:
        return
    left, right = (stereo[side, first:].ctypes.data_as(ctypes.c_void_p) for side in (0, 1))
    library.fluid_synth_write_float(synth, last - first, left, 0, 1, right, 0, 1)


def _decimate(waveform: Waveform, samples: int) -> Waveform:
    """Bring `[3 * samples]` at 48 kHz to `[samples]`, with nothing left from 7.6 kHz up."""
    padded = -(-samples // 1024) * 1024
    spectrum = np.fft.rfft(waveform, padded * _OVERSAMPLING)[: padded // 2 + 1]
    cut = padded * 7600 // RATE
    spectrum[cut:] *= np.linspace(1, 0, spectrum.size - cut, dtype=np.float32)
    return np.asarray(np.fft.irfft(spectrum, padded)[:samples] / _OVERSAMPLING, np.float32)


@cache
def _open() -> tuple[ctypes.CDLL, int, int]:
    """Open once a process: the library, settings (dry, 48 kHz), and the soundfont with our programs in memory."""
    name = ctypes.util.find_library("fluidsynth") or "libfluidsynth.so.3"
    try:
        library = ctypes.CDLL(name)
    except OSError as error:
        raise NoSynthesizerError(f"{name} can't be opened: apt-get install libfluidsynth3") from error
    _declare(library)
    library.fluid_set_log_function(_WARNINGS, None, None)
    settings = _settings(library)
    keeper = library.new_fluid_synth(settings)  # plays nothing: holds the samples of every program
    path = _soundfont()
    number = library.fluid_synth_sfload(keeper, str(path).encode(), 1)
    if number < 0:
        raise NoSynthesizerError(f"{path} can't be read: apt-get install --reinstall fluid-soundfont-gm")
    channels = (channel for channel in range(_CHANNELS) if channel != _DRUMS)
    for channel, program in zip(channels, chain(*INSTRUMENTS.values()), strict=False):
        library.fluid_synth_program_change(keeper, channel, program)
    return library, settings, library.fluid_synth_get_sfont_by_id(keeper, number)


def _settings(library: ctypes.CDLL) -> int:
    settings: int = library.new_fluid_settings()
    library.fluid_settings_setnum(settings, b"synth.sample-rate", float(RATE * _OVERSAMPLING))
    library.fluid_settings_setnum(settings, b"synth.gain", 1.0)
    whole = {"reverb.active": 0, "chorus.active": 0, "polyphony": _VOICES, "midi-channels": _CHANNELS}
    for option, value in (whole | {"dynamic-sample-loading": 1}).items():
        library.fluid_settings_setint(settings, f"synth.{option}".encode(), value)
    return settings


def _soundfont() -> Path:
    for path in map(Path, _SOUNDFONTS):
        if path.is_file():
            return path
    raise NoSynthesizerError(f"no soundfont at {', '.join(_SOUNDFONTS)}: apt-get install fluid-soundfont-gm")


def _declare(library: ctypes.CDLL) -> None:
    """Tell ctypes the pointers, which would be cut to 32 bits, and the doubles."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.new_fluid_settings.restype = pointer
    library.new_fluid_synth.restype = pointer
    library.new_fluid_synth.argtypes = [pointer]
    library.fluid_settings_setnum.argtypes = [pointer, ctypes.c_char_p, ctypes.c_double]
    library.fluid_settings_setint.argtypes = [pointer, ctypes.c_char_p, integer]
    library.fluid_synth_sfload.argtypes = [pointer, ctypes.c_char_p, integer]
    library.delete_fluid_synth.argtypes = [pointer]
    library.delete_fluid_synth.restype = None
    library.fluid_set_log_function.argtypes = [integer, pointer, pointer]
    library.fluid_synth_get_sfont_by_id.argtypes = [pointer, integer]
    library.fluid_synth_get_sfont_by_id.restype = pointer
    library.fluid_synth_add_sfont.argtypes = [pointer, pointer]
    library.fluid_synth_remove_sfont.argtypes = [pointer, pointer]
    library.fluid_synth_program_change.argtypes = [pointer, integer, integer]
    library.fluid_synth_noteon.argtypes = [pointer, integer, integer, integer]
    library.fluid_synth_noteoff.argtypes = [pointer, integer, integer]
    library.fluid_synth_write_float.argtypes = [pointer, integer, pointer, integer, integer, pointer, integer, integer]
