"""Arguments, inputs, the record of an answer and the two streams, without a model."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest
import soundfile

from cli.errors import INPUT_FAILED, NO_MODEL, NOTHING_TO_DO, WRONG_USAGE, report_failure
from cli.options import parse_arguments
from cli.output.answer import STAGES, Answer, Audio
from cli.output.streams import check_savepath, check_stdout, prepare_streams, save_text, say, show_piece
from cli.run.open_model import find_model, say_environments
from errors import (
    AudioError,
    BackendError,
    InputError,
    ModelError,
    OutputError,
    PromptError,
    QwenAudioError,
    UsageError,
)

# --- arguments


def test_without_arguments_the_sample_is_asked_about():
    options = parse_arguments([])
    assert Path(options.inputs[0]).is_file()
    assert options.prompts == ("what does the person say?",)
    assert (options.memory_mode, options.env_id, options.benchmark_count) == (11, -1, 0)


def test_flags_of_the_tool_we_replace_are_taken():
    line = "-i a.wav b.wav -p hm? -s out.txt -b -bc 3 -e 1 --env_list --memory_mode 3 --onnx --debug --profile"
    line += " --ftype audio -v film.mp4 --required --disable_ailia_tokenizer"
    options = parse_arguments(line.split())
    assert options.inputs == ("a.wav", "b.wav", "film.mp4")  # the sound of a video is a sound
    assert (options.prompts, str(options.savepath)) == (("hm?",), "out.txt")
    assert options.benchmark_count == 3 + 1  # the first does not count
    assert (options.env_id, options.env_list, options.memory_mode) == (1, True, 3)
    assert (options.backend, options.debug) == ("onnxruntime", True)
    assert len(options.notes) == 2


def test_flags_of_whisper_are_taken():
    options = parse_arguments(
        ["a.wav", "--output_dir", "out", "--output_format", "srt", "--verbose", "False", "--model_dir", "m"]
    )
    assert (options.inputs, str(options.output_dir), options.formats) == (("a.wav",), "out", ("srt",))
    assert str(options.model) == "m"


def test_a_file_that_looks_like_a_flag_gets_the_spelling_that_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.flac").write_bytes(b"")
    with pytest.raises(UsageError, match=r"\./-dash\.flac"):
        parse_arguments(["-i", "-dash.flac"])


def test_parts_of_a_list_are_counted_from_0_or_from_1():
    assert [parse_arguments(["a.wav", "--shard", f"{number}/4"]).shard for number in (0, 4)] == [(0, 4), (4, 4)]


def test_input_given_twice_adds_up():
    assert parse_arguments(["-i", "a.wav", "-i", "b.wav"]).inputs == ("a.wav", "b.wav")


def test_a_flag_that_takes_a_list_goes_on_where_it_is_repeated(tmp_path):
    (tmp_path / "one.txt").write_text("one?\n")
    (tmp_path / "two.txt").write_text("two?\n")
    prompts = ["--prompts-from", str(tmp_path / "one.txt"), "--prompts-from", str(tmp_path / "two.txt")]
    given = parse_arguments(
        ["-v", "a.mp4", "-v", "b.mp4", "-o", "x", "-f", "txt", "-f", "srt", "--clip", "0-1", "--clip", "2-3", *prompts]
    )
    assert given.inputs == ("a.mp4", "b.mp4")
    assert given.formats == ("txt", "srt")
    assert given.clips == ((0.0, 1.0), (2.0, 3.0))
    assert given.prompts == ("one?", "two?")


@pytest.mark.parametrize(
    ("line", "inputs"),
    [
        ("a.wav -q b.wav", ("a.wav", "b.wav")),
        ("a.wav --task transcribe b.wav --json c.wav", ("a.wav", "b.wav", "c.wav")),
        ("-i a.wav -q b.wav -q c.wav", ("a.wav", "b.wav", "c.wav")),
        ("a.wav -q -", ("a.wav", "-")),
        ("a.wav -q -- -b.wav -q", ("a.wav", "-b.wav", "-q")),
        ("a.wav -q b.wav -- -c.wav", ("a.wav", "b.wav", "-c.wav")),
    ],
)
def test_files_may_stand_between_flags(line, inputs):
    assert parse_arguments(line.split()).inputs == inputs


def test_an_unknown_flag_is_no_file_wherever_it_stands():
    with pytest.raises(UsageError, match="unknown flag --bogus"):
        parse_arguments(["a.wav", "-q", "b.wav", "--bogus", "c.wav"])


def test_a_flag_that_comes_again_changes_an_earlier_one():
    assert parse_arguments(["a.wav", "--batch", "2", "--batch", "4"]).batch == 4  # as an alias of a shell expects


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["--bogus"], "--bogus"),
        (["a.wav", "-s", "x", "-s", "y"], "twice"),
        (["a.wav", "-s", "x", "-o", "y"], "--savepath"),
        (["--chat", "--files-from", "list.txt"], "--files-from"),
        (["--chat", "-i", "a.wav", "-p", "hm?"], "--prompt"),
        (["--chat", "-i", "a.wav", "-s", "x"], "--savepath"),
        (["--chat", "-i", "a.wav", "--task", "transcribe"], "--task"),
        (["--chat", "-i", "a.wav", "--timeout", "5"], "--timeout"),
        (["--chat", "-i", "a.wav", "--batch", "5"], "--batch"),
        (["--chat", "-i", "-"], "standard input"),
        (["--promt", "hm?"], "did you mean --prompt"),
        (["--transcribe"], "did you mean --task transcribe?"),
        (["--language_id=x"], "did you mean --language?"),
        (["--prompt", "hm?"], "no sound is named"),
        (["--choices", "", "a.wav"], "--choices"),
        (["--choices", ",", "a.wav"], "--choices"),
        (["--shard", f"1/{'9' * 5000}", "a.wav"], "--shard"),
        (["--shard", "5/4", "a.wav"], "--shard"),
        (["a.wav", "--prompt", ""], "--prompt"),
        (["a.wav", "--prompt", " \n\t"], "--prompt"),
        (["--prompt"], "--prompt"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["--max-new-tokens", "-3"], "--max-new-tokens"),
        (["--max-new-tokens", "many"], "--max-new-tokens"),
        (["--benchmark_count", "0"], "--benchmark_count"),
        (["--threads", "-1"], "--threads"),
        (["--threads", str(2**40)], "--threads"),
        (["--backend", "abacus"], "--backend"),
        (["--backend", "ailia", "--onnx"], "--onnx"),
        (["-i", "-", "-"], "standard input"),
        (["-i", "-", "-i", "-"], "standard input"),
        (["-i", "-", "--benchmark"], "standard input"),
        (["-i", "a.wav", "--benchmark", "-o", "out"], "--benchmark"),
        (["--js"], "--js"),  # no abbreviations: what is unique today may not be tomorrow
    ],
)
def test_wrong_usage_names_the_flag(line, word):
    with pytest.raises(UsageError, match=word):
        parse_arguments(line)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (["--profile"], "--json"),
        (["--ftype", "image"], "audio only"),
        (["--required"], "--required"),
        (["--disable_ailia_tokenizer"], "--disable_ailia_tokenizer"),
    ],
)
def test_a_flag_without_meaning_gets_a_word(line, word):
    (note,) = parse_arguments(["a.wav", *line]).notes
    assert word in note


# --- the record


def test_json_line_has_all_keys_in_order():
    result = Answer(["a.wav"], "hm?", text="Ja.\n", token_ids=[1, 2], audio=[Audio("a.wav", 40.0, 30.0)])
    line = result.as_json()
    record = json.loads(line)
    assert "\n" not in line
    assert list(record) == [
        "status",
        "input",
        "prompt",
        "text",
        "token_ids",
        "finish_reason",
        "log_prob",
        "prompt_tokens",
        "audio",
        "task",
        "windows",
        "words",
        "model",
        "backend",
        "timings",
        "notes",
    ]
    assert (record["status"], record["input"]) == ("ok", "a.wav")
    assert record["audio"] == [{"path": "a.wav", "seconds": 40.0, "seconds_used": 30.0}]
    assert tuple(record["timings"]) == STAGES


def test_json_line_of_a_failure_says_why():
    record = json.loads(Answer(["a.wav", "b.wav"], "hm?").as_json(QwenAudioError("b.wav: gone")))
    assert (record["status"], record["error"], record["input"]) == ("error", "b.wav: gone", ["a.wav", "b.wav"])
    assert (record["text"], record["finish_reason"]) == ("", None)


def test_json_line_with_a_name_that_is_no_utf8_is_valid_and_gives_the_name_back():
    name = os.fsdecode(b"l\xe4rm.wav")
    line = Answer([name], "\ud800").as_json(QwenAudioError(f"{name}: gone"))
    assert os.fsencode(json.loads(line.encode())["input"]) == b"l\xe4rm.wav"


def test_a_line_with_half_a_character_is_json_for_strict_readers():
    for text in ("\ud800", "\ude00\ud83d", "\ud800\udcff", "\udc7f", "\udd00", "\\\ud800", '"\udfff'):
        line = Answer([text], text, text=text).as_json(QwenAudioError(f"{text}: gone"))
        assert not re.search(r"\\ud[89ab]", line.replace("\\\\", ""))  # the half that waits for another
        assert json.loads(line.encode())["input"] == re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not installed")
def test_jq_reads_every_line():
    lines = [
        Answer([text], text).as_json() for text in ("\ud800", "\ude00\ud83d", "\udcff", "\ud800\udcff", "\0\n\x7f")
    ]
    done = subprocess.run(["jq", "-c", ".status"], input="\n".join(lines), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, '"ok"\n' * len(lines), "")


# --- failures


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (AudioError("x"), INPUT_FAILED),
        (PromptError("x"), WRONG_USAGE),
        (UsageError("x"), WRONG_USAGE),
        (ModelError("x"), NO_MODEL),
        (BackendError("x"), NO_MODEL),
        (type("Special", (BackendError,), {})("x"), NO_MODEL),
        (InputError("x"), NOTHING_TO_DO),
        (OutputError("x"), INPUT_FAILED),
        (ImportError("No module named 'x'"), NO_MODEL),
        (MemoryError(), INPUT_FAILED),
        (OSError(5, "Input/output error"), INPUT_FAILED),
        (OSError("x"), INPUT_FAILED),
    ],
)
def test_each_failure_has_its_exit_code_and_one_line(failure, code, capsys):
    result = Answer(["a.wav", "b.wav"], "hm?")
    assert report_failure(failure, result, json=True, debug=False).exit_code == code
    out, err = capsys.readouterr()
    assert err.count("\n") == out.count("\n") == 1
    assert json.loads(out)["error"] in err
    if isinstance(failure, MemoryError | OSError):
        assert "a.wav, b.wav: " in err


def test_a_bug_is_not_passed_off_as_a_failure():
    with pytest.raises(ZeroDivisionError):
        report_failure(ZeroDivisionError(), Answer(["a.wav"], "hm?"), json=True, debug=False)


def test_debug_shows_the_traceback_and_keeps_the_line(capsys):
    assert (
        report_failure(AudioError("a.wav: bad"), Answer(["a.wav"], "hm?"), json=False, debug=True).exit_code
        == INPUT_FAILED
    )
    out, err = capsys.readouterr()
    assert err.splitlines()[-1] == "qwen_audio: a.wav: bad"
    assert "AudioError: a.wav: bad" in err
    assert out == ""


# --- streams and files


def test_a_message_is_one_line_of_printable_characters(capsys):
    say("two\nlines, \x1b[31mred, l\udce4rm, größer")
    assert capsys.readouterr().err == "qwen_audio: two\\nlines, \\x1b[31mred, l\\udce4rm, größer\n"


def test_quiet_says_nothing(capsys):
    say("note", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_of_closed_streams_only_standard_output_is_missed(monkeypatch):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    prepare_streams()
    say("heard by nobody")
    assert sys.stdin.read() == ""
    with pytest.raises(OutputError):
        show_piece("seen by nobody")
    show_piece("and from then on lost")


def test_answers_are_utf8_whatever_the_locale(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    prepare_streams()
    show_piece("größer 你好")
    assert raw.getvalue() == "größer 你好".encode()


@pytest.mark.parametrize("name", ["new.txt", "old.txt", "link.txt"])
def test_saving_replaces_the_file_and_leaves_nothing_beside_it(tmp_path, name):
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("old.txt")
    names = {path.name for path in tmp_path.iterdir()} | {name}
    save_text(tmp_path / name, "größer\n")
    assert (tmp_path / name).read_bytes() == "größer\n".encode()
    assert (tmp_path / "link.txt").is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_name_with_any_bytes_can_be_saved(tmp_path):
    save_text(tmp_path / "out.txt", "[\udcff.wav]\n")
    assert (tmp_path / "out.txt").read_text() == "[\\udcff.wav]\n"


def test_saving_keeps_the_mode_and_touches_nothing_beside(tmp_path):
    (tmp_path / "out.txt").write_text("old")
    (tmp_path / "out.txt").chmod(0o600)
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "out.txt.part").symlink_to("theirs")
    save_text(tmp_path / "out.txt", "new")
    assert (tmp_path / "out.txt").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert (tmp_path / "out.txt.part").is_symlink()


def test_an_output_that_is_an_input_is_wrong_usage(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    (tmp_path / "link").symlink_to("a.wav")
    for name in ("a.wav", "link"):
        with pytest.raises(UsageError, match="one of the inputs"):
            check_savepath(tmp_path / name, ["b.wav", str(tmp_path / "a.wav")])


def test_an_output_that_the_shell_redirects_to_standard_input_is_wrong_usage(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    with (tmp_path / "a.wav").open() as redirected:
        monkeypatch.setattr(sys, "stdin", redirected)
        with pytest.raises(UsageError, match="one of the inputs"):
            check_savepath(tmp_path / "a.wav", [])
    (tmp_path / "b.txt").write_bytes(b"RIFF")
    check_savepath(tmp_path / "b.txt", ["-"])  # closed by now
    assert (tmp_path / "a.wav").read_bytes() == b"RIFF"


def test_saving_to_a_device_writes_to_it_and_leaves_it_there():
    save_text(Path(os.devnull), "gone")
    assert Path(os.devnull).is_char_device()


def test_a_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    (tmp_path / "old.txt").write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space"):
        save_text(tmp_path / "old.txt", "new")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_what_is_open_already_is_written_on_and_not_replaced(tmp_path, capfd):
    """`-s /dev/stdout >> log` replaced the log."""
    with (tmp_path / "log").open("w") as log:
        log.write("old\n")
        log.flush()
        save_text(Path(f"/dev/fd/{log.fileno()}"), "new\n")
    assert (tmp_path / "log").read_text() == "old\nnew\n"
    save_text(Path("/dev/stdout"), "shown\n")
    assert capfd.readouterr().out == "shown\n"


def test_prompts_from_what_is_no_text_are_refused(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF\0\0\0\0WAVE\n what?")
    with pytest.raises(UsageError, match="not a text"):
        parse_arguments(["-i", "a.wav", "--prompts-from", str(tmp_path / "a.wav")])
    (tmp_path / "a.txt").write_bytes("what?".encode("utf-16"))
    assert parse_arguments(["-i", "a.wav", "--prompts-from", str(tmp_path / "a.txt")]).prompts == ("what?",)


@pytest.mark.parametrize("flag", ["--prompt", "--system", "--question", "--word", "--choices"])
def test_what_is_asked_is_utf8_whatever_python_took_it_for(flag):
    typed = "ü,b".encode().decode("ascii", "surrogateescape")  # as with LC_ALL=C and PYTHONUTF8=0
    given = parse_arguments(
        ["-i", "a.wav", "--task" if flag in ("--question", "--word") else "-q", "question", flag, typed]
    )
    value = getattr(given, {"--prompt": "prompts"}.get(flag, flag[2:]))
    assert "ü" in "".join(value)
    with pytest.raises(UsageError, match="not UTF-8"):
        parse_arguments(["-i", "a.wav", flag, "\udcfc,b"])


def test_prompts_from_a_file_in_another_encoding_are_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"gr\xfcn?")
    with pytest.raises(UsageError, match="not UTF-8"):
        parse_arguments(["-i", "a.wav", "--prompts-from", str(tmp_path / "a.txt")])


def test_only_a_bare_keep_0_ends_a_kept_model_and_answers_nothing(monkeypatch):
    assert parse_arguments(["-q", "--keep=0"]).ends_kept_model
    monkeypatch.setattr("cli.options._is_piped_in", lambda: True)
    assert parse_arguments(["--keep", "0", "-p", "what?"]).inputs == ("-",)
    monkeypatch.setenv("QWEN_AUDIO_KEEP", "0")
    asked = parse_arguments(["-q"])
    assert (asked.inputs, asked.keep, asked.ends_kept_model) == (("-",), 0, False)


def test_what_follows_two_dashes_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-dash.wav").touch()
    assert parse_arguments(["-q", "--", "-dash.wav"]).inputs == ("-dash.wav",)
    with pytest.raises(UsageError, match=r"\./-dash\.wav"):
        parse_arguments(["-q", "-dash.wav"])


@pytest.mark.parametrize(
    ("flag", "first", "second"),
    [("--task", "gender", "transcribe"), ("-o", "a", "b"), ("-s", "a", "b"), ("--shard", "1/2", "2/2")],
)
def test_of_two_values_none_is_lost(flag, first, second):
    with pytest.raises(UsageError, match="given twice"):
        parse_arguments(["-i", "x.wav", flag, first, flag, second])


def test_answers_are_not_appended_to_a_sound(tmp_path, monkeypatch):
    sound, other, empty = (tmp_path / name for name in ("x.wav", "y.jsonl", "z.wav"))
    sound.write_bytes(b"RIFF")
    other.write_bytes(b"{}\n")
    empty.touch()
    for path in (sound, other, empty):
        with path.open("a") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            if path is sound:
                with pytest.raises(UsageError, match=r"x\.wav, one of the inputs"):
                    check_stdout(["missing.wav", "a\0b", str(sound)])
            else:
                check_stdout([str(sound), str(empty)])
    assert sound.read_bytes() == b"RIFF"


def test_a_recording_that_is_no_input_is_not_replaced_by_answers(tmp_path):
    soundfile.write(tmp_path / "b.flac", [0.0, 0.1], 16_000)
    soundfile.write(tmp_path / "take", [0.0, 0.1], 16_000, format="WAV", subtype="PCM_16")
    before = (tmp_path / "b.flac").read_bytes()
    for name in ("b.flac", "take"):
        with pytest.raises(UsageError, match=f"{name}: this is a recording"):
            check_savepath(tmp_path / name, [str(tmp_path / "a.wav")])
    assert (tmp_path / "b.flac").read_bytes() == before
    (tmp_path / "answers.txt").write_text("an answer")
    (tmp_path / "empty.wav").touch()
    for name in ("answers.txt", "empty.wav", "new.txt"):
        check_savepath(tmp_path / name, [str(tmp_path / "a.wav")])


@pytest.mark.parametrize("name", ["", "missing/out.txt", ".", "a\0b", "\ud800", "x" * 300])
def test_a_savepath_that_cannot_be_is_refused_at_once(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--savepath"):
        check_savepath(Path(name), [])


# --- models and environments


def test_a_model_is_found_by_flag_then_variable_then_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("cli.run.open_model.ROOT", tmp_path)
    monkeypatch.delenv("QWEN_AUDIO_MODEL", raising=False)
    options = parse_arguments([])
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "manifest.json").touch()
        if name == "one":
            assert find_model(options) == tmp_path / "models" / "one"
    with pytest.raises(ModelError, match="--model: models/one, models/two"):
        find_model(options)
    monkeypatch.setenv("QWEN_AUDIO_MODEL", "/elsewhere")
    assert str(find_model(options)) == "/elsewhere"
    assert find_model(parse_arguments(["x.wav", "--model", str(tmp_path)])) == tmp_path
    monkeypatch.setenv("QWEN_AUDIO_MODEL", "")
    with pytest.raises(ModelError, match="choose one"):
        find_model(options)


def _fails():
    raise RuntimeError("no library")


@pytest.mark.parametrize(
    ("package", "line"),
    [
        (
            types.SimpleNamespace(
                get_environment_list=lambda: [types.SimpleNamespace(id=1, type="GPU", name="Iris", backend="VULKAN")]
            ),
            "qwen_audio: --env_id 1: GPU Iris (VULKAN)\n",
        ),
        (types.SimpleNamespace(get_environment_list=_fails), "no library"),
        (None, "pip install ailia"),
    ],
)
def test_ailia_environments_are_one_line_each_or_one_line_why_not(package, line, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ailia", package)
    say_environments()
    out, err = capsys.readouterr()
    assert line in err
    assert (out, err.count("\n")) == ("", 1)
