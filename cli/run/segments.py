"""The sounds of one input, in segments that the model can hear: whole clips, or the windows of a long recording."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING

from cli.options import LONGEST_WINDOW
from cli.output.answer import Audio
from errors import AudioError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Float32 = npt.NDArray[np.float32]

_TOLD = 0.1  # seconds that a part may end behind the recording: lengths are typed as players round them


@dataclass
class Segment:
    """What one prompt is about: `waveforms`, [samples] at 16 kHz each, and later in their place `clips`.

    `start` and `end` are seconds of the recording; `is_part`: of it, only what --clip names is heard.
    `audio` says how much of each file was heard up to here, `speech`
    where the recording sounds, in its seconds. `clips` are
    embeddings [audio_tokens + 2, d_model]. `audio_s` and `encode_s` are the seconds that reading and encoding took.
    """

    waveforms: list[Float32]
    start: float
    end: float
    audio: list[Audio]
    is_last: bool
    is_silent: bool
    speech: list[tuple[float, float]]
    audio_s: float
    encode_s: float = 0.0
    clips: list[Float32] = field(default_factory=list)
    is_part: bool = False


def segments(
    paths: Sequence[str],
    notes: list[str],
    *,
    long: str,
    longest: float = LONGEST_WINDOW,
    clips: Sequence[tuple[float, float]] = (),
) -> Iterator[Segment]:
    """One segment with all sounds, at most 30 s of each; or, for a single recording, one for each of its windows.

    `long` is "windows" or "first", `longest` the most seconds of a window, `clips` are the only parts to be heard, in
    seconds. Remarks for the user are added to
    `notes`. Raises AudioError, at the end of the file for what is only seen there.
    """
    if long == "windows" and len(paths) == 1:
        yield from _windows(paths[0], notes, longest, clips)
    elif clips or longest < LONGEST_WINDOW:
        flag = "--clip" if clips else "--window"
        raise UsageError(f"{flag} hears parts of one recording, not of several in one prompt", "give --each")
    else:
        yield _whole(paths, notes)


def _whole(paths: Sequence[str], notes: list[str]) -> Segment:
    from audio_encoder.windows import is_silent, speech_spans

    begun, waveforms, audio = time.perf_counter(), list["Float32"](), list[Audio]()
    for path in paths:
        waveform, seconds = _beginning(path, notes)
        waveforms.append(waveform)
        audio.append(Audio(path, round(seconds, 3), round(_seconds(len(waveform)), 3)))
    return Segment(
        waveforms,
        start=0.0,
        end=round(max(one.seconds_used for one in audio), 3),
        audio=audio,
        is_last=True,
        is_silent=all(map(is_silent, waveforms)),
        speech=speech_spans(waveforms[0]),
        audio_s=time.perf_counter() - begun,
    )


def _parts(blocks: Iterable[Float32], clips: Sequence[tuple[float, float]]) -> Iterator[tuple[float, Float32]]:
    """What of a recording, [samples] a block, lies in one of the clips: (start of that clip in seconds, [samples])."""
    from audio_encoder.log_mel import SAMPLE_RATE

    position = 0
    for block in blocks:
        for start, end in clips:
            first, last = (round(min(max(one * SAMPLE_RATE - position, 0), len(block))) for one in (start, end))
            if first < last:
                yield start, block[first:last]
        position += len(block)


def _windows(path: str, notes: list[str], longest: float, clips: Sequence[tuple[float, float]]) -> Iterator[Segment]:
    """A window is known to be the last when there is no next one, so each is held until then."""
    from audio_encoder.waveform import MIN_SAMPLES, check_length, stream_waveform
    from audio_encoder.windows import cut_windows, is_silent, speech_spans

    held: Segment | None = None
    begun = time.perf_counter()
    recording = _Counted(stream_waveform(path, notes))
    parts = groupby(_parts(recording, clips or [(0.0, inf)]), key=itemgetter(0))
    cut = (
        replace(window, start=window.start + start)
        for start, part in parts
        for window in cut_windows(map(itemgetter(1), part), longest=longest)
    )
    for window in cut:
        if clips and len(window.waveform) < MIN_SAMPLES:
            continue  # what the recording's end leaves of a part: told below
        check_length(window.waveform, path)
        if held is not None:
            yield held
            begun = time.perf_counter()
        held = Segment(
            [window.waveform],
            start=round(window.start, 3),
            end=round(window.end, 3),
            audio=[Audio(path, round(window.end, 3), round(window.end, 3))],
            is_last=False,
            is_silent=is_silent(window.waveform),
            speech=[(start + window.start, end + window.start) for start, end in speech_spans(window.waveform)],
            audio_s=time.perf_counter() - begun,
            is_part=bool(clips),
        )
    remarks = _missed(clips, recording.samples)
    if held is None:
        raise AudioError(f"{path}: {'; '.join(remarks)}", "name another part", kind="too short")
    notes += [f"{path}: {remark}" for remark in remarks]
    if clips:  # it was read to its end, though not heard
        held.audio = [Audio(path, round(_seconds(recording.samples), 3), held.end)]
    held.is_last = True
    yield held


@dataclass
class _Counted:
    """The blocks of a recording, [samples] each, and how many samples were in those that are read."""

    blocks: Iterable[Float32]
    samples: int = 0

    def __iter__(self) -> Iterator[Float32]:
        for block in self.blocks:
            self.samples += len(block)
            yield block


def _missed(clips: Sequence[tuple[float, float]], samples: int) -> list[str]:
    """What of --clip is not in a recording of so many samples, one remark for all parts of a kind."""
    from audio_encoder.waveform import MIN_SAMPLES

    absent, short, cut = list[str](), list[str](), list[str]()
    seconds = _seconds(samples)
    for start, end in clips:
        name = f"{_number(start)}-{'' if end == inf else _number(end)}"
        heard = _samples(min(end, seconds)) - _samples(start)
        if heard <= 0 or heard < MIN_SAMPLES:
            (absent if heard <= 0 else short).append(name)
        elif _TOLD < end - seconds < inf:
            cut.append(name)
    told = f"it ends at {seconds:.1f} s, before --clip "
    return [
        *([f"{told}{', '.join(absent)} begins"] if absent else []),
        *(
            [f"of --clip {', '.join(short)} less than {_seconds(MIN_SAMPLES)} s is in it, too short to be heard"]
            if short
            else []
        ),
        *([f"{told}{', '.join(cut)} ends"] if cut else []),
    ]


def _number(seconds: float) -> str:
    return f"{seconds:.9f}".rstrip("0").rstrip(".")


def _beginning(path: str, notes: list[str]) -> tuple[Float32, float]:
    """The first 30 s of a sound, and how long all of it is; the rest is read, but not kept."""
    import numpy as np

    from audio_encoder.log_mel import CHUNK_SECONDS, SAMPLE_RATE
    from audio_encoder.waveform import check_length, stream_waveform

    kept, samples, room = [], 0, CHUNK_SECONDS * SAMPLE_RATE
    for block in stream_waveform(path, notes):
        if samples < room:
            kept.append(block[: room - samples])
        samples += len(block)
    return check_length(np.concatenate(kept), path), _seconds(samples)


def _seconds(samples: int) -> float:
    from audio_encoder.log_mel import SAMPLE_RATE

    return samples / SAMPLE_RATE


def _samples(seconds: float) -> int:
    from audio_encoder.log_mel import SAMPLE_RATE

    return round(seconds * SAMPLE_RATE)
