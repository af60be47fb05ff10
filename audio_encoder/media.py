"""Any file that FFmpeg reads -> 16-bit steps, mono, 16 kHz, in blocks; the original hears its files the same way.

PyAV brings FFmpeg's libraries; `av.AudioResampler` is its libswresample. The sound of a video is its first audio
stream. All that can be decoded is decoded: chained streams, joined files, what follows a wrong length. Then the
result is compared with the length in the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import av
import av.error
import numpy as np

from audio_encoder.checks import check_sizes, has_sizes, is_bare, is_streamed_rf64, promised_seconds, zeros_from
from audio_encoder.kinds import RAW, bare_kind
from audio_encoder.mistaken import what_it_is
from audio_encoder.mixing import mix, packed
from audio_encoder.mpeg import read_table
from audio_encoder.parts import COPY_AGAIN, JoinedError
from audio_encoder.samples import CONVERT, check_rate, check_samples
from audio_encoder.sndfile import Forgiving, needs_sndfile, opens, stream_sndfile
from audio_encoder.tags import behind_tag, part_of
from audio_encoder.timeline import TOLD_BY_HEADER, Timeline
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TENTHS = 0.5  # seconds above which tenths of them are told
_SLACK = 0.1  # seconds: coders pad their ends, and not every writer says by how much
_JOINED = 0.5  # seconds beyond what an MP3 file counts: another one was joined to it, of which nothing is told
_SEVERAL = "several recordings are joined in it; they are heard one after the other"
_UNSAID = "this kind of file does not say how long it is, so a cut cannot be noticed"
_MOST_LOST = 2  # packets at the end of a sound that is whole: a tag, or what the writer did not fill
_IN_STEP = {"aptx", "aptx_hd"}  # kinds without a header, of which each eighth part is marked
_PAUSE = 8  # the first kind of AMR frame that holds a pause, not speech
# Nothing but the file is ever opened, for a playlist could name other files, or addresses. Checksums are looked at.
_OPTIONS = {"protocol_whitelist": "data", "err_detect": "crccheck"}
_FAILURES = (
    av.error.FFmpegError,
    OSError,
    ValueError,
    LookupError,
    ArithmeticError,
    TypeError,
    RuntimeError,
    MemoryError,
)


def stream_media(file: BinaryIO, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    """Decode the first audio stream: int16 [samples] a block, mono, 16 kHz.

    Remarks for the user are added to `notes`. Raises AudioError for what is not sound, and after the last block for
    one that is cut short.
    """
    av.logging.set_level(None)
    for number, (part, is_known) in enumerate(_recordings(file, name, notes)):
        if number == 1:
            notes.append(f"{name}: {_SEVERAL}")
        yield from _stream(part, name, notes, is_known=is_known)
        notes[:] = dict.fromkeys(notes)


def _recordings(file: BinaryIO, name: str, notes: list[str]) -> Iterator[tuple[BinaryIO, bool]]:
    """(each of the recordings that are joined in a file, whether its sizes say how long it is); one as a rule."""
    start = 0
    while True:
        start += behind_tag(part_of(file, start))
        part, end = part_of(file, start), None
        is_known: bool | None = None
        while is_known is None:
            try:
                is_known = check_sizes(part, name, notes)
            except JoinedError as joined:
                end = start + joined.place
                part = part_of(file, start, end)
        yield part, is_known
        if end is None:
            return
        start = end


def _stream(file: BinaryIO, name: str, notes: list[str], *, is_known: bool) -> Iterator[NDArray[np.int16]]:
    """The samples of one recording."""
    is_begun = False
    try:
        if not needs_sndfile(file):
            for block in _by_ffmpeg(file, name, notes, is_known=is_known):
                is_begun = True
                yield block
            return
    except AudioError as error:
        if error.kind != "cut short" and (found := what_it_is(file)):
            raise AudioError(f"{name}: {found[0]}", found[1], kind=error.kind) from None
        if is_begun or error.kind == "cut short" or not opens(file):
            raise
    yield from stream_sndfile(file, name, notes)
    if not is_known:
        notes.append(f"{name}: {_UNSAID}")


def _by_ffmpeg(file: BinaryIO, name: str, notes: list[str], *, is_known: bool) -> Iterator[NDArray[np.int16]]:
    with _container(file, name, notes) as container:
        if not container.streams.audio:
            raise AudioError(f"{name}: no sound in it", "give a file with sound", kind="not a sound")
        if container.streams.audio[0].codec_context is None:
            raise AudioError(f"{name}: its sound is coded in an unknown way", CONVERT, kind="not a sound")
        if (count := len(container.streams.audio)) > 1:
            notes.append(f"{name}: the first of its {count} sounds is heard")
        try:
            sound = _Sound(container, file, name, notes)
            yield from mix(sound.frames(), name, notes)
        except _FAILURES as error:
            raise _no_sound(name, error) from None
        promised, is_known = promised_seconds(file, container.format.name, sound.told(), is_known=is_known)
    if not sound.time.seconds and not has_sizes(container.format.name):
        raise _no_sound(name, ValueError("nothing in it can be decoded"))
    if not is_known or (container.format.name == "mp3" and sound.time.seconds > promised + _JOINED):
        notes.append(f"{name}: {_UNSAID}")
    if sound.damaged > sound.decoded:  # bytes of any kind have something in them that looks like a frame
        raise _no_sound(name, ValueError(f"{sound.damaged} of its parts are none"))
    if container.format.name in _IN_STEP and (wrong := sound.damaged + sound.lost) > 1:
        why = f"{wrong} of its parts are out of step, as behind the place where two files were joined"
        raise AudioError(f"{name}: {why}", "give each file by itself", kind="damaged")
    if sound.damaged and is_bare(container.format.name):  # usually tags between joined files
        notes.append(f"{name}: {sound.damaged} parts that are not sound were skipped")
    elif sound.damaged:
        raise AudioError(f"{name}: damaged in {sound.damaged} places", COPY_AGAIN, kind="damaged")
    sound.check_time(is_known=is_known)
    if container.format.name == "tta" and sound.time.seconds > promised + _SLACK:
        raise AudioError(f"{name}: damaged (more sound than its header counts)", COPY_AGAIN, kind="damaged")
    if sound.time.reached() < promised - _SLACK:
        kept = f"{sound.time.seconds:.2f} of {promised:.2f} s can be read"
        raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")
    if container.format.name == "mp3" and (table := read_table(file)) and (kept := table.lacks(sound.found())):
        raise AudioError(f"{name}: cut short ({kept})", COPY_AGAIN, kind="cut short")
    if sound.lost and container.format.name == "flac":
        raise AudioError(f"{name}: cut short (its last frame is incomplete)", COPY_AGAIN, kind="cut short")
    if sound.lost > _MOST_LOST and not is_bare(container.format.name):
        raise AudioError(f"{name}: damaged (its last {sound.lost} packets)", COPY_AGAIN, kind="damaged")


class _Sound:
    """The first audio stream of an open container, and how much of it has been decoded."""

    def __init__(self, container: Any, file: BinaryIO, name: str, notes: list[str]) -> None:
        self._container, self._stream = container, container.streams.audio[0]
        self._name, self._notes = name, notes
        self._decoder = _decoder(self._stream, file)
        place = file.tell()
        self._size = file.seek(0, os.SEEK_END)
        file.seek(place)  # where FFmpeg reads on
        self._packets_seen = 0
        self.decoded = 0  # frames
        self.damaged = 0  # packets that could not be decoded, with sound behind them
        self.lost = 0  # packets at the end that could not be decoded
        self.time = Timeline(container.format.name)

    def found(self) -> int:
        """How many packets were decoded: of the first some give no frame, which a coder only put in front."""
        return self._packets_seen - self.damaged - self.lost

    def check_time(self, *, is_known: bool) -> None:
        """Tell where the time line has seconds that no packet holds; raise AudioError where their bytes were lost."""
        if late := self.time.late():
            self._notes.append(f"{self._name}: its first {late:.1f} s have no sound; they may be lost")
        gap, places, is_lost = self.time.missing(self._counted(), is_known=is_known)
        if is_lost:
            raise AudioError(f"{self._name}: damaged ({gap:.1f} s are missing inside)", COPY_AGAIN, kind="damaged")
        if gap:
            missing = f"{gap:.{1 if gap > _TENTHS else 2}f} s are missing inside{places}"
            self._notes.append(f"{self._name}: {missing}; what is there follows without a pause")

    def told(self) -> float:
        """The length that FFmpeg tells, in seconds; 0 where it does not know: a picture may last longer."""
        is_alone = len(self._container.streams) == 1
        if self._container.format.name == "asf" and not is_alone:  # each of its streams is said to be the longest
            return 0.0
        if self._stream.duration is not None and self._stream.time_base is not None:
            return float(self._stream.duration * self._stream.time_base)
        return float(self._container.duration or 0) / 1e6 if is_alone else 0.0

    def _counted(self) -> float:
        """The length that FFmpeg tells; 0 where it is reckoned from the bytes, or from a size that is not right."""
        told, rate = self.told(), self._stream.bit_rate or 0
        if self._container.format.name not in TOLD_BY_HEADER:
            return told
        is_right = told * rate / 8 < 2 * self._size and not self._decoder.name.startswith(("pcm", "adpcm"))
        return told if is_right else 0.0

    def frames(self) -> Iterator[Any]:
        """Decoded frames; what FFmpeg cannot decode is skipped, as its command does."""
        missed = 0
        try:
            for packet in self._packets():
                try:
                    frames = self._decoder.decode(packet if packet.size else None)
                except av.error.EOFError:
                    break
                except _FAILURES:
                    missed += 1
                    continue
                for frame in frames:
                    self.damaged, missed = self.damaged + missed, 0
                    self.decoded += 1
                    yield self._checked(frame)
        except _FAILURES as error:
            if not self.time.seconds:
                raise _no_sound(self._name, error) from None
            where = f"at {self.time.seconds:.1f} s ({_reason(error)})"
            raise AudioError(f"{self._name}: damaged {where}", COPY_AGAIN, kind="damaged") from None
        self.lost = missed
        if not self.time.seconds and missed:
            raise AudioError(
                f"{self._name}: no sound that can be read ({missed} damaged packets)", CONVERT, kind="damaged"
            )

    def _packets(self) -> Iterator[Any]:
        """The packets of the stream. Those of the others tell where bytes are passed over."""
        for packet in self.time.packets(self._container):
            if packet.stream.index == self._stream.index:
                self._packets_seen += bool(packet.size)
                yield packet

    def _checked(self, frame: Any) -> Any:
        frame = packed(frame)
        check_rate(frame.sample_rate, self._name)
        if frame.format.name.startswith(("flt", "dbl")):
            check_samples(frame.to_ndarray(), self._name)
        self.time.see_frame(frame)
        return frame


def _decoder(stream: Any, file: BinaryIO) -> Any:
    """What decodes a stream: FFmpeg's own decoder of AMR fails at a telephone's pauses (DTX), another one does not."""
    own = stream.codec_context
    if own.name == "alac" and stream.container.format.name == "caf":
        own.options = {"flags2": "+skip_manual"}  # it counts what lacks in the last packet, which is short already
    if own.name != "amrnb" or "libopencore_amrnb" not in av.codecs_available:
        return own
    place = file.tell()
    file.seek(0)
    with av.open(Forgiving(file), mode="r", metadata_errors="replace", options=_OPTIONS) as scanned:
        kinds = {bytes(packet)[0] >> 3 & 15 for packet in scanned.demux(audio=0) if packet.size}
    file.seek(place)
    if max(kinds, default=0) < _PAUSE:
        return own
    decoder: Any = av.CodecContext.create("libopencore_amrnb", "r")
    decoder.sample_rate, decoder.layout = own.sample_rate, own.layout
    return decoder


def _container(file: BinaryIO, name: str, notes: list[str]) -> Any:
    """The file as FFmpeg opens it by its content, else by its ending, for what nothing but the ending tells."""
    source = Forgiving(file, zeros_from(file), b"RIFF" if is_streamed_rf64(file) else b"")
    failures: list[BaseException] = []
    file.seek(0)
    other = "au" if file.read(4) == b".snd" else bare_kind(name, file)  # an AU file without a size is not recognized
    for kind in (None, other):
        if kind or not failures:
            file.seek(0)
            try:
                container = av.open(source, mode="r", format=kind, metadata_errors="replace", options=_OPTIONS)
            except _FAILURES as error:
                failures.append(error)
                continue
            if kind and kind != "au":
                notes.append(f"{name}: only its ending says that this is {container.format.long_name}")
            return container
    raise _not_opened(file, name, failures[0]) from None


def _not_opened(file: BinaryIO, name: str, error: BaseException) -> AudioError:
    """Why FFmpeg cannot open a file; a recorder that was interrupted leaves an MP4 without its index."""
    file.seek(4)
    if file.read(4) == b"ftyp":
        return AudioError(f"{name}: cut short (its index is missing)", "record or copy it again", kind="cut short")
    return _no_sound(name, error)


def _no_sound(name: str, error: BaseException) -> AudioError:
    samples = RAW.get(Path(name).suffix.lower())
    fix = (
        f"if it is samples, say of what rate: ffmpeg -f {samples} -ar RATE -ac 1 -i IN OUT.flac" if samples else CONVERT
    )
    return AudioError(f"{name}: no sound that can be read ({_reason(error)})", fix, kind="not a sound")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error or type(error).__name__).lower()
