"""The output files byte for byte: txt, json, srt, vtt and tsv of short and long recordings, of words and of sentences."""

import csv
import io
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest

from cli.output.answer import Answer, Audio, Window, Word
from cli.output.cues import LONGEST_CUE, Cue, Layout, find_cues
from cli.output.formats import FORMATS, render

HOUR = 3600.0

LAYOUT = Layout()


def plain(cues):
    """Cues without the times of their words."""
    return [replace(cue, words=()) for cue in cues]


def answer(text="", *, windows=(), words=None, seconds=4.25, **fields):
    return Answer(
        ["talk.flac"],
        "what?",
        text=text,
        audio=[Audio("talk.flac", seconds, seconds)],
        windows=[Window(*window) for window in windows],
        words=None if words is None else [Word(*word) for word in words],
        **fields,
    )


def long_talk():
    return answer("one two three", windows=[(0.0, 28.4, "one\n two"), (28.4, HOUR, ""), (HOUR, HOUR + 1.0006, "three")])


def spoken(text, *, start=0.0, each=0.3, gap=0.1):
    """The words of a text, one after the other."""
    return [(word, start + i * (each + gap), start + i * (each + gap) + each) for i, word in enumerate(text.split())]


def cues(text="", **given):
    return plain(find_cues([answer(text, **given)], LAYOUT))


# --- whole files


def test_every_format_has_a_writer_and_no_other_has():
    for fmt in FORMATS:
        assert render([answer("x")], fmt).endswith("\n")
    with pytest.raises(KeyError):
        render([answer("x")], "docx")


@pytest.mark.parametrize(
    ("fmt", "content"),
    [
        ("txt", "größer als 大\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:04,250\ngrößer als 大\n\n"),
        ("vtt", "WEBVTT\n\n00:00.000 --> 00:04.250\ngrößer als 大\n\n"),
        ("tsv", "start\tend\ttext\n0\t4250\tgrößer als 大\n"),
    ],
)
def test_a_short_answer(fmt, content):
    assert render([answer("größer als 大")], fmt) == content


@pytest.mark.parametrize(
    ("fmt", "content"),
    [
        ("txt", "one two\nthree\n"),
        ("srt", "1\n00:00:00,000 --> 00:00:07,000\none two\n\n2\n01:00:00,000 --> 01:00:01,001\nthree\n\n"),
        ("vtt", "WEBVTT\n\n00:00.000 --> 00:07.000\none two\n\n01:00:00.000 --> 01:00:01.001\nthree\n\n"),
        ("tsv", "start\tend\ttext\n0\t7000\tone two\n3600000\t3601001\tthree\n"),
    ],
)
def test_a_long_recording_is_told_window_by_window(fmt, content):
    assert render([long_talk()], fmt) == content


@pytest.mark.parametrize(
    ("fmt", "content"),
    [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n\n"), ("tsv", "start\tend\ttext\n")],
)
@pytest.mark.parametrize("text", ["", " \n\u2028 "])
def test_an_empty_answer_is_an_empty_file_of_its_format(fmt, content, text):
    assert render([answer(text)], fmt) == content
    assert render([answer(text, windows=[(0.0, 30.0, text), (30.0, 60.0, text)])], fmt) == content


@pytest.mark.parametrize(
    ("fmt", "content"),
    [
        ("txt", "one\n\nlines\n\nof two\n\none two\nthree\n"),
        (
            "tsv",
            "start\tend\ttext\n0\t4250\tone\n0\t4250\tlines of two\n0\t7000\tone two\n3600000\t3601001\tthree\n",
        ),
    ],
)
def test_several_prompts_stand_in_one_file(fmt, content):
    assert render([answer("one"), answer("lines\n\nof two"), long_talk()], fmt) == content


def test_a_silent_window_is_left_out():
    windows = [(0.0, 30.0, "mm", "stop", True), (30.0, 40.0, "said")]
    assert cues("mm said", windows=windows) == [Cue(30_000, 37_000, ("said",))]
    assert render([answer("mm said", windows=windows)], "txt") == "said\n"


def test_a_text_with_lines_stays_as_it_is_in_txt():
    assert render([answer("a\n\n  b --> \tc\n")], "txt") == "a\n\n  b --> \tc\n"


# --- json


def test_json_is_the_record_without_what_differs_from_run_to_run():
    said = answer("大", model="m", words=[("大", 0.0, 0.5)], windows=[(0.0, 4.25, "大")])
    said.timings["decode_s"] = 1.25
    record = json.loads(said.as_json())
    del record["timings"]
    content = render([said], "json")
    assert content == json.dumps(record, ensure_ascii=False) + "\n"
    assert content.startswith('{"status": "ok", "input": "talk.flac", "prompt": "what?", "text": "大"')
    said.timings["decode_s"] = 2.5
    assert render([said], "json") == content


def test_json_of_several_prompts_is_an_array():
    records = json.loads(render([answer("one"), answer("two")], "json"))
    assert [record["text"] for record in records] == ["one", "two"]


def test_a_name_that_is_no_utf8_can_be_written_and_comes_back():
    said = answer("x")
    said.input = ["caf\udce9.wav"]
    content = render([said], "json").encode()
    assert json.loads(content)["input"] == "caf\udce9.wav"


# --- times


@pytest.mark.parametrize(
    ("seconds", "srt", "vtt", "tsv"),
    [
        (0.0, "00:00:00,000", "00:00.000", "0"),
        (0.0004, "00:00:00,000", "00:00.000", "0"),
        (59.9996, "00:01:00,000", "01:00.000", "60000"),
        (3599.9994, "00:59:59,999", "59:59.999", "3599999"),
        (3599.9996, "01:00:00,000", "01:00:00.000", "3600000"),
        (360_000.25, "100:00:00,250", "100:00:00.250", "360000250"),
        (-1.0, "00:00:00,000", "00:00.000", "0"),
    ],
)
def test_times_are_whole_milliseconds(seconds, srt, vtt, tsv):
    said = [answer("x", windows=[(seconds, seconds + 30.0, "x")])]
    assert render(said, "srt").split("\n")[1].split(" --> ")[0] == srt
    assert render(said, "vtt").split("\n")[2].split(" --> ")[0] == vtt
    assert render(said, "tsv").split("\n")[1].split("\t")[0] == tsv


@pytest.mark.parametrize("end", [1.0, 1.0001, 0.5])
def test_a_cue_that_would_last_no_time_is_shown_all_the_same(end):
    assert cues("x", words=[("x", 1.0, end)]) == [Cue(1000, 1001, ("x",))]


# --- words


def test_words_are_grouped_into_two_lines_that_can_be_read():
    words = spoken("the quick brown fox jumps over the lazy dog and then it sleeps for a very long while in the sun")
    assert [cue.lines for cue in cues(words=words)] == [
        ("the quick brown fox jumps over the lazy", "dog and then it sleeps for a very long"),
        ("while in the sun",),
    ]


@pytest.mark.parametrize("pace", [(0.05, 0.0), (0.3, 0.1), (2.5, 0.59), (7.0, 0.1), (0.1, 0.61)])
def test_no_cue_is_too_wide_too_long_or_holds_a_pause(pace):
    each, gap = pace
    text = " ".join(f"word{i}" for i in range(60))
    words = spoken(text, each=each, gap=gap)
    found = cues(words=words)
    assert " ".join(line for cue in found for line in cue.lines) == text
    assert (found[0].start, found[-1].end) == (0, round(words[-1][2] * 1000))
    for cue in found:
        assert len(cue.lines) <= LAYOUT.lines
        assert all(len(line) <= LAYOUT.columns for line in cue.lines)
        assert cue.end - cue.start <= max(LONGEST_CUE, each) * 1000
        assert " " not in cue.lines[0] or gap <= 0.6
    assert [cue.start for cue in found] == sorted(cue.start for cue in found)


@pytest.mark.parametrize(("gap", "count"), [(0.59, 1), (0.61, 2)])
def test_a_pause_ends_a_cue(gap, count):
    assert len(cues(words=[("one", 0.0, 0.4), ("two", 0.4 + gap, 2.0)])) == count


def test_times_that_go_back_begin_a_cue_and_cues_are_in_the_order_of_time():
    words = [("late", 5.0, 5.2), ("early", 1.0, 3.0), ("within", 1.5, 2.0)]
    assert cues(words=words) == [Cue(1000, 3000, ("early within",)), Cue(5000, 5200, ("late",))]


def test_a_long_word_has_a_line_and_words_with_one_time_are_parted():
    assert cues(words=[("a", 0.0, 0.1), ("b" * 60, 0.1, 0.2)])[0].lines == ("a", "b" * 60)
    together = " ".join(["nine"] * 20)
    assert cues(words=[(together, 0.0, 3.0)])[0].lines == (
        " ".join(["nine"] * 8),
        " ".join(["nine"] * 8),
        "nine " * 3 + "nine",
    )


def test_chinese_has_no_spaces_and_counts_double_and_korean_has_spaces():
    found = cues(
        words=[
            (char, i * 0.1, i * 0.1 + 0.1)
            for i, char in enumerate("对了我还想提议我们可以租一些自行车骑行一下既锻炼身体")
        ]
    )
    assert found[0].lines == ("对了我还想提议我们可以租一些自行车骑行一下", "既锻炼身体")
    assert cues(words=spoken("안녕 하세요"))[0].lines == ("안녕 하세요",)
    assert cues(words=spoken("我们 go there ."))[0].lines == ("我们 go there.",)
    assert render([answer(windows=[(0, 9, "对了\n我还")])], "tsv").split("\t")[-1] == "对了我还\n"


def test_empty_words_are_no_cues():
    assert cues(words=[(" ", 0.0, 0.1), ("a\n b", 0.1, 0.2), ("", 0.2, 0.3)]) == [Cue(100, 200, ("a b",))]


def test_a_window_without_times_is_not_lost_among_those_with_them():
    windows = [(0.0, 30.0, "one two"), (30.0, 60.0, "no times here"), (60.0, 90.0, "mm", "stop", True)]
    assert cues("…", windows=windows, words=spoken("one two", start=3.0)) == [
        Cue(3000, 3700, ("one two",)),
        Cue(30_000, 37_000, ("no times here",)),
    ]


def test_without_times_a_short_text_is_one_cue_that_can_be_read():
    said = answer("x", words=[])
    said.audio = [Audio("a", 50.0, 30.0), Audio("b", 12.0, 12.0)]
    assert plain(find_cues([said], LAYOUT)) == [Cue(0, 7_000, ("x",))]
    said.audio = []
    assert plain(find_cues([said], LAYOUT)) == [Cue(0, 1, ("x",))]


# --- what the model wraps around, and what would break a format


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('The person says: "one two".', "one two"),
        ('The person says: "one two"', "one two"),
        ('The person says: " one, two. "', "one, two."),
        ('The speech is of a man speaking, in a Spanish, saying, "Bueno, también."."', None),
        ('The speech is of a man speaking, in a Spanish, saying, "Bueno, también.".', "Bueno, también."),
        ("The person says: “one two”.", "one two"),
        ("这个人说\uff1a“对了我还想”。", "对了我还想"),
        ('The word "middle classes" starts at 2.33 seconds.', None),
        ('First, "a" and then "b".', None),
        ('He is called "Bob".', None),
        ('The person says: "".', None),
        ('The person says: "one two', None),
        ('He says: "one" and leaves.', None),
        ("one two", None),
    ],
)
def test_a_quoted_transcript_is_shown_without_its_frame_where_there_are_times(text, shown):
    for fmt in ("srt", "vtt"):
        blocks = render([answer(text)], fmt).split("\n")[2 if fmt == "srt" else 3 :]
        assert " ".join(line for line in blocks if line) == (shown or text)
    assert render([answer(text)], "tsv") == f"start\tend\ttext\n0\t4250\t{shown or text}\n"
    assert render([answer(text)], "txt") == text + "\n"
    assert " ".join(cues(text, windows=[(0, 1, text), (1, 2, text)])[-1].lines) == (shown or text)


@pytest.mark.parametrize(
    "text", ["a --> b", "a ---> b", "a\n\n\nb", "00:01.000 --> 00:02.000\n\nx", "a\u2028\u2028b", "\r\n\r\na\r\n"]
)
def test_nothing_in_a_text_ends_a_cue_or_begins_one(text):
    said = [answer(text, windows=[(0, 1, text), (1, 2, text)])]
    for fmt, skip in (("srt", 0), ("vtt", 1)):
        blocks = render(said, fmt).split("\n\n")
        assert blocks.pop() == ""
        assert len(blocks) == 2 + skip
        assert all(block.count("-->") == 1 for block in blocks[skip:])
        assert not re.search(r"[\r\u2028]", render(said, fmt))


def test_marks_that_vtt_would_take_for_tags_are_escaped_there_only():
    text = "a <|sil|> & <b>"
    assert render([answer(text)], "vtt").split("\n")[3] == "a &lt;|sil|> &amp; &lt;b>"
    assert render([answer(text)], "srt").split("\n")[2] == text


def test_tsv_has_three_columns_whatever_the_text():
    said = [answer(windows=[(0, 1, "a\tb\n\nc\rd\x0be"), (1, 2, '"quoted')])]
    rows = list(csv.reader(io.StringIO(render(said, "tsv"), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [["start", "end", "text"], ["0", "1000", "a b c d e"], ["1000", "2000", '"quoted']]


# --- texts without times, spread over where the recording sounds


def test_a_long_transcript_is_parted_at_pauses_and_nothing_is_lost():
    speech = [(0.5, 6.0), (7.0, 12.0), (14.0, 29.0)]
    text = " ".join(f"word{number}," for number in range(60))
    said = answer(text, windows=[(0.0, 30.0, text)])
    said.windows[0].speech = speech
    found = find_cues([said], LAYOUT)
    assert " ".join(line for cue in found for line in cue.lines) == text
    assert all(cue.end - cue.start <= 7_000 and len(cue.lines) <= 2 for cue in found)
    assert all(max(map(len, cue.lines)) <= 42 for cue in found)
    assert all(before.end <= after.start and before.start < before.end for before, after in pairwise(found))
    starts = [cue.start / 1000 for cue in found]
    assert any(abs(start - 7.0) < 0.01 for start in starts)  # what follows a pause begins behind it
    assert any(abs(start - 14.0) < 0.01 for start in starts)


def test_the_layout_is_the_users():
    text = "one two three four five six seven eight"
    said = answer(text, windows=[(0.0, 10.0, text)])
    found = find_cues([said], Layout(columns=10, lines=1))
    assert [cue.lines for cue in found] == [("one two",), ("three four",), ("five six",), ("seven",), ("eight",)]


def test_each_word_is_underlined_while_it_is_said():
    said = answer("one two", words=[("one", 0.0, 0.4), ("two", 0.5, 0.9)], windows=[(0.0, 2.0, "one two")])
    lines = render([said], "vtt", Layout(highlight=True)).split("\n")
    assert lines[2:4] == ["00:00.000 --> 00:00.500", "<u>one</u> two"]
    assert lines[5:7] == ["00:00.500 --> 00:00.900", "one <u>two</u>"]
