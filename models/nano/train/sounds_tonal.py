"""Sound events that have a pitch: each function gives `[samples]` float32 of any level, from a seeded generator."""

import numpy as np

from models.nano.train.signals import (
    RATE,
    Generator,
    Waveform,
    beats,
    between,
    clock,
    cycles,
    decay,
    fade,
    formant,
    harmonics,
    noise,
    place,
    ring,
    rolloff,
    scatter,
    tone,
    wander,
)

_HIGHEST = 7800  # hertz: harmonics above would fold back


def siren(samples: int, gen: Generator) -> Waveform:
    """Give a pitch that sweeps slowly, sweeps fast, or steps between two tones, never resting."""
    low = between(gen, 450, 750)
    high = low * between(gen, 1.5, 2.6)
    kind = gen.integers(3)
    if kind == 2:  # two tones in turn, as European ambulances
        high = low * between(gen, 1.25, 1.5)
        turn = cycles(between(gen, 0.8, 2.0), samples, phase=gen.random())
        pitch = np.where(turn < 0.5, low, high).astype(np.float32)
    else:
        rate = between(gen, 0.18, 0.6) if kind == 0 else between(gen, 2.0, 4.5)
        turn = cycles(rate, samples, phase=gen.random())
        rise = between(gen, 0.3, 0.7)
        pitch = (low + (high - low) * np.minimum(turn / rise, (1 - turn) / (1 - rise))).astype(np.float32)
    weights = rolloff(min(8, int(_HIGHEST / high)), between(gen, 0.8, 2.5))
    return harmonics(cycles(pitch, samples), weights) * fade(samples, 0.05, 0.05)


def bell(samples: int, gen: Generator) -> Waveform:
    """Give one to several strikes of a metal bell: inharmonic partials that ring for seconds."""
    ratios = np.array([0.5, 1.0, 1.19, 1.5, 2.0, 2.52, 2.67, 3.0, 4.1, 5.4]) * gen.uniform(0.985, 1.015, 10)
    modes = between(gen, 220, 1300) * ratios
    modes = modes[modes < 7600]
    t60s = between(gen, 1.5, 6.0) / (ratios[: modes.size] ** gen.uniform(0.5, 1.0))
    weights = gen.uniform(0.2, 1.0, modes.size) / ratios[: modes.size] ** gen.uniform(0, 0.7)
    strike = ring(modes, t60s, weights, min(samples, 3 * RATE)) * fade(min(samples, 3 * RATE), 0.002, 0.3)
    out = np.zeros(samples, np.float32)
    for start in beats(gen, samples / RATE - 0.4, between(gen, 0.35, 1.7), jitter=0.03):
        place(out, strike * np.float32(gen.uniform(0.7, 1.0)), start)
    return out


def phone_ring(samples: int, gen: Generator) -> Waveform:
    """Give bursts of about a second of fast hammering on two little bells, or of an electronic two-tone trill."""
    burst = int(RATE * between(gen, 0.6, 1.6))
    rate = between(gen, 14, 26)
    first, second = between(gen, 700, 1500), between(gen, 1.15, 1.4)
    if gen.random() < 0.5:
        ratios = np.array([1.0, second, 2.4, 2.4 * second, 4.1])
        t60s = np.full(5, between(gen, 0.15, 0.5))
        hit = ring(first * ratios, t60s, gen.uniform(0.3, 1, 5), int(0.3 * RATE))
        hits = beats(gen, burst / RATE, rate)
        sound = scatter(burst, hits, hit[None, :] * gen.uniform(0.7, 1, (hits.size, 1)).astype(np.float32))
    else:
        turn = cycles(rate, burst)
        pitch = np.where(turn < 0.5, first, first * second).astype(np.float32)
        sound = harmonics(cycles(pitch, burst), np.array([1, gen.uniform(0, 0.5), gen.uniform(0, 0.4)]))
    sound *= fade(burst, 0.01, between(gen, 0.02, 0.2))
    out = np.zeros(samples, np.float32)
    period = burst / RATE + between(gen, 0.3, 1.2)
    for start in np.arange(gen.uniform(0, 0.4), samples / RATE - 0.2, period):
        place(out, sound, start)
    return out


def engine(samples: int, gen: Generator) -> Waveform:
    """Give the buzz of cylinders at 25 to 110 firings a second, idling or revving, over a noise that throbs along."""
    pitch = wander(gen, samples, 6, 0.97, 1.03) * np.float32(between(gen, 25, 85))
    if gen.random() < 0.5:
        pitch *= wander(gen, samples, between(gen, 0.4, 1.2), 0.9, between(gen, 1.2, 1.9))
    weights = rolloff(60, between(gen, 0.5, 1.1)) * gen.uniform(0.3, 1.0, 60)
    weights[np.arange(60) % 4 != 3] *= gen.uniform(0.2, 0.7)  # the fourth order is the firing, the rest the unevenness
    pitch *= np.float32(0.25)
    turn = cycles(pitch, samples)
    throb = 0.3 + np.abs(np.sin(np.float32(4 * np.pi) * turn))
    buzz = harmonics(turn, weights)
    breath = noise(gen, samples, 80, 1500, tilt=-3) * throb
    buzz += breath * np.float32(buzz.std() * between(gen, 0.1, 0.5))
    return buzz


def beeps(samples: int, gen: Generator) -> Waveform:
    """Give equal short tones of one pitch with pauses of silence between."""
    rate = between(gen, 1.2, 5.0)
    length = int(RATE / rate * gen.uniform(0.3, 0.6))
    weights = np.array([1, 0, gen.choice([0.0, 0.33]), 0, gen.choice([0.0, 0.2])])
    pitch = between(gen, 600, 3000)
    beep = harmonics(cycles(pitch, length), weights[: int(_HIGHEST / pitch)]) * fade(length, 0.004, 0.006)
    out = np.zeros(samples, np.float32)
    for start in np.arange(gen.uniform(0, 0.3), samples / RATE - 0.1, 1 / rate):
        place(out, beep, start)
    return out


def bird_song(samples: int, gen: Generator) -> Waveform:
    """Give phrases of a few quick whistles that slide, each phrase a repetition of the bird's own motif."""
    out = np.zeros(samples, np.float32)
    motif = [_whistle(gen) for _ in range(gen.integers(1, 4))]
    start = gen.uniform(0, 0.4)
    gap = between(gen, 0.02, 0.1)
    while start < samples / RATE - 0.15:
        for _ in range(gen.integers(1, 4)):
            for whistle in motif:
                place(out, whistle * np.float32(gen.uniform(0.6, 1)), start)
                start += whistle.size / RATE + gap
        start += between(gen, 0.15, 0.8)
    return out


def _whistle(gen: Generator) -> Waveform:
    length = int(RATE * between(gen, 0.04, 0.22))
    turn = clock(length) * np.float32(RATE / length)
    centre, slide = between(gen, 2300, 5200), gen.uniform(-0.35, 0.35)
    bend, shake = gen.uniform(-0.2, 0.2), gen.choice([0.0, 0.06]) * gen.random()
    pitch = centre * (1 + slide * (turn - 0.5) + bend * np.sin(np.pi * turn) + shake * np.sin(40 * np.pi * turn))
    swell: Waveform = np.sin(np.float32(np.pi) * turn) ** np.float32(0.7)
    return tone(pitch.astype(np.float32), length) * swell


def car_horn(samples: int, gen: Generator) -> Waveform:
    """Give one to three honks of two steady, brassy notes together."""
    low, ratio = between(gen, 290, 480), between(gen, 1.17, 1.28)
    weights = rolloff(12, between(gen, 0.2, 0.7))
    out = np.zeros(samples, np.float32)
    start = gen.uniform(0, 0.5)
    for _ in range(gen.integers(1, 4)):
        length = int(RATE * between(gen, 0.25, 1.5))
        honk = harmonics(cycles(low, length), weights)
        honk += harmonics(cycles(low * ratio, length, phase=0.3), weights)
        place(out, honk * fade(length, 0.015, 0.04), start)
        start += length / RATE + between(gen, 0.08, 0.5)
    return out


def cat_meow(samples: int, gen: Generator) -> Waveform:
    """Give long-drawn calls whose pitch arches, while the mouth opens and closes."""
    out = np.zeros(samples, np.float32)
    base, reach = between(gen, 380, 650), gen.uniform(0.25, 0.6)
    start = gen.uniform(0.05, 0.5)
    while start < samples / RATE - 0.4:
        length = int(RATE * between(gen, 0.5, 1.1))
        turn = clock(length) * np.float32(RATE / length)
        arch = np.sin(np.pi * turn ** np.float32(gen.uniform(0.6, 1.0)))
        phase = cycles((base * (0.8 + reach * arch)).astype(np.float32), length)
        dull = harmonics(phase, rolloff(8, 2.2))
        bright = harmonics(phase, formant(8, base, between(gen, 1300, 1900), 600))
        place(
            out,
            (dull * (1 - np.float32(0.6) * arch) + bright * arch) * np.sqrt(np.sin(np.float32(np.pi) * turn)),
            start,
        )
        start += length / RATE + between(gen, 0.3, 1.2)
    return out


def dog_bark(samples: int, gen: Generator) -> Waveform:
    """Give short harsh barks, alone or in twos and threes: a falling pitch, throat formants and breath."""
    base, throat = between(gen, 170, 480), between(gen, 550, 1100)
    weights = formant(24, base, throat, 450) + 0.5 * formant(24, base, 2 * throat, 500)
    length = int(RATE * between(gen, 0.11, 0.24))
    turn = clock(length) * np.float32(RATE / length)
    breath = noise(gen, 3 * length, throat * 0.7, throat * 2.5)
    out = np.zeros(samples, np.float32)
    start = gen.uniform(0.02, 0.4)
    while start < samples / RATE - 0.1:
        for _ in range(gen.integers(1, 4)):
            pitch = base * gen.uniform(0.95, 1.05) * (0.75 + 0.5 * np.sin(np.pi * np.sqrt(turn)))
            bark = harmonics(cycles(pitch.astype(np.float32), length), weights)
            bark += breath[gen.integers(2 * length) :][:length] * np.float32(0.35 * bark.std())
            place(out, bark * np.minimum(1, turn * 8) * (1 - turn), start)
            start += length / RATE + between(gen, 0.06, 0.22)
        start += between(gen, 0.25, 0.9)
    return out


def dripping_water(samples: int, gen: Generator) -> Waveform:
    """Give single plinks, each a bubble's tone that rises as it dies away."""
    out = np.zeros(samples, np.float32)
    base = between(gen, 500, 1400)
    for start in beats(gen, samples / RATE - 0.15, between(gen, 1.0, 3.0), jitter=0.25):
        length = int(0.25 * RATE)
        pitch = base * between(gen, 0.8, 1.3) * (1 + gen.uniform(2, 7) * clock(length))
        plink = tone(pitch.astype(np.float32), length) * decay(length, between(gen, 0.06, 0.18))
        plink += tone((pitch * 1.9).astype(np.float32), length) * decay(length, 0.05) * np.float32(0.4)
        place(out, plink * np.float32(gen.uniform(0.4, 1)), start)
    return out


def crickets(samples: int, gen: Generator) -> Waveform:
    """Give chirps of a few high, pure pulses, over and over."""
    pulse_rate, count = between(gen, 22, 42), int(gen.integers(3, 8))
    length = int(RATE / pulse_rate * gen.uniform(0.5, 0.75))
    pulse = tone(between(gen, 3700, 5600), length) * np.hanning(length).astype(np.float32)
    starts = beats(gen, samples / RATE, min(between(gen, 1.2, 3.5), 0.75 * pulse_rate / count), jitter=0.05)
    swell = np.linspace(0.5, 1, count)
    pieces = np.tile(np.outer(swell, pulse), (starts.size, 1)).astype(np.float32)
    return scatter(samples, (starts[:, None] + np.arange(count) / pulse_rate).ravel(), pieces)
