"""What the first frame of an MP3 file says of all of them: LAME's and Xing's table, or Fraunhofer's (VBRI)."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from audio_encoder.tags import after_id3

_RATES = (11_025, 12_000, 8_000)  # Hz, of MPEG 2.5; twice as much in MPEG 2, four times in MPEG 1
_PADDING = 0.2  # seconds, of which a coder pads its ends
_HAS_FRAMES, _HAS_BYTES = 1, 2  # flags


@dataclass(frozen=True)
class Table:
    """`frames` that there should be, and their `size` in bytes, 0 where it does not say.

    There are `rest` bytes from its own frame on, and `front` before it.
    """

    frames: int
    size: int
    rest: int
    front: int
    frame_seconds: float

    @property
    def seconds(self) -> float:
        """What is heard of all frames at least."""
        return max(0.0, self.frames * self.frame_seconds - _PADDING)

    def lacks(self, frames: int) -> str:
        """What is missing where only so many frames were found, "" where nothing is.

        Some writers count its own frame, too, and the tags in front.
        """
        missing = self.frames - frames
        if missing > 0 and self.rest + (self.front if missing == 1 else 0) < self.size:
            return f"{self.rest} of {self.size} bytes of sound"
        return f"{frames} of {self.frames} frames" if missing > 1 and not self.size else ""


def read_table(file: BinaryIO) -> Table | None:
    """The table of a file, None if it has none."""
    start = after_id3(file)
    file.seek(start)
    frame = file.read(2_048)
    at = next((frame.find(mark) for mark in (b"Xing", b"Info", b"VBRI") if mark in frame), -1)
    sync = frame.find(b"\xff")
    if at < 0 or sync < 0 or len(frame) < at + 18 or sync + 3 > len(frame):
        return None
    if frame[at : at + 4] == b"VBRI":
        size, frames = struct.unpack_from(">II", frame, at + 10)
    elif frame[at + 7] & _HAS_FRAMES:
        frames, size = struct.unpack_from(">II", frame, at + 8)
        size *= bool(frame[at + 7] & _HAS_BYTES)
    else:
        return None
    version, rate = frame[sync + 1] >> 3 & 3, frame[sync + 2] >> 2 & 3  # 0: MPEG 2.5, 2: MPEG 2, 3: MPEG 1
    if rate == 3 or version == 1:
        return None
    samples = 1_152 if version == 3 else 576
    seconds = samples / (_RATES[rate] << (0, 0, 1, 2)[version])
    front = start + sync
    return Table(frames, size, file.seek(0, os.SEEK_END) - front, front, seconds)
