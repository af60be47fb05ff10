"""What nano is asked: wordings and their splits."""

import pytest

from models.nano.train import wordings


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


def test_sounds_have_their_names():
    assert (
        wordings.listed([wordings.thing(name) for name in ("rain", "bell", "footsteps")])
        == "rain, a bell and footsteps"
    )
    assert (wordings.the("bell"), wordings.happens("bell")) == ("the bell", "a bell rings")
    assert (wordings.thing("organ"), wordings.the("organ")) == ("an organ", "the organ")


@pytest.mark.parametrize(("pitch", "name"), [(60, "C4"), (61, "C#4"), (21, "A0"), (107, "B7")])
def test_notes_are_named(pitch, name):
    assert wordings.note_name(pitch) == name
