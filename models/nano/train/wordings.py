"""What nano is asked and in which words it answers: the questions of each task and one table of sounds.

`question` picks a wording: those before the bar of `_QUESTIONS` are for training, those after it for tests, and none is
in both. Answers have one form a task, so that a score is a comparison of texts.
"""

from __future__ import annotations

import random
from functools import cache

LANGUAGE_NAMES = {
    "en": "English",
    "zh": "Chinese",
    "de": "German",
    "es": "Spanish",
    "ko": "Korean",
    "fr": "French",
    "ja": "Japanese",
    "it": "Italian",
}
SPEAKER_COUNTS = ("one speaker", "two speakers", "three speakers")
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

# Prompts of the base model, as its own evaluation uses them.
TRANSCRIBE_TAGS = "<|startoftranscript|><|en|><|transcribe|><|en|><|notimestamps|><|wo_itn|>"
TIMES_TAGS = "<|startoftranscript|><|en|><|transcribe|><|en|><|timestamps|><|0.00|>"
NOTE_TAGS = "<|startofanalysis|><|unknown|><|keyword|><|en|><|notimestamps|><|note_analysis|>"
CAPTION_TAGS = tuple(
    f"<|startofanalysis|><|unknown|><|caption|><|en|><|notimestamps|><|{style}|>"
    for style in ("caption_plain", "caption_audiocaps", "caption_clotho")
)

# event | as a thing | as something that happens
_SOUNDS = """
siren | a siren | a siren wails
bell | a bell | a bell rings
phone ring | a ringing phone | a phone rings
engine | an engine | an engine runs
rain | rain | rain falls
wind | wind | the wind blows
applause | applause | people applaud
beeps | beeps | a machine beeps
clicks | clicks | something clicks
footsteps | footsteps | someone walks
breaking glass | breaking glass | glass breaks
silence | silence | nothing sounds
thunder | thunder | thunder rolls
bird song | bird song | a bird sings
dog bark | a barking dog | a dog barks
waves | waves | waves break
knocking | knocking | someone knocks
helicopter | a helicopter | a helicopter flies
crackling fire | a crackling fire | a fire crackles
car horn | a car horn | a car honks
cat meow | a meowing cat | a cat meows
dripping water | dripping water | water drips
crickets | crickets | crickets chirp
"""

_QUESTIONS = """
transcribe: what does the person say? / What does the person say? / Recognize the speech / what is said in the audio?
 / Transcribe the speech. / Write down what the person says. / What are the words of the speaker? / what is being
 said? / Please transcribe this audio. / What did the speaker say? / Tell me what is said. / Which words does the
 speaker say? / What do you hear the person say? / Write out what was said. / Can you transcribe this? / Give me the
 words of the speaker. / What is the speaker saying? / Give the transcription. / Write the transcript of the speech. /
 Repeat what the person says. / what are they saying? / Please write down the speech. / What was said? / What words
 are spoken? / Speech to text, please. / Which words can you hear? / Say the words that you hear. / What do you hear
 being said? / I want to know what was said. / What sentence do you hear? / Note down the words. / Dictate what you
 hear the speaker say. / Which sentence is spoken? / What does she say? / What does he say? / Put the speech into
 words. / Say what the person said. / Read me the words. / What words can be heard? / Tell me the words that you hear. /
 What speech do you hear? / Which words are to be heard? / What sentence can you hear? / Listen to the words and write
 them down.
 | Can you write out the speech? / Tell me what the person says. / What words do you hear? /
 what is the person saying? /
 Give me the transcript.
word_time: Find the start time and end time of the word "{word}" / Find the word "{word}" / When is "{word}" said? /
 At what time is the word "{word}" spoken? / Where is the word "{word}" in the audio? / Give the start and end time of
 "{word}". / When does the word "{word}" start and end? / Locate the word "{word}" in the speech. / find the start
 time and end time of "{word}" / Tell me when the word "{word}" is spoken. / When do you hear "{word}"? / Between what
 times do you hear "{word}"? / Find when "{word}" is said. / From when to when is "{word}" said? / Give me the time of
 the word "{word}". / when does "{word}" begin and end? / What are the start and end times of "{word}"? / Mark the
 word "{word}" in time. / At which second does the word "{word}" start, and at which does it end?
 | When do you hear the word "{word}"? / Tell me the start and end of the word "{word}". / Find "{word}" in the audio. /
 Between which times is "{word}" said?
language: What language is spoken? / what language does the person speak? / Which language is it? / In which language
 does the person speak? / Recognize the language of the speech. / what is the language? / Name the language. / Which
 language do you hear? / What is the language of the speaker? / Tell me the language. / What language do you hear? /
 which language does the speaker use? / In what language is this said? / What language is that? / Identify the
 language. / Which language is this person speaking? / What is the spoken language? / Is this English or another
 language? / Say which language is spoken. / What tongue is this?
 | Which language is spoken here? / What language is this? / Tell me the language of this speech. /
 In what language is the person talking?
gender: Is the speaker a man or a woman? / what is the gender of the speaker? / Is it a man or a woman? / Who is
 speaking, a man or a woman? / Recognize the gender of the speaker. / Is this voice male or female? / What is the
 speaker's gender? / Tell me if a man or a woman speaks. / Is the person a woman or a man? / Do you hear a man or a
 woman? / Does the voice belong to a man or a woman? / Which gender is the speaker? / What gender does the voice have?
 / Is the person speaking male or female? / Tell me the gender of the speaker. / Is that a woman or a man? / Say
 whether a man or a woman is talking. / What is the gender of the person? / Is a woman or a man talking? / man or
 woman?
 | Does a man or a woman speak? / Is the voice that of a man or a woman? / Which gender does the voice have? /
 What gender is the person speaking?
age: Is the speaker a child or an adult? / Is it a child or an adult? / is the voice that of a child? / Who is
 speaking, a child or an adult? / How old is the speaker, a child or an adult? / Is the person a child or a grown-up? /
 Does a child or an adult speak? / Tell me if a child or an adult speaks. / Do you hear a child or an adult? / Is this
 the voice of a child or of an adult? / child or adult? / Is the speaker an adult? / Is the speaker a child?
 | Does the voice belong to a child or an adult? / Is a child or an adult talking? / Is an adult or a child speaking? /
 What is the age of the speaker, child or adult?
emotion: What is the emotion of the speaker? / what emotion does the speaker have? / How does the speaker feel? / How
 does the person sound? / Recognize the emotion of the speech. / In what mood is the speaker? / Which emotion do you
 hear? / Tell me the emotion of the speaker. / Is the speaker angry, sad or happy? / What feeling does the voice have? /
 Name the emotion. / what is the emotion? / How is the speaker feeling? / Recognize the speaker's emotion.
 | Which feeling is in the voice? / What emotion does the person show? / How does the voice sound, glad or sad? /
 In which mood does the person speak?
speakers: How many speakers are there? / how many people speak? / Count the speakers. / How many voices do you hear? /
 How many persons are talking? / What is the number of speakers? / How many different people talk in the audio? / Give
 the number of speakers. / Tell me how many people speak. / How many speakers do you hear? / How many people are
 there? / How many different speakers are there? / Count the voices. / Count the people in the audio. / Say how many
 persons you hear. / how many voices are in this audio? / How many people can you hear talking? / What number of
 people is speaking?
 | How many people are speaking? / How many different voices are there? / Count the people who speak. /
 Tell me how many speakers you hear.
same_speaker: Is it the same speaker in both audios? / Are these two audios of the same person? / Is the speaker of
 Audio 1 the speaker of Audio 2? / do both audios have the same speaker? / Is there one speaker or two in these
 audios? / Compare the speakers of the two audios. / Does the same person speak in both? / Are the two voices the
 same? / Is the person the same in both? / Are both audios spoken by one person? / Do two different people speak, or
 one? / Is it the same person? / Tell me if both voices are of one person. / Do the two recordings have the same
 speaker? / Are the speakers of the two audios different? / Is this one person or are these two people? / Is the voice
 in both audios the same? / Are the two recordings of the same voice?
 | Is the same person speaking in the two audios? / Do the two audios have different speakers? /
 Are both recordings of one speaker? / Is it one and the same voice?
event: what is that sound? / What is it / What sound is this? / what do you hear? / Recognize the sound. / Name the
 sound. / Which sound is it? / What is the sound in the audio? / What makes this sound? / Tell me what you hear. /
 What can be heard? / Identify this sound. / Which sound is that? / What do you hear in this audio? / What is
 sounding? / Say what sound it is. / What was that sound? / What kind of sound do you hear? / What is this noise? /
 Tell me which sound it is. / what is this?
 | What can you hear? / Which sound do you hear? / Tell me what this sound is. / Identify the sound.
events: Which sounds do you hear? / what sounds are in the audio? / Name all the sounds. / List the sounds. / What
 sounds can be heard? / Which sounds are there? / Recognize the sounds in this audio. / What are the sounds of this
 recording? / Which sounds do you recognize? / Tell me which sounds there are. / Give all sounds that you hear. / What
 different sounds do you hear? / List all the sounds in this recording. / Say which sounds are heard. / Name every
 sound. / Which different sounds are there? / what can you hear in this recording? / Give me a list of what you hear.
 | Which sounds can you hear? / Tell me all the sounds that you hear. / What different sounds are in this recording? /
 Give a list of the sounds.
background: What sound is in the background? / which sound is behind the voice? / Besides the voice, what do you hear?
 / What else can be heard? / Name the background sound. / What is the noise behind the speaker? / Which sound is there
 besides the speech? / what happens in the background? / What other sound do you hear? / Tell me the sound in the
 background. / Is there a sound behind the speech? / What is heard behind the voice? / what other sound is there? /
 Which sound is in the background of the speech? / What else do you hear? / Which background sound is it? / What is
 that behind the person? / What is going on behind the voice?
 | What do you hear in the background? / Which other sound is there? / What is the background sound? /
 What sound do you hear behind the person?
instrument: what is the instrument / What is the instrument? / Which instrument is playing? / Name the instrument. /
 What instrument do you hear? / Recognize the instrument. / Which instrument is it? / What is being played? / On what
 instrument is this played? / Tell me which instrument plays. / What instrument is playing? / Identify this
 instrument. / Which instrument was that? / What instrument can be heard? / Which instrument is being played? / Say
 what the instrument is. / What instrument is it? / what is playing here? / Which instrument makes this sound?
 | Which instrument do you hear? / What instrument is this? / Tell me the instrument. / Identify the instrument.
note: What note is played? / which note is it? / What is the note? / Name the note. / What is the pitch of the note? /
 Which note do you hear? / Recognize the note. / What is the pitch? / Tell me the note. / What note is this? / What
 note is being played? / Identify the pitch. / Which pitch do you hear? / What pitch does this note have? / Say which
 note is played. / which note was that? / What tone is it? / Give the name of the note.
 | Which note is played? / What note do you hear? / Tell me the pitch of this note. / Identify the note.
loudness: Is the note loud or soft? / how loud is the note? / Is it played loud or soft? / Is this note soft or loud?
 / What is the loudness of the note? / Was the note played loud or soft? / Does the note sound loud or soft? / Tell me
 if the note is loud or soft. / Is it loud or soft? / How loud is it played? / Was that loud or soft? / Is this note
 loud? / Say whether the note is soft or loud. / Was it a soft note or a loud note? / How strong is the note? / Is the
 note played strongly or softly? / How loud was this note? / Would you say that it is loud or soft?
 | Is this a loud note or a soft note? / How strongly is the note played? / Loud or soft? /
 Would you call this note loud or soft?
tempo: Is the music fast or slow? / what is the tempo? / How fast is the music? / Is the tempo fast or slow? / Is the
 melody slow or fast? / Is it played fast or slow? / What is the tempo of the music? / Tell me if the music is fast or
 slow. / Is it fast or slow? / Does the music go fast or slow? / Is this fast music or slow music? / Say whether it is
 fast or slow. / How quick is the melody? / What is its tempo? / Is the piece fast or slow? / Would you say that it is
 slow or fast? / Is the playing slow or fast? / what speed has the music?
 | Is this music slow or fast? / Fast or slow? / What tempo does the music have? /
 Would you call this music fast or slow?
caption: Describe the audio. / what happens in the audio? / Describe what you hear. / Give a caption of the audio. /
 What is going on in this audio? / Tell me what you hear. / Write a caption. / Describe this recording. / What is
 happening in this recording? / Describe this audio in a sentence. / Write one sentence about the audio. / Can you
 describe the sound? / Say what happens. / Caption the recording. / what is happening in the audio? / Describe the
 sounds and the speech. / Tell me what is going on. / Summarize what you hear. / Can you caption this?
 | Describe the recording in one sentence. / What is happening here? / Caption this audio. /
 Can you describe what is in the audio?
which_audio: which audio has {thing}? / In which audio do you hear {thing}? / Which audio is the one with {thing}? /
 Where do you hear {thing}, in Audio 1 or in Audio 2? / Find the audio with {thing}. / Which of the two has {thing}? /
 Do you hear {thing} in Audio 1 or in Audio 2? / Which of the audios has {thing} in it? / Which recording is the one
 with {thing}? / Which audio contains {thing}? / Tell me where you hear {thing}. / Is {thing} in the first or in the
 second audio? / In which of the two do you hear {thing}? / Which one has {thing}? / Is {thing} in Audio 1 or in Audio
 2? / In which recording is {thing}? / Tell me in which audio you hear {thing}. / Does the first or the second audio
 have {thing}?
 | Which recording has {thing}? / Which one of the two audios contains {thing}? / Tell me which audio has {thing}. /
 Do you hear {thing} in the first audio or in the second?
"""

_UNCOUNTED = (
    "water",
    "tape",
    "foil",
    "percussion",
    "rustling",
    "laughter",
    "velcro",
    "steam",
    "code",
    "liquid",
    "noise",
)


def question(task: str, rng: random.Random, *, split: str) -> str:
    """Pick a wording of `split`, "train" or "test"; it may have {word} or {thing} in it. Those of training vary."""
    picked = rng.choice(wordings(task)[split])
    return _varied(picked, rng) if split == "train" and rng.random() < 0.4 else picked


def _varied(asked: str, rng: random.Random) -> str:
    """As people type it: small letters, no mark at the end, a word before or behind."""
    kind = rng.choice(("small", "bare", "before", "behind"))
    small = asked[0].lower() + asked[1:] if not asked.startswith("Audio") else asked
    if kind == "small":
        return small
    if kind == "bare":
        return asked.rstrip(".?")
    if kind == "before":
        return rng.choice(("Please: ", "Listen. ", "Listen to the audio. ", "Now ", "And ", "Tell me, ")) + small
    return asked.rstrip(".?") + rng.choice((" in this audio?", " in the recording?", ", please?", " here?"))


@cache
def wordings(task: str) -> dict[str, tuple[str, ...]]:
    """Give all questions of a task by split."""
    blocks = ("\n" + _QUESTIONS.replace("\n ", " ").strip()).split(f"\n{task}: ")
    train, test = blocks[1].split("\n")[0].split(" | ")
    return {"train": _parted(train), "test": _parted(test)}


def tasks_asked() -> tuple[str, ...]:
    """Give the names of all tasks that have questions."""
    return tuple(line.split(": ")[0] for line in _QUESTIONS.replace("\n ", " ").strip().split("\n"))


def thing(sound: str) -> str:
    """Name an event or an instrument with its article: a bell, rain, an organ."""
    if sound in _sounds():
        return _sounds()[sound][0]
    if sound.endswith(("s", "ing", "slamming", *_UNCOUNTED)) and not sound.endswith(("glass", "bus", "brass")):
        return sound
    return f"{'an' if sound[0] in 'aeiou' else 'a'} {sound}"


def the(sound: str) -> str:
    """Name an event or an instrument as known: the bell."""
    return f"the {thing(sound).removeprefix('a ').removeprefix('an ')}"


def happens(sound: str) -> str:
    """Say that an event happens: a bell rings."""
    return _sounds()[sound][1] if sound in _sounds() else f"{thing(sound)} sounds"


def note_name(pitch: int) -> str:
    """Name a MIDI pitch: 60 is C4."""
    return f"{PITCHES[pitch % 12]}{pitch // 12 - 1}"


def listed(names: list[str]) -> str:
    """Join as in a sentence: rain, a bell and footsteps."""
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)


def _parted(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(" / "))


@cache
def _sounds() -> dict[str, tuple[str, str]]:
    rows = (line.split(" | ") for line in _SOUNDS.strip().splitlines())
    return {name: (named, happening) for name, named, happening in rows}
