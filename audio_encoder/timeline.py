"""How much of a stream was heard, and where the time and the bytes of its file go on without sound."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_GAP = 0.5  # seconds that many small steps may make: clocks drift, and coders lose a little at the ends of pieces
_PAUSE = 0.05  # of one step that is told, and worth its place in a note
_KEEPS_TIME = {"mov", "matroska", "flv", "asf", "nut", "mpegts", "mpeg", "wtv"}  # a recorder's pause is a gap there
_EXACT = {"mov", "caf"}  # which say of each packet how many samples it holds
_SHORT = 0.75  # of these samples; fewer were decoded from a packet that was lost
TOLD_BY_HEADER = {"wav", "w64"}  # in which coded sound is searched for its parts, and what is none is passed over
_SLACK = 0.1  # seconds
_EMPTY = 64  # bytes: some packets without content, with which AVI passes time
_JOINED = {"mpegts", "mpeg"}  # which are joined by `cat`: each part has its own time
_ANOTHER = 60.0  # seconds by which the time of another recording is later
_MOST_ASKED = 10_000  # times; each passes over what is no packet
_PLACES = 5  # gaps of which a note names the place
_JUMP = {"matroska": 1_000, "nut": 1_000, "asf": 0}  # bytes passed over where some were lost: those of WMA do not tell


class Timeline:
    """Of one stream: packets come through it, and it is shown every frame."""

    def __init__(self, format_name: str) -> None:
        """`format_name`: the names of the container, with commas."""
        self._names = {*format_name.split(",")}
        self.seconds = 0.0  # that were heard
        self._first = self._end = 0.0  # on the time line of the file
        self._pauses = list[float]()  # seconds that were heard where its time goes on later
        self._short = self._pending = 0.0  # seconds that packets lack, and the last one, which may be cut as it should
        self._place = self._jump = 0  # bytes: where a packet should begin, and the most that was passed over
        self._jumped = 0.0  # seconds that were heard before

    def packets(self, container: Any) -> Iterator[Any]:
        """The packets of all streams. That FFmpeg wants to be asked again, as behind an MPEG stream, is no failure."""
        for _ in range(_MOST_ASKED):
            with suppress(BlockingIOError):
                for packet in container.demux():
                    self._see_packet(packet)
                    yield packet
                return

    def _see_packet(self, packet: Any) -> None:
        if packet.size and packet.pos is not None:
            jump = packet.pos - self._place if self._place else 0
            if jump > self._jump:
                self._jump, self._jumped = jump, self.seconds
            self._place = packet.pos + packet.size

    def see_frame(self, frame: Any) -> None:
        """A decoded one."""
        length = frame.samples / frame.sample_rate
        if self._names & _EXACT and frame.duration and frame.time_base:
            said = float(frame.duration * frame.time_base)
            self._short += self._pending
            self._pending = said - length if self.seconds and length < _SHORT * said else 0.0
        if frame.time is not None:
            self._first = self._first if self.seconds else max(0.0, frame.time)
            jump = frame.time - self._end if self.seconds else 0.0
            is_begun_so = _PAUSE < jump <= _GAP and self.seconds < _SLACK  # by ffmpeg, pieces of MP4 with a picture
            if is_begun_so or (jump > _ANOTHER and self._names & _JOINED):  # nothing was lost
                self._first += jump
            elif jump > _PAUSE:
                self._pauses.append(self.seconds)
            self._end = max(self._end, frame.time + length)
        self.seconds += length

    def reached(self) -> float:
        """Up to where it was heard: by the time line, where gaps are a recorder's and holes are noticed otherwise."""
        return max(self.seconds, self._end) if self._names & _KEEPS_TIME else self.seconds

    def late(self) -> float:
        """Seconds before the first sound of a file that begins with its sound; 0 for kinds that need not."""
        return self._first if "asf" in self._names and self._first > _GAP else 0.0

    def missing(self, told: float, *, is_known: bool) -> tuple[float, str, bool]:
        """(seconds without sound, after which ones, whether their bytes were lost); 0 where there are none.

        `told`: what FFmpeg says of the length; `is_known`: the sizes in the file are right.
        """
        end, pauses = self.reached(), self._pauses
        if self._names == {"avi"} and is_known and self._jump > _EMPTY:
            end, pauses = told, [self._jumped]
        elif self._names & TOLD_BY_HEADER and told > self.seconds + _SLACK:
            end = told
        gap, least = end - self._first - self.seconds, _GAP
        if self._names & (_KEEPS_TIME | TOLD_BY_HEADER):
            least = _PAUSE if pauses else _SLACK if self._names & TOLD_BY_HEADER else _GAP
        gap = self._short if gap <= least else gap
        places = [f"{seconds:.1f}" for seconds in pauses[:_PLACES]] + ["…"] * (len(pauses) > _PLACES)
        is_lost = gap > _GAP and any(self._jump > most for kind, most in _JUMP.items() if kind in self._names)
        return gap, f", after {', '.join(places)} s of sound" * bool(places), is_lost
