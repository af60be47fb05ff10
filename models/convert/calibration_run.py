"""One calibration from its set to the figure of what is lost, in a folder that outlives a run that was killed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.convert.calibrate import Calibration, Progress, Sequences
from models.convert.calibration_set import CalibrationSet, Example, embed_clips
from models.convert.checkpoint import Checkpoint, Float32
from models.convert.loss import Loss, measure
from models.convert.residual_rotation import RotatedCheckpoint
from models.manifest import Manifest

KEY = "key.txt"


def open_room(room: Path, checkpoint: Checkpoint, examples: CalibrationSet, version: str) -> None:
    """Make the folder of a calibration; what lies in it stays if it is of the same work, and else is removed."""
    digest = hashlib.sha256(version.encode())
    digest.update(json.dumps(checkpoint.config, sort_keys=True).encode())
    for file in sorted(checkpoint.directory.glob("*.safetensors")):
        digest.update(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode())
    for one in (*examples.seen, b"", *examples.held_out):
        if isinstance(one, Example):
            digest.update(np.array(one.ids, np.int64).tobytes() + (one.mel[0].tobytes() if one.mel else b""))
        digest.update(b"|")
    if not (room / KEY).exists() or (room / KEY).read_text() != digest.hexdigest():
        shutil.rmtree(room, ignore_errors=True)
        room.mkdir(parents=True)
        (room / KEY).write_text(digest.hexdigest())


def calibrate(calibration: Calibration, examples: CalibrationSet, encoder: Manifest, progress: Progress) -> Loss:
    """Round all matrices; returns what that loses on the held-out sequences."""
    every = [*examples.seen, *examples.held_out]
    stream = embeddings(calibration.checkpoint, [one for example in every for one in example.ids], calibration)
    start = 0
    for example, clip in zip(every, embed_clips(encoder, every), strict=True):
        if clip is not None:
            at = start + example.ids.index(calibration.sizes.audio_start)
            stream[at : at + len(clip)] = clip
        start += len(example.ids)
    stream = calibration.checkpoint.stream.rows(stream)
    sequences = Sequences(examples.lengths, examples.roots(), examples.probes())
    exact = calibration.run(stream, sequences, progress)
    return measure(calibration, stream[sequences.seen :], examples.held_out, exact)


def embeddings(checkpoint: RotatedCheckpoint, ids: Sequence[int], calibration: Calibration) -> Float32:
    """The rows of the embedding table for these ids [tokens, d_model]; the table is never in memory as a whole."""
    n, d = calibration.sizes.vocab_size, calibration.sizes.d_model
    wanted, found, start = np.asarray(ids), np.empty((len(ids), d), np.float32), 0
    for rows in checkpoint.look_up("transformer.wte.weight", n, d).rows():
        here = np.flatnonzero((wanted >= start) & (wanted < start + len(rows)))
        found[here] = rows[wanted[here] - start]
        start += len(rows)
    return found
