"""What nano is taught to hear: words, sentences, splits and questions; no synthesizer is needed."""

import random
from collections import Counter
from pathlib import Path

import pytest

from models.nano.train import grammar, wordings
from models.nano.train.foreign import LANGUAGES, content_words, foreign
from models.nano.train.grammar import WORDS, english, number_words, split_of

WORDS_FILE = Path(__file__).parents[1] / "models" / "nano" / "words.txt"
HOMOPHONES = (
    "to two too/for four fore/one won/ate eight/b be bee/c see sea/r are/u you/y why/t tea tee/i eye/o oh owe/p pea/"
    "q queue cue/j jay/their there/know no/knew new/right write/hear here/where wear/which witch/wood would/by buy bye/"
    "week weak/sun son/meet meat/red read/blue blew/hour our/night knight/road rode/tail tale/way weigh/wait weight/"
    "whole hole/through threw/flower flour/hair hare/bear bare/pear pair/deer dear/break brake/some sum/high hi/"
    "nose knows/made maid/sent cent scent/war wore/weather whether/past passed/seen scene/plane plain/piece peace/"
    "berry bury/find fined/great grate/key quay/so sew/tire tyre/board bored/steel steal/male mail/cheap cheep"
)
VOWELS = "aeiou"


@pytest.fixture(scope="module")
def sentences():
    rng = random.Random(3)
    return [english(rng, split="train") for _ in range(40_000)]


def test_the_words_are_listed_once_each_in_order():
    assert tuple(WORDS_FILE.read_text().splitlines()) == WORDS == tuple(sorted(set(WORDS)))
    assert 700 <= len(WORDS) <= 900
    assert all(word.isascii() and word.isalpha() and word == word.lower() for word in WORDS)


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="WORDLIST"):
        _ = grammar.WORDLIST


@pytest.mark.parametrize("alike", HOMOPHONES.split("/"))
def test_of_words_that_sound_alike_one_is_used_at_most(alike):
    assert len(set(alike.split()) & set(WORDS)) <= 1


def test_sentences_use_listed_words_and_2_to_12_of_them(sentences):
    assert {word for words in sentences for word in words} <= set(WORDS)
    assert {len(words) for words in sentences} == set(range(2, 13))


def test_no_word_is_rare(sentences):
    counts = Counter(word for words in sentences for word in words)
    floor = counts.total() / 4000
    assert [word for word in WORDS if counts[word] < floor] == []


def test_sentences_are_varied(sentences):
    assert len({" ".join(words) for words in sentences}) > 0.85 * len(sentences)


def test_the_splits_have_nothing_in_common(sentences):
    rng = random.Random(4)
    tests = {" ".join(english(rng, split="test")) for _ in range(500)}
    assert not tests & {" ".join(words) for words in sentences}
    assert {split_of(sentence) for sentence in tests} == {"test"}


def test_the_same_seed_gives_the_same_sentences():
    first, second = ([english(rng, split="train") for _ in range(50)] for rng in (random.Random(7), random.Random(7)))
    assert first == second


@pytest.mark.parametrize("make", [english, lambda rng, split: foreign(rng, "de", split=split)])
def test_an_unknown_split_is_refused(make):
    with pytest.raises(ValueError, match="dev"):
        make(random.Random(0), split="dev")


def test_an_stands_before_vowels_and_a_before_consonants_in_grammar(monkeypatch):
    monkeypatch.setattr(grammar, "RANDOM_SHARE", 0.0)
    rng = random.Random(5)
    pairs = {
        pair
        for _ in range(5000)
        for pair in zip(*(words[i:] for words in [english(rng, split="train")] for i in (0, 1)), strict=False)
    }
    assert not [after for before, after in pairs if before == "an" and after[0] not in VOWELS]
    assert not [
        after for before, after in pairs if before == "a" and after[0] in VOWELS and len(after) > 1 and after != "one"
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (305, "three hundred and five"),
        (1000, "one thousand"),
        (2007, "two thousand and seven"),
        (40_120, "forty thousand one hundred and twenty"),
    ],
)
def test_numbers_are_spelled(number, words):
    assert number_words(number) == words.split()


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
