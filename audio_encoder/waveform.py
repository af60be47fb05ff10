"""Sound file or standard input -> waveform: float32 [samples], mono, 16 kHz, every sample a 16-bit step.

The original pipes each file through ffmpeg as signed 16-bit mono at 16 kHz and divides by 32768; so does this, through
FFmpeg's own libraries. A file that ends before its own header says so is refused: half a recording must not be answered
as if it were the whole one.

This room knows files and samples; it knows no features, no windows and no model.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from audio_encoder.kinds import absence
from audio_encoder.samples import SAMPLE_RATE
from errors import AudioError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_SAMPLES = 480  # 0.03 s: one audio token; the encoder has nothing to pool in a shorter clip
STDIN = "-"

_SHORT = 4 << 20  # bytes of a file that may be read at once
_STEPS = 32_768  # 16-bit steps between 0 and full scale
_LOUDEST = 32.0  # of full scale: no mix is louder, and 16-bit steps as floats nearly always are


def load_waveform(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read the sound of any file that FFmpeg reads, or standard input for ``-``, of any rate and number of channels.

    Returns float32 [samples]: mono at 16 kHz, each sample n / 32768 with n a 16-bit integer. A clip shorter than
    ``MIN_SAMPLES`` is returned as it is; one with zero samples is an error.

    Raises AudioError, with the name and the fix, if the file is missing, unreadable, empty, no sound, damaged or cut
    short, or has samples that are no sound. Streams of unknown length are read to the end.
    """
    return np.concatenate(list(stream_waveform(path)))


def stream_waveform(path: str | os.PathLike[str], notes: list[str] | None = None) -> Iterator[NDArray[np.float32]]:
    """Read what ``load_waveform`` reads in blocks, float32 [samples] each, which joined are its waveform to the bit.

    A short file is one block, others come in blocks of about 2 s. The memory does not grow with the length of a file; a
    pipe and standard input are held whole, as the bytes they are. Remarks for the user are added to ``notes``.

    Raises the same AudioError, from the first block on: what is cut or damaged may show after the last block only, and
    the blocks before it must then not be answered as if they were the recording. The file stays open until the end.
    """
    name, empty = "standard input" if path == STDIN else os.fspath(path) or "''", True
    notes = [] if notes is None else notes
    with _open(path, name) as file:
        size = file.seek(0, os.SEEK_END)
        for steps in _decode(file, name, notes):
            empty = empty and not len(steps)
            yield steps.astype(np.float32) / np.float32(_STEPS)
        if file.seek(0, os.SEEK_END) > size:
            notes.append(f"{name}: it grew while it was read; its end may be missing")
    if empty:
        fix = f"give a recording of at least {MIN_SAMPLES / SAMPLE_RATE} s"
        raise AudioError(f"{name}: no samples in it", fix, kind="empty")


def as_waveform(sound: str | os.PathLike[str] | NDArray[np.float32]) -> NDArray[np.float32]:
    """A file, or what is a waveform already, as float32 [samples] that are enough to be heard; raises AudioError."""
    if isinstance(sound, str | os.PathLike):
        return check_length(load_waveform(sound), os.fspath(sound))
    _check_array(sound)
    return check_length(sound, "the waveform")


def _check_array(sound: object) -> None:
    """Raise AudioError for what Python code gives and is no waveform: it would be answered, and wrongly."""
    if not isinstance(sound, np.ndarray):
        fix = "give a file name or a float32 array at 16 kHz, and several sounds one after the other"
        raise AudioError(f"{type(sound).__name__}: no sound", fix)
    if sound.ndim != 1 or not np.issubdtype(sound.dtype, np.floating):
        fix = "give float32 [samples]: the mean of the channels, and int16 divided by 32768"
        raise AudioError(f"the waveform: {sound.dtype} {list(sound.shape)}", fix)
    peak = max(float(sound.max()), -float(sound.min())) if sound.size else 0.0
    if not peak <= _LOUDEST:  # NaN is not
        fix = f"give finite samples, of which full scale is 1; divide by {_STEPS} what was 16-bit"
        raise AudioError(f"the waveform: samples up to {peak:.3g}", fix, kind="damaged")


def check_length(waveform: NDArray[np.float32], path: str) -> NDArray[np.float32]:
    """Pass a waveform on that is long enough to be heard; raises AudioError for one under ``MIN_SAMPLES``."""
    if len(waveform) < MIN_SAMPLES:
        seconds = f"{len(waveform) / SAMPLE_RATE:.4f} s is too short to be heard"
        fix = f"give a recording of at least {MIN_SAMPLES / SAMPLE_RATE} s"
        raise AudioError(f"{path}: {seconds}", fix, kind="too short")
    return waveform


def _decode(file: BinaryIO, name: str, notes: list[str]) -> Iterator[NDArray[np.int16]]:
    """16-bit steps, int16 [samples] a block."""
    if file.seek(0, os.SEEK_END) <= _SHORT:
        from audio_encoder.pcm import read_pcm

        file.seek(0)
        whole = read_pcm(file.read(), name)
        if whole is not None:
            yield whole
            return
    from audio_encoder.media import stream_media

    yield from stream_media(file, name, notes)


def _open(path: str | os.PathLike[str], name: str) -> BinaryIO:
    """Open a file, a pipe or standard input as bytes that can be sought in."""
    try:
        if path == STDIN:
            return _not_empty(io.BytesIO(sys.stdin.buffer.read()), name)
        file = open(path, "rb")  # noqa: PTH123, SIM115 - the caller closes it; Path("") would be "."
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and file.read(1):
            file.close()
            raise AudioError(
                f"{name}: a device, which may have no end", "record some of it to a file", kind="unreadable"
            )
        if file.seekable():
            return _not_empty(file, name)
        with file:
            return _not_empty(io.BytesIO(file.read()), name)
    except FileNotFoundError:
        said, mend = absence(name)
        raise AudioError(f"{name}: {said}", mend, kind="missing") from None
    except IsADirectoryError:
        raise AudioError(f"{name}: this is a folder", fix="give a sound file", kind="folder") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason, fix = getattr(error, "strerror", None) or error, "check the path and its permissions"
        raise AudioError(f"{name}: cannot be read ({reason})", fix, kind="unreadable") from None


def _not_empty(file: BinaryIO, name: str) -> BinaryIO:
    if not file.read(1):  # a file that opens may still refuse to be read
        file.close()
        raise AudioError(f"{name}: the file is empty", fix="record or copy it again", kind="empty")
    return file
