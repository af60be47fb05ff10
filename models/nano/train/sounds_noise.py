"""Sound events made of noise and knocks: each function gives `[samples]` float32 of any level, from a generator."""

import numpy as np
from numpy.typing import NDArray

from models.nano.train.signals import (
    RATE,
    Generator,
    Waveform,
    arrivals,
    beats,
    between,
    clock,
    cycles,
    decay,
    fade,
    noise,
    place,
    ring,
    scatter,
    tone,
    wander,
)


def _grains(gen: Generator, count: int, length: int, *, t60: float, low: float, high: float) -> NDArray[np.float32]:
    """Give short decaying noises `[count, length]`, cut from one band noise, in random order of their places in it."""
    source = noise(gen, length * 24, low, high)
    firsts = gen.integers(0, length * 23, count)
    grains: NDArray[np.float32] = source[firsts[:, None] + np.arange(length)] * decay(length, t60)
    return grains


def rain(samples: int, gen: Generator) -> Waveform:
    """Give a steady bright hiss, from drizzle to downpour, with single drops that stand out a little."""
    hiss = noise(gen, samples, between(gen, 300, 1500), between(gen, 5000, 9000), tilt=gen.uniform(-1, 2))
    seconds = samples / RATE
    drops = arrivals(gen, seconds, between(gen, 20, 150))
    grains = _grains(gen, drops.size, 64, t60=0.006, low=1500, high=6500) * gen.gamma(1.0, 0.8, (drops.size, 1)).astype(
        np.float32
    )
    return hiss + scatter(samples, drops, grains)


def wind(samples: int, gen: Generator) -> Waveform:
    """Give gusts of dark noise, often with a whistle whose pitch follows the gust."""
    gust = wander(gen, samples, between(gen, 0.8, 2.0), 0.15, 1.0)
    out = noise(gen, samples, between(gen, 60, 150), between(gen, 250, 500), tilt=-3) * gust
    if gen.random() < 0.7:
        pitch = (between(gen, 350, 800) * (0.7 + 0.6 * gust)).astype(np.float32)
        breath = wander(gen, samples, 30, -1, 1), wander(gen, samples, 30, -1, 1)  # a narrow band around the pitch
        whistle = breath[0] * tone(pitch, samples) + breath[1] * tone(pitch, samples, phase=0.25)
        out += whistle * gust * gust * np.float32(gen.uniform(0.5, 1.8))
    return out


def applause(samples: int, gen: Generator) -> Waveform:
    """Give 5 to 40 people who clap, each at an own pace and with an own hand."""
    seconds = samples / RATE
    people = int(between(gen, 5, 40))
    parts = [beats(gen, seconds, between(gen, 2.8, 5.5), jitter=0.12) for _ in range(people)]
    out = np.zeros(samples, np.float32)
    for group in range(3):
        starts = np.concatenate(parts[group::3])
        centre = between(gen, 800, 2200)
        claps = _grains(gen, starts.size, 320, t60=between(gen, 0.012, 0.025), low=centre / 1.3, high=centre * 1.3)
        out += scatter(samples, starts, claps * gen.uniform(0.3, 1, (starts.size, 1)).astype(np.float32))
    return out * fade(samples, between(gen, 0.05, 1.0), between(gen, 0.05, 1.0))


def clicks(samples: int, gen: Generator) -> Waveform:
    """Give dry ticks of a few milliseconds at a steady pace, all alike."""
    length = 96
    t60 = between(gen, 0.002, 0.006)
    body = ring(between(gen, 1800, 5500) * np.array([1, 1.37]), np.full(2, t60), np.array([1, 0.7]), length)
    tick = body + noise(gen, length, 2000, 7500) * decay(length, 0.002) * np.float32(0.5)
    starts = beats(gen, samples / RATE - 0.02, between(gen, 2.0, 9.0), jitter=gen.choice([0.0, 0.1]))
    return scatter(samples, starts, tick[None, :] * gen.uniform(0.7, 1, (starts.size, 1)).astype(np.float32))


def footsteps(samples: int, gen: Generator) -> Waveform:
    """Give a walk or a run: the dull thud of a heel, then the scuff of a sole, left and right a little unlike."""
    out = np.zeros(samples, np.float32)
    pace = between(gen, 1.4, 2.8)
    scuff, gap = gen.uniform(0.15, 0.5), min(0.11, 0.22 / pace)
    low, high, t60 = between(gen, 60, 130), between(gen, 1500, 4500), between(gen, 0.06, 0.16)
    for index, start in enumerate(beats(gen, samples / RATE - 0.2, pace, jitter=0.04)):
        side = 1.0 if index % 2 else gen.uniform(0.85, 1.1)
        heel = noise(gen, 3200, low * side, low * 2.5 * side) * decay(3200, t60) * fade(3200, 0.004, 0.01)
        sole = noise(gen, 2400, 600, high) * decay(2400, t60 * 1.5) * fade(2400, 0.015, 0.01)
        level = np.float32(gen.uniform(0.7, 1))
        place(out, heel * level, start)
        place(out, sole * level * np.float32(scuff), start + gap)
    return out


def knocking(samples: int, gen: Generator) -> Waveform:
    """Give groups of two to five quick, hollow knocks on wood."""
    modes = between(gen, 180, 420) * np.array([1, 1.7, 2.4, 3.6]) * gen.uniform(0.93, 1.07, 4)
    body = ring(modes, np.geomspace(1, 0.5, 4) * between(gen, 0.07, 0.2), gen.uniform(0.3, 1, 4), 2400)
    body[:160] += noise(gen, 160, 800, 4000) * decay(160, 0.008) * np.float32(0.4)
    out = np.zeros(samples, np.float32)
    start, pace = gen.uniform(0.05, 0.5), between(gen, 3.5, 7.0)
    while start < samples / RATE - 0.1:
        for _ in range(gen.integers(2, 6)):
            place(out, body * np.float32(gen.uniform(0.7, 1)), start)
            start += gen.uniform(0.92, 1.08) / pace
        start += between(gen, 0.4, 1.3)
    return out


def breaking_glass(samples: int, gen: Generator) -> Waveform:
    """Give one crash somewhere inside: a burst of noise, then shards that tinkle and rest."""
    out = np.zeros(samples, np.float32)
    start = gen.uniform(0, max(0.05, samples / RATE - 1.2))
    burst = int(0.3 * RATE)
    crash = noise(gen, burst, between(gen, 1200, 2500), 7500) * decay(burst, between(gen, 0.12, 0.3))
    place(out, crash * np.float32(gen.uniform(0.7, 1.3)), start)
    count = int(between(gen, 15, 50))
    falls = start + gen.exponential(between(gen, 0.12, 0.4), count)
    length = int(0.25 * RATE)
    pitches, t60s = gen.uniform(2500, 7600, (count, 1)), gen.uniform(0.05, 0.3, (count, 1))
    seconds = clock(length)
    shards = np.sin((2 * np.pi * pitches).astype(np.float32) * seconds)
    shards *= np.exp((-6.9 / t60s).astype(np.float32) * seconds)
    return out + scatter(samples, falls, shards * gen.uniform(0.1, 0.8, (count, 1)).astype(np.float32))


def thunder(samples: int, gen: Generator) -> Waveform:
    """Give one clap, near with a crack or far without, that rolls on in lobes for seconds."""
    start = gen.uniform(0, min(1.0, samples / RATE / 4))
    length = samples - int(start * RATE)
    rumble = noise(gen, length, between(gen, 25, 50), between(gen, 90, 200), tilt=-2)
    rolling = wander(gen, length, between(gen, 2, 5), 0.2, 1) * decay(length, between(gen, 4, 10))
    sound = rumble * rolling * fade(length, between(gen, 0.03, 0.4), 0.1)
    if gen.random() < 0.6:
        crack = noise(gen, RATE // 2, 150, between(gen, 1500, 5000), tilt=-3)
        place(sound, crack * decay(RATE // 2, between(gen, 0.3, 0.7)) * np.float32(gen.uniform(0.5, 1.5)), 0.0)
    out = np.zeros(samples, np.float32)
    place(out, sound, start)
    return out


def waves(samples: int, gen: Generator) -> Waveform:
    """Give surf: every few seconds the noise swells, grows bright as the wave breaks, and draws back with a hiss."""
    period = between(gen, 2.2, 4.5)
    turn = cycles(float(1 / period), samples, phase=gen.random())
    crest = gen.uniform(0.25, 0.5)
    swell = np.minimum(turn / np.float32(crest), (1 - turn) / np.float32(1 - crest)) ** np.float32(gen.uniform(1.2, 2))
    roar = noise(gen, samples, 120, between(gen, 600, 1100), tilt=-1)
    roar *= swell + np.float32(0.05)
    roar += noise(gen, samples, between(gen, 1200, 2000), 7000) * swell * swell * np.float32(gen.uniform(0.4, 0.9))
    return roar


def helicopter(samples: int, gen: Generator) -> Waveform:
    """Give the chop of blades, 9 to 17 low thumps a second, through the rush of the air."""
    turn = cycles(wander(gen, samples, 1, 0.98, 1.02) * np.float32(between(gen, 9, 17)), samples)
    chop = np.exp(-turn * np.float32(between(gen, 3, 7))) * np.minimum(1, turn * 12)
    thump = noise(gen, samples, between(gen, 40, 80), between(gen, 150, 350)) * chop
    rush = noise(gen, samples, 300, between(gen, 1200, 3000), tilt=-2) * (chop + np.float32(0.12))
    whine = tone(between(gen, 1500, 3000), samples) * np.float32(gen.uniform(0, 0.06))
    whine += thump * 2
    whine += rush * np.float32(gen.uniform(0.4, 1.0))
    return whine


def crackling_fire(samples: int, gen: Generator) -> Waveform:
    """Give a low, fluttering roar and crackles at random moments, a few of them loud."""
    flutter = wander(gen, samples, 8, 0.5, 1)
    roar = noise(gen, samples, 60, between(gen, 200, 500), tilt=-2) * flutter
    pops = arrivals(gen, samples / RATE, between(gen, 12, 45))
    grains = _grains(gen, pops.size, 160, t60=between(gen, 0.004, 0.012), low=between(gen, 700, 1500), high=6500)
    loud = gen.pareto(1.6, (pops.size, 1)).clip(0.15, 6).astype(np.float32)
    return roar * np.float32(gen.uniform(0.15, 0.5)) + scatter(samples, pops, grains * loud)


def silence(samples: int, gen: Generator) -> Waveform:
    """Give digital zero, or a floor of noise or hum that no one would hear."""
    kind = gen.integers(4)
    if kind == 0:
        return np.zeros(samples, np.float32)
    if kind == 1:
        return tone(float(gen.choice([50.0, 60.0])), samples)
    return noise(gen, samples, 20, 8000, tilt=gen.uniform(-6, 0))
