"""flite 2.2 through ctypes: American and Scottish diphone and statistical voices, with times from the utterance."""

import ctypes
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.nano.train.utterance import Utterance, Voice, finish, from_segments

TOKEN = b"R:SylStructure.parent.parent.R:Token.parent"  # from a segment to the token it belongs to


@dataclass(frozen=True)
class _Speaker:
    voice: Voice
    f0: float  # Hz, the speaker's own mean
    stretch: float  # of durations, the speaker's own


SPEAKERS = (
    _Speaker(Voice("flite", "kal", "en", "man", "seen"), 105, 1.05),  # diphones at 8 kHz
    _Speaker(Voice("flite", "kal16", "en", "man", "seen"), 105, 1.05),
    _Speaker(Voice("flite", "awb", "en", "man", "seen"), 130, 1.05),
    _Speaker(Voice("flite", "rms", "en", "man", "seen"), 97, 0.9),
    _Speaker(Voice("flite", "slt", "en", "woman", "other"), 175, 1.05),
)


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))  # the head of cst_voice


_P, _S, _F = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_float
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {  # name: result, arguments
    "flite_synth_text": (_P, [_S, _P]),
    "flite_feat_set_float": (None, [_P, _S, _F]),
    "utt_relation": (_P, [_P, _S]),
    "utt_wave": (ctypes.POINTER(_Wave), [_P]),
    "delete_utterance": (None, [_P]),
    "relation_head": (_P, [_P]),
    "item_next": (_P, [_P]),
    "item_feat_float": (_F, [_P, _S]),
    "item_feat_string": (_S, [_P, _S]),
    "path_to_item": (_P, [_P, _S]),
}


def voices() -> list[Voice]:
    return [speaker.voice for speaker in SPEAKERS]


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libflite.so.1", mode=ctypes.RTLD_GLOBAL)
    for name in ("usenglish", "cmulex"):
        ctypes.CDLL(f"libflite_{name}.so.1", mode=ctypes.RTLD_GLOBAL)
    library.flite_init()
    for name, (result, arguments) in _FUNCTIONS.items():
        function = library[name]
        function.restype, function.argtypes = result, arguments  # type: ignore[assignment]
        setattr(library, name, function)
    return library


@lru_cache(maxsize=8)
def _voice(name: str) -> tuple[int, int]:
    """Addresses of the voice and of its features."""
    _library()
    register = ctypes.CDLL(f"libflite_cmu_us_{name}.so.1", mode=ctypes.RTLD_GLOBAL)[f"register_cmu_us_{name}"]
    register.restype, register.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = int(register(None))
    return address, int(_Voice.from_address(address).features)


def speak(text: str, voice: Voice, rng: random.Random, slower: float = 1.0) -> Utterance:
    speaker = next(speaker for speaker in SPEAKERS if speaker.voice.name == voice.name)
    library, (address, features) = _library(), _voice(voice.name)
    pitch = min(1.2, max(0.83, rng.gauss(1.0, 0.09)))
    stretch = min(1.3, max(0.75, rng.gauss(1.0, 0.12))) * slower
    library.flite_feat_set_float(features, b"int_f0_target_mean", pitch * speaker.f0)
    library.flite_feat_set_float(features, b"duration_stretch", stretch * speaker.stretch)
    utterance = library.flite_synth_text(text.encode("ascii"), address)
    try:
        wave = library.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).copy()
        words, phones = from_segments(_segments(library, utterance), text.split())
        return finish(samples, wave.sample_rate, words, phones)
    finally:
        library.delete_utterance(utterance)


def _items(library: ctypes.CDLL, utterance: int, relation: bytes) -> Iterator[int]:
    item = library.relation_head(library.utt_relation(utterance, relation))
    while item:
        yield item
        item = library.item_next(item)


def _segments(library: ctypes.CDLL, utterance: int) -> list[tuple[str, float, int | None]]:
    index_of = {item: index for index, item in enumerate(_items(library, utterance, b"Token"))}
    return [
        (
            library.item_feat_string(segment, b"name").decode(),
            library.item_feat_float(segment, b"end"),
            index_of.get(library.path_to_item(segment, TOKEN)),
        )
        for segment in _items(library, utterance, b"Segment")
    ]
