"""`python3 -m models.nano.train.whisper_labels FEATURES RECORDINGS --whisper DIR`: texts as Whisper base writes them.

Capitals and marks for read English whose transcript has none, and the words of spoken orders that have no transcript.
FEATURES/written.jsonl gets a line for each recording: `id`, and `written` where Whisper understood it.
A text is kept where its words are those of the transcript, or, where there is none, where Whisper was sure of it. It
goes on where it was cut off. DIR: Whisper base as a CTranslate2 folder; needs faster-whisper.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from models.nano.train.corpus import WRITTEN
from models.nano.train.recordings import recordings, spoken, training

SOURCES = ("speech_to_intent", "librispeech_more", "librispeech", "speechocean762")
SURE = -0.45  # mean log-probability of the tokens of a text without a transcript, at least
PLAIN = re.compile(r"[A-Za-z][A-Za-z ,.;:!?'-]+")  # no digits: how they were said is not known


def usable(row: dict[str, Any], written: str, certainty: float) -> bool:
    """Whether what Whisper wrote may stand for what is said in a recording."""
    if not PLAIN.fullmatch(written):
        return False
    if row.get("text"):
        return spoken(written) == row["text"]
    return certainty >= SURE and len(written.split()) > 2


def hear(model: Any, waveform: NDArray[np.float32], **options: Any) -> tuple[str, float]:
    """What Whisper writes, and the mean log-probability of the tokens that it was least sure of."""
    segments, _ = model.transcribe(waveform, language="en", beam_size=1, without_timestamps=True, **options)
    found = list(segments)
    text = " ".join(segment.text.strip() for segment in found)
    return text, min((segment.avg_logprob for segment in found), default=-9.0)


def main(argv: list[str] | None = None) -> int:
    """Transcribe what is left, in an order of its own so that a part is a fair one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("features", type=Path, metavar="FEATURES")
    parser.add_argument("recordings", type=Path, metavar="RECORDINGS")
    parser.add_argument("--whisper", required=True, metavar="DIR")
    options = parser.parse_args(argv)
    from faster_whisper import WhisperModel

    model = WhisperModel(options.whisper, device="cpu", compute_type="int8", cpu_threads=1)
    rows = [row for row in training(recordings(options.recordings)) if row["source"] in SOURCES]
    random.Random(0).shuffle(rows)  # noqa: S311
    rows.sort(key=lambda row: SOURCES.index(row["source"]))
    out = options.features / WRITTEN
    seen = {json.loads(line)["id"] for line in out.read_text().splitlines()} if out.exists() else set()
    with out.open("a", encoding="utf-8") as file:
        for row in rows:
            if row["id"] in seen:
                continue
            text, certainty = hear(model, load_waveform(row["audio"]))
            kept = {"written": text} if usable(row, text, certainty) else {}
            file.write(json.dumps({"id": row["id"], **kept}, ensure_ascii=False) + "\n")
            file.flush()
    print(out, file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
