"""What a model is calibrated on: texts and clips in its own words, as ids and log-mels.

In: the vocabulary of a checkpoint, whether it chats, and, in place of the set that ships in `calibration/`, files of
the user's. Out: sequences of ids, those with a clip with its log-mel. The program's own prompts, tokenizer and log-mel
are used, so that calibration sees what the model will see. What the loss is measured on rounds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class Example:
    """A sequence: its ids and, if there is a clip in it, its log-mel [n_mels, 3000] and frames of sound."""

    ids: list[int]
    mel: tuple[Float32, int] | None = None


@dataclass(frozen=True)
class CalibrationSet:
    """Sequences to round by, and sequences to measure what is lost; they share no text."""

    seen: tuple[Example, ...]
    held_out: tuple[Example, ...]


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
        [one for path in sorted(folder.glob("*.txt")) for one in _of_file(tokenizer, path, chat=chat, length=length)]
        for folder in (SHIPPED, SHIPPED / "held_out")
    )
    for dialogue in json.loads((SHIPPED / "dialogues.json").read_text(encoding="utf-8")):
        path = ROOT / dialogue["audio"]
        seen.append(_about(tokenizer, path, dialogue["prompt"], dialogue["text"], chat=chat))
    return CalibrationSet(tuple(one for one in seen if len(one.ids) <= longest), tuple(held_out))


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
    return Example([*ids, *tokenizer.encode(text), tokenizer.im_end], mel)


def embed_clips(encoder: Manifest, examples: Sequence[Example]) -> list[Float32 | None]:
    """The embeddings [span, d_model] of each example's clip, by the encoder of this model, or None."""
    opened = AudioEncoder(encoder) if any(one.mel for one in examples) else None
    return [opened.encode([one.mel])[0] if opened and one.mel else None for one in examples]
