"""What nano learns: one example is clips, one or two questions about them, and the answers, in weighted pieces.

`Source.example` draws a task by its share, then a clip that has what the task asks for, so that the answers are
balanced. `answers` has the tasks of one question about one clip, this module the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from models.nano.train import answers, drawing, wordings
from models.nano.train.answers import DECIDING, Answer, Piece
from models.nano.train.corpus import Clip
from models.nano.train.splices import begun, joined, scattered, spliced, thinned

TIME_WEIGHT = 2.0
SPLICED = 0.25  # of the transcripts by the base model's tags
JOINED = 0.15  # of all transcripts are of several clips whose features are joined; most longer ones are `passages`
CUT_OFF = 0.15  # of them end in the middle of a sentence
APART = 0.7  # of the pairs of recordings, heard in another order: who speaks is not told by what is said
TAGGED = 0.3  # of the captions that are asked for by the base model's tags
DOUBTED = 0.4  # of the answers about one sound: what it might also be (`likely`)
NO_SPEECH = "There is no speech."


@dataclass(frozen=True)
class Example:
    """All clips stand before the first question; a `base_prompt` stands instead of a question."""

    task: str
    clips: tuple[Clip, ...]
    turns: tuple[tuple[str, Answer], ...]
    base_prompt: str | None = None


SHARES = {  # task -> share of training
    "transcribe_base": 0.6,
    "transcribe": 0.75,
    "no_speech": 0.1,
    "timestamps": 0.06,
    "word_time": 0.03,
    "language": 0.2,
    "gender": 0.2,
    "age": 0.08,
    "emotion": 0.04,
    "speakers": 0.05,
    "same_speaker": 0.03,
    "event": 0.75,
    "events": 0.01,
    "background": 0.015,
    "instrument": 0.1,
    "note": 0.005,
    "note_tags": 0.005,
    "loudness": 0.005,
    "tempo": 0.005,
    "caption": 0.025,
    "dialogue": 0.03,
    "which_audio": 0.02,
}


class Source:
    """Draws examples from the clips of training."""

    def __init__(self, clips: Sequence[Clip], shares: dict[str, float], split: str = "train") -> None:
        """`split` is that of the wordings of the questions."""
        self.split = split
        self.english = drawing.Balanced(clips, drawing.is_english, drawing.source)
        self.timed = drawing.Balanced(
            clips, lambda clip: drawing.is_english(clip) and len(clip.get("words") or ()), drawing.source
        )
        self.genders = drawing.Balanced(clips, drawing.voice, drawing.voice)
        self.sounds = drawing.Balanced(clips, lambda clip: clip.get("sound"), lambda clip: clip.get("sound"), 0.5)
        self.silent = drawing.Balanced(clips, drawing.wordless, drawing.wordless, 0.5)
        self.readers = drawing.Balanced(
            clips, lambda clip: clip.get("source") == "speechocean762", lambda clip: clip.get("speaker")
        )
        made: dict[str, tuple[drawing.Balanced, Callable[[random.Random], Example]]] = {
            "transcribe_base": (self.english, self.transcribe_base),
            "transcribe": (self.english, self.transcribe),
            "no_speech": (self.silent, self.no_speech),
            "timestamps": (self.timed, self.timestamps),
            "word_time": (self.timed, self.word_time),
            "dialogue": (self.genders, self.dialogue),
            "same_speaker": (self.readers, self.same_speaker),
            "which_audio": (self.sounds, self.which_audio),
        }
        for task, about in answers.TASKS.items():
            drawn = drawing.Balanced(clips, about.label, about.label, about.exponent)
            made[task] = (drawn, partial(self.about, task, drawn))
        self._made = {task: maker for task, (needs, maker) in made.items() if needs.groups}
        self._tasks = [task for task in self._made if shares.get(task)]
        self._weights = [shares[task] for task in self._tasks]

    def example(self, rng: random.Random, task: str | None = None) -> Example:
        """A new one, of a task or by the shares."""
        return self._made[task or rng.choices(self._tasks, self._weights)[0]](rng)

    def asked(self, rng: random.Random, task: str, clips: tuple[Clip, ...], answer: Answer, **names: str) -> Example:
        """One question of a task about the clips."""
        question = wordings.question(task, rng, split=self.split).format(**names)
        return Example(task, clips, ((question, answer),))

    def transcribe_base(self, rng: random.Random) -> Example:
        """Write down English speech by the base model's tags, without marks."""
        kind = rng.random()
        if kind < JOINED:
            clip: Clip = joined(rng, lambda: self.english.draw(rng), answers.written)
        elif kind < JOINED + SPLICED and self.timed.groups:
            clip = spliced(rng, self.timed)
        else:
            clip = self.english.draw(rng)
        return Example("transcribe_base", (clip,), (("", (Piece(clip.get("text")),)),), wordings.TRANSCRIBE_TAGS)

    def transcribe(self, rng: random.Random) -> Example:
        """Write down English speech, in chat, as one writes it where that is known."""
        kind = rng.random()
        if kind < JOINED:
            clip: Clip = joined(rng, lambda: self.english.draw(rng), answers.written)
        elif kind < JOINED + CUT_OFF and self.timed.groups:
            clip = begun(self.timed.draw(rng), rng)
        else:
            clip = self.english.draw(rng)
        return self.asked(rng, "transcribe", (clip,), answers.transcript(clip))

    def no_speech(self, rng: random.Random) -> Example:
        """Sounds and silence have no words."""
        clip = self.silent.draw(rng)
        if rng.random() < 0.5:
            return Example("no_speech", (clip,), (("", ()),), wordings.TRANSCRIBE_TAGS)
        question = wordings.question("transcribe", rng, split=self.split)
        return Example("no_speech", (clip,), ((question, (Piece(NO_SPEECH, DECIDING),)),))

    def timestamps(self, rng: random.Random) -> Example:
        """`<|sil|><|0.54|>word<|0.86|>word<|1.20|>...`: what follows the prompt's <|0.00|>."""
        clip = self.timed.draw(rng)
        pieces: list[Piece] = []
        reached = 0.0
        for word, (start, end) in zip(clip.get("text").split(), clip.get("words"), strict=True):
            if start - reached >= 0.05:
                pieces += [Piece("<|sil|>"), Piece(time_mark(start), TIME_WEIGHT)]
            pieces += [Piece(word), Piece(time_mark(end), TIME_WEIGHT)]
            reached = end
        return Example("timestamps", (clip,), (("", tuple(pieces)),), wordings.TIMES_TAGS)

    def word_time(self, rng: random.Random) -> Example:
        """When a word is said that is said once."""
        while True:
            clip = self.timed.draw(rng)
            words = clip.get("text").split()
            once = [number for number, word in enumerate(words) if words.count(word) == 1]
            if once:
                break
        number = rng.choice(once)
        start, end = (time_mark(second) for second in clip.get("words")[number])
        answer = (
            Piece(f'The word "{words[number]}" starts at '),
            Piece(start, TIME_WEIGHT),
            Piece(" seconds and ends at "),
            Piece(end, TIME_WEIGHT),
            Piece(" seconds."),
        )
        return self.asked(rng, "word_time", (clip,), answer, word=words[number])

    def about(self, task: str, drawn: drawing.Balanced, rng: random.Random) -> Example:
        """One question about one clip, by the table of tasks."""
        clip = drawn.draw(rng)
        about = answers.TASKS[task]
        answer = about.answer(_doubted(clip, rng) if task == "event" else clip)
        if rng.random() < about.thinned:
            clip = thinned(clip, rng)
        elif rng.random() < about.scattered:
            clip = scattered(clip, rng)
        if task == "note_tags":
            return Example(task, (clip,), (("", answer),), wordings.NOTE_TAGS)
        if task == "caption" and rng.random() < TAGGED:
            return Example(task, (clip,), (("", answer),), rng.choice(wordings.CAPTION_TAGS))
        return self.asked(rng, task, (clip,), answer)

    def dialogue(self, rng: random.Random) -> Example:
        """What is said, and then by whom; or the other way round."""
        clip = self.genders.draw(rng)
        first = [("gender", answers.gender(clip))]
        if drawing.is_english(clip):
            first.append(("transcribe", answers.transcript(clip)))
        else:
            first.append(("language", answers.language(clip)))
        rng.shuffle(first)
        turns = [(wordings.question(task, rng, split=self.split), answer) for task, answer in first]
        return Example("dialogue", (clip,), tuple(turns))

    def same_speaker(self, rng: random.Random) -> Example:
        """Whether two recordings are of one person."""
        first = self.readers.draw(rng)
        same = rng.random() < 0.5
        second = self.readers.of(rng, first.get("speaker")) if same else self.readers.draw(rng)
        if first.get("speaker") == second.get("speaker"):
            answer: Answer = (Piece("It is the same", DECIDING), Piece(" speaker."))
        else:
            answer = (Piece("They are different", DECIDING), Piece(" speakers."))
        pair = (scattered(first, rng), scattered(second, rng)) if rng.random() < APART else (first, second)
        return self.asked(rng, "same_speaker", pair, answer)

    def which_audio(self, rng: random.Random) -> Example:
        """In which of two recordings something sounds."""
        wanted, other = self.sounds.draw(rng), self.sounds.draw(rng)
        while other.get("sound") == wanted.get("sound"):
            other = self.sounds.draw(rng)
        place = rng.randrange(2)
        clips = (wanted, other) if place == 0 else (other, wanted)
        answer = (Piece(f"Audio {place + 1}", DECIDING), Piece("."))
        return self.asked(rng, "which_audio", clips, answer, thing=f"the sound of {wanted.get('sound')}")


def _doubted(clip: Clip, rng: random.Random) -> Clip:
    """The clip, or the same with another sound that it might be (`likely`)."""
    if not clip.get("likely") or rng.random() >= DOUBTED:
        return clip
    kinds, shares = zip(*clip.get("likely"), strict=True)
    return replace(clip, labels=clip.labels | {"sound": rng.choices(kinds, shares)[0]})


def time_mark(seconds: float) -> str:
    """The token of a moment: <|2.33|>."""
    return f"<|{seconds:.2f}|>"
