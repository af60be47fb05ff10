"""Answers with times: well-formed ones become words with times, others as many of them as are certain."""

import itertools
import json
import random
import re

import pytest

from tokenizer.special_tokens import audio_tokens
from tokenizer.timestamps import TimedWord, parse_words

OFFICIAL = "<|0.00|><|sil|><|0.54|>mister<|0.86|>quilter<|1.20|><|sil|><|1.30|>is<|1.50|>"
MISTER, QUILTER, IS = TimedWord("mister", 0.54, 0.86), TimedWord("quilter", 0.86, 1.2), TimedWord("is", 1.3, 1.5)


def words(text):
    return [(word.word, word.start, word.end) for word in parse_words(text)[1]]


@pytest.mark.parametrize("text", [OFFICIAL, OFFICIAL.removeprefix("<|0.00|>"), f" {OFFICIAL} \n"])
def test_the_base_models_answer_becomes_words_with_times(text):
    assert parse_words(text) == ("mister quilter is", [MISTER, QUILTER, IS])


def test_the_first_word_may_start_where_the_prompt_ends():
    assert words("mister<|0.86|>quilter<|1.20|>") == [("mister", 0.0, 0.86), ("quilter", 0.86, 1.2)]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<|0.10|>对了<|0.40|>我<|0.60|>还<|0.80|>想<|1.00|>", "对了我还想"),
        ("<|0.10|>これ<|0.40|>は<|0.60|>。<|0.80|>", "これは。"),
        ("<|0.10|>对<|0.40|>OK<|0.60|>\uff0c<|0.80|>好<|1.00|>", "对 OK\uff0c好"),
        ("<|0.10|>안녕<|0.40|>하세요<|0.60|>", "안녕 하세요"),
        ("<|0.10|> well <|0.40|>,<|0.60|>it<|0.70|>'s<|0.80|>  so<|0.90|>", "well, it's so"),
        ("<|0.10|><|en|>well<|endofword|><|0.40|>so<|0.50|>", "well so"),
    ],
)
def test_the_text_is_written_as_its_language_is(text, plain):
    assert parse_words(text)[0] == plain


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        (
            'The word "middle classes" starts at <|2.33|> seconds and ends at <|3.26|> seconds.',
            'The word "middle classes" starts at 2.33 seconds and ends at 3.26 seconds.',
            [("middle classes", 2.33, 3.26)],
        ),
        (
            'The person name "shelley\'s" is mentioned. "shelley\'s" starts at <|3.79|> seconds and ends at <|4.33|> seconds.',
            'The person name "shelley\'s" is mentioned. "shelley\'s" starts at 3.79 seconds and ends at 4.33 seconds.',
            [("shelley's", 3.79, 4.33)],
        ),
        (
            'The word "a" is at <|3.00|> to <|3.50|>, the word "b" at <|1.00|> to <|1.50|>.',
            'The word "a" is at 3.00 to 3.50, the word "b" at 1.00 to 1.50.',
            [("a", 3.0, 3.5), ("b", 1.0, 1.5)],
        ),
        ('The word "x" starts at <|3.00|> seconds.', 'The word "x" starts at 3.00 seconds.', []),
        (
            'The word "x" starts at <|3.00|> and ends at <|2.00|>.',
            'The word "x" starts at 3.00 and ends at 2.00.',
            [],
        ),
        ("It is from <|1.00|> to <|2.00|> seconds.", "It is from 1.00 to 2.00 seconds.", []),
    ],
)
def test_a_sentence_keeps_its_times_and_gives_its_word(answer, text, found):
    assert parse_words(answer)[0] == text
    assert words(answer) == found


@pytest.mark.reference
def test_published_sentences_give_one_word_each(reference):
    published = json.loads((reference / "published_answers.json").read_text(encoding="utf-8"))
    answers = [turn["answer"] for case in published for turn in case["turns"] if "<|" in turn["answer"]]
    assert len(answers) == 4
    for answer in answers:
        start, end = (float(digits) for digits in re.findall(r"<\|(.*?)\|>", answer))
        (word,) = parse_words(answer)[1]
        assert (word.start, word.end) == (start, end)
        assert f'"{word.word}" starts' in answer


@pytest.mark.parametrize(
    ("answer", "text", "found"),
    [
        ("", "", []),
        ("<|sil|>", "", []),
        ("<|0.00|>", "", []),
        ("<|0.00|><|sil|><|30.00|>", "", []),
        ("mister", "mister", []),
        ("mister quilter is", "mister quilter is", []),
        ("<|0.54|>mister<|0.86|>quilter", "mister quilter", ["mister"]),  # the last time is missing
        ("<|0.54|>a<|0.86|>b<|0.50|>c<|1.20|>", "a b c", ["a"]),  # c may start at 0.50 or behind b
        ("<|0.50|>a<|0.90|>b<|29.00|>c<|1.20|>d<|1.50|>e<|1.90|>", "a b c d e", ["a", "d", "e"]),  # one wild time
        ("<|0.50|>a<|0.50|>b<|0.90|>", "a b", ["b"]),  # no duration
        ("<|0.50|>a<|0.90|><|1.00|>b<|1.50|>", "a b", ["a", "b"]),  # a gap without silence
        ("<|sil|>a<|0.90|>b<|1.50|>", "a b", ["b"]),  # where does a start
        ("<|0.10|>a<|sil|><|0.90|>b<|1.50|>", "a b", ["b"]),  # where does a end
        ("<|0.10|>a<|0.90|>b<|31.00|>c<|40.00|>", "a b c", ["a"]),  # times that are no tokens
        ("<|0.10|>,<|0.90|>b<|1.00|>", ", b", ["b"]),  # a mark is no word
        ("<|0.10|>a<|0.9", "a<|0.9", []),  # cut within a tag that was no token
    ],
)
def test_what_is_not_certain_is_left_out_and_stays_in_the_text(answer, text, found):
    assert parse_words(answer)[0] == text
    assert [word for word, _, _ in words(answer)] == found


def test_a_loop_of_times_gives_each_word_once():
    answer = "<|0.00|>" + "a<|0.50|>b<|1.00|><|0.00|>" * 50
    assert words(answer) == [("a", 0.0, 0.5), ("b", 0.5, 1.0)]


def random_answer(rng):
    """Times, words, tags and rubbish, in a mixture that is now like an answer, now like none."""
    pieces = [
        lambda: f"<|{rng.uniform(0, 40):.2f}|>",
        lambda: f"<|{rng.uniform(0, 3):.2f}|>",
        lambda: rng.choice(["mister", "a", "对", "は", "é", "is it", "42", '"so"', ",", "。"]),
        lambda: rng.choice(["<|sil|>", "<|sil|>", "<|en|>", "<|0.0|>", "<|1|>", "<|1.|>", "<|.5|>", "<|-1.00|>"]),
        lambda: rng.choice(["<|", "|>", "<", ">", "|", "\n", " ", "\x00", "\ufffd", "\ud800", "[", "'", '"']),
        lambda: "<|" * rng.randrange(3) + "1.00|>" + "|>" * rng.randrange(2),
        lambda: rng.choice(audio_tokens()),
        lambda: "<|" + "9" * rng.randrange(500) + "|>",
        lambda: "".join(chr(rng.randrange(1, 0xD800)) for _ in range(3)),
        lambda: 'The word "x" starts at ',
    ]
    weights = [rng.random() ** 3 for _ in pieces]
    return "".join(piece() for piece in rng.choices(pieces, weights, k=rng.randrange(25)))


@pytest.mark.slow
def test_any_answer_gives_a_clean_text_and_words_in_order():
    rng, with_words = random.Random(4), 0
    for _ in range(20_000):
        answer = random_answer(rng)
        text, found = parse_words(answer)
        assert text == text.strip(), answer
        assert not re.search(r"<\|[\w.]+\|>", text), answer
        assert all(0 <= word.start < word.end <= 30 for word in found), answer
        assert all(word.word and word.word == word.word.strip() for word in found), answer
        assert all(not re.search(r"<\|[\w.]+\|>", word.word) for word in found), answer
        with_words += bool(found)
    assert with_words > 2_000


def test_words_of_any_segments_go_forward_and_none_is_lost_without_a_fault():
    """Words go forward whatever is spoilt, and of an answer without a fault each one is there."""
    rng = random.Random(5)
    for _ in range(5_000):
        at, parts, expected = 0, [], []
        for number in range(rng.randrange(1, 12)):
            if rng.random() < 0.3:
                at += rng.randrange(1, 60)
                parts += ["<|sil|>", f"<|{at / 100:.2f}|>"]
            start, at = at, at + rng.randrange(1, 100)
            parts += [f"word{number}", f"<|{at / 100:.2f}|>"]
            expected.append(TimedWord(f"word{number}", start / 100, at / 100))
        assert parse_words("".join(parts)) == (" ".join(word.word for word in expected), expected)
        spoilt = list(parts)
        for _ in range(rng.randrange(1, 4)):
            spoilt[rng.randrange(len(spoilt))] = rng.choice(["", f"<|{rng.uniform(0, 31):.2f}|>", "<|sil|>", "odd"])
        found = parse_words("".join(spoilt))[1]
        assert all(one.end <= two.start for one, two in itertools.pairwise(found)), spoilt


def test_one_wild_time_costs_two_words_at_most():
    rng = random.Random(6)
    for _ in range(2_000):
        times = [number / 2 for number in range(1, 21)]
        at = rng.randrange(len(times))
        times[at] = round(rng.uniform(0, 40), 2)
        text = "<|0.00|>" + "".join(f"w{number}<|{time:.2f}|>" for number, time in enumerate(times))
        found = parse_words(text)[1]
        assert len(found) >= len(times) - 2, text
        wrong = [word for word in found if word.end - word.start != 0.5]
        assert {word.word for word in wrong} <= {f"w{at}", f"w{at + 1}"}, text


def test_a_long_answer_is_read_at_once():
    for answer in (
        "<|0.00|>" * 20_000,
        "<|" * 50_000,
        '"' * 50_000,
        "a" * 100_000,
        'a "b' * 20_000,
        "x<|1.00|>" * 20_000,
    ):
        for text in (answer, "one two " + answer):
            assert len(parse_words(text)[0]) <= len(text)
