"""Runs over many sounds as a shell sees them: lists, folders, long recordings, several prompts, batches, dialogues."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cli.main import main
from cli.options import parse_arguments
from cli.run.open_model import open_model
from qwen_audio import listen

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "qwen_audio.py")]
RATE = 16_000


@pytest.fixture(scope="module")
def opened(demo_model):
    """The same random model with one row and with three."""
    return {
        rows: open_model(parse_arguments(["x.wav", "--model", str(demo_model), "--batch", str(rows), "--threads", "1"]))
        for rows in (1, 3)
    }


@pytest.fixture
def ask(opened, monkeypatch, capsys):
    """ask(*arguments) -> (exit code, standard output, standard error), answers of at most 6 tokens."""
    for module in ("run", "chat"):
        monkeypatch.setattr(f"cli.run.{module}.open_model", lambda options: opened[options.batch])

    def ask(*arguments):
        code = main(["--max-new-tokens", "6", *map(str, arguments)])
        return code, *capsys.readouterr()

    return ask


@pytest.fixture
def sounds(tmp_path):
    """Seven different sounds in a folder, one of them below it, and one that is none."""
    folder = tmp_path / "sounds"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(["a", "b", "c", "d", "e", "below/f", "below/g"]):
        noise(folder / f"{name}.wav", 0.4 + 0.3 * number, seed=number)
    (folder / "broken.wav").write_bytes(b"no sound at all")
    return folder


def noise(path, seconds, seed=0, level=0.2):
    samples = np.random.default_rng(seed).normal(0, level, int(seconds * RATE))
    soundfile.write(path, samples.clip(-1, 1), RATE, subtype="PCM_16")
    return path


def records(out):
    return [json.loads(line) for line in out.splitlines()]


def without_times(record):
    return {key: value for key, value in record.items() if key != "timings"}


def speech_like(path, spans, total):
    """Noise bursts at `spans` of seconds, silence elsewhere."""
    samples = np.random.default_rng(1).normal(0, 1e-4, int(total * RATE))
    for start, end in spans:
        first, last = int(start * RATE), int(end * RATE)
        samples[first:last] += np.random.default_rng(first).normal(0, 0.2, last - first)
    soundfile.write(path, samples.clip(-1, 1), RATE, subtype="PCM_16")
    return path


# --- which sounds


@pytest.mark.slow
def test_a_folder_with_all_below_it(ask, sounds):
    code, out, err = ask("-i", sounds, "-r", "--json")
    names = [Path(record["input"]).name for record in records(out)]
    assert code == 1
    assert sorted(names) == ["a.wav", "b.wav", "broken.wav", "c.wav", "d.wav", "e.wav", "f.wav", "g.wav"]
    assert [record["status"] for record in records(out) if "broken" in record["input"]] == ["error"]
    assert "7 of 8 files answered" in err
    assert "1 failed (1 not a sound)" in err


def test_each_file_for_itself(ask, sounds):
    together = records(ask("-i", sounds / "a.wav", sounds / "b.wav", "--json")[1])
    apart = records(ask("--each", "-i", sounds / "a.wav", sounds / "b.wav", "--json")[1])
    assert (len(together), len(apart)) == (1, 2)
    assert len(together[0]["audio"]) == 2


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_a_list_on_standard_input(ask, sounds, monkeypatch, separator):
    names = [str(sounds / "b.wav"), str(sounds / "a.wav"), "missing.wav"]
    monkeypatch.setattr("sys.stdin", open_bytes(separator.join(names).encode()))
    flags = ["-0"] if separator == "\0" else []
    code, out, err = ask("--files-from", "-", *flags, "--json")
    assert code == 1
    assert {record["input"]: record["status"] for record in records(out)} == dict(
        zip(names, ["ok", "ok", "error"], strict=True)
    )
    assert "missing.wav: no such file" in err


def open_bytes(data):
    return io.TextIOWrapper(io.BufferedReader(io.BytesIO(data)), "utf-8", errors="surrogateescape")


def test_a_list_may_bring_its_own_questions(ask, sounds, tmp_path):
    lines = [{"audio": str(sounds / "a.wav"), "prompt": "one?"}, {"audio": str(sounds / "a.wav"), "question": "two?"}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [record["prompt"] for record in records(ask("--files-from", tmp_path / "list.jsonl", "--json")[1])] == [
        "one?",
        "two?",
    ]


@pytest.mark.slow
def test_shards_are_the_whole_without_overlap(ask, sounds):
    def inputs(*flags):
        return [record["input"] for record in records(ask("-q", "-r", "-i", sounds, "--json", *flags)[1])]

    parts = [inputs("--shard", f"{number}/3") for number in (1, 2, 3)]
    assert sorted(name for part in parts for name in part) == sorted(inputs())
    assert [len(part) for part in parts] == [3, 3, 2]


# --- several prompts, tasks, choices


def test_each_prompt_is_answered_and_the_sound_heard_once(ask, sounds, tmp_path, opened, monkeypatch):
    heard = []
    encode = opened[1].encoder.encode
    monkeypatch.setattr(opened[1].encoder, "encode", lambda mels: heard.append(1) or encode(mels))
    (tmp_path / "prompts.txt").write_text("third?\n\n")
    code, out, _ = ask(
        "-i", sounds / "a.wav", "-p", "first?", "-p", "second?", "--prompts-from", tmp_path / "prompts.txt", "--json"
    )
    assert code == 0
    assert [record["prompt"] for record in records(out)] == ["first?", "second?", "third?"]
    assert len(heard) == 1
    for record in records(out):
        (alone,) = records(ask("-i", sounds / "a.wav", "-p", record["prompt"], "--json")[1])
        assert alone["token_ids"] == record["token_ids"]


def test_a_task_brings_its_prompt_and_is_named_in_the_record(ask, sounds):
    (record,) = records(ask("-i", sounds / "a.wav", "--task", "caption", "--json")[1])
    assert (record["task"], record["prompt"]) == ("caption", "Describe the audio.")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--task", "transcibe"], "transcribe"),
        (["--task", "translate"], "--to"),
        (["--task", "caption", "-p", "hm?"], "--task"),
        (["--language", "en"], "--task"),
        (["--task", "transcribe", "--language", "klingon"], "klingon"),
        (["--choices", "one"], "choices"),
        (["--choices", ""], "choices"),
        (["--choices", ","], "choices"),
        (["--shard", "3/2"], "--shard"),
        (["--shard", "1/" + "9" * 5000], "--shard"),
        (["--shard", "1/\u00b2"], "--shard"),
        (["--batch=--"], "--batch"),
        (["--choices=--"], "--choices"),
        (["-p--"], "-p"),
        (["--format", "txt"], "--output-dir"),
        (["--output-dir", "x", "--format", "doc"], "doc"),
        (["--prompts-from", "missing.txt"], "missing.txt"),
        (["--batch", "0"], "--batch"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
        (["--chat", "-o", "x"], "--chat"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(ask, sounds, tmp_path, monkeypatch, flags, word):
    monkeypatch.chdir(tmp_path)
    code, out, err = ask("-i", sounds / "a.wav", *flags)
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


def test_questions_of_a_list_about_one_sound_keep_an_answer_each(ask, sounds, tmp_path):
    sound = str(sounds / "a.wav")
    own = [{"task": "transcribe"}, {"task": "gender"}, {"task": "transcribe", "language": "zh"}, {"prompt": "hm?"}, {}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"audio": sound} | row) + "\n" for row in own))
    arguments = ["--files-from", tmp_path / "list.jsonl", "-o", tmp_path / "out", "-f", "json"]
    assert ask(*arguments)[0] == 0
    first = {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json")}
    assert len(first) == len(own)
    assert {json.loads(text)["prompt"] for text in first.values()} >= {"hm?", "what does the person say?"}
    assert ask(*arguments)[0] == 0
    assert {path.name: path.read_text() for path in (tmp_path / "out").glob("*.json")} == first


@pytest.mark.parametrize("flags", [["--files-from"], ["-i", "SOUND", "--prompts-from"]])
def test_what_a_run_reads_is_no_file_for_its_answers(ask, sounds, tmp_path, flags):
    sound = str(sounds / "a.wav")
    read = tmp_path / "read.txt"
    read.write_text(f"{sound}\n")
    code, _, err = ask(*[sound if flag == "SOUND" else flag for flag in flags], read, "-s", read)
    assert (code, read.read_text()) == (2, f"{sound}\n")
    assert "one of the inputs" in err


def test_the_text_that_answers_are_scored_by_is_no_file_for_them(ask, sounds):
    pytest.importorskip("jiwer", reason="requirements-eval.txt is not installed")
    (sounds / "a.txt").write_text("good day")
    code, _, err = ask("-i", sounds / "a.wav", "--score", "wer", "-s", sounds / "a.txt")
    assert (code, (sounds / "a.txt").read_text()) == (2, "good day")
    assert "one of the inputs" in err


def test_choices_are_told_with_their_log_probabilities(ask, sounds):
    (record,) = records(ask("-i", sounds / "a.wav", "--choices", "yes,no,perhaps", "--json")[1])
    (window,) = record["windows"]
    assert record["finish_reason"] == "choice"
    assert set(window["choices"]) == {"yes", "no", "perhaps"}
    assert all(value < 0 for value in window["choices"].values())
    assert record["text"] == max(window["choices"], key=window["choices"].get)


# --- long recordings


@pytest.mark.slow
def test_a_long_recording_is_asked_about_window_by_window(ask, tmp_path):
    path = speech_like(tmp_path / "long.wav", [(0, 25), (26, 51), (52, 70)], 70.5)
    (record,) = records(ask("-i", path, "--json")[1])
    assert record["audio"] == [{"path": str(path), "seconds": 70.5, "seconds_used": 70.5}]
    windows = record["windows"]
    assert [windows[0]["start"], windows[-1]["end"]] == [0.0, 70.5]
    assert all(a["end"] == b["start"] for a, b in pairwise(windows))
    assert 25 <= windows[0]["end"] <= 26
    assert 51 <= windows[1]["end"] <= 52
    spans = re.findall(r"^\[(.*?)\] ", record["text"], re.MULTILINE)  # random answers may have lines of their own
    assert spans == ["0:00 - 0:25", "0:25 - 0:51", "0:51 - 1:10"]
    assert ask("-i", path)[1] == record["text"] + "\n"


def test_the_windows_of_a_transcript_are_stitched(ask, tmp_path):
    path = speech_like(tmp_path / "long.wav", [(0, 25), (26, 40)], 40)
    (record,) = records(ask("-i", path, "--task", "transcribe", "--json")[1])
    assert record["text"] == " ".join(window["text"] for window in record["windows"])


def test_silence_is_marked(ask, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(RATE), RATE, subtype="PCM_16")
    (record,) = records(ask("-i", path, "--json")[1])
    assert [window["silent"] for window in record["windows"]] == [True]


@pytest.mark.parametrize("batch", ["1", "3"])
def test_remarks_about_a_sound_stand_in_its_record_where_quiet_runs_tell_none(ask, sounds, batch):
    joined = sounds / "b.wav"
    joined.write_bytes((sounds / "a.wav").read_bytes() + joined.read_bytes())
    asked = ("-q", "-i", sounds / "a.wav", joined, "--each", "--json", "-p", "hm?", "--batch", batch)
    code, out, err = ask(*asked)
    alone, both = map(json.loads, out.splitlines())
    assert (code, err, alone["notes"]) == (0, "", [])
    assert both["notes"] == [f"{joined}: several recordings are joined in it; they are heard one after the other"]


@pytest.mark.parametrize(("asked", "is_heard"), [(["--task", "transcribe"], False), (["-p", "what is it?"], True)])
def test_silence_is_encoded_only_where_more_than_words_is_asked(ask, tmp_path, monkeypatch, asked, is_heard):
    heard = []
    monkeypatch.setattr("cli.run.run.listen", lambda sounds, model: heard.append(1) or listen(sounds, model))
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(70 * RATE), RATE, subtype="PCM_16")
    (record,) = records(ask("-i", path, *asked, "--json")[1])
    assert [window["silent"] for window in record["windows"]] == [True] * len(record["windows"])
    assert bool(heard) == is_heard


def test_a_recording_that_is_cut_short_fails_as_a_whole(ask, tmp_path):
    path = noise(tmp_path / "cut.wav", 70)
    path.write_bytes(path.read_bytes()[:-1000])
    code, out, err = ask("-i", path, "--json")
    assert (code, records(out)[0]["status"]) == (1, "error")
    assert "cut short" in err


# --- batches and time


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["-p", "one?", "-p", "two?"], ["--choices", "yes,no"]])
def test_a_batch_gives_the_answers_of_each_alone_in_the_same_order(ask, sounds, flags):
    alone = ask("-q", "-r", "-i", sounds, "--json", *flags)
    batch = ask("-q", "-r", "-i", sounds, "--json", "--batch", 3, *flags)
    assert alone[0] == batch[0] == 1
    assert [without_times(one) for one in records(batch[1])] == [without_times(one) for one in records(alone[1])]
    assert batch[2] == alone[2]


@pytest.mark.slow
def test_the_windows_of_a_recording_are_the_same_in_a_batch(ask, tmp_path):
    for number in range(2):
        noise(tmp_path / f"long{number}.wav", 70, seed=number)
    alone, batch = (records(ask("-q", "-i", tmp_path, "--json", "--batch", rows)[1]) for rows in (1, 3))
    assert [without_times(one) for one in batch] == [without_times(one) for one in alone]
    assert len(alone[0]["windows"]) == 3


def test_a_bug_in_the_work_on_one_file_is_that_files_failure(ask, sounds, monkeypatch):
    from audio_encoder import waveform

    read = waveform.stream_waveform

    def broken(path, notes=None):
        if path.endswith("b.wav"):
            raise IndexError("index out of range")
        return read(path, notes)

    monkeypatch.setattr("audio_encoder.waveform.stream_waveform", broken)
    code, out, err = ask("-q", "-i", sounds / "a.wav", sounds / "b.wav", sounds / "c.wav", "--each", "--json")
    assert (code, [record["status"] for record in records(out)]) == (1, ["ok", "error", "ok"])
    assert "IndexError in this program" in err


def test_an_answer_says_how_sure_the_model_was(ask, sounds):
    (record,) = records(ask("-q", "-i", sounds / "a.wav", "--json")[1])
    assert record["log_prob"] < 0


def test_the_longest_window_is_the_users(ask, tmp_path):
    path = noise(tmp_path / "a.wav", 12)
    (record,) = records(ask("-q", "-i", path, "--json", "--window", "5")[1])
    assert all(window["end"] - window["start"] <= 5 for window in record["windows"])
    assert record["windows"][-1]["end"] == 12


def test_a_sound_that_nobody_sends_is_given_up(ask, sounds, tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    start = time.monotonic()
    code, out, err = ask("--each", "-i", tmp_path / "pipe.wav", sounds / "a.wav", "--timeout", "0.5", "--json", "-q")
    assert code == 1
    assert [record["status"] for record in records(out)] == ["error", "ok"]
    assert "pipe.wav" in err
    assert time.monotonic() - start < 30
    os.close(os.open(tmp_path / "pipe.wav", os.O_RDWR))  # lets the thread that waits go


def test_an_answer_that_takes_too_long_is_a_failure(ask, opened, sounds, monkeypatch):
    begin = opened[1].decoder.begin

    def slow(*arguments, **options):
        time.sleep(0.3)
        return begin(*arguments, **options)

    monkeypatch.setattr(opened[1].decoder, "begin", slow)
    code, out, err = ask("-q", "-i", sounds / "a.wav", "--timeout", "0.2", "--json")
    assert (code, records(out)[0]["status"]) == (1, "error")
    assert "--timeout" in err


# --- output folders


@pytest.mark.slow
def test_a_folder_of_answers_is_resumed(ask, sounds, tmp_path, opened, monkeypatch):
    arguments = ("-i", sounds, "-r", "-o", tmp_path / "out", "-f", "txt,json")
    code, out, _ = ask(*arguments, "-q")
    assert (code, out) == (1, "")
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*") if path.name[0] != "."}
    assert names == {
        f"{stem}.{end}" for stem in ("a", "b", "c", "d", "e", "below/f", "below/g") for end in ("txt", "json")
    }
    text = (tmp_path / "out" / "a.txt").read_text()
    assert text == ask("-i", sounds / "a.wav")[1]
    asked = []
    begin = opened[1].decoder.begin
    monkeypatch.setattr(opened[1].decoder, "begin", lambda *a, **k: asked.append(1) or begin(*a, **k))
    (tmp_path / "out" / "b.txt").unlink()
    noise(sounds / "c.wav", 2, seed=99)
    code, _, err = ask(*arguments)
    assert (code, len(asked)) == (1, 1)
    assert "6 done before" in err
    assert (tmp_path / "out" / "b.txt").exists()  # made of b.json
    asked.clear()
    ask(*arguments, "-q", "--overwrite")
    assert len(asked) == 7
    asked.clear()
    ask(*arguments, "-q", "-p", "another question?")
    assert len(asked) == 7


def test_a_run_that_goes_on_shows_the_answers_of_earlier_ones_as_json_too(ask, sounds, tmp_path):
    arguments = ("-q", "-i", sounds, "-o", tmp_path / "out", "--json", "-p", "who?", "-p", "where?")
    first = [without_times(record) for record in records(ask(*arguments)[1])]
    (tmp_path / "out" / "b.json").unlink()
    assert [without_times(record) for record in records(ask(*arguments)[1])] == first


def test_an_answer_is_in_its_file_before_it_is_shown(ask, sounds, tmp_path, monkeypatch):
    class Gone(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    assert ask("-q", "-i", sounds / "a.wav", "-o", tmp_path / "out", "--json")[0] == 141
    assert (tmp_path / "out" / "a.txt").exists()


def test_a_longest_window_is_not_left_unheeded(ask, sounds):
    code, _, err = ask("-i", sounds / "a.wav", sounds / "b.wav", "--window", 2)
    assert code != 0
    assert "--each" in err


@pytest.mark.slow
def test_subtitles_of_a_long_recording(ask, tmp_path):
    path = speech_like(tmp_path / "talk.wav", [(0, 25), (26, 40)], 40)
    ask("-q", "-i", path, "-o", tmp_path, "-f", "all")
    assert (tmp_path / "talk.srt").read_text().startswith("1\n00:00:0")
    assert (tmp_path / "talk.vtt").read_text().startswith("WEBVTT\n")
    rows = [line.split("\t") for line in (tmp_path / "talk.tsv").read_text().splitlines()[1:]]
    assert all(int(before[1]) <= int(after[0]) for before, after in pairwise(rows))
    assert any(int(row[0]) >= 25_000 for row in rows)


def test_an_output_folder_that_cannot_be_is_wrong_usage(ask, sounds):
    code, out, err = ask("-i", sounds / "a.wav", "-o", sounds / "a.wav")
    assert (code, out) == (2, "")
    assert "--output-dir" in err


# --- dialogues


@pytest.mark.slow
def test_a_dialogue_that_is_not_utf8_goes_on(demo_model, sounds):
    command = [*COMMAND, "-q", "--model", str(demo_model), "--max-new-tokens", "4", "--chat", "-i", sounds / "a.wav"]
    lines = b"one?\n\xff\xfe two?\nthree?\n"
    done = subprocess.run(command, input=lines, capture_output=True, check=False, env={**os.environ, "LANG": "C.UTF-8"})
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 2)
    assert done.stderr == b"qwen_audio: standard input: not a text; save it as UTF-8\n"


def talk(ask, monkeypatch, lines, *arguments):
    monkeypatch.setattr("sys.stdin", open_bytes("".join(line + "\n" for line in lines).encode()))
    return ask("--chat", *arguments)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_dialogue_in_an_encoding_that_is_marked_is_read(ask, sounds, monkeypatch, encoding):
    monkeypatch.setattr("sys.stdin", open_bytes("one?\ntwo?\n".encode(encoding)))
    code, out, _ = ask("--chat", "-i", sounds / "a.wav", "-q", "--json")
    assert (code, [record["prompt"] for record in records(out)]) == (0, ["one?", "two?"])


def test_a_dialogue_that_is_no_text_is_not_answered(ask, sounds, monkeypatch):
    monkeypatch.setattr("sys.stdin", open_bytes("one?\n".encode("utf-16-le")))
    code, out, err = ask("--chat", "-i", sounds / "a.wav", "-q")
    assert (code, out) == (1, "")
    assert "save it as UTF-8" in err


def test_a_dialogue_through_a_pipe_is_a_line_for_a_line(ask, sounds, monkeypatch):
    code, out, err = talk(ask, monkeypatch, ["one?", "", "two?"], "-i", sounds / "a.wav", "-q")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 2


def test_a_turn_is_what_a_fresh_run_of_the_whole_dialogue_gives(ask, sounds, monkeypatch, opened):
    from tokenizer.chat import Turn, encode_chat

    lines = ["one?", f"/audio {sounds / 'b.wav'}", "two?"]
    code, out, _ = talk(ask, monkeypatch, lines, "-i", sounds / "a.wav", "--json", "-q")
    first, second = records(out)
    model = opened[1]
    spans = [len(clip) for clip in clips_of(model, sounds / "a.wav", sounds / "b.wav")]
    turns = [Turn("one?", audio_spans=spans[:1], reply=first["text"]), Turn("two?", audio_spans=spans[1:])]
    from decoder.generate import generate

    ids = encode_chat(model.tokenizer, turns)
    clips = clips_of(model, sounds / "a.wav", sounds / "b.wav")
    fresh = list(generate(model.decoder, ids, clips, stop_ids=model.stop_ids, max_new_tokens=6))
    assert code == 0
    assert (second["token_ids"], second["prompt_tokens"]) == (fresh, len(ids))


def clips_of(model, *paths):
    from audio_encoder.log_mel import log_mel_spectrogram
    from audio_encoder.waveform import load_waveform

    return model.encoder.encode([log_mel_spectrogram(load_waveform(path)) for path in paths])


def test_a_failing_command_is_told_and_the_talk_goes_on(ask, sounds, monkeypatch, tmp_path):
    lines = ["/audio missing.wav", "/what", "one?", f"/save {tmp_path / 'talk.json'}", "/reset", "two?", "/quit", "no"]
    code, out, err = talk(ask, monkeypatch, lines, "-i", sounds / "a.wav", "-q")
    assert code == 1
    assert len(out.splitlines()) == 2
    assert "missing.wav: no such file" in err
    assert "/what" in err
    (turn,) = json.loads((tmp_path / "talk.json").read_text())
    assert (turn["audio"], turn["question"]) == ([str(sounds / "a.wav")], "one?")


def test_a_dialogue_is_not_saved_over_a_sound_that_was_heard(ask, sounds, monkeypatch):
    sound = (sounds / "a.wav").read_bytes()
    lines = ["one?", f"/save {sounds / 'a.wav'}", "/reset", f"/save {sounds / 'a.wav'}", "/save \0", "two?"]
    code, out, err = talk(ask, monkeypatch, lines, "-i", sounds / "a.wav", "-q")
    assert (code, len(out.splitlines())) == (1, 2)
    assert err.count("this is one of the inputs") == 2
    assert "no file can be called so" in err
    assert (sounds / "a.wav").read_bytes() == sound


# --- processes


def start(demo_model, *arguments):
    command = [*COMMAND, "--model", demo_model, "--max-new-tokens", "6", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_terminated_the_finished_files_are_kept(demo_model, sounds, tmp_path):
    os.mkfifo(sounds / "z.wav")
    process = start(
        demo_model, "--each", "-i", *sorted(sounds.glob("[a-e].wav")), sounds / "z.wav", "-o", tmp_path / "out"
    )
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob("[a-e].txt"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM
    assert b"terminated" in err
    assert len(list((tmp_path / "out").glob("[a-e].txt"))) == 5


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--list-tasks", "--doctor", "--help"])
def test_what_only_tells_ends_well(demo_model, flag):
    process = start(demo_model, flag)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert len(out) > 200


@pytest.mark.slow
def test_a_damaged_mp3_is_one_line_of_ours(demo_model, tmp_path):
    soundfile.write(tmp_path / "x.mp3", np.zeros(RATE), RATE, format="MP3", subtype="MPEG_LAYER_III")
    data = bytearray((tmp_path / "x.mp3").read_bytes())
    data[300:700] = bytes(400)
    (tmp_path / "x.mp3").write_bytes(data)
    process = start(demo_model, "-i", tmp_path / "x.mp3", "-q")
    _, err = process.communicate(timeout=60)
    assert err == b"" or (err.startswith(b"qwen_audio: ") and err.count(b"\n") == 1)
