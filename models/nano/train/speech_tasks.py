"""Tasks about speech: what is said and when, in which language, by whom and by how many."""

from __future__ import annotations

from models.nano.train import wordings
from models.nano.train.answers import DECIDING, TIME_WEIGHT, Answer, Made, Piece, asked, decided, said, time_mark
from models.nano.train.clips import (
    GENDERS,
    Clip,
    Source,
    another,
    anyone,
    count_people,
    degraded,
    in_turn,
    languages,
    pick_voice,
    placed,
    raised_man,
    speech,
)

ANYONE = 0.8  # of the sentences whose speaker does not matter
RAISED_MEN = 0.5  # of the English women


def english(source: Source, *, gender: str | None = None, longest: float = 7.5) -> Clip:
    """One English sentence with its labels, clean, with silence around it; in training often by `anyone`."""
    if gender is None and source.degrade and source.chance(ANYONE):
        return placed(source, speech(source, anyone(source), longest=longest, anyone=True))
    return placed(source, speech(source, pick_voice(source, gender=gender), longest=longest))


def transcribe(source: Source) -> Made:
    """Write down English speech, in chat."""
    clip = degraded(source, english(source))
    return asked(source, "transcribe", (clip,), transcript(clip))


def transcript(clip: Clip) -> Answer:
    """Answer with what is said."""
    return Piece('The person says: "'), Piece(said(clip)), Piece('".')


def transcribe_base(source: Source) -> Made:
    """Write down English speech by the base model's tags."""
    clip = degraded(source, english(source))
    return (clip,), (("", (Piece(said(clip)),)),), wordings.TRANSCRIBE_TAGS


def timestamps(source: Source) -> Made:
    """`<|sil|><|0.54|>word<|0.86|>word<|1.20|>...`: what follows the prompt's <|0.00|>; gaps under 0.05 s are none."""
    clip = degraded(source, english(source))
    pieces: list[Piece] = []
    reached = 0.0
    for word, start, end in clip.words:
        if start - reached >= 0.05:
            pieces += [Piece("<|sil|>"), Piece(time_mark(start), TIME_WEIGHT)]
        pieces += [Piece(word), Piece(time_mark(end), TIME_WEIGHT)]
        reached = end
    return (clip,), (("", tuple(pieces)),), wordings.TIMES_TAGS


def word_time(source: Source) -> Made:
    """Say when a word is said."""
    while True:
        clip = english(source)
        if (timed := phrase(source, clip)) is not None:
            break
    words, answer = timed
    return asked(source, "word_time", (degraded(source, clip),), answer, word=words)


def phrase(source: Source, clip: Clip) -> tuple[str, Answer] | None:
    """Pick a word, or two in a row, said once only, and answer when; None where there is none."""
    length = 2 if source.chance(0.3) and len(clip.words) > 2 else 1
    runs = [clip.words[first : first + length] for first in range(len(clip.words) - length + 1)]
    texts = [" ".join(word for word, _, _ in run) for run in runs]
    once = [number for number, text in enumerate(texts) if texts.count(text) == 1]
    if not once:
        return None
    number = source.rng.choice(once)
    start, end = time_mark(runs[number][0][1]), time_mark(runs[number][-1][2])
    before = Piece(f'The word "{texts[number]}" starts at ')
    times = Piece(start, TIME_WEIGHT), Piece(" seconds and ends at "), Piece(end, TIME_WEIGHT)
    return texts[number], (before, *times, Piece(" seconds."))


def language(source: Source) -> Made:
    """Say which of eight languages is spoken."""
    code = source.rng.choice(languages(source))
    voice = pick_voice(source, gender=source.rng.choice(GENDERS), language=code)
    clip = degraded(source, placed(source, speech(source, voice, longest=6.5)))
    return asked(source, "language", (clip,), spoken(code))


def spoken(code: str) -> Answer:
    """Answer with the language."""
    return decided("The language is", f" {wordings.LANGUAGE_NAMES[code]}")


def gender(source: Source) -> Made:
    """Say whether a man or a woman speaks, English or not."""
    gender = source.rng.choice(GENDERS)
    code = "en" if source.chance(0.7) else source.rng.choice(languages(source))
    if gender == "woman" and code == "en" and source.degrade and source.chance(RAISED_MEN):
        clip = raised_man(source)
    else:
        clip = speech(source, pick_voice(source, gender=gender, language=code), longest=5.0)
    return asked(source, "gender", (degraded(source, placed(source, clip)),), is_a(str(clip.gender)))


def is_a(gender: str) -> Answer:
    """Answer with the gender."""
    return decided("The speaker is a", f" {gender}")


def speakers(source: Source) -> Made:
    """One to three speakers, each with one short sentence; one speaker has as many sentences as three have."""
    count, sentences = source.rng.randint(1, min(3, count_people(source))), source.rng.randint(1, 3)
    voices = [pick_voice(source, gender=source.rng.choice(GENDERS))]
    while len(voices) < count:
        voices.append(another(source, *voices))
    speaking = voices if count > 1 else voices * sentences
    clips = [speech(source, voice, longest=2.3, most_words=6) for voice in speaking]
    clip = degraded(source, in_turn(source, clips, one_speaker=count == 1))
    verb = " is" if count == 1 else " are"
    answer = (Piece("There"), Piece(f"{verb} {wordings.SPEAKER_COUNTS[count - 1]}", DECIDING), Piece("."))
    return asked(source, "speakers", (clip,), answer)


def same_speaker(source: Source) -> Made:
    """Compare the speakers of two audios."""
    first = pick_voice(source, gender=source.rng.choice(GENDERS))
    same = source.chance(0.5)
    second = first if same else another(source, first)
    clips = [degraded(source, speech(source, voice, longest=3.5, most_words=9)) for voice in (first, second)]
    if same:
        answer = Piece("It is the same", DECIDING), Piece(" speaker.")
    else:
        answer = Piece("They are different", DECIDING), Piece(" speakers.")
    return asked(source, "same_speaker", tuple(clips), answer)
