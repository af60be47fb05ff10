"""Short WAV and FLAC files at 16 kHz -> 16-bit steps, through soundfile, which is loaded in a fifth of FFmpeg's time.

Only what is certain goes this way: a file whose header agrees with all that is there. Everything else is for `media`.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from audio_encoder.samples import GROUP_SECONDS, SAMPLE_RATE, cancel_out, check_samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_WHOLE_STEPS = ("PCM_16", "PCM_S8", "PCM_U8", "ULAW", "ALAW")  # what ffmpeg mixes as 16-bit integers
_CUT = ("PCM_24", "PCM_32")  # of one channel, ffmpeg cuts the lower bits off
_SUBTYPES = (*_WHOLE_STEPS, *_CUT, "FLOAT", "DOUBLE")
_PCM_TAGS = (b"\1\0", b"\3\0", b"\6\0", b"\7\0")  # integers, floating point, A-law, mu-law
_BLOCK = 1 << 16  # frames
_LONGEST = 1 << 22  # frames that are held at once
_UNCOUNTED = -1  # frames: a WAV file has as many as it has bytes
_STEPS = 32_768  # 16-bit steps between 0 and full scale


class Forward(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is read from start to end: soundfile seeks after each read otherwise, which a stream cannot."""

    def seekable(self) -> bool:
        """Never."""
        return False


def read_pcm(data: bytes, name: str) -> NDArray[np.int16] | None:
    """The whole of a short file: int16 [samples], mono, 16 kHz; None for one that is not as simple as that.

    Raises AudioError for samples that are no sound.
    """
    if data[:4] == b"fLaC":
        promised, data = _flac_frames(data)
    elif data[:4] == b"RIFF" and _is_tidy(data):
        promised = _UNCOUNTED
    else:
        return None
    try:
        with Forward(io.BytesIO(data)) as sound:
            if sound.samplerate != SAMPLE_RATE or sound.subtype not in _SUBTYPES or sound.channels > 2:
                return None
            samples = _all(sound)  # float64 [frames, channels]
            if len(samples) > _LONGEST or promised not in (len(samples), _UNCOUNTED):
                return None
            check_samples(samples, name)
            return _mixed(samples, sound)
    except (soundfile.SoundFileError, ValueError):
        return None


def _flac_frames(data: bytes) -> tuple[int, bytes]:
    """How many frames STREAMINFO counts, and the file without that number: libsndfile would stop there."""
    if len(data) < 26:
        return 0, data
    first, rest = struct.unpack(">BI", data[21:26])  # 36 bits, the first four in the lower half of a byte
    return (first & 0xF) << 32 | rest, data[:21] + bytes([first & 0xF0, 0, 0, 0, 0]) + data[26:]


def _is_tidy(data: bytes) -> bool:
    """Whether the chunks of a WAV file fill it to its end, one has the samples, and they are PCM.

    libmpg123 prints on stderr, and libsndfile reads the first of several.
    """
    position, is_pcm, count = 12, False, 0
    while position + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[position : position + 8])
        position += 8
        if kind == b"fmt ":
            tags = data[position : position + 2], data[position + 24 : position + 26]  # extensible: the second one
            is_pcm = tags[tags[0] == b"\xfe\xff"] in _PCM_TAGS
        count += kind == b"data"
        position += length + length % 2
    return is_pcm and count == 1 and position - len(data) in (0, 1)


def _all(sound: Any) -> NDArray[np.float64]:
    """All samples, or a few more than ``_LONGEST``: a small FLAC file may hold days of silence."""
    blocks, size, count = [np.zeros((0, sound.channels))], min(_BLOCK, max(sound.frames, 1)), 0
    while count <= _LONGEST and len(block := sound.read(size, dtype="float64", always_2d=True)):
        blocks.append(block)
        count += len(block)
    return np.concatenate(blocks)


def _groups(samples: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    """The samples [frames, channels] in the lengths in which others are mixed: channels may cancel out in some only."""
    size = GROUP_SECONDS * SAMPLE_RATE
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _mixed(samples: NDArray[np.float64], sound: Any) -> NDArray[np.int16] | None:
    """Mix and round to 16-bit steps as ffmpeg does: each way of arriving there has its own rule."""
    steps = samples.mean(axis=1) * _STEPS
    if sound.channels > 1 and any(cancel_out(*group.T) for group in _groups(samples)):
        return None
    if sound.subtype in _WHOLE_STEPS:
        steps = np.floor(steps + 0.5)  # integer mixing: halves go up
    else:
        is_cut = sound.subtype in _CUT and sound.channels == 1
        steps = np.floor(steps) if is_cut else np.rint(steps)  # from floating point: halves go to even
    mixed: NDArray[np.int16] = steps.clip(-_STEPS, _STEPS - 1).astype(np.int16)
    return mixed
