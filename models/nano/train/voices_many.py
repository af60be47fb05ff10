"""`python3 -m models.nano.train.voices_many OUT --snapshots DIR --recordings RECORDINGS --whisper CT2`: many people.

Read English of small sets, mostly a few clips of each speaker, from git snapshots (DIR/OWNER+NAME/repo) of the
repositories that `voices_sets` names. OUT gets `meta.jsonl` and 16 kHz FLAC files, so that `features --recordings OUT`
reads it. Texts that are not sure are compared with what Whisper base hears; where there is none, Whisper's stands if it
was sure. CT2 is its CTranslate2 folder; without it such clips are left out. It goes on where it was cut off. Speakers
that are held out, and texts with digits, are left out.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from errors import AudioError
from models.nano.train.recordings import NUMBERS, spoken
from models.nano.train.voices import RATE, Snapshot, add_line, decoded, lines_so_far, save, speakers_held_out
from models.nano.train.voices_sets import SETS, Reading, Set
from models.nano.train.whisper_labels import hear, usable

Ear = Callable[[NDArray[np.float32]], tuple[str, float]]  # samples -> what is heard, how sure that is

SHORTEST, LONGEST = 0.9, 25.0  # seconds
SILENT = 0.003  # no sample beyond it


def ear(whisper: str) -> Ear:
    """Whisper base without the tokens of digits: it then writes numbers as they are said."""
    from faster_whisper import WhisperModel

    model = WhisperModel(whisper, device="cpu", compute_type="int8", cpu_threads=1)
    pieces = model.hf_tokenizer.get_vocab().items()
    digits = [token for piece, token in pieces if re.search("[0-9]", piece) and not piece.startswith("<|")]
    return partial(hear, model, suppress_tokens=[-1, *digits])


def text_of(reading: Reading, waveform: NDArray[np.float32], listen: Ear | None) -> str | None:
    """What is said, None where that is in doubt."""
    if reading.text and not reading.alike:
        return reading.text
    if listen is None:
        return None
    heard, certainty = listen(waveform)
    if reading.text is None:
        return heard if usable({}, heard, certainty) else None
    words = SequenceMatcher(None, spoken(reading.text).split(), spoken(heard).split(), autojunk=False)
    return reading.text if words.ratio() >= reading.alike else None


def rows(
    out: Path, one: Set, snapshot: Snapshot, *, held_out: set[str], there: set[str], listen: Ear | None
) -> Iterator[dict[str, Any]]:
    """Each clip of a set as FLAC, and its line, except speakers that are held out and sounds that are there."""
    for reading in one.readings(snapshot):
        audio = f"{one.source}/{reading.name}.flac"
        if audio in there or reading.speaker in held_out or NUMBERS.search(reading.text or ""):
            continue
        try:
            waveform = decoded(reading.sound(), ".wav")
        except AudioError as error:
            print(error, file=sys.stderr)
            continue
        if not SHORTEST <= len(waveform) / RATE <= LONGEST or np.abs(waveform).max() < SILENT:
            continue
        if text := text_of(reading, waveform, listen):
            save(out / audio, waveform)
            row: dict[str, Any] = {"audio": audio, "text": spoken(text)} | ({"written": text} if one.written else {})
            row |= {"speaker": reading.speaker, "source": snapshot.source, "licence": one.licence}
            row["labels"] = {"gender": reading.gender} if reading.gender else {}
            yield row | {"language": "en", "seconds": round(len(waveform) / RATE, 3)}


def main(argv: list[str] | None = None) -> int:
    """All sets, or those that are named, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--snapshots", type=Path, required=True, metavar="DIR")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR", help="for the speakers held out")
    parser.add_argument("--whisper", metavar="CT2", help="Whisper base, for texts that are in doubt")
    parser.add_argument("--only", nargs="+", choices=sorted({one.source for one in SETS}), metavar="SET")
    options = parser.parse_args(argv)
    listen = ear(options.whisper) if options.whisper else None
    held_out, found = speakers_held_out(options.recordings), lines_so_far(options.out)
    there = {row["audio"] for row in found}
    for one in SETS:
        if options.only and one.source not in options.only:
            continue
        snapshot = Snapshot(options.snapshots / one.repository.replace("/", "+") / "repo", one.commit)
        for row in rows(options.out, one, snapshot, held_out=held_out, there=there, listen=listen):
            add_line(options.out, row)
            found.append(row)
            there.add(row["audio"])
        print(f"{one.source}, {one.repository}: {len(found)} clips so far", file=sys.stderr)
    print(f"{len(found)} clips, {sum(row['seconds'] for row in found) / 3600:.2f} h")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
