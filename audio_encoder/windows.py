"""A recording of any length in blocks -> windows of at most 30 s, cut at quiet places, each with where it starts.

Joined, the windows are the recording, sample for sample. The quiet is measured in frames of 20 ms: the level of a frame
is its power around its own mean, so that a DC offset is no sound. A pause is a run of frames near the quietest place of
the part where a cut is wanted; it is judged against the sound of this window alone, as the next speaker may be softer.

numpy only; this room knows no files and no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from audio_encoder.log_mel import CHUNK_SECONDS, SAMPLE_RATE
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SILENCE_DB = -60.0  # below full scale, RMS, a room at night: only below it a level can be a noise floor

_FRAME = 320  # samples: 20 ms, one period of the lowest voice
_FRAMES_PER_SECOND = SAMPLE_RATE // _FRAME  # 50
_FLOOR_DB = -80.0  # everything below is as quiet as digital silence, where cuts are looked for
_LAST_BITS_DB, _DITHER_DB = -100.0, -87.0  # the least that 16 bits tell apart; their dither is -90
_SHORTEST_PAUSE = 6  # frames, 0.12 s: the closed lips of a "p" are shorter
_LEAD = 25  # frames, 0.5 s: how long before the next sound a long pause is cut
_DYNAMICS_DB = 6.0  # between the loud frames and the quietest place: with less, as in steady noise, there is no pause
_PAUSE_SHARE, _PAUSE_DB = 0.3, (3.0, 12.0)  # a pause is up to this share of the dynamics above the quietest place
_PAUSE_SECONDS = 0.2  # between two spans of speech
_LATE_BONUS = 0.25  # seconds of pause that the latest cut is worth over the earliest: fuller windows are fewer


@dataclass(frozen=True, eq=False)
class Window:
    """A part of a recording: float32 [samples] at 16 kHz, and the seconds from the recording's start to its first."""

    start: float
    waveform: NDArray[np.float32]

    @property
    def end(self) -> float:
        """Seconds from the recording's start to the end of the last sample, where the next window starts."""
        return (round(self.start * SAMPLE_RATE) + len(self.waveform)) / SAMPLE_RATE  # a sum of floats may be off


def cut_windows(blocks: Iterable[NDArray[np.float32]], *, longest: float = CHUNK_SECONDS) -> Iterator[Window]:
    """Cut a recording, float32 [samples] at 16 kHz in blocks of any sizes, into windows of at most ``longest`` seconds.

    What fits into one window is one, whatever it holds, so that only a recording under MIN_SAMPLES gives a window under
    it; no samples give no window. In a longer one, every window is at least a third of ``longest``: cuts are looked for
    from its half on, and what is left under one and a half of it is cut in its middle third.

    At most 1.5 * ``longest`` are held; how the blocks are cut moves no window. An error of ``blocks``
    passes through, after the windows before it. Raises ValueError unless 1 <= ``longest`` <= 30.
    """
    if not 1 <= longest <= CHUNK_SECONDS:
        raise ValueError(f"windows can be 1 to {CHUNK_SECONDS} s long, not {longest}")
    most = int(longest * _FRAMES_PER_SECOND) * _FRAME  # samples; cuts lie between frames
    room = np.empty(most + most // 2, np.float32)  # what is not cut yet; shifted down after each cut
    start = held = 0
    for block in blocks:
        while len(block) > len(room) - held:
            taken = len(room) - held
            room[held:] = block[:taken]
            block = block[taken:]  # noqa: PLW2901 - the rest of it
            cut = _quiet_place(room, most // 2, most)
            yield Window(start / SAMPLE_RATE, room[:cut].copy())
            start, held = start + cut, len(room) - cut
            room[:held] = room[cut:].copy()
        room[held : held + len(block)] = block
        held += len(block)
    if held > most:
        cut = _quiet_place(room[:held], held // 3, held - held // 3)
        yield Window(start / SAMPLE_RATE, room[:cut].copy())
        start, held, room = start + cut, held - cut, room[cut:]
    if held:
        yield Window(start / SAMPLE_RATE, room[:held].copy())


def hearable(waveforms: Sequence[NDArray[np.float32]]) -> Iterator[list[NDArray[np.float32]]]:
    """What the model hears at once, [samples] at 16 kHz each: all sounds together, or the windows of a single long one.

    Raises AudioError for a sound over 30 s beside others.
    """
    if len(waveforms) == 1:
        yield from ([window.waveform] for window in cut_windows(waveforms))
        return
    for waveform in waveforms:
        if len(waveform) > CHUNK_SECONDS * SAMPLE_RATE:
            reason = (
                f"a sound of {len(waveform) / SAMPLE_RATE:.1f} s beside others: {CHUNK_SECONDS} s of each are heard"
            )
            raise AudioError(reason, "cut it, or ask about it alone", kind="too long")
    yield list(waveforms)


def is_silent(waveform: NDArray[np.float32]) -> bool:
    """Whether a waveform, [samples] at 16 kHz, holds no sound: digital silence, its dither, or a faint steady floor.

    Loudness alone does not decide, for a recording may be quiet and clean. What never leaves the last bits is silent.
    Below -60 dB of full scale (RMS of 20 ms, DC offset aside) a steady level is a noise floor; sound has ups and downs.
    """
    if not len(waveform):
        return True
    end = waveform[-_FRAME:]  # the whole frames may leave a rest
    rest = _levels(end, frame=len(end), floor=_LAST_BITS_DB)
    levels = np.concatenate([_levels(waveform, floor=_LAST_BITS_DB), rest])
    loudest = float(levels.max())
    if loudest <= _DITHER_DB or loudest >= SILENCE_DB:
        return loudest <= _DITHER_DB
    return bool(np.percentile(levels, 95) - np.percentile(levels, 10) < _DYNAMICS_DB)


def speech_spans(waveform: NDArray[np.float32]) -> list[tuple[float, float]]:
    """Where a waveform, [samples] at 16 kHz, sounds: (start, end) in seconds, with a pause between each and the next.

    A pause is 0.2 s or longer and nearer to the quietest than to the loud frames.
    """
    levels = _levels(waveform)  # [frames]
    if not len(levels):
        return []
    quietest, loud = (float(level) for level in np.percentile(levels, (5, 95)))
    if loud - quietest < _DYNAMICS_DB:
        return [(0.0, len(waveform) / SAMPLE_RATE)]
    sounds = levels > quietest + float(np.clip(_PAUSE_SHARE * (loud - quietest), *_PAUSE_DB))
    edges = np.flatnonzero(np.diff(sounds, prepend=False, append=False)).reshape(-1, 2) / _FRAMES_PER_SECOND
    spans: list[tuple[float, float]] = []
    for start, end in edges.tolist():
        if spans and start - spans[-1][1] < _PAUSE_SECONDS:
            spans[-1] = (spans[-1][0], end)
        else:
            spans.append((start, end))
    return spans


def _levels(sound: NDArray[np.float32], frame: int = _FRAME, floor: float = _FLOOR_DB) -> NDArray[np.float64]:
    """Give the level of each whole frame in dB below full scale, float64 [frames]: RMS around the frame's mean."""
    frames = sound[: len(sound) // frame * frame].reshape(-1, frame)  # [frames, samples]
    mean = frames.mean(axis=1, dtype=np.float64)
    power = np.einsum("fs,fs->f", frames, frames, dtype=np.float64) / frame - mean**2  # no copy in float64
    levels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (floor / 10)))
    return levels


def _quiet_place(sound: NDArray[np.float32], earliest: int, latest: int) -> int:
    """Choose where to cut, in samples, between ``earliest`` and ``latest``; a little after these is looked at too."""
    first, last = -(-earliest // _FRAME), latest // _FRAME
    levels = _levels(sound[: (last + _LEAD) * _FRAME])  # [frames]
    stretches = np.lib.stride_tricks.sliding_window_view(levels[first:last], _SHORTEST_PAUSE)
    quietest = float(stretches.max(axis=1).min())
    dynamics = float(np.percentile(levels, 95)) - quietest
    if dynamics < _DYNAMICS_DB:
        return _quietest_moment(levels, last - (last - first) // 3, last) * _FRAME
    within = float(np.clip(_PAUSE_SHARE * dynamics, *_PAUSE_DB))
    return _best_pause(np.clip((quietest + within - levels) / within, 0, 1), first, last) * _FRAME


def _quietest_moment(levels: NDArray[np.float64], first: int, last: int) -> int:
    """Choose the frame from ``first`` to ``last`` before which and from which on 40 ms are quietest; the last one."""
    around = np.lib.stride_tricks.sliding_window_view(levels[first - 2 : last + 2], 4).max(axis=1)
    return last - int(np.argmin(around[::-1]))


def _best_pause(quiet: NDArray[np.float64], first: int, last: int) -> int:
    """Choose the frame from ``first`` to ``last`` to cut before: the middle of the longest, quietest, latest pause.

    ``quiet``: [frames], 0 for sound to 1 for the quietest. A pause over 1 s is cut 0.5 s before the sound returns.
    """
    edges = np.flatnonzero(np.diff(quiet > 0, prepend=False, append=False)).reshape(-1, 2)  # [pauses, start and end]
    worth = {}
    for start, end in edges.tolist():
        if end - start < _SHORTEST_PAUSE or end <= first or start >= last:
            continue
        cut = min(max((start + end) // 2, end - _LEAD, first), last)
        before, after = quiet[max(start, cut - _LEAD) : cut].sum(), quiet[cut : min(end, cut + _LEAD)].sum()
        seconds = 2 * min(before, after) / _FRAMES_PER_SECOND  # of full quiet around the cut, at most 1
        worth[cut] = seconds + _LATE_BONUS * (cut - first) / (last - first)
    return max(worth, key=worth.__getitem__)
