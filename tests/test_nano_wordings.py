"""What nano is asked and in which languages it is spoken to: wordings, splits, sentences; no synthesizer is needed."""

import random

import pytest

from models.nano.train import wordings
from models.nano.train.foreign import LANGUAGES, content_words, foreign, split_of


@pytest.mark.parametrize("language", LANGUAGES)
def test_foreign_sentences_are_varied_and_split(language):
    assert len(content_words(language)) >= 150
    rng = random.Random(6)
    train = {foreign(rng, language, split="train") for _ in range(3000)}
    assert len(train) > 2500
    assert {split_of(sentence) for sentence in train} == {"train"}
    assert split_of(foreign(rng, language, split="test")) == "test"


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="sv"):
        foreign(random.Random(0), "sv", split="train")


@pytest.mark.parametrize(
    ("language", "scripts"), [("zh", ("CJK",)), ("ja", ("HIRAGANA", "KATAKANA")), ("ko", ("HANGUL",))]
)
def test_foreign_scripts_are_those_that_the_synthesizer_reads(language, scripts):
    import unicodedata

    letters = {letter for word in content_words(language) for letter in word}
    assert [letter for letter in letters if not unicodedata.name(letter).startswith(scripts)] == []


@pytest.mark.parametrize("task", wordings.tasks_asked())
def test_questions_differ_between_training_and_test(task):
    train, test = wordings.wordings(task)["train"], wordings.wordings(task)["test"]
    assert len(set(train)) == len(train) >= 8
    assert len(set(test)) == len(test) >= 4
    assert not {text.lower() for text in train} & {text.lower() for text in test}


@pytest.mark.parametrize(("task", "blank"), [("word_time", "{word}"), ("which_audio", "{thing}")])
def test_questions_name_what_they_ask_about(task, blank):
    assert all(blank in text for texts in wordings.wordings(task).values() for text in texts)


def test_official_questions_are_trained_on():
    asked = {text for task in wordings.tasks_asked() for text in wordings.wordings(task)["train"]}
    assert {
        "what does the person say?",
        "Recognize the speech",
        'Find the start time and end time of the word "{word}"',
        'Find the word "{word}"',
        "what is that sound?",
        "What is it",
        "what is the instrument",
    } <= asked


def test_every_sound_event_has_its_names():
    pytest.importorskip("numpy")
    from models.nano.train.sounds import EVENTS

    assert set(EVENTS) == set(wordings._sounds())
    assert (
        wordings.listed([wordings.thing(name) for name in ("rain", "bell", "footsteps")])
        == "rain, a bell and footsteps"
    )
    assert (wordings.the("bell"), wordings.happens("bell")) == ("the bell", "a bell rings")
    assert (wordings.thing("organ"), wordings.the("organ")) == ("an organ", "the organ")


@pytest.mark.parametrize(("pitch", "name"), [(60, "C4"), (61, "C#4"), (21, "A0"), (107, "B7")])
def test_notes_are_named(pitch, name):
    assert wordings.note_name(pitch) == name
