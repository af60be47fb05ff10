"""What a page needs of each sound: where it lies, the peaks of its waveform, a copy where browsers cannot play it.

In: the files of an input, when its turn comes. Out: lines of JSON in a hidden folder beside the answers, so that a
sound is decoded for this once, whichever run or process comes first, until it changes. Peaks are the loudest samples
of equal stretches; a copy is Opus, mono, 16 kHz: what the model hears.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_encoder.samples import SAMPLE_RATE
from cli.inputs.listing import STDIN
from cli.output import journal
from cli.output.filenames import DIGITS
from cli.output.streams import say
from errors import QwenAudioError, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cli.output.folder import ResultsFolder

    Float32 = NDArray[np.float32]

FOLDER, NOTES = ".qwen_audio_page", "sounds.jsonl"  # hidden, so that copies are not taken for recordings
COLUMNS = 800  # peaks of a waveform, at most
BIT_RATE = 24_000  # bits a second: 11 MB an hour

_STRETCH = 160  # samples: 10 ms
_EFFORT = "3"  # of 10: a third of the time for the same ear
_DRIFT = 0.3  # seconds by which a player's time may differ from ours
# Formats as FFmpeg calls them, and the codecs in them that Chromium, Firefox and Safari all play.
_PLAYED = {
    "wav": ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le"),
    "mp3": ("mp3",),
    "flac": ("flac",),
    "ogg": ("vorbis", "opus"),
    "mov,mp4,m4a,3gp,3g2,mj2": ("aac",),
    "matroska,webm": ("vorbis", "opus"),
}
# Of a family of formats, the endings that browsers take.
_ENDINGS = {"mov,mp4,m4a,3gp,3g2,mj2": (".mp4", ".m4a", ".m4b", ".m4v"), "matroska,webm": (".webm", ".weba")}


@dataclass(frozen=True)
class Sound:
    """A sound as seen from the output folder: `path` leads there from it, `stamp` is its size and time of change.

    `peaks` are at most COLUMNS bytes, 255 for the loudest; `copy` is the name of its Opus copy, or "".
    """

    path: str
    stamp: tuple[int, int]
    seconds: float
    peaks: bytes
    copy: str


class Waveforms:
    """The sounds that are known in an output folder; `add` looks at those of an input, `read` gives all of them."""

    def __init__(self, folder: ResultsFolder) -> None:
        """Make the hidden folder. Raises UsageError where something else is in its place, and OSError."""
        self._folder = folder
        self._place = folder.folder / FOLDER
        notes = self._place / NOTES
        try:
            self._place.mkdir(exist_ok=True)
            is_ours = notes.is_file() or not os.path.lexists(notes)  # a pipe would wait for ever
        except FileExistsError:
            is_ours = False
        if not is_ours:
            raise UsageError(f"{self._place}: not what this program writes there", "remove it, or name another folder")
        self._sounds, self._inputs = self.read()

    def read(self) -> tuple[dict[str, Sound], dict[str, list[str]]]:
        """All that runs have noted: path -> sound, and identity of an input -> the paths of its sounds."""
        sounds, inputs = dict[str, Sound](), dict[str, list[str]]()
        try:
            lines = (self._place / NOTES).read_bytes().splitlines()
        except FileNotFoundError:
            lines = []
        for entry in map(_entry, lines):
            if isinstance(entry, Sound):
                sounds[entry.path] = entry
            elif isinstance(entry, dict):
                inputs |= entry
        return sounds, inputs

    def add(self, paths: Sequence[str], source: str) -> None:
        """Look at the sounds of an input whose identity is `source`, unless they are known as they are.

        A pipe gives none. What cannot be read is left for the answering to tell.
        """
        try:
            status = [os.stat(path) for path in paths]  # noqa: PTH116 - Path("") is "."
        except (OSError, ValueError):  # ValueError: a name that no file can have
            return
        if STDIN in paths or not all(stat.S_ISREG(one.st_mode) for one in status):
            return
        try:
            names = [self._seen_from_here(path) for path in paths]
            for path, name, one in zip(paths, names, status, strict=True):
                self._look(path, name, (one.st_size, one.st_mtime_ns))
            if self._inputs.get(source) != names:
                journal.append(self._place / NOTES, {"input": source, "sounds": names})
                self._inputs[source] = names
        except QwenAudioError:
            return
        except Exception as failure:  # noqa: BLE001 - a page without a waveform is no reason to end a run
            say(f"{', '.join(paths)}: no player for it on the page ({getattr(failure, 'strerror', None) or failure})")

    def copy_path(self, sound: Sound) -> str:
        """Where the copy of a sound lies, from the output folder on; "" if it has none."""
        return f"{FOLDER}/{sound.copy}" if sound.copy else ""

    def _seen_from_here(self, path: str) -> str:
        """The way from the output folder to a file: it stays right when both are moved together."""
        try:
            return os.path.relpath(path, self._folder.folder)
        except ValueError:  # another drive
            return os.path.abspath(path)  # noqa: PTH100

    def _look(self, path: str, name: str, stamp: tuple[int, int]) -> None:
        known = self._sounds.get(name)
        if known and known.stamp == stamp and (not known.copy or (self._place / known.copy).is_file()):
            return
        from audio_encoder.waveform import stream_waveform

        peaks, seconds = find_peaks(stream_waveform(path, []))
        copy = ""
        if not is_playable(path, seconds):
            copy = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS] + ".opus"
            with self._folder.temporary(self._place) as temporary:
                write_opus(stream_waveform(path, []), temporary)
                temporary.replace(self._place / copy)
        sound = Sound(name, stamp, seconds, peaks, copy)
        entry = asdict(sound) | {"peaks": base64.b64encode(peaks).decode()}
        journal.append(self._place / NOTES, entry)
        self._sounds[name] = sound


def find_peaks(blocks: Iterable[Float32]) -> tuple[bytes, float]:
    """Blocks of samples, [samples] at 16 kHz -> at most COLUMNS peaks, 255 for the loudest, and the seconds."""
    found, rest, samples = [np.zeros(0, np.float32)], np.zeros(0, np.float32), 0
    for block in blocks:
        samples += len(block)
        sound = np.concatenate([rest, np.abs(block)])
        whole = len(sound) // _STRETCH * _STRETCH
        found.append(sound[:whole].reshape(-1, _STRETCH).max(axis=1))
        rest = sound[whole:]
    if len(rest):
        found.append(rest.max(keepdims=True))
    peaks = fewer(np.concatenate(found), COLUMNS)  # [columns]
    loudest = peaks.max(initial=0) or 1
    return np.round(peaks / loudest * 255).astype(np.uint8).tobytes(), round(samples / SAMPLE_RATE, 3)


def fewer(peaks: NDArray[Any], columns: int) -> NDArray[Any]:
    """Peaks, [columns] -> at most so many, each the loudest of those that it stands for."""
    if len(peaks) <= columns:
        return peaks
    starts = np.arange(columns) * len(peaks) // columns
    return np.maximum.reduceat(peaks, starts)


def is_playable(path: str, seconds: float) -> bool:
    """Whether every browser plays a file, and takes as long as the `seconds` of sound that were found in it.

    Where its clock would be another one, a click on a word would lead to another word.
    """
    import av

    try:
        with Path(path).open("rb") as file:
            is_large = file.read(4) in (b"RF64", b"BW64")
            file.seek(0)
            # As in audio_encoder.media: a playlist must not make FFmpeg open other files, or addresses.
            options = {"protocol_whitelist": "data"}
            with av.open(file, mode="r", metadata_errors="replace", options=options) as container:
                kind, stream = container.format.name, container.streams.audio[0]
                codec = stream.codec_context.name.removeprefix("lib").removesuffix("float")
                unit = stream.time_base or 0
                told = (stream.duration or 0) * unit or (container.duration or 0) / 1e6
                begins = (stream.start_time or 0) * unit
    except (OSError, ValueError, LookupError, AttributeError):  # read by another library than FFmpeg
        return False
    fits = PurePath(path).suffix.lower() in _ENDINGS.get(kind, (PurePath(path).suffix.lower(),))
    is_on_time = abs(float(told) - seconds) < _DRIFT and abs(float(begins)) < _DRIFT
    return not is_large and fits and is_on_time and codec in _PLAYED.get(kind, ())


def write_opus(blocks: Iterable[Float32], target: Path) -> None:
    """Write blocks of samples, [samples] at 16 kHz, as Opus in Ogg. Raises what FFmpeg and the disk do."""
    import av

    with av.open(str(target), "w", format="ogg") as out:
        stream = out.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options={"compression_level": _EFFORT})
        stream.bit_rate = BIT_RATE
        for frame in _frames(blocks):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def _frames(blocks: Iterable[Float32]) -> Iterator[Any]:
    import av

    start = 0
    for block in blocks:
        steps = (block * 32_768).clip(-32_768, 32_767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(steps.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, start
        start += len(block)
        yield frame


def _entry(line: bytes) -> Sound | dict[str, list[str]] | None:
    """What a line says: a sound, an input with its sounds, or nothing where it is torn or not ours."""
    try:
        match json.loads(line or b"null"):
            case {"input": str(source), "sounds": list(names)} if all(isinstance(name, str) for name in names):
                return {source: names}
            case {
                "path": str(path),
                "stamp": [int(size), int(changed)],
                "seconds": int() | float() as seconds,
                "peaks": str(peaks),
                "copy": str(copy),
            } if PurePath(copy).name == copy and 0 <= seconds < math.inf:
                return Sound(path, (size, changed), float(seconds), base64.b64decode(peaks)[:COLUMNS], copy)
    except (ValueError, RecursionError):
        pass
    return None
