"""Choices in the words of a model's own answer."""

import pytest

from tokenizer.framing import framed


@pytest.mark.parametrize(
    ("said", "choices", "expected"),
    [
        ("The speaker is a man.", ["man", "woman"], ["The speaker is a man.", "The speaker is a woman."]),
        ("The speaker is a woman.", ["man", "woman"], ["The speaker is a man.", "The speaker is a woman."]),
        ("Yes", ["yes", "no"], ["Yes", "No"]),
        ("it is a man", ["MAN", "Woman", "child"], ["it is a man", "it is a woman", "it is a child"]),
        ("Man", ["Man", "woman"], ["Man", "woman"]),
        ("It is hot water.", ["water", "hot water"], ["It is water.", "It is hot water."]),
        ("I hear rain, then wind.", ["wind", "rain"], ["I hear wind, then wind.", "I hear rain, then wind."]),
        ("Who knows?", ["yes", "no"], ["yes", "no"]),
        ("", ["a.b", "c"], ["a.b", "c"]),
    ],
)
def test_each_choice_stands_where_the_named_one_does(said, choices, expected):
    assert framed(said, choices) == expected
