"""The command as a shell sees it: standard output, standard error, exit code. A random model answers nonsense, surely.

Most cases call `main` in this process, with a model that is opened once; what belongs to the process itself (signals,
pipes, closed streams, the locale, imports) and to opening a model is tried on real processes and real directories.
"""

import dataclasses
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audio_encoder.encoder import AudioEncoder, audio_token_count
from cli.main import main
from cli.options import parse_arguments
from cli.run.open_model import open_model
from cli.signals import Stopped
from errors import printable
from models.manifest import load_manifest
from tests.conftest import GOLDEN

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, str(ROOT / "qwen_audio.py")]
HEAVY = ["numpy", "onnxruntime", "tiktoken", "soundfile", "soxr", "transformers", "librosa", "ailia", "requests"]
RATE = 16_000


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str

    @property
    def record(self):
        """The only line of --json."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def told(self):
        """The only line on standard error."""
        (line,) = self.err.splitlines()
        assert line.startswith("qwen_audio: ")
        return line.removeprefix("qwen_audio: ")


@pytest.fixture
def ask(capsys):
    """ask(*arguments) -> Ended: `main` in this process, in one thread: each of the suite's workers has one core."""

    def ask(*arguments):
        code = main(["--threads", "1", *map(str, arguments)])
        return Ended(code, *capsys.readouterr())

    return ask


@pytest.fixture(scope="session")
def opened(demo_model):
    return open_model(parse_arguments(["x.wav", "--model", str(demo_model), "--threads", "1"]))


@pytest.fixture
def ask_open(ask, opened, monkeypatch):
    """As `ask`, with a model that is open already and answers of at most 8 tokens."""
    monkeypatch.setattr("cli.run.run.open_model", lambda _: opened)
    return lambda *arguments: ask("--max-new-tokens", 8, *arguments)


@pytest.fixture
def spawn(demo_model, tmp_path):
    """spawn(*arguments, **of subprocess.run) -> Ended: a real process, started in another folder than the project's."""

    def spawn(*arguments, **options):
        command = [*COMMAND, "--model", demo_model, "--max-new-tokens", "8", "--threads", "1", *arguments]
        done = subprocess.run(command, capture_output=True, cwd=tmp_path, timeout=60, check=False, **options)
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    return spawn


@pytest.fixture(scope="session")
def speech(golden):
    return golden / "1272-128104-0000.flac"


def tone(seconds=1.0, rate=RATE, channels=1):
    """A tone of 440 Hz: float32 [frames, channels]."""
    times = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.3 * np.sin(2 * np.pi * 440 * times)[:, None], channels, axis=1).astype(np.float32)


def write(path, samples=None, rate=RATE, **options):
    soundfile.write(path, tone(rate=rate) if samples is None else samples, rate, **options)
    return path


# --- one answer


@pytest.mark.slow
def test_an_answer_is_its_text_and_a_line_break_and_nothing_else(ask_open, speech):
    text, record = ask_open("-i", speech), ask_open("-i", speech, "--json").record
    assert (text.code, text.out, text.err) == (0, record["text"] + "\n", "")
    assert record["text"]


@pytest.mark.slow
def test_json_is_one_line_with_everything(ask_open, speech, demo_model):
    record = ask_open("-i", speech, "-p", "Hm?", "--json").record
    assert (record["status"], record["input"], record["prompt"]) == ("ok", str(speech), "Hm?")
    assert len(record["token_ids"]) == 8
    assert record["finish_reason"] == "length"
    assert record["prompt_tokens"] > 146
    assert record["audio"] == [{"path": str(speech), "seconds": 5.855, "seconds_used": 5.855}]
    assert (record["model"], record["backend"]) == (str(demo_model), "onnxruntime")
    assert all(record["timings"][stage] > 0 for stage in ("audio_s", "encode_s", "prefill_s", "decode_s"))
    assert "error" not in record


def test_several_files_are_audios_of_one_prompt(ask_open, speech, golden):
    cut = golden / "1272-128104-0000-middle_classes.wav"
    record = ask_open("-i", speech, cut, "--json").record
    assert record["input"] == [str(speech), str(cut)]
    assert [audio["path"] for audio in record["audio"]] == record["input"]


def test_one_question_about_many_sounds_is_told(ask_open, tmp_path):
    sounds = [write(tmp_path / f"{name}.wav") for name in "abc"]
    told = "one question about 3 sounds together; --each asks about each"
    assert told in ask_open("-i", *sounds).err
    assert "together" not in ask_open("-i", *sounds[:2]).err
    assert "together" not in ask_open("-i", *sounds, "--each").err
    assert "together" not in ask_open("-i", tmp_path).err
    assert ask_open("-q", "-i", *sounds).err == ""


def test_a_folder_is_one_answer_for_each_sound_in_it(ask_open, tmp_path):
    for name in ("b.wav", "a.flac", "c.ogg"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no sound")
    ended = ask_open("-i", tmp_path, "--json")
    records = [json.loads(line) for line in ended.out.splitlines()]
    assert ended.code == 0
    assert [Path(record["input"]).name for record in records] == ["a.flac", "b.wav", "c.ogg"]
    assert len({record["timings"]["load_s"] for record in records}) == 1
    texts = "".join(record["text"] + "\n" for record in records)
    assert ask_open("-q", "-i", tmp_path) == Ended(0, texts, "")


@pytest.mark.parametrize(("rate", "channels"), [(4_000, 1), (192_000, 1), (44_100, 2), (16_000, 8)])
def test_any_rate_and_number_of_channels_work(ask_open, tmp_path, rate, channels):
    sound = write(tmp_path / "x.wav", tone(rate=rate, channels=channels), rate)
    record = ask_open("-i", sound, "--json").record
    assert (record["status"], record["audio"][0]["seconds"]) == ("ok", 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_seconds_left_out_are_told_even_when_quiet(ask_open, tmp_path, quiet):
    sound = write(tmp_path / "long.wav", tone(32.5))
    ended = ask_open("-i", sound, "--json", "--long", "first", *quiet)
    assert ended.code == 0
    assert ended.record["audio"] == [{"path": str(sound), "seconds": 32.5, "seconds_used": 30.0}]
    assert f"{sound}: the last 2.5 s of 32.5 s were left out" in ended.told


def test_thirty_seconds_are_heard_whole(ask_open, tmp_path):
    assert ask_open("-i", write(tmp_path / "x.wav", tone(30))).err == ""


def test_system_prompt_is_part_of_the_prompt(ask_open, speech):
    plain, system = (ask_open("-i", speech, "--json", *more).record for more in ([], ["--system", "Be terse."]))
    assert system["prompt_tokens"] < plain["prompt_tokens"]


def test_quiet_leaves_out_notes(ask_open, speech):
    assert ask_open("-i", speech, "--profile").told.startswith("--profile")
    assert ask_open("-i", speech, "--profile", "--quiet").err == ""


def test_standard_input_is_a_sound(ask_open, speech, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(speech.read_bytes())))
    assert ask_open("-i", "-").out == ask_open("-i", speech).out


@pytest.mark.parametrize("data", [b"", b"no sound"])
def test_standard_input_that_is_no_sound_fails(ask_open, monkeypatch, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    ended = ask_open("-i", "-")
    assert (ended.code, ended.out) == (1, "")
    assert "standard input" in ended.told


@pytest.mark.slow
def test_benchmark_shows_the_answer_once_and_leaves_the_first_run_out(ask_open, speech, monkeypatch):
    told = []
    monkeypatch.setattr("cli.run.benchmark.mean", lambda values: told.append(len(values)) or 0.0)
    ended = ask_open("-i", speech, "-b", "-bc", 2)
    assert ended.out == ask_open("-i", speech).out
    assert ended.err.count("(not counted)") == 1
    assert "run 3 of 3" in ended.err
    assert told == [2, 2, 2, 2]  # audio, encode, prefill, decode
    assert "tokens per second" in ended.err


@pytest.mark.parametrize(("arguments", "closed"), [((), 1), (("-b", "-bc", 1), 0)])
def test_the_encoder_is_closed_after_the_last_sound(ask_open, tmp_path, monkeypatch, arguments, closed):
    """Its memory is the decoder's then; a benchmark listens again and must not time the opening."""
    told, encode = [], AudioEncoder.encode
    monkeypatch.setattr(AudioEncoder, "encode", lambda *given: told.append("encode") or encode(*given))
    monkeypatch.setattr(AudioEncoder, "close", lambda _: told.append("close"))
    for name in ("one.wav", "two.wav"):
        write(tmp_path / name)
    assert ask_open("-i", tmp_path, *arguments).code == 0
    assert told[:2] == ["encode", "encode"]
    assert told[2:].count("close") == closed


# --- inputs that fail


def cut_flac(path):
    whole = io.BytesIO()
    soundfile.write(whole, np.random.default_rng(0).normal(size=RATE) * 0.1, RATE, format="FLAC")
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])


BAD_SOUNDS = {
    "empty.wav": Path.touch,
    "text.wav": lambda path: path.write_text("this is no sound, whatever its name says\n" * 40),
    "cut.flac": cut_flac,
    "zero.wav": lambda path: write(path, np.zeros(0, np.float32)),
    "short.wav": lambda path: write(path, tone(0.02)),
    "nan.wav": lambda path: write(path, np.full(RATE, np.nan, np.float32), subtype="FLOAT"),
    "inf.wav": lambda path: write(path, np.full(RATE, np.inf, np.float32), subtype="FLOAT"),
    "loop.wav": lambda path: path.symlink_to(path),
    "dangling.wav": lambda path: path.symlink_to("nowhere"),
    os.fsdecode(b"l\xe4rm.wav"): Path.touch,
    "two\nlines.wav": Path.touch,
}


def shown(path):
    """A name as a message shows it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in path.name)


@pytest.mark.parametrize("name", BAD_SOUNDS, ids=ascii)
def test_a_bad_sound_is_one_line_that_names_it(ask_open, tmp_path, name):
    BAD_SOUNDS[name](tmp_path / name)
    ended = ask_open("-i", tmp_path / name)
    assert (ended.code, ended.out) == (1, "")
    assert shown(tmp_path / name) in ended.told
    assert ";" in ended.told  # what is wrong; what to do


@pytest.mark.parametrize("name", BAD_SOUNDS, ids=ascii)
def test_a_bad_sound_is_one_line_of_json(ask_open, tmp_path, name):
    BAD_SOUNDS[name](tmp_path / name)
    ended = ask_open("-i", tmp_path / name, "--json")
    record = ended.record
    assert (ended.code, record["status"], record["input"]) == (1, "error", str(tmp_path / name))
    assert printable(name) in record["error"]
    assert (record["text"], record["finish_reason"]) == ("", None)


def test_a_bad_sound_among_several_is_the_one_that_is_named(ask_open, speech, tmp_path):
    (tmp_path / "empty.wav").touch()
    ended = ask_open("-i", speech, tmp_path / "empty.wav", "--json")
    assert (ended.code, ended.record["status"]) == (1, "error")
    assert ended.told.startswith(f"{tmp_path / 'empty.wav'}: ")
    assert str(speech) not in ended.told


def test_the_good_sounds_of_a_folder_are_answered(ask_open, tmp_path):
    for name in ("a.wav", "c.wav"):
        write(tmp_path / name)
    (tmp_path / "b.wav").touch()
    ended = ask_open("-q", "-i", tmp_path, "--json")
    assert ended.code == 1
    assert [json.loads(line)["status"] for line in ended.out.splitlines()] == ["ok", "error", "ok"]
    assert ended.told.startswith(str(tmp_path / "b.wav"))
    text = ask_open("-i", tmp_path)
    assert text.out == ask_open("-i", tmp_path / "a.wav").out + ask_open("-i", tmp_path / "c.wav").out


def test_a_missing_file_beside_a_good_one_is_a_failed_input(ask_open, speech):
    ended = ask_open("-i", speech, "missing.wav")
    assert (ended.code, ended.out) == (1, "")
    assert ended.told.startswith("missing.wav: no such file")


@pytest.mark.parametrize("name", ["missing.wav", "folder", "", "\udce4.wav", "x" * 300])
def test_nothing_to_work_on_is_told_before_a_model_is_looked_for(ask, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert ask("-i", name, "--model", "nowhere").code == 4
    ended = ask("-i", name, "--model", "nowhere", "--json")
    assert (ended.code, ended.record["status"], ended.record["input"]) == (4, "error", name)
    assert ascii(name)[1:-1] in ended.told


@pytest.mark.skipif(os.geteuid() == 0, reason="permission bits do not bind root")
def test_a_folder_without_rights_fails_and_the_rest_is_answered(ask_open, speech, tmp_path):
    tmp_path.chmod(0)
    try:
        ended = ask_open("-i", tmp_path, speech)
    finally:
        tmp_path.chmod(0o700)
    assert ended.code == 1
    assert ended.told.startswith(f"{tmp_path}: cannot be read")


def test_a_folder_that_cannot_be_listed_fails_and_the_rest_is_answered(ask_open, speech, tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    ended = ask_open("-q", "-i", tmp_path, speech)
    assert (ended.code, ended.out) == (1, ask_open("-i", speech).out)
    assert ended.told.startswith(str(tmp_path))


@pytest.mark.parametrize("failure", [MemoryError(), OSError(5, "Input/output error")])
def test_a_failure_that_names_nothing_is_given_the_inputs(ask_open, tmp_path, monkeypatch, failure):
    def fail(*_):
        raise failure

    first, second = write(tmp_path / "1.wav"), write(tmp_path / "2.wav")
    monkeypatch.setattr("audio_encoder.waveform.stream_waveform", fail)
    ended = ask_open("-i", first, second)
    assert (ended.code, ended.out) == (1, "")
    assert ended.told.startswith(f"{first}, {second}: ")


def test_a_failure_in_the_middle_of_an_answer_ends_its_line_and_the_run(ask_open, opened, tmp_path, monkeypatch):
    from errors import BackendError

    def fail(_):
        raise BackendError("the device is gone")

    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    monkeypatch.setattr(opened.decoder, "extend", fail, raising=False)
    ended = ask_open("-q", "-i", tmp_path)
    assert (ended.code, ended.told) == (3, "the device is gone")
    assert ended.out.count("\n") == 1
    ended = ask_open("-q", "-i", tmp_path, "--json")
    assert (ended.record["status"], ended.record["finish_reason"]) == ("error", None)


# --- prompts and flags that cannot be


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--bogus"], "--bogus"),
        (["-p", ""], "--prompt"),
        (["--max-new-tokens", "0"], "--max-new-tokens"),
        (["-i", "-", "-"], "standard input"),
        (["-s", "missing/out.txt"], "--savepath"),
        (["-p", "what is <audio> here?"], "<audio>"),
        (["--system", "</audio><audio>"], "<audio>"),
        (["-p", "word " * 9_000], "context"),
        (["-p", " " * 2_000_000 + "x"], "white space"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_usage_is_one_line_and_code_2(ask_open, speech, arguments, word):
    ended = ask_open("-i", speech, *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert word in ended.told
    ended = ask_open("-i", speech, *arguments, "--json")
    assert (ended.code, ended.record["status"]) == (2, "error")
    assert word in ended.record["error"]


@pytest.fixture
def heard_at_once(monkeypatch):
    """The encoder gives zeros of the right shape: for tests of many sounds, whose answers do not matter."""
    width = 32  # of the demo model
    monkeypatch.setattr(
        AudioEncoder,
        "encode",
        lambda _, mels: [np.zeros((audio_token_count(frames) + 2, width), np.float32) for _, frames in mels],
    )


@pytest.mark.slow
@pytest.mark.usefixtures("heard_at_once")
def test_clips_over_the_context_are_wrong_usage(ask_open, tmp_path):
    sound = write(tmp_path / "x.wav", tone(30))
    ended = ask_open("-i", *[sound] * 12, "--json")
    assert (ended.code, ended.record["status"]) == (2, "error")
    assert "context of 8192" in ended.told


def test_a_prompt_that_cannot_be_ends_the_run(ask_open, tmp_path):
    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    ended = ask_open("-i", tmp_path, "-p", "<audio>", "--json")
    assert (ended.code, ended.record["input"]) == (2, str(tmp_path / "a.wav"))


def test_wrong_usage_outweighs_an_input_that_failed_before(ask_open, tmp_path):
    (tmp_path / "a.wav").touch()
    write(tmp_path / "b.wav")
    assert ask_open("-i", tmp_path, "-p", "<audio>").code == 2


def test_debug_shows_the_traceback_and_keeps_line_and_code(ask):
    ended = ask("-i", "missing.wav", "--debug", "--json")
    assert (ended.code, ended.record["status"]) == (4, "error")
    assert "Traceback" in ended.err
    assert ended.err.splitlines()[-1] == "qwen_audio: missing.wav: no such file; check the path"


# --- the file of answers


def test_the_file_has_what_standard_output_had(ask_open, tmp_path):
    for name in ("a.wav", "c.wav"):
        write(tmp_path / name)
    (tmp_path / "b.wav").touch()
    ended = ask_open("-i", tmp_path, "-s", tmp_path / "out.txt")
    assert ended.code == 1
    assert (tmp_path / "out.txt").read_text() == ended.out
    ended = ask_open("-i", tmp_path, "-s", tmp_path / "out.txt", "--json")
    assert (tmp_path / "out.txt").read_text() == ended.out
    assert [json.loads(line)["status"] for line in ended.out.splitlines()] == ["ok", "error", "ok"]


def test_a_file_that_cannot_be_written_does_not_cost_the_answer(ask_open, speech):
    ended = ask_open("-i", speech, "-s", "/dev/full")
    assert (ended.code, ended.out) == (1, ask_open("-i", speech).out)
    assert ended.told.startswith("--savepath /dev/full: not written (No space left on device)")
    assert Path("/dev/full").is_char_device()


def test_interrupted_answers_that_are_whole_are_kept(ask_open, tmp_path, monkeypatch, capsys):
    def stream_waveform(path, notes):
        if path.endswith("b.wav"):
            raise Stopped(signal.SIGINT)
        yield tone()[:, 0]

    for name in ("a.wav", "b.wav"):
        write(tmp_path / name)
    monkeypatch.setattr("audio_encoder.waveform.stream_waveform", stream_waveform)
    with pytest.raises(Stopped):
        ask_open("-q", "-i", tmp_path, "-s", tmp_path / "out.txt")
    out, err = capsys.readouterr()
    assert err == "qwen_audio: interrupted\n"
    assert (tmp_path / "out.txt").read_text() == out != ""


# --- models that are missing or damaged


def overwrite(name):
    """Other bytes of the same number in one file."""

    def damage(model):
        size = (model / name).stat().st_size
        (model / name).unlink()
        (model / name).write_bytes(b"\x55" * size)

    return damage


def edit(change):
    """Another manifest."""

    def damage(model):
        data = json.loads((model / "manifest.json").read_text())
        change(data)
        (model / "manifest.json").write_text(json.dumps(data))

    return damage


def shorten(name, *, recorded):
    """Half of one file; `recorded`: the manifest says so too."""

    def damage(model):
        half = (model / name).read_bytes()[: (model / name).stat().st_size // 2]
        (model / name).unlink()
        (model / name).write_bytes(half)
        if recorded:
            edit(lambda data: data["files"][name].update(size=len(half)))(model)

    return damage


def without_vocabulary(data):
    data["vocabulary"] = None
    del data["files"]["qwen.tiktoken"]


def flip_bit(model):
    data = bytearray((model / "decoder.data").read_bytes())
    data[1000] ^= 1
    (model / "decoder.data").unlink()
    (model / "decoder.data").write_bytes(data)


DAMAGES = {
    "no directory": (shutil.rmtree, [], "no such model directory"),
    "no manifest": (lambda model: (model / "manifest.json").unlink(), [], "no manifest.json"),
    "manifest is no JSON": (overwrite("manifest.json"), [], "not valid JSON"),
    "unknown key": (edit(lambda data: data.update(colour="red")), [], "colour"),
    "other format": (edit(lambda data: data.update(format=99)), [], "format 99"),
    "no vocabulary": (edit(without_vocabulary), [], "without a vocabulary"),
    "other vocabulary": (edit(lambda data: data["decoder_sizes"].update(audio_start=7)), [], "as 155163"),
    "small vocabulary": (edit(lambda data: data["decoder_sizes"].update(vocab_size=155_164)), [], "155165 tokens"),
    "other width": (edit(lambda data: data["decoder_sizes"].update(d_model=64)), [], "width 32"),
    "no file": (lambda model: (model / "decoder.data").unlink(), [], "decoder.data"),
    "wrong size": (shorten("decoder.data", recorded=False), [], "decoder.data"),
    "short data": (shorten("decoder.data", recorded=True), [], "decoder.onnx"),
    "garbage graph": (overwrite("encoder.onnx"), [], "encoder.onnx"),
    "garbage vocabulary": (overwrite("qwen.tiktoken"), [], "qwen.tiktoken"),
    "garbage rows": (overwrite("bos.npy"), [], "bos.npy: damaged"),
    "garbage embeddings": (overwrite("embeddings.npy"), [], "embeddings.npy: damaged"),
    "wrong hash": (flip_bit, ["--verify"], "decoder.data"),
    "garbage rows, verified": (overwrite("bos.npy"), ["--verify"], "bos.npy"),
    "other backend": (lambda _: None, ["--backend", "ailia"], "--backend"),
    "other device": (lambda _: None, ["--device", "abacus"], "--device abacus"),
}


@pytest.fixture
def copy(demo_model, tmp_path):
    """A model directory of links, to damage."""
    model = tmp_path / "model"
    model.mkdir()
    for file in demo_model.iterdir():
        (model / file.name).symlink_to(file)
    text = (model / "manifest.json").read_text()
    (model / "manifest.json").unlink()
    (model / "manifest.json").write_text(text)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_cannot_be_opened_is_one_line_and_code_3(ask, copy, speech, damage):
    do, arguments, word = DAMAGES[damage]
    do(copy)
    ended = ask("-i", speech, "--model", copy, "--json", *arguments)
    assert (ended.code, ended.record["status"], ended.record["input"]) == (3, "error", str(speech))
    assert word in ended.told
    assert str(copy) in ended.told or "--device" in ended.told


def test_a_model_that_cannot_be_opened_leaves_standard_output_empty(ask, copy, speech):
    (copy / "manifest.json").unlink()
    ended = ask("-i", speech, "--model", copy)
    assert (ended.code, ended.out) == (3, "")
    assert "models.convert" in ended.told


@pytest.mark.slow
def test_a_whole_model_is_verified_and_answers(ask, demo_model, speech):
    ended = ask("-i", speech, "--model", demo_model, "--verify", "--max-new-tokens", 1, "--json")
    assert (ended.code, ended.record["status"]) == (0, "ok")
    assert ended.record["timings"]["load_s"] > 0


def test_too_little_memory_for_a_model_says_how_much_it_is(ask, demo_model, speech, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr("decoder.decoder.Decoder", fail)
    ended = ask("-i", speech, "--model", demo_model)
    assert (ended.code, ended.out) == (3, "")
    assert "not enough memory for 0.04 GB" in ended.told


@pytest.mark.slow
def test_a_base_model_says_that_it_has_no_system_prompt(ask, copy, speech):
    edit(lambda data: data.update(chat_format="raw"))(copy)
    ended = ask("-i", speech, "--model", copy, "--system", "Be terse.", "--max-new-tokens", 1)
    assert ended.code == 0
    assert ended.told.startswith("--system: ignored")


@pytest.mark.slow
def test_the_model_may_be_named_by_its_manifest(ask, demo_model, speech):
    ended = ask("-i", speech, "--model", demo_model / "manifest.json", "--max-new-tokens", 1, "--json")
    assert ended.record["model"] == str(load_manifest(demo_model).directory)


# --- the process itself


@pytest.mark.slow
def test_a_process_gives_the_same_bytes_in_any_locale(spawn, ask_open, speech):
    names = ("LANG", "LC_ALL", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    poor = {**bare, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ended = spawn("-i", speech, env=poor)
    assert ended == ask_open("-i", speech)
    assert (ended.code, ended.err) == (0, "")
    assert not ended.out.isascii()


@pytest.mark.slow
def test_without_arguments_the_sample_is_answered_from_any_folder(ask, tmp_path):
    sample = ROOT / "tests" / "golden" / "1272-128104-0000.flac"
    bare = subprocess.run(COMMAND, capture_output=True, cwd=tmp_path, stdin=subprocess.DEVNULL, check=True)
    asked = ask("--model", "nano", "-i", sample, "-p", "what does the person say?")
    assert bare.stdout.decode() == asked.out


@pytest.mark.slow
def test_python_may_be_told_not_to_look_beside_the_script(spawn, ask_open, speech):
    safe = spawn("-i", speech, env={**os.environ, "PYTHONSAFEPATH": "1"})
    assert (safe.code, safe.out, safe.err) == (0, ask_open("-i", speech).out, "")


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-P", "-I"])
def test_a_link_to_the_program_is_the_program(tmp_path, flag):
    (tmp_path / "ask.py").symlink_to(COMMAND[1])
    (tmp_path / "errors.py").write_text("raise SystemExit('not of the program')")
    done = subprocess.run([sys.executable, flag, "ask.py", "--version"], capture_output=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout[:10]) == (0, b"qwen_audio")


@pytest.mark.slow
def test_standard_error_that_takes_nothing_does_not_change_the_exit_code(demo_model, speech):
    command = '"$0" "$1" --model "$2" --max-new-tokens 2 -i "$3" 2>/dev/full'
    done = subprocess.run(["sh", "-c", command, *COMMAND, demo_model, speech], capture_output=True, check=False)
    assert done.returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("heard_at_once")
def test_one_entry_over_the_context_is_that_entrys_failure(ask_open, speech, tmp_path):
    lines = [{"audio": [str(write(tmp_path / "x.wav", tone(30)))] * 12}, {"audio": str(speech)}]
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = ask_open("-q", "--files-from", tmp_path / "list.jsonl", "--json")
    assert ended.code == 1
    assert [json.loads(line)["status"] for line in ended.out.splitlines()] == ["error", "ok"]


@pytest.mark.slow
def test_a_sound_that_is_piped_in_is_the_input(spawn, ask_open, speech):
    piped = spawn("-p", "hm?", input=speech.read_bytes())
    assert (piped.code, piped.out) == (0, ask_open("-p", "hm?", "-i", speech).out)


@pytest.mark.slow
def test_an_empty_file_that_is_piped_in_is_an_empty_sound(spawn, tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    with (tmp_path / "empty.wav").open("rb") as file:
        bare = subprocess.run(COMMAND, capture_output=True, cwd=tmp_path, stdin=file, check=False)
        file.seek(0)
        asked = spawn("-p", "hm?", stdin=file)
    assert (bare.returncode, bare.stdout) == (asked.code, asked.out.encode()) == (1, b"")
    assert "standard input" in asked.err


def test_without_a_sound_nothing_is_answered(spawn):
    ended = spawn("-p", "hm?", stdin=subprocess.DEVNULL)
    assert (ended.code, ended.out) == (2, "")
    assert "--input" in ended.err


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & set(HEAVY)
    assert "--max-new-tokens" in done.stdout


def test_help_is_written_in_an_ascii_locale():
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    assert subprocess.run([*COMMAND, "--help"], env=environment, capture_output=True, check=True).stderr == b""


def test_a_missing_package_is_one_line_and_code_3(speech):
    program = "import sys; sys.modules['numpy'] = None; import cli.main; sys.exit(cli.main.main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "-i", speech, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert (ended.code, ended.record["status"]) == (3, "error")
    assert "numpy" in ended.told
    assert "pip install -r requirements.txt" in ended.told


@pytest.mark.slow
def test_a_sound_is_read_from_a_pipe(spawn, speech):
    ended = spawn("-i", "-", "--json", input=speech.read_bytes())
    assert (ended.code, ended.err, ended.record["input"]) == (0, "", "-")
    assert ended.record["audio"][0]["seconds"] == 5.855


@pytest.mark.slow
def test_a_name_that_is_no_utf8_comes_through(spawn, speech, tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"l\xe4rm.flac")  # noqa: PTH118 - bytes
    shutil.copy(speech, name)
    ended = spawn("-i", name, "--json")
    assert (ended.code, ended.err) == (0, "")
    assert os.fsencode(ended.record["input"]) == name


def test_only_answers_are_on_standard_output(spawn, ask_open, speech):
    ended = spawn("-i", speech, "--env_list", "--profile", "--memory_mode", "1", "--onnx")
    assert ended.code == 0
    assert ended.out == ask_open("-i", speech).out
    assert "--env_id 0" in ended.err or "pip install ailia" in ended.err
    assert all(line.startswith("qwen_audio: ") for line in ended.err.splitlines())


def begin(demo_model, speech):
    """A process that has begun a long answer, and the first byte of that."""

    def ready():  # a test run in the background may hand an ignored Ctrl-C down
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    command = [*COMMAND, "-i", speech, "--model", demo_model, "--max-new-tokens", "8000"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    process = subprocess.Popen(command, **pipes, preexec_fn=ready)  # noqa: PLW1509 - it only resets a signal
    return process, process.stdout.read(1)


@pytest.mark.slow
def test_interrupted_in_an_answer_the_line_ends_and_the_process_ends_by_the_signal(demo_model, speech):
    process, first = begin(demo_model, speech)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (-signal.SIGINT, b"qwen_audio: interrupted\n")
    assert (first + rest).endswith(b"\n")


def caught(pid):
    """The signals that a process handles itself, as bits."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)


SECOND_SIGNAL = """
import os, signal
from cli import signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signals.take_over()
write = os.write
def one_more_comes(descriptor, data):
    os.kill(os.getpid(), {second})
    return write(descriptor, data)
os.write = one_more_comes
os.kill(os.getpid(), signal.SIGHUP)
"""


@pytest.mark.parametrize("second", ["signal.SIGHUP", "signal.SIGTERM"])
def test_a_signal_while_the_line_of_the_first_is_told_tells_none(second):
    code = SECOND_SIGNAL.format(second=second)
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGHUP, "qwen_audio: hung up\n")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not say which signals are handled")
@pytest.mark.parametrize(
    ("number", "waits"), [(signal.SIGINT, (0.0, 0.05, 0.2, 0.5)), (signal.SIGTERM, (0.05,)), (signal.SIGHUP, (0.2,))]
)
def test_at_every_moment_a_signal_ends_the_process_with_one_line(tmp_path, number, waits):
    """From the first line of the program on: before it, Python and the system decide."""

    def ready():  # a test run in the background may hand an ignored Ctrl-C down
        signal.signal(number, signal.default_int_handler)

    words = {signal.SIGINT: b"interrupted", signal.SIGTERM: b"terminated", signal.SIGHUP: b"hung up"}
    write(tmp_path / "long.wav", tone(20.0))
    for wait in waits:
        command = [*COMMAND, "-i", tmp_path / "long.wav", "-q", "-s", tmp_path / "out.txt"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=ready)  # noqa: PLW1509
        while not caught(process.pid) & 1 << signal.SIGTERM - 1:
            time.sleep(0.005)
        time.sleep(wait)
        for _ in range(3):  # an impatient user
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) in {(-number, b"qwen_audio: %s\n" % words[number]), (0, b"")}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_answer_quietly(demo_model, speech):
    process, _ = begin(demo_model, speech)
    process.stdout.close()
    assert process.wait(timeout=30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code", "err"),
    [
        (">/dev/full", 1, "qwen_audio: standard output: No space left on device; the answer there is not complete\n"),
        (">&-", 1, "qwen_audio: standard output: Bad file descriptor; the answer there is not complete\n"),
        (
            "--version >/dev/full",
            1,
            "qwen_audio: standard output: No space left on device; the answer there is not complete\n",
        ),
        ("2>&-", 0, ""),
        ("-i - <&-", 1, "qwen_audio: standard input: the file is empty; record or copy it again\n"),
        ("--help | head -c 1 >/dev/null", 0, ""),
        ("-i missing.wav --json | true", 0, "qwen_audio: missing.wav: no such file; check the path\n"),
    ],
)
def test_streams_that_are_full_or_closed(demo_model, redirection, code, err):
    sound = "" if "-i" in redirection else GOLDEN / "nano" / "speech.flac"
    command = f'"$0" "$1" --model "$2" --max-new-tokens 2 {sound} {redirection}'
    done = subprocess.run(["sh", "-c", command, *COMMAND, demo_model], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, err)
