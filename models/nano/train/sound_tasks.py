"""Tasks about sounds and music, alone, with speech over them, and in two audios; and dialogues of two turns."""

from __future__ import annotations

from models.nano.train import wordings
from models.nano.train.answers import DECIDING, Answer, Made, Piece, asked, decided, said
from models.nano.train.clips import GENDERS, Clip, Source, degraded, over, overlaid
from models.nano.train.speech_tasks import english, is_a, phrase, spoken, transcript

VELOCITIES = (25, 50, 75, 100, 127)
LOUDNESS = {"soft": (20, 45), "loud": (105, 127)}
SOUND_STRENGTH = 0.5  # noise drowns rain more easily than speech


def event(source: Source) -> Made:
    """Name one sound."""
    name = source.rng.choice(_events())
    answer = decided("This is the sound of", f" {wordings.thing(name)}")
    return asked(source, "event", (_sound_clip(source, [name]),), answer)


def _events(*, audible: bool = False) -> tuple[str, ...]:
    from models.nano.train.sounds import EVENTS

    return tuple(name for name in EVENTS if not (audible and name == "silence"))


def _mixture(source: Source, count: int) -> list[str]:
    """Pick different events, in the order of `EVENTS`."""
    names = _events(audible=True)
    return sorted(source.rng.sample(names, count), key=names.index)


def _sound_clip(source: Source, names: list[str]) -> Clip:
    """Let events sound together, each with a loudness and a start of its own."""
    from models.nano.train import sounds

    rng = source.rng
    waveforms = [sounds.event(name, rng.uniform(2.0, 4.5), rng) for name in names]
    starts = [rng.uniform(0.0, 1.2) if len(names) > 1 else 0.0 for _ in names]
    strength = SOUND_STRENGTH if names != ["silence"] else 0.0
    return degraded(source, Clip(overlaid(waveforms, starts)), strength=strength)


def events_mixed(source: Source) -> Made:
    """Name the one to three sounds of a mixture, in the order of `EVENTS`."""
    names = _mixture(source, source.rng.choices((1, 2, 3), (1, 4, 3))[0])
    answer = decided("I hear", f" {wordings.listed([wordings.thing(name) for name in names])}")
    return asked(source, "events", (_sound_clip(source, names),), answer)


def _instruments() -> tuple[str, ...]:
    from models.nano.train.music import INSTRUMENTS

    return tuple(INSTRUMENTS)


def instrument(source: Source) -> Made:
    """Name the instrument of a melody or of a note."""
    name = source.rng.choice(_instruments())
    if source.chance(0.3):
        clip = _note(source, name, _pitch(source, name), source.rng.choice(VELOCITIES[1:]))
    else:
        clip = _melody(source, name, source.rng.choice(("fast", "slow")))
    return asked(source, "instrument", (clip,), decided("The instrument is the", f" {name}"))


def _pitch(source: Source, name: str) -> int:
    from models.nano.train.music import RANGES

    return source.rng.randint(*RANGES[name])


def _note(source: Source, name: str, pitch: int, velocity: int) -> Clip:
    """Play one note; its loudness is left as it is."""
    from models.nano.train.music import note

    waveform = note(name, pitch, velocity, source.rng.uniform(1.2, 3.0), source.rng)
    return degraded(source, Clip(waveform), strength=SOUND_STRENGTH, keep_level=True)


def _melody(source: Source, name: str, tempo: str, *, strength: float = SOUND_STRENGTH) -> Clip:
    from models.nano.train.music import melody

    waveform = melody(name, tempo=tempo, seconds=source.rng.uniform(2.5, 5.0), rng=source.rng)
    return degraded(source, Clip(waveform), strength=strength)


def note(source: Source) -> Made:
    """Name a note, in chat."""
    name = source.rng.choice(_instruments())
    pitch = _pitch(source, name)
    clip = _note(source, name, pitch, source.rng.choice(VELOCITIES))
    named = Piece(f" {wordings.note_name(pitch)}", DECIDING), Piece(" ("), Piece(f"<|midi_pitch_{pitch}|>", DECIDING)
    return asked(source, "note", (clip,), (Piece("The note is"), *named, Piece(").")))


def note_tags(source: Source) -> Made:
    """Analyse a note by the base model's tags: pitch, velocity, instrument."""
    name, velocity = source.rng.choice(_instruments()), source.rng.choice(VELOCITIES)
    pitch = _pitch(source, name)
    answer = (
        Piece("<|pitch|>"),
        Piece(f"<|midi_pitch_{pitch}|>", DECIDING),
        Piece("<|velocity|>"),
        Piece(f"<|midi_velocity_{velocity}|>"),
        Piece("<|instrument|>"),
        Piece(name, DECIDING),
    )
    return (_note(source, name, pitch, velocity),), (("", answer),), wordings.NOTE_TAGS


def loudness(source: Source) -> Made:
    """Say whether a note is loud or soft."""
    name, strength = source.rng.choice(_instruments()), source.rng.choice(tuple(LOUDNESS))
    clip = _note(source, name, _pitch(source, name), source.rng.randint(*LOUDNESS[strength]))
    return asked(source, "loudness", (clip,), decided("The note is", f" {strength}"))


def tempo(source: Source) -> Made:
    """Say whether a melody is fast or slow."""
    speed = source.rng.choice(("fast", "slow"))
    clip = _melody(source, source.rng.choice(_instruments()), speed)
    return asked(source, "tempo", (clip,), decided("The music is", f" {speed}"))


def caption(source: Source) -> Made:
    """Say in one sentence what is there: speech, sounds or music, or speech over a sound or over music."""
    kind = source.rng.choice(("speech", "sound", "sounds", "music", "speech over", "speech over", "speech over music"))
    if kind.startswith("speech"):
        clip, answer = _spoken_caption(source, kind)
    elif kind == "music":
        name, speed = source.rng.choice(_instruments()), source.rng.choice(("fast", "slow"))
        clip = _melody(source, name, speed)
        answer = _happening(f"{wordings.thing(name)} plays {speed} music")
    else:
        names = _mixture(source, 1 if kind == "sound" else 2)
        clip = _sound_clip(source, names)
        answer = _happening(" while ".join(wordings.happens(name) for name in names))
    if source.chance(0.3):
        return (clip,), (("", answer),), source.rng.choice(wordings.CAPTION_TAGS)
    return asked(source, "caption", (clip,), answer)


def _happening(text: str) -> Answer:
    return Piece(text[0].upper() + text[1:], DECIDING), Piece(".")


def _spoken_caption(source: Source, kind: str) -> tuple[Clip, Answer]:
    """Answer `A woman says "..." while a bell rings.`"""
    clip = english(source, gender=source.rng.choice(GENDERS), longest=5.0)
    start = Piece("A"), Piece(f" {clip.gender}", DECIDING), Piece(' says "'), Piece(said(clip))
    if kind == "speech":
        return degraded(source, clip), (*start, Piece('".'))
    if kind == "speech over":
        clip, name = _over_sound(source, clip)
        happening = wordings.happens(name)
    else:
        name = source.rng.choice(_instruments())
        music = _melody(source, name, source.rng.choice(("fast", "slow")), strength=0.0)
        clip = over(source, clip, music.waveform, decibels=source.rng.uniform(4, 12))
        happening = f"{wordings.thing(name)} plays"
    clip = degraded(source, clip, strength=SOUND_STRENGTH)
    return clip, (*start, Piece('" while'), Piece(f" {happening}", DECIDING), Piece("."))


def _over_sound(source: Source, clip: Clip) -> tuple[Clip, str]:
    """Put one event behind speech."""
    from models.nano.train.sounds import event

    name = source.rng.choice(_events(audible=True))
    sound = event(name, min(7.5, max(2.0, clip.seconds + source.rng.uniform(-0.5, 0.5))), source.rng)
    return over(source, clip, sound, decibels=source.rng.uniform(4, 12)), name


def dialogue(source: Source) -> Made:
    """Ask two different things about one audio, one after the other."""
    clip = english(source, gender=source.rng.choice(GENDERS), longest=6.0)
    heard: str | None = None
    if source.chance(0.4):
        clip, heard = _over_sound(source, clip)
    turns: dict[str, tuple[dict[str, str], Answer]] = {"transcribe": ({}, transcript(clip))}
    turns["gender"] = ({}, is_a(str(clip.gender)))
    turns["language"] = ({}, spoken("en"))
    if (timed := phrase(source, clip)) is not None:
        turns["word_time"] = ({"word": timed[0]}, timed[1])
    if heard is not None:
        turns["background"] = ({}, decided("I hear", f" {wordings.thing(heard)}"))
    first = source.rng.choice(tuple(turns)) if source.chance(0.4) else "transcribe"
    second = source.rng.choice([task for task in turns if task != first])
    if heard is not None and first != "background" and source.chance(0.6):
        second = "background"
    clip = degraded(source, clip, strength=SOUND_STRENGTH)
    asking = [asked(source, task, (clip,), turns[task][1], **turns[task][0])[1][0] for task in (first, second)]
    return (clip,), tuple(asking), None


def which_audio(source: Source) -> Made:
    """Say which of two audios has a sound, an instrument or a person."""
    kind = source.rng.choice(("event", "event", "instrument", "person"))
    if kind == "event":
        names = list(source.rng.sample(_events(audible=True), 2))
        clips = [_sound_clip(source, [name]) for name in names]
    elif kind == "instrument":
        names = list(source.rng.sample(_instruments(), 2))
        clips = [_melody(source, name, source.rng.choice(("fast", "slow"))) for name in names]
    else:
        names = list(source.rng.sample(GENDERS, 2))
        clips = [degraded(source, english(source, gender=name, longest=3.5)) for name in names]
        names = [str(clip.gender) for clip in clips]
    asked_for = source.rng.randrange(2)
    answer = Piece("Audio"), Piece(f" {asked_for + 1}", DECIDING), Piece(".")
    return asked(source, "which_audio", tuple(clips), answer, thing=wordings.the(names[asked_for]))
