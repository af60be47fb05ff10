"""Too little memory, too few threads: one line that says so, whatever the library says, and nothing on stdout."""

import errno
import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from cli.errors import named_error
from cli.main import main
from errors import BackendError
from models.arrays import load_array
from models.runtime import shortage
from models.runtime.session import call_library, open_session
from models.runtime.threads import running
from tests.tiny_models import ONNX_RUNTIME

SOUND = "tests/golden/nano/speech.flac"
resource = pytest.importorskip("resource")


def fail(kind=RuntimeError):
    raise kind("std::bad_alloc")


def refuse(_work, _arguments):
    raise RuntimeError("can't start new thread")


def no_memory(*_args, **_options):
    raise OSError(12, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("kind", "megabytes"),
    [("RLIMIT_AS", 60), ("RLIMIT_AS", 150), ("RLIMIT_AS", 300), ("RLIMIT_AS", 450), ("RLIMIT_DATA", 150)],
)
def test_little_memory_is_told_in_a_line_before_a_library_ends_the_process(kind, megabytes):
    def limit():
        resource.setrlimit(getattr(resource, kind), (megabytes << 20, megabytes << 20))

    done = subprocess.run(
        [sys.executable, "qwen_audio.py", "--json", "-i", SOUND],
        preexec_fn=limit,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "memory is limited to" in done.stderr
    assert json.loads(done.stdout)["status"] == "error"


def test_a_library_that_gets_no_memory_is_no_reason_to_convert_again(monkeypatch, tmp_path):
    monkeypatch.setattr("mmap.mmap", no_memory)
    with pytest.raises(BackendError, match="not enough memory") as caught:
        call_library(tmp_path / "a.onnx", fail)
    assert caught.value.kind == "memory"
    assert "again" not in caught.value.fix


def test_a_library_for_which_there_is_no_room_is_not_to_be_installed(monkeypatch):
    monkeypatch.setattr("mmap.mmap", no_memory)
    assert named_error(ImportError("failed to map segment"), "").kind == "memory"


def test_a_library_that_fails_for_another_reason_is_told_as_before(tmp_path):
    with pytest.raises(BackendError, match="bad_alloc; convert or download"):
        call_library(tmp_path / "a.onnx", fail)


def test_too_few_processes_are_told_before_anything_is_imported(monkeypatch, capsys):
    monkeypatch.setattr("_thread.start_new_thread", refuse)
    assert main(["--json", "-i", SOUND]) == 3
    out, err = capsys.readouterr()
    assert "ulimit -u" in err
    assert err.count("\n") == 1
    assert json.loads(out)["status"] == "error"


def test_threads_that_were_tried_are_gone():
    assert shortage.shortage("a", threads=8) is None
    assert running() == []


def test_onnxruntime_says_nothing_on_standard_output_about_a_graph_that_it_cannot_open(tiny, tmp_path, capfd):
    manifest = tiny()
    copy = shutil.copytree(manifest.directory, tmp_path / "model")
    (copy / manifest.encoder.file).write_bytes(b"no graph")
    with pytest.raises(BackendError):
        open_session(replace(manifest, directory=copy), manifest.encoder, ONNX_RUNTIME)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("files", [5, 8])
def test_too_few_open_files_are_told_in_a_line_before_a_file_seems_damaged(files):
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

    command = [sys.executable, "qwen_audio.py", "--json", "-i", SOUND]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "ulimit -n" in done.stderr
    assert json.loads(done.stdout)["status"] == "error"


def test_an_array_that_cannot_be_opened_now_is_not_damaged(tiny, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.EMFILE, "Too many open files", "embeddings.npy")

    monkeypatch.setattr("numpy.load", full)
    with pytest.raises(OSError, match="Too many") as caught:
        load_array(tiny(), "embeddings.npy")
    assert named_error(caught.value, "a.wav").kind == "files"


def test_a_system_without_memory_is_told_as_such():
    error = named_error(OSError(errno.ENOMEM, "Cannot allocate memory"), "a.wav")
    assert (error.kind, str(error)[:28]) == ("memory", "a.wav: not enough memory; gi")
