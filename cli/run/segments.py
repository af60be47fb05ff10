"""The sounds of one input, in pieces that the model can hear: whole clips, or the windows of a long recording."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cli.output.answer import Audio

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cli.run.job import Case

    Float32 = npt.NDArray[np.float32]


@dataclass
class Piece:
    """What one prompt is about: waveforms [samples] mono 16 kHz, then in their place clips [audio_tokens + 2, d_model].

    `start` and `end` are seconds of the recording; `audio` says how much of each file was heard up to here.
    """

    waveforms: list[Any] = field(default_factory=list)
    clips: list[Any] = field(default_factory=list)
    start: float = 0.0
    end: float = 0.0
    audio: list[Audio] = field(default_factory=list)
    is_last: bool = True
    is_silent: bool = False
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] = self.timings.get(stage, 0.0) + time.perf_counter() - start


def pieces(case: Case, *, long: str) -> Iterator[Piece]:
    """One piece with all sounds, each as far as the model hears it; or, for a single recording, one for each window.

    `long` is "windows" or "first". A case that was done before has one piece with nothing in it; one that has failed
    has no more. Raises AudioError, at the end of the file for what is only seen there.
    """
    paths = case.group.paths
    if case.is_done_before:
        yield Piece()
    elif long == "windows" and len(paths) == 1:
        for piece in _windows(paths[0]):
            if case.failure is not None:
                return
            yield piece
    else:
        yield _whole(paths)


def _whole(paths: Sequence[str]) -> Piece:
    start = time.perf_counter()
    piece = Piece()
    for path in paths:
        waveform, seconds = _beginning(path)
        piece.waveforms.append(waveform)
        piece.audio.append(Audio(path, round(seconds, 3), round(_seconds(len(waveform)), 3)))
    piece.end = round(max(audio.seconds_used for audio in piece.audio), 3)
    piece.is_silent = _all_silent(piece.waveforms)
    piece.timings["audio_s"] = time.perf_counter() - start
    return piece


def _windows(path: str) -> Iterator[Piece]:
    """A window is known to be the last when there is no next one, so each is held until then."""
    from audio_encoder.waveform import check_length, stream_waveform
    from audio_encoder.windows import cut_windows

    held: Piece | None = None
    begun = time.perf_counter()
    for window in cut_windows(stream_waveform(path)):
        if held is None:
            check_length(window.waveform, path)
        else:
            yield held
            begun = time.perf_counter()
        audio = Audio(path, round(window.end, 3), round(window.end, 3))
        held = Piece([window.waveform], start=round(window.start, 3), end=round(window.end, 3), audio=[audio])
        held.is_last = False
        held.is_silent = _all_silent(held.waveforms)
        held.timings["audio_s"] = time.perf_counter() - begun
    if held is not None:
        held.is_last = True
        yield held


def _beginning(path: str) -> tuple[Float32, float]:
    """The first 30 s of a sound, and how long all of it is; the rest is read, but not kept."""
    import numpy as np

    from audio_encoder.log_mel import CHUNK_SECONDS, SAMPLE_RATE
    from audio_encoder.waveform import check_length, stream_waveform

    kept, samples, room = [], 0, CHUNK_SECONDS * SAMPLE_RATE
    for block in stream_waveform(path):
        if samples < room:
            kept.append(block[: room - samples])
        samples += len(block)
    return check_length(np.concatenate(kept), path), _seconds(samples)


def _seconds(samples: int) -> float:
    from audio_encoder.log_mel import SAMPLE_RATE

    return samples / SAMPLE_RATE


def _all_silent(waveforms: list[Any]) -> bool:
    from audio_encoder.windows import is_silent

    return all(map(is_silent, waveforms))
