"""The record of one answer, and how it is shown: as text while it is decoded, or as one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

STAGES = ("load_s", "audio_s", "encode_s", "prefill_s", "decode_s")


@dataclass(frozen=True)
class Audio:
    """A sound of the prompt: its length in seconds and how much of it the model heard."""

    path: str
    seconds: float
    seconds_used: float


@dataclass
class Answer:
    """One answer as it comes into being; `timings` in seconds by stage."""

    input: list[str]
    prompt: str
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int = 0
    audio: list[Audio] = field(default_factory=list)
    timings: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.timings[stage] += time.perf_counter() - start

    def clocked(self, ids: Iterator[int]) -> Iterator[int]:
        """Pass ids on, keeping them; the first `next` is the prefill, the others are decoding."""
        stage = "prefill_s"
        while True:
            with self.timed(stage):
                new_id = next(ids, None)
            if new_id is None:
                return
            self.token_ids.append(new_id)
            yield new_id
            stage = "decode_s"

    def as_json(self, *, model: str | None, backend: str | None, error: str | None = None) -> str:
        """One line: `status` is ok, or error and then `error` says why."""
        record: dict[str, Any] = {"status": "error" if error else "ok", **asdict(self)}
        record["input"] = self.input[0] if len(self.input) == 1 else self.input
        record |= {"model": model, "backend": backend, "timings": record.pop("timings")}
        record["timings"] = {stage: round(seconds, 4) for stage, seconds in record["timings"].items()}
        if error:
            record["error"] = error
        # A file name that is no valid UTF-8 must not break the line for the program that reads it.
        return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")


def show_piece(piece: str) -> None:
    """A piece of the answer on standard output, at once."""
    sys.stdout.write(piece)
    sys.stdout.flush()


def say(message: str, *, quiet: bool = False) -> None:
    """One line on standard error."""
    if not quiet:
        print(f"qwen_audio: {message}", file=sys.stderr, flush=True)


def save_text(path: Path, lines: list[str]) -> None:
    """Write the answers to a file, whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    temporary.replace(path)
