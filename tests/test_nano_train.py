"""Training's own parts that need neither torch nor a synthesizer: the vocabulary and the measures of the score."""

import numpy as np
import pytest

from models.nano.train.bpe import train_ranks, write_ranks
from models.nano.train.score import distance, judge, spoken
from tokenizer.tokenizer import Tokenizer

TEXTS = ['The person says: "the cat sat on the mat".', "the language is German."] * 3


@pytest.fixture
def trained(tmp_path):
    write_ranks(train_ranks(TEXTS, 280), tmp_path / "qwen.tiktoken")
    return Tokenizer(tmp_path / "qwen.tiktoken")


def test_a_vocabulary_starts_with_the_256_bytes():
    assert train_ranks(TEXTS, 300)[:256] == [bytes([byte]) for byte in range(256)]


def test_a_frequent_word_becomes_one_token(trained):
    assert len(trained.encode(" the")) == 1


@pytest.mark.parametrize("text", [*TEXTS[:2], "unseen wörds 你好", "<|en|> is a tag"])
def test_every_text_survives_the_vocabulary(trained, text):
    assert trained.decode(trained.encode(text)) == text


def test_the_special_tokens_stand_behind_the_ranks(trained):
    assert trained.vocab_size == 280 + 3522


def test_special_tokens_are_not_merged_from():
    assert b"<|" not in train_ranks(["<|en|>"] * 50, 300)


def test_training_stops_when_nothing_is_left_to_merge():
    assert train_ranks(["ab"], 400)[256:] == [b"ab"]


@pytest.mark.parametrize(
    ("found", "wanted", "errors"),
    [("", "a b", 2), ("a b", "a b", 0), ("a c", "a b", 1), ("a x b", "a b", 1), ("b", "a b", 1), ("x y z", "", 3)],
)
def test_the_distance_counts_words(found, wanted, errors):
    assert distance(found.split(), wanted.split()) == errors


def test_a_transcript_is_read_out_of_its_quotes():
    assert spoken('The person says: "it\'s ten".') == ["it's", "ten"]
    assert spoken("it's ten") == ["it's", "ten"]


def test_word_times_are_measured_on_average_of_both_ends():
    wanted = 'The word "a" starts at <|1.00|> seconds and ends at <|2.00|> seconds.'
    found = 'The word "a" starts at <|1.10|> seconds and ends at <|2.20|> seconds.'
    measured = judge("word_time", found, wanted)
    assert measured["seconds off"][0] == pytest.approx(0.15)
    assert measured["within 0.1 s"] == (0.0, 1)
    assert judge("word_time", "no idea", wanted)["seconds off"] == (1.0, 1)


@pytest.mark.parametrize(("pitch", "near"), [(60, 1.0), (61, 1.0), (62, 0.0)])
def test_a_note_counts_within_a_semitone(pitch, near):
    measured = judge("note", f"The note is C4 (<|midi_pitch_{pitch}|>).", "The note is C4 (<|midi_pitch_60|>).")
    assert measured["within a semitone"] == (near, 1)


def test_other_tasks_count_exact_answers():
    assert judge("gender", "The speaker is a man.", "The speaker is a man.") == {"right": (1.0, 1)}
    assert judge("gender", "The speaker is a woman.", "The speaker is a man.") == {"right": (0.0, 1)}


def test_the_mean_of_checkpoints_keeps_their_type_and_the_other_files_of_the_first(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    from models.nano.train import average

    for name, value in (("first", 1), ("second", 2), ("third", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(name)
        numpy.save_file({"w": np.full((2, 3), value, np.float16)}, tmp_path / name / average.WEIGHTS)
    assert average.main([str(tmp_path / name) for name in ("out", "first", "second", "third")]) == 0
    found = numpy.load_file(tmp_path / "out" / average.WEIGHTS)["w"]
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, np.full((2, 3), 3, np.float16))
    assert (tmp_path / "out" / "config.json").read_text() == "first"
