"""Samples -> batches of tensors: ids with their loss weights, clips, and the labels of the auxiliary losses.

Prompts are built by the run-time tokenizer and `encode_chat`, so that nano learns exactly the ids that it will be asked
with. All examples of a batch are of similar length.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.nano.train.data import Clip, Sample, read_shard
from tokenizer.chat import Turn, encode_base, encode_chat
from tokenizer.tokenizer import Special, Tokenizer

FRAME_SECONDS, TOKEN_SECONDS = 0.02, 0.04
TIME_MARK = re.compile(r"<\|(\d+\.\d\d)\|>")
REPEATED = re.compile(r'The word "([^"]+)" starts')
HEARING, READING = 0, 1  # heads of the guided layer
PITCH_MARK = re.compile(r"<\|midi_pitch_(\d+)\|>")
IGNORED = -100
WARPED = ("transcribe", "transcribe_base", "timestamps", "word_time")  # tasks for which it does not matter who speaks
GENDERS = ("woman", "man")
LANGUAGES = ("en", "zh", "de", "es", "ko", "fr", "ja", "it")


@dataclass
class Batch:
    """One training step. `targets` [batch, t] is the next id, `weights` [batch, t] its weight in the loss."""

    ids: Tensor
    targets: Tensor
    weights: Tensor
    mel: Tensor  # [clips, n_mels, columns]
    n_frames: Tensor  # [clips]
    spans: list[tuple[int, int, int, int]]  # row, first position, clip, tokens
    guides: list[tuple[int, int, int, int, int]]  # row and those of `Encoded`
    phones: Tensor  # [clips, frames]
    words: Tensor  # [clips, T]
    genders: Tensor  # [clips]
    languages: Tensor  # [clips]
    pitches: Tensor  # [clips], of single notes, as MIDI counts
    tasks: list[str]


@dataclass
class Encoded:
    """One sample as ids, with the places of its clips and of the sounds of its words."""

    sample: Sample
    ids: list[int]
    weights: list[float]  # of each id as a target
    starts: list[int]  # position of each clip's <audio>
    guides: list[tuple[int, int, int, int]]  # head, position that looks, first and last position where it should look


class CachedTokenizer(Tokenizer):
    """Remembers the ids of what it encoded: most texts of a prompt come again and again."""

    def __init__(self, vocabulary: Path) -> None:
        super().__init__(vocabulary)
        self._known: dict[tuple[str, Special], list[int]] = {}

    def encode(self, text: str, *, special: Special = "none") -> list[int]:
        """As `Tokenizer.encode`."""
        if (text, special) not in self._known:
            self._known[text, special] = super().encode(text, special=special)
        return list(self._known[text, special])


class Encoder:
    """Turns samples into ids."""

    def __init__(self, tokenizer: Tokenizer, phones: Sequence[str], words: Sequence[str]) -> None:
        self.tokenizer = tokenizer
        self.phones = {name: number for number, name in enumerate(phones)}
        self.words = {name: number for number, name in enumerate(words, 1)}

    def encode(self, sample: Sample) -> Encoded:
        """Ids of the whole dialogue, with weights on the answers and the ids that end them."""
        spans = tuple((clip.mel_frames + 1) // 4 + 2 for clip in sample.clips)
        turns: list[Turn] = []
        ids: list[int] = []
        weights: list[float] = []
        answers: list[tuple[int, str]] = []
        for number, (question, pieces) in enumerate(sample.turns):
            text = "".join(piece for piece, _ in pieces)
            if sample.base_prompt is not None:
                prompt = encode_base(self.tokenizer, sample.base_prompt, audio_spans=spans)
                end = self.tokenizer.endoftext
            else:
                prompt = encode_chat(self.tokenizer, [*turns, Turn(question, audio_spans=() if number else spans)])
                end = self.tokenizer.im_end
                turns.append(Turn(question, audio_spans=() if number else spans, reply=text))
            new = self.tokenizer.encode(text, special="audio")
            weights += [0.0] * (len(prompt) - len(ids)) + self._piece_weights(new, pieces) + [1.0]
            ids = [*prompt, *new, end]
            answers.append((len(prompt), text))
        starts = [position for position, token in enumerate(ids) if token == self.tokenizer.audio_start]
        return Encoded(sample, ids, weights, starts, self._guides(sample, ids, answers, starts))

    def _piece_weights(self, ids: list[int], pieces: Sequence[tuple[str, float]]) -> list[float]:
        """The weight of each id: that of the piece in which its last byte lies."""
        ends = np.cumsum([len(text.encode()) for text, _ in pieces])
        reached = np.cumsum([len(self.tokenizer.token_bytes(token)) for token in ids])
        return [float(pieces[min(int(np.searchsorted(ends, end)), len(pieces) - 1)][1]) for end in reached]

    def _guides(
        self, sample: Sample, ids: list[int], answers: list[tuple[int, str]], starts: list[int]
    ) -> list[tuple[int, int, int, int]]:
        """For each spoken word and each time of an answer: the position that predicts it and where it sounds.

        And for a word that the answer repeats from the question: each of its ids and where that stands in the question.
        """
        guides = []
        if len(sample.clips) != 1 or not sample.clips[0].words:
            return []
        clip, first_audio = sample.clips[0], starts[0] + 1
        last_audio = first_audio + (clip.mel_frames + 1) // 4 - 1
        for first, text in answers:
            offsets = np.cumsum([0] + [len(self.tokenizer.token_bytes(token)) for token in ids[first:]])
            cursor = text.find('"') + 1  # a chat answer quotes what was said, the base form is the bare transcript
            last = text.rfind('"') if cursor else len(text)
            sounding = [(match.start(), float(match[1]), float(match[1])) for match in TIME_MARK.finditer(text)]
            for word, start, end in clip.words:
                match = re.compile(rf"(?<![a-z]){re.escape(word)}(?![a-z])").search(text, cursor, last)
                if match:
                    cursor = match.end()
                    sounding.append((match.start(), start, end))
            for place, start, end in sounding:
                token = int(np.searchsorted(offsets, len(text[:place].encode()), side="right")) - 1
                low, high = first_audio + int(start / TOKEN_SECONDS) - 1, first_audio + int(end / TOKEN_SECONDS) + 1
                guides.append((HEARING, first + token - 1, min(low, last_audio), min(high, last_audio + 1)))
            if repeated := REPEATED.search(text):
                ends = [len(text[:place].encode()) for place in repeated.span(1)]
                begin, end = (first + int(np.searchsorted(offsets, place)) for place in ends)
                asked = _last_place(ids[begin:end], ids[:first])
                guides += [(READING, begin - 1 + n, asked + n, asked + n) for n in range(end - begin if asked else 0)]
        return guides

    def batch(self, encoded: list[Encoded], rng: random.Random, *, augment: bool) -> Batch:
        """Pad and stack; `augment` masks stripes of time and frequency."""
        clips = [clip for one in encoded for clip in one.sample.clips]
        frames = [(clip.mel_frames + 1) // 2 for clip in clips]
        longest = max(frames)
        warped = [one.sample.task in WARPED for one in encoded for _ in one.sample.clips]
        mel = torch.stack(
            [
                _padded(clip, longest, rng if augment else None, warp=warp)
                for clip, warp in zip(clips, warped, strict=True)
            ]
        )
        length = max(len(one.ids) for one in encoded)
        ids = torch.full((len(encoded), length), self.tokenizer.endoftext)
        weights = torch.zeros(len(encoded), length)
        spans, guides, number = [], [], 0
        for row, one in enumerate(encoded):
            ids[row, : len(one.ids)] = torch.tensor(one.ids)
            weights[row, : len(one.ids) - 1] = torch.tensor(one.weights[1:])
            guides += [(row, *guide) for guide in one.guides]
            for start in one.starts:
                spans.append((row, start, number, frames[number] // 2))
                number += 1
        return Batch(
            ids=ids,
            targets=ids.roll(-1, 1),
            weights=weights,
            mel=mel,
            n_frames=torch.tensor(frames),
            spans=spans,
            guides=guides,
            phones=torch.stack([self._labels(clip, longest, FRAME_SECONDS) for clip in clips]),
            words=torch.stack([self._labels(clip, longest // 2, TOKEN_SECONDS) for clip in clips]),
            genders=_indices([clip.gender for clip in clips], GENDERS),
            languages=_indices([clip.language for clip in clips], LANGUAGES),
            pitches=torch.tensor([_pitch(one.sample) for one in encoded for _ in one.sample.clips]),
            tasks=[one.sample.task for one in encoded],
        )

    def _labels(self, clip: Clip, length: int, step: float) -> Tensor:
        """Class of each frame (phones) or token (words): 0 where nothing is said, IGNORED where nothing is known."""
        marks, table = (clip.phones, self.phones) if step == FRAME_SECONDS else (clip.words, self.words)
        labels = torch.full((length,), 0 if marks else IGNORED)
        labels[int(clip.mel_frames * 0.01 / step) :] = IGNORED
        for name, start, end in marks:
            labels[round(start / step) : max(round(end / step), round(start / step) + 1)] = table.get(name, IGNORED)
        return labels


def batches(
    data: Path,
    encoder: Encoder,
    rng: random.Random,
    *,
    frames: int,
    augment: bool = True,
    labelled: bool = False,
) -> Iterator[Batch]:
    """Endless batches of about `frames` encoder frames, from a few shards at a time, of like lengths, shuffled.

    With `labelled`, only examples whose first clip is speech of one known speaker.
    """
    while True:
        paths = sorted(data.glob("shard-*.npz"))  # anew, for shards may still be in the making
        shards = rng.sample(paths, min(4, len(paths)))
        encoded = [encoder.encode(sample) for path in shards for sample in read_shard(path)]
        encoded = [one for one in encoded if not labelled or one.sample.clips[0].language]
        encoded.sort(
            key=lambda one: (sum(clip.mel_frames for clip in one.sample.clips) // 40, len(one.ids), rng.random())
        )
        groups: list[list[Encoded]] = [[]]
        size = 0
        for one in encoded:
            longest = max(clip.mel_frames for clip in one.sample.clips) // 2
            if groups[-1] and (size + 1) * longest > frames:
                groups.append([])
                size = 0
            groups[-1].append(one)
            size += len(one.sample.clips)
        rng.shuffle(groups)
        for group in groups:
            yield encoder.batch(group, rng, augment=augment)


def _padded(clip: Clip, longest: int, rng: random.Random | None, *, warp: bool) -> Tensor:
    """The clip's log-mel [n_mels, 2 * longest]: silence behind it, zeros behind the longest, stripes masked.

    With `warp`, the frequencies are often stretched as another vocal tract would (Jaitly and Hinton 2013).
    """
    columns = clip.mel.shape[1]
    mel = np.full((clip.mel.shape[0], 2 * longest), clip.mel[:, -1:].min(), np.float32)
    mel[:, :columns] = clip.mel[:, : 2 * longest]
    if rng and warp and rng.random() < 0.6:
        places = np.clip(np.arange(len(mel)) * rng.uniform(0.86, 1.16), 0, len(mel) - 1.001)
        low, part = places.astype(int), (places % 1)[:, None].astype(np.float32)
        mel = mel[low] * (1 - part) + mel[low + 1] * part
    if rng and rng.random() < 0.6:
        floor = mel.min()
        for _ in range(2):
            band, first = rng.randint(0, 10), rng.randint(0, 69)
            mel[first : first + band] = floor
            if not clip.words or rng.random() < 0.3:
                width, begin = rng.randint(0, 12), rng.randint(0, max(1, columns - 12))
                mel[:, begin : begin + width] = floor
    return torch.from_numpy(mel)


def _last_place(wanted: list[int], ids: list[int]) -> int:
    """Where `wanted` begins in `ids` for the last time; 0 if it is nowhere, since every prompt begins with a mark."""
    places = range(len(ids) - len(wanted), 0, -1)
    return next((place for place in places if ids[place : place + len(wanted)] == wanted), 0)


def _pitch(sample: Sample) -> int:
    """The pitch that the answer names, IGNORED if it names none."""
    found = [PITCH_MARK.search(text) for _, pieces in sample.turns for text, _ in pieces]
    return next((int(match[1]) for match in found if match), IGNORED)


def _indices(names: list[str | None], table: Sequence[str]) -> Tensor:
    return torch.tensor([table.index(name) if name in table else IGNORED for name in names])
