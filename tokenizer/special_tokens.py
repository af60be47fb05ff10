"""The special tokens of Qwen-Audio, in id order; the first id is the number of byte-pair ranks.

With the real vocabulary <|endoftext|> is 151643 and </audio> is 155164. Only the strings are known here.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ENDOFTEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
AUDIO_START = "<audio>"
AUDIO_PAD = "[[[AUDIO:modality]]]"
AUDIO_END = "</audio>"

_EXTRAS = 205
_LAST_TIMESTAMP = 3_000  # hundredths of a second: 30.00 s
_MIDI_STEPS = 128

_SPEECH = "startoftranscript startofanalysis translate transcribe caption keyword unknown en zh de es ko fr ja it zh_tr"
_TIMING = "notimestamps sil timestamps"
_TAGGING = (
    "caption_audiocaps caption_clotho audioset_ontology caption_plain itn wo_itn startofentityvalue endofentityvalue "
    "startofentitytype endofentitytype named_entity_recognition audio_grounding startofword endofword delim "
    "emotion_recognition music_description note_analysis pitch"
)
_ANSWERING = (
    "sonic instrument speaker_meta song_meta question answer choice scene event vocal_classification "
    "speech_understanding scenario action entities speech_edit"
)


@cache
def control_tokens() -> tuple[str, ...]:
    """Give the 208 tokens that steer the model or mean nothing: what a user types must never become one of them."""
    return (ENDOFTEXT, IM_START, IM_END, *_tags(f"extra_{i}" for i in range(_EXTRAS)))


@cache
def audio_tokens() -> tuple[str, ...]:
    """Give the 3,314 tokens of the audio family: tasks, languages, timestamps, MIDI, and the place of a clip."""
    return (
        AUDIO_PAD,
        *_tags(_SPEECH.split()),
        *_tags(_TIMING.split()),
        *_tags(f"{i / 100:.2f}" for i in range(_LAST_TIMESTAMP + 1)),
        *_tags(_TAGGING.split()),
        *_tags(f"midi_pitch_{i}" for i in range(_MIDI_STEPS)),
        *_tags(["velocity"]),
        *_tags(f"midi_velocity_{i}" for i in range(_MIDI_STEPS)),
        *_tags(_ANSWERING.split()),
        AUDIO_START,
        AUDIO_END,
    )


def special_tokens() -> tuple[str, ...]:
    """Give all 3,522 in id order: the control tokens, then the audio family."""
    return control_tokens() + audio_tokens()


def _tags(names: Iterable[str]) -> Iterator[str]:
    return (f"<|{name}|>" for name in names)
