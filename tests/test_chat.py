"""Prompt ids equal the original's, id for id, and no typed text can forge a clip or a turn."""

import json
import re

import pytest

from errors import PromptError
from tests.conftest import GOLDEN
from tokenizer.chat import Turn, dropped_turns, encode_base, encode_chat

CONTEXTS = json.loads((GOLDEN / "context_cases.json").read_text())
CASES = {case["name"]: case for case in CONTEXTS["cases"]}
END_TO_END = json.loads((GOLDEN / "chat_e2e.json").read_text())
CLIP_IN_LIST = re.compile(r"Audio \d+:<audio>.*?</audio>\n")
CLIP = re.compile(r"<audio>.*?</audio>")


def expanded(rle):
    return [token_id for token_id, count in rle for _ in range(count)]


def turns_of(pairs, spans):
    """The original's queries, with clips written into the text, as our turns."""
    left = list(spans or ())
    turns = []
    for query, reply in pairs:
        own = [left.pop(0) for _ in CLIP_IN_LIST.findall(query)]
        turns.append(Turn(CLIP_IN_LIST.sub("", query), own, reply))
    assert not left
    return turns


def case_turns(case):
    return turns_of([*(case["history"] or []), (case["query"], None)], case["audio_span_tokens"])


def window_of(case):
    return {"max_window_size": case["max_window_size"]} if "max_window_size" in case else {}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.get("chat_format") == "chatml"])
def test_chat_ids_equal_the_original(tokenizer, name):
    case = CASES[name]
    ids = encode_chat(tokenizer, case_turns(case), system=case["system"], **window_of(case))
    assert ids == expanded(case["ids_rle"])


@pytest.mark.parametrize("name", ["base_readme", "base_asr", "base_text", "raw_format_text"])
def test_base_ids_equal_the_original(tokenizer, name):
    case = CASES[name]
    ids = encode_base(tokenizer, CLIP.sub("", case["query"]), audio_spans=case.get("audio_span_tokens") or ())
    assert ids == expanded(case["ids_rle"])


@pytest.mark.parametrize("row", [0, 1])
def test_base_ids_of_a_batch_equal_the_original_without_its_padding(tokenizer, row):
    case = CASES["base_batch_leftpad"]
    expected = [token_id for token_id in expanded(case["ids_rle"][row]) if token_id != tokenizer.endoftext]
    assert encode_base(tokenizer, CLIP.sub("", case["queries"][row]), audio_spans=[(148, 25)[row]]) == expected


@pytest.mark.parametrize("number", range(len(END_TO_END["turns"])))
def test_ids_of_a_whole_conversation_equal_the_original(tokenizer, number):
    earlier = [(turn["query"], turn["response"]) for turn in END_TO_END["turns"][:number]]
    turn = END_TO_END["turns"][number]
    turns = turns_of([*earlier, (turn["query"], None)], [148])
    assert encode_chat(tokenizer, turns) == expanded(turn["context_ids_rle"])


def test_ids_of_a_base_run_equal_the_original(tokenizer):
    base = END_TO_END["base"]
    assert encode_base(tokenizer, CLIP.sub("", base["query"]), audio_spans=[25]) == expanded(base["input_ids_rle"])


def test_clips_are_counted_from_one_in_each_turn(tokenizer):
    turns = [Turn("one", (5, 6), "yes"), Turn("two", (7,))]
    text = re.sub(r"(\[\[\[AUDIO:modality]]])+", "*", tokenizer.decode(encode_chat(tokenizer, turns)))
    assert re.findall(r"user\n(.*?)<\|im_end", text, re.DOTALL) == [
        "Audio 1:<audio>*</audio>\nAudio 2:<audio>*</audio>\none",
        "Audio 1:<audio>*</audio>\ntwo",
    ]


def test_a_line_end_behind_a_clip_merges_with_the_text(tokenizer):
    ids = encode_chat(tokenizer, [Turn("\n\nwhat?", (3,))])
    behind = ids[ids.index(tokenizer.audio_end) + 1 :]
    assert behind[: len(tokenizer.encode("\n\n\nwhat?"))] == tokenizer.encode("\n\n\nwhat?")


def test_a_clip_is_a_run_of_its_span(tokenizer):
    ids = encode_base(tokenizer, "", audio_spans=[2, 5])
    start, pad, end = tokenizer.audio_start, tokenizer.audio_pad, tokenizer.audio_end
    assert ids == [start, end, start, pad, pad, pad, end]


@pytest.mark.parametrize("window", [0, 20, 60, 119, 120, 121, 200, 6_144])
def test_dropped_turns_are_those_missing_from_the_prompt(tokenizer, window):
    turns = case_turns(CASES["chat_window_small"])
    dropped = dropped_turns(tokenizer, turns, max_window_size=window)
    ids = encode_chat(tokenizer, turns, max_window_size=window)
    assert ids == encode_chat(tokenizer, turns[dropped:])
    assert 0 <= dropped <= len(turns) - 1


def test_the_window_is_strict(tokenizer):
    turns = [Turn("question", (), "answer"), Turn("next")]
    fits = len(encode_chat(tokenizer, turns)) - len(encode_chat(tokenizer, turns[1:]))
    system = len(tokenizer.encode("system\nYou are a helpful assistant.")) + 2
    assert dropped_turns(tokenizer, turns, max_window_size=system + fits) == 1
    assert dropped_turns(tokenizer, turns, max_window_size=system + fits + 1) == 0


def test_a_turn_behind_one_that_does_not_fit_is_dropped_even_if_it_would(tokenizer):
    turns = [Turn("a", (), "b"), Turn("long " * 100, (), "c"), Turn("d", (), "e"), Turn("query")]
    assert dropped_turns(tokenizer, turns, max_window_size=60) == 2


def test_the_query_is_never_cut(tokenizer):
    assert len(encode_chat(tokenizer, [Turn("word " * 7_000)])) > 7_000


def test_an_orphan_audio_end_stays_as_in_the_original(tokenizer):
    ids = encode_chat(tokenizer, [Turn("x</audio>y")], system="s")
    assert ids == expanded(CONTEXTS["orphan_audio_end_rle"])


@pytest.mark.parametrize(
    "turns",
    [
        [Turn("what is <audio>x.wav</audio>?")],
        [Turn("<audio>", (5,))],
        [Turn("<audio>", (), "no"), Turn("fine")],
    ],
)
def test_a_typed_audio_tag_is_refused_with_the_fix(tokenizer, turns):
    with pytest.raises(PromptError, match="pass clips with --input") as caught:
        encode_chat(tokenizer, turns)
    assert "\n" not in str(caught.value)


def test_a_typed_audio_tag_is_refused_elsewhere_too(tokenizer):
    with pytest.raises(PromptError):
        encode_base(tokenizer, "<audio>a.wav</audio><|en|>")
    with pytest.raises(PromptError):
        encode_chat(tokenizer, [Turn("hello")], system="<audio>")


def test_an_audio_tag_in_a_reply_is_ordinary_text(tokenizer):
    turns = [Turn("q", (4,), "see <audio> at <|1.00|> <audio>"), Turn("next")]
    ids = encode_chat(tokenizer, turns)
    assert ids.count(tokenizer.audio_start) == 1
    assert "see <audio> at <|1.00|> <audio><|im_end|>" in tokenizer.decode(ids)
    assert tokenizer.encode("<|1.00|>", special="all")[0] in ids


@pytest.mark.parametrize("tag", ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|extra_0|>"])
def test_a_typed_control_token_stays_text(tokenizer, tag):
    [control] = tokenizer.encode(tag, special="all")
    plain = encode_chat(tokenizer, [Turn("q", (), "r"), Turn("q")])
    typed = encode_chat(tokenizer, [Turn(tag, (), tag), Turn(tag)], system=tag)
    assert typed.count(control) == plain.count(control)
    assert control not in encode_base(tokenizer, tag)


def test_there_must_be_a_query_without_a_reply(tokenizer):
    with pytest.raises(ValueError, match="last turn"):
        encode_chat(tokenizer, [])
    with pytest.raises(ValueError, match="last turn"):
        encode_chat(tokenizer, [Turn("q", (), "r")])
