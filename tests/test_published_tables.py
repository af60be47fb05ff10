"""The tables of the paper on stand-ins of the published data sets, with every oddity of the real ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.published.__main__ import main
from tests.published.answers import dialogues, missing_facts
from tests.published.run import gather, verdict
from tests.published.tables import TABLES, Split

HOW = {"librispeech": "transcribe", "aishell1": "transcribe", "aishell2": "transcribe", "covost2": "translate",
       "clotho": "caption", "word-times": "timestamps", "cochlscene": "scene", "tut2017": "scene", "meld": "emotion",
       "clothoaqa": "question", "vocalsound": "vocal-sound", "nsynth": "note"}  # fmt: skip


def sound(path, rate=16_000, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(seed).normal(0, 0.1, rate // 2).clip(-1, 1), rate)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_librispeech(root):
    """The second is not there, the third is listed twice and has another rate; letters and digits of every kind."""
    folder = root / "LibriSpeech" / "test-clean" / "1" / "2"
    sound(folder / "1-2-0000.flac")
    sound(folder / "1-2-0002.flac", rate=44_100, seed=2)
    lines = ["1-2-0000 HE SAID NAÏVE", "1-2-0001 GONE", "1-2-0002 ROOM 101", "1-2-0002 ROOM 101"]
    write(folder / "1-2.trans.txt", "\n".join(lines))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All twelve, two or three sounds each; only LibriSpeech's, CochlScene's and AISHELL-1's files are sounds."""
    root = tmp_path_factory.mktemp("data")
    make_librispeech(root)
    write(root / "data_aishell/transcript/aishell_transcript_v0.8.txt", "BAC1 你 好\nBAC2 二零 23 年\n")
    sound(root / "data_aishell/wav/test/S1/BAC1.wav")
    sound(root / "data_aishell/wav/test/S1/BAC9.wav")  # without a transcript
    for device in ("iOS", "Mic", "Android"):
        write(root / f"AISHELL-DEV-TEST-SET/{device}/test/wav.scp", "I1\twav/D1/I1.wav\n")
        write(root / f"AISHELL-DEV-TEST-SET/{device}/test/trans.txt", "I1\t好的\nI2\t没有\n")
    write(root / "covost2/covost_v2.en_zh-CN.test.tsv", 'path\tsentence\ttranslation\tclient_id\nc.mp3\t"Hi\t“嗨”\tx\n')
    captions = ",".join(f"caption_{n}" for n in range(1, 6))
    write(root / "clotho/clotho_captions_evaluation.csv", f'file_name,{captions}\n"a, b.wav","Rain, wind.",b,c,d,e\n')
    write(root / "word-times.jsonl", '{"audio": "w.wav", "gt": "<|0.00|>a<|0.50|>"}\n')
    sound(root / "CochlScene/Test/SubwayStation/x.wav")
    write(root / "TUT-acoustic-scenes-2017-evaluation/evaluation_setup/evaluate.txt", "audio/1.wav\tforest_path\n")
    write(
        root / "MELD.Raw/test_sent_emo.csv",
        'Sr No.,Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n1,"Oh, no\x92",A,joy,0,1\n',
    )
    rows = "".join(f"a b.wav,Is it rain?,{answer},yes\n" for answer in ("yes", "no", "Yes"))
    write(root / "ClothoAQA/clotho_aqa_test.csv", f"file_name,QuestionText,answer,confidence\n{rows}")
    write(root / "vocalsound/class_labels_indices_vs.csv", "index,mid,display_name\n0,/m/01j3sz,Laughter\n")
    write(root / "vocalsound/datafiles/te.json", '{"data": [{"wav": "/x/y/f1_laughter.wav", "labels": "/m/01j3sz"}]}')
    note = {
        "pitch": 60,
        "velocity": 75,
        "qualities_str": ["bright", "fast_decay"],
        "instrument_family_str": "synth_lead",
    }
    write(root / "nsynth-test/examples.json", json.dumps({"lead_1": note}))
    return root


@pytest.mark.parametrize("table", TABLES)
def test_each_layout_gives_rows_with_a_task_and_a_reference(root, table):
    rows = {split.name: list(split.rows(root)) for split in TABLES[table].splits if split.name in
            {"test-clean", "test", "iOS", "en-zh", "evaluation", "word-times", "all", "qualities"}}  # fmt: skip
    (found,) = rows.values()
    assert found
    assert {row["task"] for row in found} == {HOW[table]}
    assert all(row["gt"] and row["audio"] for row in found)


def test_what_the_rows_say(root):
    def first(table, place=0):
        return next(iter(TABLES[table].splits[place].rows(root)))

    assert next(iter(TABLES["aishell1"].splits[1].rows(root)))["gt"] == "你好"
    assert first("covost2", 2) | {"audio": ""} == {"audio": "", "gt": "“嗨”", "task": "translate", "language": "en"}
    assert first("clotho")["gt"] == ["Rain, wind.", "b", "c", "d", "e"]
    assert Path(first("clotho")["audio"]).name == "a, b.wav"
    assert Path(first("meld")["audio"]).name == "dia0_utt1.mp4"
    assert first("clothoaqa")["gt"] == "yes"
    assert first("vocalsound")["gt"] == "Laughter"
    assert first("cochlscene")["gt"] == ["SubwayStation", "Subway Station"]
    assert first("word-times")["audio"] == str(root / "w.wav")
    note = (
        "<|pitch|><|midi_pitch_60|><|velocity|><|midi_velocity_75|><|sonic|>bright,fast decay<|instrument|>synth lead"
    )
    assert first("nsynth")["gt"] == note


def test_a_missing_sound_is_named_and_a_double_is_one_row(root):
    rows, missing = gather(TABLES["librispeech"].splits[2].rows(root))
    assert [row["gt"] for row in rows] == ["HE SAID NAÏVE", "ROOM 101"]
    assert [Path(name).name for name in missing] == ["1-2-0001.flac"]


def test_files_may_have_a_mark_in_front_and_other_ends_of_lines(tmp_path):
    captions = ",".join(f"caption_{n}" for n in range(1, 6))
    write(tmp_path / "clotho/clotho_captions_evaluation.csv", f"\ufefffile_name,{captions}\r\na.wav,1,2,3,4,5\r\n")
    write(tmp_path / "LibriSpeech/test-clean/1/1.trans.txt", "\ufeff1-0 ONE\x85TWO\r\n1-1 THREE\r\n")
    assert [row["gt"] for row in TABLES["clotho"].splits[0].rows(tmp_path)] == [["1", "2", "3", "4", "5"]]
    rows = [(Path(row["audio"]).name, row["gt"]) for row in TABLES["librispeech"].splits[2].rows(tmp_path)]
    assert rows == [("1-0.flac", "ONE\x85TWO"), ("1-1.flac", "THREE")]


@pytest.mark.parametrize(
    ("table", "name", "text"),
    [("clotho", "clotho/clotho_captions_evaluation.csv", "file,caption\na.wav,b\n"),
     ("nsynth", "nsynth-test/examples.json", "[]"),
     ("word-times", "word-times.jsonl", "{")],
)  # fmt: skip
def test_files_that_are_not_as_published_are_one_line(tmp_path, capsys, table, name, text):
    write(tmp_path / name, text)
    assert main([table, "--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 1
    *told, last = capsys.readouterr().out.splitlines()
    assert all("not as published" in line for line in told)
    assert {one["verdict"] for one in json.loads(last)["results"]} == {"no data"}


@pytest.mark.parametrize(
    ("low", "high", "lower", "expected"),
    [(0.3, 0.5, True, "within"), (0.5, 0.6, True, "below"), (0.1, 0.2, True, "within"),
     (0.3, 0.5, False, "within"), (0.1, 0.2, False, "below"), (0.5, 0.6, False, "within")],
)  # fmt: skip
def test_the_verdict(low, high, lower, expected):
    assert verdict({"low": low, "high": high}, Split("", iter, "", 0.4, lower=lower)) == expected


@pytest.mark.slow
def test_a_table_from_the_shell(root, tmp_path, demo_model, capsys):
    pytest.importorskip("jiwer")
    arguments = ["librispeech", "--data", root, "--model", demo_model, "--output", tmp_path, "--limit", 1, "--seed", 3]
    assert main([str(one) for one in arguments]) == 1
    out = capsys.readouterr().out
    results = {one["split"]: one for one in json.loads(out.splitlines()[-1])["results"]}
    assert results["dev-clean"]["verdict"] == "no data"
    assert results["test-clean"]["verdict"] == "below"
    assert (results["test-clean"]["answers"], results["test-clean"]["missing"]) == (1, 1)
    assert "from https://www.openslr.org/12" in out
    assert "2 of 2620 sounds are there, 1 that are listed are not" in out
    (row,) = (tmp_path / "librispeech" / "test-clean" / "rows.jsonl").read_text().splitlines()
    assert json.loads(row)["language"] == "en"


@pytest.mark.slow
def test_a_text_that_is_not_utf8_fails_its_own_row(tmp_path, demo_model, capsys):
    pytest.importorskip("jiwer")
    for number in range(2):
        sound(tmp_path / f"LibriSpeech/test-clean/1-{number}.flac", seed=number)
    (tmp_path / "LibriSpeech/test-clean/1.trans.txt").write_bytes(b"1-0 GR\xdcN\n1-1 ONE\n")
    arguments = ["librispeech", "--data", tmp_path, "--model", demo_model, "--output", tmp_path / "out"]
    assert main([str(one) for one in arguments]) == 1
    out, err = capsys.readouterr()
    assert {one["split"]: one for one in json.loads(out.splitlines()[-1])["results"]}["test-clean"]["answers"] == 1
    assert "not UTF-8" in err


def test_scores_of_an_earlier_run_are_not_shown_for_a_model_that_does_not_open(root, tmp_path, capsys):
    pytest.importorskip("jiwer")
    answers = tmp_path / "librispeech" / "test-clean" / "answers"
    write(answers / "score.json", '{"metrics": {"wer": {"value": 0, "low": 0, "high": 0, "answers": 2}}}')
    (tmp_path / "model").mkdir()
    arguments = ["librispeech", "--data", root, "--model", tmp_path / "model", "--output", tmp_path]
    assert main([str(one) for one in arguments]) == 1
    results = {one["split"]: one for one in json.loads(capsys.readouterr().out.splitlines()[-1])["results"]}
    assert results["test-clean"]["verdict"] == "no answer"


def test_the_published_answers_have_their_own_facts():
    turns = [turn for dialogue in dialogues() for turn in dialogue["turns"]]
    assert len(turns) == 13
    assert [missing_facts(turn["answer"], turn) for turn in turns] == [[]] * 13


def test_another_wording_is_right_and_another_time_is_not():
    turn = dialogues()[0]["turns"][1]
    assert missing_facts("Middle classes: from 2.41 to 3.20 seconds.", turn) == []
    assert missing_facts("Middle classes: from 1.41 to 3.20 seconds.", turn) == ["2.33 s"]


def test_they_are_those_of_the_reference(reference):
    published = json.loads((reference / "published_answers.json").read_text())
    for ours, theirs in zip(dialogues(), published, strict=True):
        for own, other in zip(ours["turns"], theirs["turns"], strict=True):
            assert (own["prompt"], own["answer"]) == (other["prompt"], other["answer"])
            assert own["audio"] == [Path(name).name for name in other["audio"]]
