"""Phrases rich in words that nano spells, and what Whisper foresees of such words."""

from collections import Counter
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="torch is for training only: models/nano/train/requirements.txt")

import tiktoken
import torch

from models.nano.train import whisper_decoder as whisper
from models.nano.train import whisper_pieces
from models.nano.train.phrases import TIMES, glosses, phrases, targets
from models.nano.train.whisper_foresight import WhisperForesight, first_piece
from tokenizer.tokenizer import PIECES

OWN = [b" ", b" the", b"the", b" ap", b"ost", b"le", b" said"]  # of nano
MORE = [b" apostle", b" The", b","]  # only Whisper has these in one piece
BYTES = [bytes([byte]) for byte in range(256)]


def test_a_spelled_word_is_wanted_as_often_as_its_rank_asks_for():
    ranks = sorted(TIMES)
    frequent = ["the"] * ranks[0] + ["apostle", "it's", "3d", "whole"]
    wanted = targets(frequent, lambda word: word not in {"the", "whole"})
    assert wanted == {"apostle": TIMES[ranks[1]], "it's": TIMES[ranks[1]]}


def test_phrases_are_the_richest_of_their_sentences_until_nothing_is_wanted():
    plain = "and so it was that they all went there"
    rich = "apostle gospel mattress chocolate surgery chimneys"
    wanted = Counter(dict.fromkeys(rich.split(), 2))
    found = list(phrases([f"{plain} {rich}", f"{rich} {plain}", f"{plain} {rich} {plain}", plain], wanted))
    assert found == [rich, rich]
    assert set(wanted.values()) == {0}


def test_glosses_are_said_without_marks_and_numbers(tmp_path):
    line = (
        '1 04 n 02 tail 0 chase 0 001 @ 5 n 0000 | the act of pursuing; "he led the chase!"; in 1905; a long hunt  \n'
    )
    (tmp_path / "data.noun").write_text("  1 a licence, which is no gloss\n" + line)
    assert list(glosses(tmp_path)) == ["the act of pursuing", "a long hunt"]


@pytest.fixture
def foresight():
    """Whisper with three pieces more than nano, and bytes."""
    made = object.__new__(WhisperForesight)
    pieces = [*BYTES, *OWN[1:], *MORE]
    made.whole = tiktoken.Encoding(
        "tiny", pat_str=PIECES, mergeable_ranks={piece: rank for rank, piece in enumerate(pieces)}, special_tokens={}
    )
    made.own = [*BYTES, *OWN[1:]]
    made.spelled = torch.tensor([*range(262), 258, 2, 44])
    made.spelled_plainly = torch.tensor([*range(262), 258, 256, -1])
    return made


def ids(foresight, *pieces):
    return [foresight.own.index(piece) for piece in pieces]


def test_whisper_reads_its_own_pieces(foresight):
    theirs, places = foresight.read(ids(foresight, b" the", b" ap", b"ost", b"le", b" said"))
    assert [foresight.whole.decode_single_token_bytes(one) for one in theirs] == [b" the", b" apostle", b" said"]
    assert places == [0, 1, -1, -1, 2, 3]


def test_a_first_word_gets_a_space(foresight):
    theirs, places = foresight.read(ids(foresight, b"the", b" said"))
    assert [foresight.whole.decode_single_token_bytes(one) for one in theirs] == [b" the", b" said"]
    assert places == [0, 1, 2]


def test_whisper_is_not_asked_inside_of_a_word_nor_for_one_without_a_space(foresight):
    said = ids(foresight, b"the", b" ap", b"ost", b"le", b" said")
    assert foresight.begun(said, 7) == [False, True, False, False, True, True, True]
    assert foresight.begun(ids(foresight, b"the"), 2) == [False, True]


def test_what_whisper_foresees_counts_for_the_first_of_our_pieces(foresight, monkeypatch):
    monkeypatch.setattr(whisper, "END", 265)
    scores = torch.full((266,), -30.0)
    scores[[257, 262, 263, 264, 265]] = torch.tensor(
        [0.1, 0.5, 0.2, 0.15, 0.05]
    ).log()  # the, apostle, The, "," and the end
    foresight.decoder = SimpleNamespace(embeddings=torch.diag(scores))
    states = torch.ones(2, 266)
    chat, plain = foresight.foreseen(states, torch.tensor([False, True]))
    assert chat[[257, 258, 2, 44, 262]] == pytest.approx([0.1, 0.5, 0.2, 0.15, 0.05], abs=1e-4)
    assert plain[[256, 257, 258, 44, 262]] == pytest.approx([0.2, 0.1, 0.5, 0, 0.05], abs=1e-4)


def test_a_piece_that_is_no_text_is_spelled_by_nothing():
    words = SimpleNamespace(encode=lambda text: [len(text)] if text else [])
    assert [first_piece(words, piece) for piece in (b" ap", b"", b"\xff")] == [3, -1, -1]


def test_pieces_that_hardly_anything_uses_give_way_to_words_of_today(monkeypatch):
    own = [*BYTES, b" the", b" w", b"go", b"ol"]
    ranks = {piece: rank for rank, piece in enumerate(own)}
    old = tiktoken.Encoding("old", pat_str=PIECES, mergeable_ranks=ranks, special_tokens={})
    tokenizer = SimpleNamespace(
        endoftext=len(own),
        token_bytes=lambda token: own[token],
        encode=lambda text: old.encode(text, disallowed_special=()),
    )
    monkeypatch.setattr(whisper_pieces, "whisper_pieces", lambda: [*own, b" phone", b" gone", b" olden", b" wagon"])
    words = Counter({" the": 50, " wagon": 4, " olden": 20, " phone": 30, " gone": 3, " video": 90})
    found = whisper_pieces.exchanged(tokenizer, words)  # video is none of Whisper's
    assert set(found) - set(own) == {b" phone", b" olden"}
    assert set(own) - set(found) == {b" w", b"go"}  # 4 and 7 times; 3 of " gone" are not worth the 20 of "ol"
    assert len(found) == len(own)


def test_words_of_today_count_beside_the_texts(monkeypatch, tmp_path):
    frequent = {"phone": 0.5, "africa": 0.25, "3d": 0.2, "naïve": 0.1}
    monkeypatch.setattr("wordfreq.top_n_list", lambda language, count: list(frequent))
    monkeypatch.setattr("wordfreq.word_frequency", lambda word, language: frequent[word])
    monkeypatch.setattr(whisper_pieces, "whisper_pieces", lambda: [b" phone", b" Africa"])
    monkeypatch.setattr(whisper_pieces, "texts_of", lambda folder: [" a", "whale whale"] * 50)
    found = whisper_pieces.words_said(tmp_path)
    total = sum(found[word] for word in (" a", " ", "whale", " whale")) * whisper_pieces.MODERN
    assert (found[" whale"], found["whale"], found[" phone"]) == (50 + 17, 50 - 17, round(0.5 * total))
    assert found[" africa"] == found[" Africa"] == round(0.25 * total) // 2
    assert not {" 3d", " naïve"} & found.keys()
