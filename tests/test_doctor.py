"""The report of --doctor: what it says of a good machine and of bad ones, its exit code, and that nothing stops it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path

import pytest

from cli.doctor import installation, inventory
from cli.doctor import report as module
from cli.doctor.findings import Finding, Seen, fix_of
from cli.doctor.inventory import memory_needed
from cli.doctor.report import doctor
from cli.errors import NO_MODEL, OK
from cli.options import ROOT, parse_arguments
from errors import BackendError, ModelError, printable
from models.download.catalog import RemoteFile
from models.download.lockfile import Pins, write_pins
from models.manifest import load_manifest
from models.nano import embedded
from models.runtime.ailia import AILIA_LICENCE
from tests.fake_ailia import FakeNet
from tests.tiny_models import make_tiny

GB = 10**9
SECTIONS = ["program", "packages", "backends", "models", "memory", "cache", "text", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("nano") / "checkpoint")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """One for all tests: the embedded model is converted once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def home(tmp_path, cache, checkpoint, monkeypatch):
    """A machine with an embedded model, an empty folder models/ (which this is), and no licence of ailia."""
    monkeypatch.setattr(embedded, "CHECKPOINT", checkpoint)
    monkeypatch.setattr(inventory, "MODELS", tmp_path / "models")
    monkeypatch.setattr(inventory, "ROOT", tmp_path)
    monkeypatch.setattr(installation, "licence_files", lambda: [tmp_path / "AILIA.lic"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.delenv("QWEN_AUDIO_MODEL", raising=False)
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


@pytest.fixture
def installed(home, tiny):
    """installed(name) -> a model directory under models/."""

    def installed(name):
        return shutil.copytree(tiny("int8").directory, home / name)

    return installed


class Report:
    """What `--doctor --json` printed and how it ended."""

    def __init__(self, code, record):
        self.code, self.runnable, self.next = code, record["runnable"], record["next"]
        self.all = record["findings"]
        assert record["status"] == ("ok" if code == OK else "error")
        assert 1 <= len(self.next) <= 3

    def __getitem__(self, names):
        (found,) = [one for one in self.all if (one["section"], one["name"]) == names]
        return found

    def states(self, section):
        return {one["name"]: one["state"] for one in self.all if one["section"] == section}


@pytest.fixture
def report(capsys):
    """report(*arguments) -> Report."""

    def report(*arguments):
        code = doctor(parse_arguments(["--doctor", "--json", *map(str, arguments)]))
        out, err = capsys.readouterr()
        (line,) = out.splitlines()
        assert err == ""
        return Report(code, json.loads(line))

    return report


# --- the report as a whole


def test_a_good_machine_has_nothing_bad(home, report):
    found = report()
    assert found.code == OK
    assert list(dict.fromkeys(one["section"] for one in found.all)) == SECTIONS
    assert "bad" not in {one["state"] for one in found.all}
    assert found.runnable == ["nano"]
    assert found.next[0] == 'python3 qwen_audio.py -i SOUND -p "what do you hear?"'
    assert "python3 -m models.download Qwen-Audio-Chat" in found.next[1]


def test_the_plain_report_has_a_line_for_each_finding(home, capsys):
    assert doctor(parse_arguments(["--doctor"])) == OK
    lines = capsys.readouterr().out.splitlines()
    assert Counter(line.split()[0] for line in lines).keys() <= {"ok", "note", "bad", "next"}
    assert list(dict.fromkeys(line.split()[1] for line in lines if not line.startswith("next"))) == SECTIONS
    assert any(line.startswith("ok    packages   numpy: ") for line in lines)
    assert lines[-1].startswith("next  ")


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(home, capsys):
    def broken(options, seen):
        yield Finding("broken", "first", "ok", "was seen")
        raise ZeroDivisionError("a bug")

    def after(options, seen):
        yield Finding("after", "it", "ok", "goes on")

    assert doctor(parse_arguments(["--doctor"]), (broken, after)) == NO_MODEL
    assert capsys.readouterr().out.splitlines() == [
        "ok    broken     first: was seen",
        "bad   broken     check: failed (ZeroDivisionError: a bug)",
        "ok    after      it: goes on",
        "next  look at the lines that begin with bad",
    ]


@pytest.mark.parametrize("name", SECTIONS)
def test_every_check_may_fail(home, capsys, monkeypatch, name):
    def broken(options, seen):
        raise OSError(5, "Input/output error")

    broken.__name__ = name
    sections = [broken if section.__name__ == name else section for section in module.SECTIONS]
    code = doctor(parse_arguments(["--doctor"]), tuple(sections))
    assert code == (NO_MODEL if name in {"backends", "models"} else OK)
    assert f"bad   {name:<9}  check: failed (OSError: " in capsys.readouterr().out


def test_what_mends_comes_first_and_three_lines_are_enough(home, capsys):
    def much(options, seen):
        seen.backends.append("onnxruntime")
        seen.models["it's"] = load_manifest(embedded.embedded_model())
        for number in range(5):
            yield Finding("a", str(number), "note", "", f"could {number}")
            yield Finding("a", str(number), "bad", "", f"must {number // 2}")

    assert doctor(parse_arguments(["--doctor", "--model", "it's"]), (much,)) == OK
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next")]
    assert lines == [
        "next  must 0",
        "next  must 1",
        """next  python3 qwen_audio.py --model 'it'"'"'s' -i SOUND -p "what do you hear?\"""",
    ]


def test_a_line_is_one_line_whatever_a_path_brings():
    line = Finding("models", "a\nb\x1b[2J", "ok", "c\udcff").line()
    assert line == r"ok    models     a\nb\x1b[2J: c\udcff"
    assert printable("ü é 音") == "ü é 音"


# --- installation


@pytest.mark.parametrize("name", ["numpy", "tqdm", "onnxruntime"])
@pytest.mark.parametrize("version", [None, "0.0.1", "99.0rc1"])
def test_a_package_that_is_missing_or_old_is_named(home, report, monkeypatch, name, version):
    real = metadata.version

    def stand_in(asked):
        if asked == name and version is None:
            raise metadata.PackageNotFoundError
        return version if asked == name else real(asked)

    monkeypatch.setattr(metadata, "version", stand_in)
    monkeypatch.setattr(metadata, "packages_distributions", dict)
    found = report()
    assert found["packages", name]["state"] == ("ok" if version == "99.0rc1" else "note")
    assert ("missing" in found["packages", name]["text"]) == (version is None)
    assert ("too old" in found["packages", name]["text"]) == (version == "0.0.1")
    assert ("pip install -r requirements.txt" in found.next) == (version != "99.0rc1")
    assert found.code == OK  # it can be loaded all the same


def test_a_package_under_another_name_counts(home, report, monkeypatch):
    real = metadata.version

    def stand_in(asked):
        if asked == "onnxruntime":
            raise metadata.PackageNotFoundError
        return "1.30.0" if asked == "onnxruntime-gpu" else real(asked)

    monkeypatch.setattr(metadata, "version", stand_in)
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert report()["packages", "onnxruntime"]["facts"]["version"] == "1.30.0"


def test_a_needed_package_that_does_not_load_lets_nothing_run(home, report, monkeypatch):
    def stand_in(name):
        if name == "soundfile":
            raise OSError("cannot load library 'libsndfile.so'")

    monkeypatch.setattr(installation.importlib, "import_module", stand_in)
    found = report()
    assert found.code == NO_MODEL
    assert found.runnable == []
    assert "cannot load library 'libsndfile.so'" in found["packages", "soundfile"]["text"]
    assert found.next[0] == "pip install -r requirements.txt"


def test_without_numpy_there_is_still_a_report(home):
    code = "import sys; sys.modules['numpy'] = None; from cli.doctor.report import doctor;"
    code += "from cli.options import parse_arguments; sys.exit(doctor(parse_arguments(['--doctor'])))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (NO_MODEL, "")
    lines = ended.stdout.splitlines()
    assert any(line.startswith("bad   packages   numpy: ") for line in lines)
    assert any(line.startswith("bad   backends   check: failed") for line in lines)
    assert next(line for line in lines if line.startswith("next")) == "next  pip install -r requirements.txt"
    assert {line.split()[1] for line in lines} >= set(SECTIONS)


def test_a_device_that_is_not_there_is_explained(home, report):
    found = report("--device", "cuda:7")
    assert found.code == NO_MODEL
    assert found["backends", "onnxruntime"]["state"] == "bad"
    assert "--device cuda:7: not in the installed ONNX Runtime" in found["backends", "onnxruntime"]["text"]
    assert "cpu" in found["backends", "devices"]["facts"]["devices"]
    assert any(step.startswith("pip install 'onnxruntime-gpu[cuda,cudnn]' instead") for step in found.next)


def licence(path, day, head="--- shalo license file ---"):
    path.write_text(f"{head}\naxell:ailia\n{day:%Y/%m/%d}\nsomebody\n-- signature --\n")


@pytest.fixture
def ailia(monkeypatch):
    """`ailia.Net` is the stand-in; ailia() -> how often it was started."""
    package = pytest.importorskip("ailia", reason="the ailia package is not installed")
    started = []
    monkeypatch.setattr(package, "Net", lambda **arguments: started.append(1) or FakeNet(**arguments))
    return lambda: len(started)


@pytest.mark.slow
@pytest.mark.parametrize("days", [None, -1, 0, 3, 7, "other", "empty", "folder"])
def test_ailia_is_not_started_where_it_would_fetch_a_licence(home, report, ailia, days):
    path = home.parent / "AILIA.lic"
    if isinstance(days, int):
        licence(path, datetime.now(UTC).astimezone() + timedelta(days=days))
    if days == "other":
        licence(path, datetime.now(UTC) + timedelta(days=99), head="something else")
    if days == "empty":
        path.touch()
    if days == "folder":
        path.mkdir()
    before = path.read_bytes() if path.is_file() else None
    found = report()
    assert ailia() == 0
    assert (path.read_bytes() if path.is_file() else None) == before
    assert found["backends", "ailia licence"]["state"] == "note"
    assert str(path) in found["backends", "ailia licence"]["text"]
    assert AILIA_LICENCE.removeprefix("ailia: ") in found["backends", "ailia"]["text"]
    assert found["backends", "ailia"]["state"] == "note"
    assert report("--backend", "ailia")["backends", "ailia"]["state"] == "bad"
    assert report("--backend", "ailia").code == NO_MODEL


def test_ailia_is_started_where_its_licence_is_there(home, report, ailia):
    licence(home.parent / "AILIA.lic", datetime.now(UTC) + timedelta(days=30))
    assert report().states("backends") == {"onnxruntime": "ok", "devices": "ok", "ailia licence": "ok", "ailia": "ok"}
    assert ailia() == 1
    found = report("--backend", "ailia")
    assert found.code == OK
    assert found["models", "nano"]["facts"]["contract"] == "plain"


def test_an_ailia_that_does_not_start_says_why(home, report, ailia, monkeypatch):
    licence(home.parent / "AILIA.lic", datetime.now(UTC) + timedelta(days=30))

    def refuse(_):
        raise BackendError("ailia cannot open a network: no reason")

    monkeypatch.setattr("models.runtime.ailia.AiliaSession.probe", refuse)
    assert report()["backends", "ailia"]["text"] == "ailia cannot open a network: no reason"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no numbers of users")
def test_the_licence_is_looked_for_where_the_package_does(monkeypatch):
    own = Path("~/.shalo/AILIA.lic").expanduser()
    if installation.sys.platform == "linux" and "SUDO_UID" not in os.environ:
        assert installation.licence_files()[0].name == own.name
        assert installation.licence_files()[0].parent.name == ".shalo"


def test_a_cache_that_cannot_be_written_is_told(home, report, monkeypatch):
    monkeypatch.setattr(installation.os, "access", lambda *_: False)
    found = report()
    assert found["cache", "folder"]["state"] == "note"
    assert "XDG_CACHE_HOME" in found["cache", "folder"]["fix"]
    assert found.code == OK


def test_an_encoding_that_is_not_utf_8_is_told(home, report, monkeypatch):
    monkeypatch.setattr(installation.locale, "getencoding", lambda: "ISO-8859-1")
    assert report()["text", "encoding"]["state"] == "note"
    assert report()["text", "encoding"]["fix"] == "export LANG=C.UTF-8"


def test_an_old_processor_is_told(home, report, monkeypatch):
    monkeypatch.setattr(installation, "processor", lambda: ("old", 4, ["sse4_1"]))
    monkeypatch.setattr(installation.platform, "machine", lambda: "x86_64")
    assert report()["cpu", "processor"]["state"] == "note"
    monkeypatch.setattr(installation.platform, "machine", lambda: "aarch64")
    assert report()["cpu", "processor"]["state"] == "ok"


# --- models


def test_models_are_found_where_a_run_looks_for_them(home, report, installed, tiny, monkeypatch):
    installed("mine")
    monkeypatch.setenv("QWEN_AUDIO_MODEL", str(tiny("fp32").directory))
    named = tiny("int4").directory
    found = report("--model", named)
    assert found.states("models") | {"Qwen-Audio-Chat": "note"} == {
        str(named): "ok",
        str(tiny("fp32").directory): "ok",
        "models/mine": "ok",
        "nano": "ok",
        "Qwen-Audio-Chat": "note",
    }
    assert found.runnable == [str(named)]  # the one that was asked about
    facts = found["models", "models/mine"]["facts"]
    assert (facts["precision"], facts["contract"]) == ("int8", "fused")
    assert (
        facts["bytes"]
        == sum(path.stat().st_size for path in (home / "mine").iterdir())
        - (home / "mine" / "manifest.json").stat().st_size
    )


def test_a_model_that_is_named_twice_is_told_once(home, report, installed, monkeypatch):
    monkeypatch.setenv("QWEN_AUDIO_MODEL", str(installed("mine")))
    assert list(report().states("models")) == [str(home / "mine"), "nano"]


def test_a_file_that_happens_to_be_called_nano_is_not_nano(home, report, tmp_path, monkeypatch):
    (tmp_path / "work" / "nano").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    assert report().runnable == ["nano"]
    assert report("--model", "nano").code == NO_MODEL  # who names it means the folder, as in a run


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no manifest", "no json"])
def test_a_damaged_model_is_bad_and_the_others_are_told(home, report, installed, damage):
    directory = installed("mine")
    weights = directory / "decoder.data"
    whole = weights.read_bytes()
    if damage in {"cut", "changed"}:
        weights.write_bytes(whole[:-1] if damage == "cut" else whole[:-1] + bytes([whole[-1] ^ 1]))
    if damage == "gone":
        weights.unlink()
    if damage == "no json":
        (directory / "manifest.json").write_text("{")
    if damage == "no manifest":
        (directory / "manifest.json").unlink()
        assert "models/mine" not in report().states("models")
        found = report("--model", directory)
        assert (found.code, found["models", str(directory)]["state"]) == (NO_MODEL, "bad")
        return
    found = report()
    assert found.code == OK  # nano runs
    assert found["models", "models/mine"]["state"] == "bad"
    assert found.runnable == ["nano"]
    assert found.next[0].startswith("models/mine: convert or download")
    assert report("--model", directory).code == NO_MODEL


def test_nano_that_is_damaged_is_made_anew(home, report):
    data = Path(report()["models", "nano"]["facts"]["directory"]) / "decoder.data"
    whole = data.read_bytes()
    data.write_bytes(bytes(len(whole)))
    found = report()
    assert (found.code, found["models", "nano"]["state"]) == (OK, "ok")
    assert data.read_bytes() == whole


def test_an_incomplete_clone_is_told(home, report, monkeypatch):
    monkeypatch.setattr(embedded, "CHECKPOINT", home / "nowhere")
    found = report()
    assert (found.code, found.next[0]) == (NO_MODEL, "nano: clone it again")


@pytest.mark.parametrize("state", ["whole", "unfinished", "converted", "unknown", "damaged"])
def test_a_download_is_told_with_what_comes_next(home, report, installed, state):
    directory = home / "Qwen-Audio-Chat"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    pin = RemoteFile("config.json", "https://x", size=2, hashes={"sha256": "0" * 64})
    names = ("config.json", "model.safetensors") if state == "unfinished" else ("config.json",)
    model = "Qwen-Audio-Chat" if state != "unknown" else "something"
    write_pins(directory, Pins(model=model, names=names, files={"config.json": pin}))
    if state == "converted":
        installed("Qwen-Audio-Chat-int4")
    if state == "damaged":
        (directory / "download.json").write_text("{")
    found = report()
    assert found.code == OK
    if state == "damaged":
        assert "download.json cannot be read" in found["models", "check"]["text"]
        return
    told = found["models", "models/Qwen-Audio-Chat"]
    assert told["state"] == ("ok" if state == "converted" else "note")
    fix = {
        "whole": "python3 -m models.convert models/Qwen-Audio-Chat models/Qwen-Audio-Chat-int4 --precision int4",
        "unfinished": "python3 -m models.download Qwen-Audio-Chat",
    }
    assert told["fix"] == fix.get(state, "")


def test_hashing_large_files_is_told_on_standard_error(home, installed, capsys, monkeypatch):
    monkeypatch.setattr(inventory, "LARGE", 1000)
    installed("mine")
    doctor(parse_arguments(["--doctor"]))
    out, err = capsys.readouterr()
    assert "qwen_audio: models/mine: hashing decoder.data (0.1 MB)\n" in err
    assert "hashing decoder.data" not in out
    doctor(parse_arguments(["--doctor", "--quiet"]))
    assert capsys.readouterr().err == ""


# --- memory


@pytest.mark.parametrize(
    ("machine", "state", "fix"),
    [
        ((64 * GB, 32 * GB), "ok", ""),
        ((64 * GB, 1000), "note", "close other programs"),
        ((1000, 1000), "bad", "nano: convert it with a smaller --precision"),
        ((None, None), "ok", ""),
    ],
)
def test_memory_is_held_against_what_the_model_takes(home, report, monkeypatch, machine, state, fix):
    monkeypatch.setattr(inventory, "memory_of_machine", lambda: machine)
    found = report()
    assert found["memory", "nano"]["state"] == state
    assert found["memory", "nano"]["fix"].startswith(fix)
    assert found["memory", "machine"]["facts"] == {"total": machine[0], "available": machine[1]}
    assert found.code == OK
    more = report("--batch", 64)["memory", "nano"]
    assert "for 64 answers side by side" in more["text"]
    assert more["facts"]["needed"] > found["memory", "nano"]["facts"]["needed"]


def test_what_the_full_model_takes_is_near_what_was_measured(tiny, monkeypatch):
    """6.02 GB with int4, a table of 1.28 GB in 6.99 GB of files, and 378 positions."""
    manifest = tiny("int4")
    files = dict.fromkeys(manifest.files, type(next(iter(manifest.files.values())))(0, ""))
    for name, size in ((manifest.embeddings, 1.277e9), (manifest.decoder[0].file, 5.717e9)):
        files[name] = type(files[name])(int(size), "")
    state = type(manifest.decoder[0].state)(
        names=tuple((f"new_{i}", f"old_{i}") for i in range(64)), shape=(1, 32, -1, 128), dtype="float32", in_place=True
    )
    graph = type(manifest.decoder[0])("decoder.onnx", (), (), state)
    full = type(manifest)(**{**vars(manifest), "files": files, "decoder": (graph,)})
    monkeypatch.setattr(inventory, "POSITIONS", 378)
    assert abs(memory_needed(full) / 6.02e9 - 1) < 0.05
    one_more_row = 64 * 32 * 378 * 128 * 4
    assert memory_needed(full, rows=8) == memory_needed(full) + 7 * one_more_row


def test_nothing_is_runnable_without_a_backend_that_the_model_allows(tiny):
    options = parse_arguments(["--doctor"])
    fused = Seen(models={"a": tiny("int8")}, backends=["ailia"])
    assert fused.runnable(options) == []
    assert Seen(models={"a": tiny("int8")}, backends=["onnxruntime"]).runnable(options) == ["a"]
    assert Seen(models={"a": tiny("int8", "plain")}, backends=["ailia"]).runnable(options) == ["a"]


def test_what_to_do_comes_from_the_error_not_from_its_text():
    assert fix_of(ModelError("a.onnx is missing; so is b.onnx", "convert it again")) == "convert it again"
    assert fix_of(ModelError("a.onnx is missing; so is b.onnx")) == ""
    assert fix_of(ValueError("first; second")) == ""


def test_what_to_do_next_can_be_done_from_another_folder(home, report, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ask, fetch, *_ = report().next
    fetch = re.search(r"cd .* -m models\.download [\w-]+", fetch)[0]
    for command in (ask.partition(" -i ")[0] + " --version", f"{fetch} --help"):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
    monkeypatch.setattr(metadata, "version", lambda _: "0.0.1")
    assert f"cd {ROOT} && pip install -r requirements.txt" in report().next
