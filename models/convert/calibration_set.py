"""What a model is calibrated on: texts and clips in its own words, as ids and log-mels.

In: the vocabulary of a checkpoint, whether it chats, and, in place of the set that ships in `calibration/`, files of
the user's. Out: sequences of ids, those with a clip with its log-mel. The program's own prompts, tokenizer and log-mel
are used, so that calibration sees what the model will see. What the loss is measured on rounds nothing.

A model that listens meets sound in every prompt, and a set has far more words than sound. So clips count more: all
together at most as much as all texts, and at least a quarter of that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_encoder.encoder import AudioEncoder, audio_token_count
from audio_encoder.log_mel import log_mel_spectrogram
from audio_encoder.waveform import load_waveform
from errors import ModelError
from models.convert.checkpoint import Float32
from models.manifest import Manifest
from tokenizer.chat import Turn, encode_base, encode_chat
from tokenizer.tokenizer import Tokenizer

SHIPPED = Path(__file__).parent / "calibration"
ROOT = Path(__file__).parents[2]  # what the clips of the dialogues are relative to
LENGTH, SHORTEST = 512, 32  # ids of a sequence; a shorter rest of a text is left out
QUESTION = "what is that sound?"  # about a sound of the user's
HELD_OUT = 8  # of so many sequences of the user's, the last measures
PROBE = 256  # tokens of a sequence, at most, on which the effect of one rounded matrix is measured


@dataclass(frozen=True)
class Example:
    """A sequence: its ids and, if there is a clip in it, its log-mel [n_mels, 3000] and frames of sound.

    `answer` is the number of ids at the end that answer; with 0 there is no answer.
    """

    ids: list[int]
    mel: tuple[Float32, int] | None = None
    answer: int = 0

    def measured(self) -> NDArray[np.bool_]:
        """Behind which ids [tokens] it is measured what rounding loses: of a text all, of a clip where it is answered.

        Where no answer is known that is at its first id. What would follow the ids of a sound means nothing.
        """
        first = len(self.ids) - 1 - self.answer
        found = np.ones(len(self.ids), bool)
        if self.mel:
            found[:first] = found[first + max(1, self.answer) :] = False
        return found


@dataclass(frozen=True)
class CalibrationSet:
    """Sequences to round by, and sequences to measure what is lost; they share no text."""

    seen: tuple[Example, ...]
    held_out: tuple[Example, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Ids of each sequence, those that are held out last."""
        return tuple(len(one.ids) for one in (*self.seen, *self.held_out))

    def roots(self) -> Float32:
        """The root of how much each token of `seen` counts [tokens]: a power of two, so nothing is lost by it."""
        texts, clips = (sum(len(one.ids) for one in self.seen if bool(one.mel) is kind) for kind in (False, True))
        root = 2.0 ** max(0, math.floor(math.log2(texts / clips) / 2)) if texts and clips else 1.0
        return np.concatenate([np.full(len(one.ids), root if one.mel else 1, np.float32) for one in self.seen])

    def probes(self) -> tuple[slice, ...]:
        """Where the tokens are, among those of all sequences, on which matrices are tried: a text's and a clip's."""
        found: dict[bool, slice] = {}
        stop = sum(self.lengths)
        for one in reversed(self.held_out):
            start = stop - len(one.ids)
            found.setdefault(one.mel is None, slice(start, min(start + PROBE, stop)))
            stop = start
        return tuple(found.values())


def load_set(vocabulary: Path, *, chat: bool, longest: int, files: Sequence[Path] = ()) -> CalibrationSet:
    """The set that ships, or `files`: sounds, and texts in UTF-8. Sequences have at most `longest` ids.

    Raises ModelError for a file that is neither, or when there is too little to hold some of it out.
    """
    tokenizer, length = Tokenizer(vocabulary), min(LENGTH, longest)
    if files:
        examples = [one for path in files for one in _of_file(tokenizer, path, chat=chat, length=length)]
        count = max(1, len(examples) // HELD_OUT)
        if len(examples) < 2:
            raise ModelError("--calibration: too little for a calibration", fix=f"give at least {2 * SHORTEST} words")
        return CalibrationSet(tuple(examples[:-count]), tuple(examples[-count:]))
    seen, held_out = (
        tuple(one for one in _shipped(tokenizer, folder, chat=chat, length=length) if len(one.ids) <= longest)
        for folder in (SHIPPED, SHIPPED / "held_out")
    )
    return CalibrationSet(seen, held_out)


def _shipped(tokenizer: Tokenizer, folder: Path, *, chat: bool, length: int) -> Iterator[Example]:
    """The texts of a folder, then its questions about clips, those with "raw" as the base model is asked."""
    for path in sorted(folder.glob("*.txt")):
        yield from _of_file(tokenizer, path, chat=chat, length=length)
    for one in json.loads((folder / "dialogues.json").read_text(encoding="utf-8")):
        is_chat = chat and not one.get("raw")
        yield _about(tokenizer, ROOT / one["audio"], one["prompt"], one["text"], chat=is_chat)


def _of_file(tokenizer: Tokenizer, path: Path, *, chat: bool, length: int) -> Iterator[Example]:
    """A text in pieces of `length` ids, or a sound with a question."""
    try:
        data = path.read_bytes()
        text = "" if b"\0" in data[:4096] else data.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    if not text:
        yield _about(tokenizer, path, QUESTION, "", chat=chat)
        return
    ids = tokenizer.encode(text, special="audio")
    for start in range(0, len(ids), length):
        piece = ids[start : start + length]
        if len(piece) >= min(SHORTEST, length):
            yield Example(piece)


def _about(tokenizer: Tokenizer, path: Path, prompt: str, text: str, *, chat: bool) -> Example:
    """A question about a sound and its answer; raises what a sound that cannot be read raises."""
    mel = log_mel_spectrogram(load_waveform(path))
    span = audio_token_count(mel[1]) + 2
    if chat:
        ids = encode_chat(tokenizer, [Turn(prompt, audio_spans=(span,))])
    else:
        ids = encode_base(tokenizer, prompt, audio_spans=(span,))
    answer = [*tokenizer.encode(text), tokenizer.im_end] if text else []
    return Example([*ids, *answer], mel, len(answer))


def embed_clips(encoder: Manifest, examples: Sequence[Example]) -> list[Float32 | None]:
    """The embeddings [span, d_model] of each example's clip, by the encoder of this model, or None."""
    opened = AudioEncoder(encoder) if any(one.mel for one in examples) else None
    return [opened.encode([one.mel])[0] if opened and one.mel else None for one in examples]
