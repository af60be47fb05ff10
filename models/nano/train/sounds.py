"""Everyday sounds from our own generators: `event` gives one of `EVENTS`, never twice the same.

In: a name, a duration in seconds, a seeded `random.Random`. Out: `[seconds * 16000]` float32 at 16 kHz, |x| <= 1.
The same seed gives the same samples. Nothing here knows of words, rooms or recordings; see `acoustics` for those.
"""

import random
import sys
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.nano.train import sounds_noise, sounds_tonal
from models.nano.train.signals import (
    RATE,
    Generator,
    Waveform,
    decibels,
    fast_length,
    frequencies,
    generator,
    spectrum_to_waveform,
)

_MAKERS: dict[str, Callable[[int, Generator], Waveform]] = {
    "siren": sounds_tonal.siren,
    "bell": sounds_tonal.bell,
    "phone ring": sounds_tonal.phone_ring,
    "engine": sounds_tonal.engine,
    "rain": sounds_noise.rain,
    "wind": sounds_noise.wind,
    "applause": sounds_noise.applause,
    "beeps": sounds_tonal.beeps,
    "clicks": sounds_noise.clicks,
    "footsteps": sounds_noise.footsteps,
    "breaking glass": sounds_noise.breaking_glass,
    "silence": sounds_noise.silence,
    "thunder": sounds_noise.thunder,
    "bird song": sounds_tonal.bird_song,
    "dog bark": sounds_tonal.dog_bark,
    "waves": sounds_noise.waves,
    "knocking": sounds_noise.knocking,
    "helicopter": sounds_noise.helicopter,
    "crackling fire": sounds_noise.crackling_fire,
    "car horn": sounds_tonal.car_horn,
    "cat meow": sounds_tonal.cat_meow,
    "dripping water": sounds_tonal.dripping_water,
    "crickets": sounds_tonal.crickets,
}
EVENTS: tuple[str, ...] = tuple(_MAKERS)

_SHORTEST = 1.0  # seconds: below this a repetition or a decay can't be heard
_LOUDEST_SILENCE = -62.0  # dB: the peak of what we still call silence


def event(name: str, seconds: float, rng: random.Random) -> Waveform:
    """Give one sound event as `[seconds * 16000]` float32, near or far; short events sit somewhere inside."""
    if name not in _MAKERS:
        raise ValueError(f"no sound event {name!r}: one of {', '.join(EVENTS)}")
    if seconds < _SHORTEST:
        raise ValueError(f"a sound event of {seconds} s is too short: ask for {_SHORTEST} s or more")
    gen = generator(rng)
    made = _MAKERS[name](round(seconds * RATE), gen)
    if name == "silence":
        return _levelled(made, gen.uniform(_LOUDEST_SILENCE - 25, _LOUDEST_SILENCE))
    distance = gen.random() if gen.random() < 0.6 else 0.0
    if distance:
        made = _far(made, distance)
    return _levelled(made, gen.uniform(-6, -0.5) - 12 * distance)


def _far(waveform: Waveform, distance: float) -> Waveform:
    """Take away treble as the air does, more the greater the distance (0..1)."""
    length = fast_length(waveform.size)
    spectrum = np.fft.rfft(waveform, length)
    spectrum *= 1 / np.sqrt(1 + (frequencies(length) / np.float32(9000 - 6000 * distance)) ** 2)
    return spectrum_to_waveform(spectrum, waveform.size)


def _levelled(waveform: Waveform, peak_level: float) -> Waveform:
    peak = max(float(waveform.max()), -float(waveform.min()))
    return waveform * np.float32(decibels(peak_level) / peak) if peak else waveform


def save_wav(path: Path, waveform: Waveform) -> None:
    """Write `[samples]` as 16-bit mono WAV at 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((waveform * 32767).astype("<i2").tobytes())


def main() -> int:
    """Print clips a second for each event on stderr and write three of each under /tmp/sounds."""
    folder = Path("/tmp/sounds")  # noqa: S108
    folder.mkdir(exist_ok=True)
    for name in EVENTS:
        rng = random.Random(name)  # noqa: S311
        start = time.perf_counter()
        clips = [event(name, 4.0, rng) for _ in range(50)]
        rate = len(clips) / (time.perf_counter() - start)
        loudest = max(float(np.abs(clip).max()) for clip in clips)
        print(f"{name:16} {rate:6.0f} clips/s, loudest peak {loudest:.3f}", file=sys.stderr)
        for index, clip in enumerate(clips[:3]):
            save_wav(folder / f"{name.replace(' ', '_')}_{index}.wav", clip)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
