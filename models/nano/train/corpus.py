"""What `features` and `scenes` made, as a list of clips: labels, and features read from disk when wanted."""

from __future__ import annotations

import json
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.nano.train.recordings import spoken

TOKEN_SECONDS = 0.04
WRITTEN = "written.jsonl"  # beside the shards
LIKELY = ".likely.json"  # the suffix of what `likely` makes of a shard
LONGEST = {"word": 0.4, "letter": 0.12}  # seconds of one word, and more for each of its letters


@dataclass(frozen=True)
class Clip:
    """One clip in one of its variants: `labels` as in recordings.py, `tokens` of features from `first` on."""

    shard: Path
    first: int
    tokens: int
    labels: dict[str, Any]

    @property
    def features(self) -> NDArray[np.float16]:
        """[tokens, state]."""
        return _shard(self.shard)[self.first : self.first + self.tokens]

    def get(self, name: str) -> Any:
        """One label, None where it is not known."""
        return self.labels.get(name)


@lru_cache(maxsize=512)
def _shard(path: Path) -> NDArray[np.float16]:
    return np.load(path, mmap_mode="r", allow_pickle=False)


def load(folders: Sequence[Path]) -> list[Clip]:
    """All clips of all whole shards, with what `align`, `likely` and `whisper_labels` found."""
    clips = []
    for folder in folders:
        for index in sorted(folder.glob("*-*.jsonl")):
            found, likely = (_found(index.with_suffix(suffix)) for suffix in (".words.json", LIKELY))
            for number, clip in enumerate(read_shard(index)):
                if str(number) in found and plausible(str(clip.get("text")), found[str(number)]):
                    clip.labels["words"] = found[str(number)]
                if str(number) in likely:
                    clip.labels["likely"] = likely[str(number)]
                if clip.tokens >= 2:
                    clips.append(clip)
    return clips


def _found(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


@lru_cache(maxsize=8)
def written_texts(path: Path) -> dict[str, str]:
    """Text by the id of the recording; of a file in xz, too."""
    data = path.read_bytes() if path.exists() else b""
    lines = (lzma.decompress(data) if path.suffix == ".xz" else data).decode("utf-8").splitlines()
    return {row["id"]: row["written"] for row in map(json.loads, lines) if "written" in row}


def plausible(text: str, times: Sequence[Sequence[float]]) -> bool:
    """Whether no word lasts longer than people draw it out."""
    words = zip(text.split(), times, strict=True)
    return all(end - start <= LONGEST["word"] + LONGEST["letter"] * len(word) for word, (start, end) in words)


def read_shard(index: Path) -> list[Clip]:
    """The clips of one shard, in order, with the texts of `whisper_labels`."""
    clips = []
    texts = written_texts(index.with_name(WRITTEN))
    for line in index.read_text(encoding="utf-8").splitlines():
        labels = json.loads(line)
        first, tokens = labels.pop("first"), labels.pop("tokens")
        if (text := texts.get(labels.get("id"))) is not None:
            labels = {"text": spoken(text), "written": text} | labels
        clips.append(Clip(index.with_suffix(".npy"), first, tokens, labels))
    return clips
