"""espeak-ng 1.52 through ctypes, from the wheel `espeakng_loader` (Debian's 1.51 reads Mandarin as English).

Words and phones come from the library's own events, which carry sample positions. The library keeps a little state from
one utterance to the next (the phase of its flutter): lengths differ by about 0.1 % with what was said before in the
process, so a set that must be bit-exact is made in a fresh process in a fixed order.
"""

import ctypes
import random
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import lru_cache

import numpy as np

from models.nano.train.espeak_voices import FILES, PHONE_MAP, RHOTIC, RHOTIC_MAP
from models.nano.train.utterance import PHONES, Mark, Utterance, Voice, finish

SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT = 2, 1, 0x8000
WORD, PHONEME = 1, 7  # espeak_EVENT_TYPE
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
UTF8 = 1
VOWELS = frozenset(phone for phone in PHONES if phone[0] in "aeiou")


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


@dataclass
class _Spoken:
    """What the callback gathers during one utterance."""

    audio: bytearray = field(default_factory=bytearray)
    events: list[tuple[int, int, int, str]] = field(default_factory=list)  # type, text position, sample, phoneme

    def clear(self) -> None:
        self.audio.clear()
        self.events.clear()


class _Engine:
    """The library, opened once in a process."""

    def __init__(self) -> None:
        import espeakng_loader

        self.library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate = int(self.library.espeak_Initialize(SYNCHRONOUS, 0, data, PHONEME_EVENTS | DONT_EXIT))
        if self.rate <= 0:
            msg = f"espeak-ng does not start with the data in {data.decode()}"
            raise RuntimeError(msg)
        self.library.espeak_Synth.argtypes = (
            ctypes.c_char_p,
            ctypes.c_size_t,
            *[ctypes.c_uint] * 4,
            *[ctypes.c_void_p] * 2,
        )
        self.library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        self.spoken = _Spoken()
        self._callback = _CALLBACK(self._receive)  # held here: the library keeps only its address
        self.library.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: int | None, count: int, events: "ctypes._Pointer[_Event]") -> int:
        if samples and count > 0:
            self.spoken.audio += ctypes.string_at(samples, 2 * count)
        index = 0
        while kind := events[index].type:
            event = events[index]
            phoneme = event.id.string.decode() if kind == PHONEME else ""
            if kind in (WORD, PHONEME):
                self.spoken.events.append((kind, event.text_position, event.sample, phoneme))
            index += 1
        return 0

    def say(self, text: str, voice: str, *, rate: int, pitch: int, pitch_range: int) -> None:
        """Leaves audio and events in `spoken`."""
        accent, _, variant = voice.partition("+")
        name = FILES[accent] + ("+" + variant if variant else "")
        if self.library.espeak_SetVoiceByName(name.encode()) != 0:
            msg = f"espeak-ng has no voice {name}"
            raise ValueError(msg)
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self.library.espeak_SetParameter(parameter, value, 0)
        self.library.espeak_ng_SetRandSeed(1)
        self.spoken.clear()
        encoded = text.encode()
        self.library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, UTF8, None, None)


@lru_cache(maxsize=1)
def _engine() -> _Engine:
    return _Engine()


def speak(text: str, voice: Voice, rng: random.Random, slower: float = 1.0) -> Utterance:
    engine = _engine()
    rate = round(min(230.0, max(120.0, rng.gauss(170, 25))) / slower)  # words a minute
    pitch = round(min(68.0, max(32.0, rng.gauss(50, 9))))  # 50 is the voice's own
    engine.say(text, voice.name, rate=rate, pitch=pitch, pitch_range=rng.randint(25, 80))
    samples = np.frombuffer(bytes(engine.spoken.audio), dtype=np.int16)
    if voice.language != "en":
        return finish(samples, engine.rate, [], [])
    accent = voice.name.partition("+")[0]
    events, seconds = list(engine.spoken.events), len(samples) / engine.rate
    phones = _phones(events, engine.rate, seconds, accent)
    words = _words(text, events, phones, engine.rate, accent)
    return finish(samples, engine.rate, words, phones)


def _phones(events: list[tuple[int, int, int, str]], rate: int, seconds: float, accent: str) -> list[Mark]:
    """Each phoneme ends where the next begins; a diphthong of ours in two phones is halved."""
    marks = [(phoneme, sample / rate) for kind, _, sample, phoneme in events if kind == PHONEME]
    ends = [start for _, start in marks[1:]] + [seconds]
    phones: list[Mark] = []
    for (phoneme, start), end in zip(marks, ends, strict=True):
        symbols = arpabet(phoneme, accent)
        if phones and (not symbols or symbols == (phones[-1][0],) == ("r",)):
            phones[-1] = (phones[-1][0], phones[-1][1], end)  # palatalisation, or the r that links two words
            continue
        step = (end - start) / max(1, len(symbols))
        phones += [(symbol, start + i * step, start + (i + 1) * step) for i, symbol in enumerate(symbols)]
    return phones


def arpabet(phoneme: str, accent: str) -> tuple[str, ...]:
    """Our phones for a phoneme of espeak-ng, without its stress marks; none where it has no sound of its own."""
    bare = phoneme.lstrip("',%=|")
    if bare.startswith("_") or not bare:
        return ("sil",)
    found = (RHOTIC_MAP.get(bare) if accent in RHOTIC else None) or PHONE_MAP.get(bare)
    if found is None:
        msg = f"phoneme {phoneme!r} of espeak-ng voice {accent} is not in PHONE_MAP"
        raise KeyError(msg)
    return tuple(found.split("+")) if found != "-" else ()


def _words(
    text: str, events: list[tuple[int, int, int, str]], phones: list[Mark], rate: int, accent: str
) -> list[Mark]:
    """Words from one word event to the next, or to a pause. Several words under one event ("in the") are parted."""
    tokens = text.split()
    starts = _word_starts(text, events, rate, accent)
    words: list[Mark] = []
    for index, (token, start) in enumerate(starts):
        next_token, next_start = starts[index + 1] if index + 1 < len(starts) else (len(tokens), float("inf"))
        inside = [phone for phone in phones if start - 1e-6 <= (phone[1] + phone[2]) / 2 < next_start]
        voiced = [phone for phone in inside if phone[0] != "sil"]
        if voiced:
            voiced[0] = (voiced[0][0], min(start, voiced[0][1]), voiced[0][2])
            words += _part(tokens[token:next_token], voiced, accent, min(next_start, voiced[-1][2]))
    return words


def _word_starts(text: str, events: list[tuple[int, int, int, str]], rate: int, accent: str) -> list[tuple[int, float]]:
    """Token and second at which each begins. Before a vowel the word event may come a consonant early."""
    starts: list[tuple[int, float]] = []
    for index, (kind, position, sample, _) in enumerate(events):
        following = next(((at, name) for other, _, at, name in events[index + 1 :] if other == PHONEME), None)
        if kind != WORD or following is None:
            continue
        token = len(text[: max(0, position - 1)].split()) if position > 1 else 0
        if position > 1 and not text[position - 2].isspace():
            token -= 1  # inside a token: "forty-two"
        onset = arpabet(following[1], accent)
        at = following[0] if onset and onset[0] in VOWELS else sample
        if not starts or starts[-1][0] < token:
            starts.append((token, at / rate))
    return starts


def _part(tokens: list[str], phones: list[Mark], accent: str, end: float) -> list[Mark]:
    """Split phones of words said as one at the place where both sides are most like the words alone."""
    if len(tokens) == 1 or len(phones) < len(tokens):
        return [(tokens[0], phones[0][1], end)]
    names = [name for name, _, _ in phones]
    first, rest = _alone(tokens[0], accent), [name for token in tokens[1:] for name in _alone(token, accent)]

    def likeness(cut: int) -> float:
        return SequenceMatcher(None, names[:cut], first).ratio() + SequenceMatcher(None, names[cut:], rest).ratio()

    cut = max(range(1, len(names) - len(tokens) + 2), key=likeness)
    return [(tokens[0], phones[0][1], phones[cut][1]), *_part(tokens[1:], phones[cut:], accent, end)]


@lru_cache(maxsize=4096)
def _alone(token: str, accent: str) -> tuple[str, ...]:
    engine = _engine()
    engine.say(token, accent, rate=170, pitch=50, pitch_range=50)
    phones = _phones(list(engine.spoken.events), engine.rate, len(engine.spoken.audio) / 2 / engine.rate, accent)
    return tuple(name for name, _, _ in phones if name != "sil")
