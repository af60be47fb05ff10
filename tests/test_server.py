"""Graphs that another process keeps open: the same bits, one run at a time, and no run that waits for ever."""

import dataclasses
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from audio_encoder.encoder import AudioEncoder
from decoder.decoder import Decoder
from errors import BackendError, ModelError
from models.manifest import load_manifest
from models.opening import open_graphs
from models.server import address, client, limits
from models.server.__main__ import Server, _fields
from models.server.client import RemoteSession, _Channel, _environment, _failure, ask_server, end_server, open_remote
from models.server.messages import receive, send
from tests.tiny_models import ONNX_RUNTIME, forced, make_mels, make_prompt

ROOT = Path(__file__).resolve().parent.parent
KEPT = dataclasses.replace(ONNX_RUNTIME, keep=60.0)
ROOMS = [path for room in ("runtime", "server") for path in (ROOT / "models" / room).glob("*.py")]
SOON = 20.0  # seconds: far more than any of this takes

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="this system has no Unix sockets")


@pytest.fixture(autouse=True)
def runtime(monkeypatch):
    """A folder for the socket, with a short path; its server ends with the test."""
    folder = Path(tempfile.mkdtemp(prefix="qa-"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    if ask_server("state"):
        end_server()
        eventually(lambda: not ask_server("state"))
    shutil.rmtree(folder)


def eventually(condition):
    """Wait until something holds."""
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def held():
    """What the server holds, after a run that ended has been noticed."""
    eventually(lambda: ask_server("state").get("left") is not None)
    return ask_server("state")


class Pair:
    """Two ends of a connection within the process."""

    def __init__(self):
        import multiprocessing.connection

        self.near, self.far = multiprocessing.connection.Pipe()


# --- the wire


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_arrays_cross_as_they_are(dtype, shape):
    pair, array = Pair(), np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    send(pair.near, {"do": "run", "number": 7}, {"one": array, "other": array.T})
    header, arrays = receive(pair.far)
    assert header == {"do": "run", "number": 7}
    for name, expected in (("one", array), ("other", array.T)):
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)


def test_a_caller_who_is_interrupted_gets_the_answer_to_the_next_question():
    pair = Pair()
    channel = _Channel(pair.near, Path())

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            channel.ask({"do": "slow"})
    finally:
        signal.signal(signal.SIGALRM, before)

    def answer():
        for expected in ("slow", "quick"):
            header, _ = receive(pair.far)
            assert header["do"] == expected
            send(pair.far, {}, {"said": np.array(list(expected.encode()))})

    thread = threading.Thread(target=answer)
    thread.start()
    assert bytes(channel.ask({"do": "quick"})["said"].tolist()) == b"quick"
    thread.join(SOON)
    channel.close()


def test_arrays_that_cannot_be_written_to_are_sent_once():
    class Spy:
        def __init__(self):
            self.sent = []

        def ask(self, header, arrays=None):
            self.sent.append((header["known"], sorted(arrays)))
            return {}

        def close(self):
            pass

    spy, table, other = Spy(), np.ones(3), np.ones(3)
    table.flags.writeable = other.flags.writeable = False
    session = RemoteSession(spy)
    session.run({"table": table, "x": np.ones(2)})
    session.run({"table": table, "x": np.ones(2)})
    session.run({"table": other, "x": np.ones(2)})
    assert spy.sent == [(["table"], ["table", "x"]), ([], ["x"]), (["table"], ["table", "x"])]


# --- the same bits


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "flavour"), [("fp32", "fused"), ("int8", "fused"), ("int4", "fused"), ("fp32", "plain")])  # fmt: skip
def test_a_kept_model_gives_the_same_bits(tiny, precision, flavour):
    manifest = tiny(precision, flavour)
    mels = make_mels(1, [50, 31])
    for _ in range(2):  # the second run finds both graphs open
        ours, kept = AudioEncoder(manifest, ONNX_RUNTIME), AudioEncoder(manifest, KEPT)
        for expected, found in zip(ours.encode(mels), kept.encode(mels), strict=True):
            np.testing.assert_array_equal(found, expected)
        ids, new_ids = make_prompt(5, 13), [*make_prompt(6, 9), 0]
        decoder = Decoder(manifest, KEPT)
        expected = forced(Decoder(manifest, ONNX_RUNTIME), ids, (), new_ids)
        np.testing.assert_array_equal(forced(decoder, ids, (), new_ids), expected)
        decoder.rewind(13)
        np.testing.assert_array_equal(decoder.step(new_ids[0]), expected[1])
        del kept, decoder


@pytest.mark.slow
def test_rows_of_a_kept_model_are_their_own(tiny):
    manifest = tiny("int8")
    ours, kept = Decoder(manifest, ONNX_RUNTIME, rows=3), Decoder(manifest, KEPT, rows=3)
    for row in range(3):
        ids = make_prompt(row, 5 + row)
        np.testing.assert_array_equal(kept.prefill(ids, row=row), ours.prefill(ids, row=row))
    for new in ({0: 3, 2: 4}, {1: 7}, {0: 1, 1: 2, 2: 3}):
        expected, found = ours.advance(new), kept.advance(new)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[row], expected[row]) for row in expected)


def test_half_a_question_is_never_followed_by_another(monkeypatch, runtime):
    """Where there is no memory for a question, the server may have heard half of it."""
    pair = Pair()
    channel = _Channel(pair.near, runtime / "none")

    def no_memory(_connection, _header, _arrays):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(client, "send", no_memory)
        with pytest.raises(MemoryError):
            channel.ask({"do": "run"})
    with pytest.raises(OSError, match="closed"):
        channel.ask({"do": "run"})


def test_a_thread_that_is_gone_is_not_waited_for(monkeypatch, runtime):
    monkeypatch.setattr(client, "LOOKING", 0.01)
    monkeypatch.setattr(_Channel, "_speak", lambda _: None)
    with pytest.raises(MemoryError, match="is gone"):
        _Channel(Pair().near, runtime / "none").ask({"do": "run"})


# --- who is kept


@pytest.mark.slow
def test_the_next_run_finds_the_graphs_open_and_another_model_takes_their_place(tiny):
    first, second = tiny("fp32"), tiny("int8")
    kept = [AudioEncoder(first, KEPT), Decoder(first, KEPT)]
    kept.clear()
    state = held()
    assert state["models"] == [str(first.directory)]
    assert 0 < state["left"] <= KEPT.keep
    AudioEncoder(first, KEPT)
    assert held()["pid"] == state["pid"]
    Decoder(second, KEPT)
    assert held()["models"] == [str(second.directory)]
    assert held()["pid"] == state["pid"]


@pytest.mark.slow
def test_a_model_that_was_written_again_is_opened_again(tiny, tmp_path):
    directory = shutil.copytree(tiny("fp32").directory, tmp_path / "model")
    ids = make_prompt(1, 8)
    before = Decoder(load_manifest(directory), KEPT).prefill(ids)
    held()
    shutil.rmtree(directory)
    shutil.copytree(tiny("fp32", seed=2).directory, directory)
    after = Decoder(load_manifest(directory), KEPT).prefill(ids)
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, Decoder(load_manifest(directory), ONNX_RUNTIME).prefill(ids))


@pytest.mark.slow
def test_a_model_replaced_at_equal_size_and_time_is_opened_again(tiny, tmp_path):
    directory = shutil.copytree(tiny("fp32").directory, tmp_path / "model")
    before = Decoder(load_manifest(directory), KEPT).prefill([1, 2, 3])
    held()
    for path in [*directory.glob("*.data"), *directory.glob("*.npy")]:
        old, new = path.stat(), tiny("fp32", seed=2).directory / path.name
        path.write_bytes(new.read_bytes())
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    after = Decoder(load_manifest(directory), KEPT).prefill([1, 2, 3])
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(after, Decoder(load_manifest(directory), ONNX_RUNTIME).prefill([1, 2, 3]))


@pytest.mark.slow
def test_a_second_run_waits_for_its_turn(tiny, monkeypatch):
    manifest, order = tiny("fp32"), []
    first = Decoder(manifest, KEPT)
    expected = first.prefill([1, 2, 3])
    monkeypatch.setattr(client, "_CLIENT", "another run")

    def second():
        found = Decoder(manifest, KEPT).prefill([1, 2, 3])
        order.append("second")
        np.testing.assert_array_equal(found, expected)

    thread = threading.Thread(target=second)
    thread.start()
    time.sleep(0.3)
    order.append("first")
    assert ask_server("state")["left"] is None
    del first
    thread.join(SOON)
    assert order == ["first", "second"]


@pytest.mark.slow
def test_two_that_begin_at_once_start_one_server(tiny):
    manifest, sessions = tiny("fp32"), []

    def run(graph):
        sessions.append(open_remote(manifest, [graph], KEPT))

    threads = [threading.Thread(target=run, args=(graph,)) for graph in (manifest.encoder, *manifest.decoder)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert len(sessions) == len(threads) > 1
    sessions.clear()
    assert held()["models"] == [str(manifest.directory)]  # both in the one that can be asked


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_a_server_that_lives_on_is_no_warning(tiny):
    AudioEncoder(tiny("fp32"), KEPT)
    gc.collect()  # pytest makes an error of a warning here
    assert held()["models"]


@pytest.mark.slow
def test_nobody_asks_and_it_ends(tiny, runtime):
    Decoder(tiny("fp32"), dataclasses.replace(KEPT, keep=0.2))
    eventually(lambda: not ask_server("state"))
    eventually(lambda: len(list((runtime / "qwen-audio").iterdir())) == 1)
    assert [path.name for path in (runtime / "qwen-audio").iterdir()] == ["lock"]


@pytest.mark.slow
def test_a_run_that_is_killed_ends_its_turn(tiny):
    manifest = tiny("fp32")
    code = (
        "import sys, time; from pathlib import Path; from decoder.decoder import Decoder; "
        "from models.manifest import load_manifest; from models.runtime.session import SessionOptions; "
        f"d = Decoder(load_manifest(Path({str(manifest.directory)!r})), "
        "SessionOptions(backend='onnxruntime', threads=1, keep=60.0)); d.prefill([1, 2]); print('open', flush=True); "
        "time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    assert ask_server("state")["left"] is None
    process.kill()
    process.wait()
    process.stdout.close()
    assert held()["models"] == [str(manifest.directory)]
    found, expected = (Decoder(manifest, options).prefill([1, 2, 3]) for options in (KEPT, ONNX_RUNTIME))
    np.testing.assert_array_equal(found, expected)


# --- what goes wrong


@pytest.mark.slow
def test_a_server_that_was_killed_is_told_and_the_next_run_starts_another(tiny):
    decoder = Decoder(tiny("fp32"), KEPT)
    decoder.prefill([1, 2, 3])
    os.kill(ask_server("state")["pid"], signal.SIGKILL)
    with pytest.raises(BackendError, match="the process that keeps the model open is gone"):
        decoder.step(4)
    assert Decoder(tiny("fp32"), KEPT).prefill([1, 2, 3]).shape == (tiny("fp32").decoder_sizes.vocab_size,)


@pytest.mark.slow
def test_what_cannot_be_opened_is_told_as_without_a_server(tiny, tmp_path):
    directory = shutil.copytree(tiny("fp32").directory, tmp_path / "model")
    manifest = load_manifest(directory)
    graph = directory / manifest.encoder.file
    graph.write_bytes(bytes(graph.stat().st_size))
    told = []
    for options in (ONNX_RUNTIME, KEPT):
        with pytest.raises(BackendError) as failure:
            open_graphs(manifest, [manifest.encoder], options)
        told.append((type(failure.value), vars(failure.value)))
    assert told[0] == told[1]


@pytest.mark.parametrize(
    "error", [BackendError("a", fix="b"), ModelError("a", fix="b; c"), BackendError("a", kind="busy", exit_code=9)]
)
def test_an_error_crosses_by_its_fields(error):
    found = _failure(json.loads(json.dumps(_fields(error))))
    assert type(found) is type(error)
    assert vars(found) == vars(error)


def test_an_error_that_is_not_ours_is_the_backends_and_memory_stays_memory():
    found = _failure(_fields(KeyError()))
    assert (type(found), str(found), found.exit_code) == (BackendError, "KeyError", 3)
    assert isinstance(_failure(_fields(MemoryError("no room"))), MemoryError)


@pytest.mark.slow
def test_feeds_of_another_contract_are_told_and_the_session_goes_on(tiny):
    manifest = tiny("fp32")
    session = open_remote(manifest, [manifest.encoder], KEPT)
    with pytest.raises(BackendError, match=manifest.encoder.file):
        session.run({"nonsense": np.zeros(1, np.float32)})
    mels = make_mels(1, [40])
    feeds = {"mel": mels[0][0][None, :, :40], "n_frames": np.array([20], np.int64)}
    (found,) = session.run(feeds)
    (expected,) = open_graphs(manifest, [manifest.encoder], ONNX_RUNTIME).run(feeds)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_folder_that_others_may_enter_is_refused(tiny, runtime, mode):
    folder = runtime / "qwen-audio"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(BackendError, match=f"{folder} is not a folder of yours alone"):
        Decoder(tiny("fp32"), KEPT)
    assert ask_server("state") == {}


def test_a_link_in_place_of_the_folder_is_refused(tiny, runtime, tmp_path):
    (runtime / "qwen-audio").symlink_to(tmp_path)
    with pytest.raises(BackendError, match="is not a folder of yours alone"):
        Decoder(tiny("fp32"), KEPT)


def test_a_path_too_long_for_a_socket_is_told(tiny, tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    with pytest.raises(BackendError, match="too long a path for a socket"):
        Decoder(tiny("fp32"), KEPT)


def stop(pid):
    """Stop a process; a busy system takes a moment for it."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


@pytest.mark.slow
def test_a_server_that_was_stopped_is_not_waited_for(tiny, monkeypatch):
    monkeypatch.setattr(address, "ANSWERING", 0.2)
    decoder = Decoder(tiny("fp32"), KEPT)
    pid = ask_server("state")["pid"]
    stop(pid)
    try:
        assert ask_server("state") == {}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert decoder.prefill([1, 2, 3]).size


@pytest.fixture
def stopped(tiny):
    """A decoder whose server was stopped; the times to notice it are short."""
    decoder = Decoder(tiny("fp32"), KEPT)
    pid = ask_server("state")["pid"]
    stop(pid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(address, "ANSWERING", 0.1)
        patch.setattr(client, "LOOKING", 0.1)
        patch.setattr(client, "SILENT", 0.3)
        yield decoder
    os.kill(pid, signal.SIGCONT)
    assert ask_server("state")["pid"] == pid == address.server_pid(decoder._contract._session._channel._connection)


@pytest.mark.slow
@pytest.mark.parametrize("wait", [None, 0.1])
def test_a_run_ends_that_meets_a_stopped_server(tiny, stopped, wait):
    with pytest.raises(BackendError, match="keeps the model open does not answer") as failure:
        Decoder(tiny("fp32"), dataclasses.replace(KEPT, wait=wait))
    pid = address.server_pid(stopped._contract._session._channel._connection)
    assert failure.value.fix == f"end it with `kill -9 {pid}`, or leave --keep out"


@pytest.mark.slow
def test_a_run_ends_whose_server_is_stopped_and_is_not_asked_again(stopped, monkeypatch):
    for silent in (0.3, 1000.0):
        monkeypatch.setattr(client, "SILENT", silent)
        with pytest.raises(BackendError, match="keeps the model open does not answer"):
            stopped.prefill([1, 2, 3])


@pytest.mark.slow
def test_many_that_ask_a_stopped_server_are_told_at_once(stopped):
    path, callers = address.socket_path(make=False), []
    try:
        with pytest.raises(BlockingIOError):
            callers.extend(address.connect(path) for _ in range(200))
        with pytest.raises(BackendError, match="does not answer"):
            client._reach()
    finally:
        for caller in callers:
            caller.close()


def test_a_run_that_is_stopped_while_it_starts_a_server_holds_up_no_other(runtime, monkeypatch):
    import fcntl

    monkeypatch.setattr(client, "STARTING", 0.1)
    address.socket_path(make=True)
    with (runtime / "qwen-audio" / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BackendError, match="does not answer"):
            client._reach()


@pytest.mark.slow
def test_the_wait_for_a_turn_has_an_end_and_the_time_to_open_does_not_count(tiny, monkeypatch):
    short = dataclasses.replace(KEPT, wait=0.0)
    first = Decoder(tiny("fp32"), dataclasses.replace(KEPT, wait=1.0))
    monkeypatch.setattr(client, "_CLIENT", "another run")
    with pytest.raises(BackendError, match="is in use by another run; wait for that run, or leave --keep out"):
        Decoder(tiny("fp32"), short)
    assert first.prefill([1, 2, 3]).size


def test_a_server_that_cannot_be_made_is_told(tiny, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BackendError, match=r"--keep: /no/such/python: No such file or directory; leave --keep out"):
        Decoder(tiny("fp32"), KEPT)


def test_a_server_that_does_not_start_is_told(tiny, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(BackendError, match="could not be served"):
        Decoder(tiny("fp32"), KEPT)


def test_a_server_is_over_only_when_nobody_is_connected():
    server = Server()
    assert not server.is_over()
    with server._turn("a run", 0.0):
        assert not server.is_over()
    assert server.is_over()


# --- which server, and what it has of the run that started it


def fingerprint_by(python, **environment):
    code = "from models.server.address import fingerprint; print(fingerprint())"
    return subprocess.run(
        [python, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_python_spelled_in_another_way_finds_the_same_server():
    folder = Path(sys.executable).parent
    spellings = {os.path.relpath(sys.executable, ROOT), f"{folder}/../{folder.name}/{Path(sys.executable).name}"}
    spellings |= {str(folder / name) for name in ("python", "python3") if (folder / name).exists()}
    assert {fingerprint_by(python) for python in spellings} == {address.fingerprint()}


def test_other_libraries_have_a_server_of_their_own(tmp_path):
    (tmp_path / "ailia.py").touch()
    assert fingerprint_by(sys.executable, PYTHONPATH=str(tmp_path)) != address.fingerprint()


def test_a_server_has_the_environment_of_its_run(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "", "/else/where"]))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = _environment()
    assert found["PYTHONPATH"].split(os.pathsep) == [str(ROOT), str(Path.cwd() / "lib"), str(Path.cwd()), "/else/where"]
    assert found["OMP_NUM_THREADS"] == "3"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="this system does not show environments")
def test_the_environment_reaches_the_server(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/else/where")
    client._reach()[0].close()
    told = Path(f"/proc/{ask_server('state')['pid']}/environ").read_text().split("\0")
    assert f"PYTHONPATH={ROOT}{os.pathsep}/else/where" in told


@pytest.mark.slow
def test_after_an_update_of_its_code_a_server_ends(tmp_path, runtime):
    for code in (ROOT / "errors.py", *(ROOT / "models").glob("*.py"), *ROOMS):
        (tmp_path / code.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(code, tmp_path / code.relative_to(ROOT))
    path = runtime / "update.sock"
    server = subprocess.Popen([sys.executable, "-m", "models.server", str(path)], cwd=tmp_path)
    eventually(path.exists)
    assert client._ask(path, "state")["pid"] == server.pid
    with (tmp_path / "models" / "manifest.py").open("a") as code:
        code.write("\n")
    assert server.wait(SOON) == 0
    assert not path.exists()


def test_a_server_that_retires_serves_its_run_to_the_end():
    server = Server()
    with server._turn("a run", 60.0):
        server.retire()
        assert not server.is_over()
    assert server.is_over()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="for Linux")
def test_a_server_does_not_keep_the_limits_of_the_run_that_started_it():
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    code = (
        "import os, resource; from models.server import client; os.nice(3); "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (64, {hard})); "
        "resource.setrlimit(resource.RLIMIT_AS, (2**36, 2**37)); client._reach()[0].close()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    state = ask_server("state")
    nice, limits = os.getpriority(os.PRIO_PROCESS, state["pid"]), list(state["limits"])
    if nice:  # only an administrator may lower it
        assert limits.pop(0) == f"nice {nice}"
    assert limits == [f"RLIMIT_AS {2**37}"]
    assert os.sched_getaffinity(state["pid"]) == os.sched_getaffinity(0)
    assert resource.prlimit(state["pid"], resource.RLIMIT_NOFILE) == (hard, hard)
    assert resource.prlimit(state["pid"], resource.RLIMIT_AS) == (2**37, 2**37)


def test_a_nice_value_that_stays_is_told(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "setpriority", refuse)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    monkeypatch.setattr(limits, "_raise_soft_limits", list)
    assert limits.lift_limits() == [f"nice {os.getpriority(os.PRIO_PROCESS, 0)}"]


# --- from the shell


def run(*arguments, **environment):
    command = [sys.executable, "qwen_audio.py", "-q", "--json", "-i", "tests/golden/nano/speech.flac", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_shell_loop_pays_for_opening_once():
    alone = json.loads(run().stdout)
    assert ask_server("state") == {}
    first = run("--keep", "1")
    state = held()
    second = run(QWEN_AUDIO_KEEP="1")
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    for found in (json.loads(first.stdout), json.loads(second.stdout)):
        assert {**found, "timings": 0} == {**alone, "timings": 0}
    assert held()["pid"] == state["pid"]
    assert run("--keep", "0").returncode == 0
    eventually(lambda: ask_server("state") == {})


@pytest.mark.slow
def test_the_doctor_says_what_is_kept():
    run("--keep", "1")
    state = held()
    found = subprocess.run(
        [sys.executable, "qwen_audio.py", "--doctor"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"kept open: {state['models'][0]}, by process {state['pid']}, for " in found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("minutes", ["-1", "nan", "inf", "soon"])
def test_minutes_that_are_none_are_refused(minutes):
    for found in (run(f"--keep={minutes}"), run(QWEN_AUDIO_KEEP=minutes)):
        assert found.returncode == 2
        assert found.stderr.count("\n") == 1
        assert "--keep" in found.stderr


@pytest.fixture
def busy():
    """The model is kept, and in use by a run that ends when it is told to."""
    chat = subprocess.Popen(
        [sys.executable, "qwen_audio.py", "--chat", "--keep", "1", "-q"], cwd=ROOT, stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    eventually(lambda: ask_server("state").get("models"))
    yield chat
    chat.communicate()


def start_waiting():
    """A run that has said that it waits: under -q, too."""
    command = [sys.executable, "qwen_audio.py", "-q", "--keep", "1", "-i", "tests/golden/nano/speech.flac"]
    waiting = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "--keep: the model is in use by another run" not in (told := waiting.stderr.readline()):
        assert told
    return waiting


@pytest.mark.slow
def test_a_run_that_waits_says_so_and_is_served_then(busy):
    waiting = start_waiting()
    busy.communicate()
    answer, _ = waiting.communicate(timeout=SOON)
    assert (busy.returncode, waiting.returncode) == (0, 0)
    assert answer == json.loads(run("--keep", "0.1").stdout)["text"] + "\n"


@pytest.mark.slow
def test_the_timeout_of_a_run_counts_where_the_keeper_was_stopped():
    run("--keep", "1")
    pid = held()["pid"]
    stop(pid)
    try:
        found = run("--keep", "1", "--timeout", "1")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (found.returncode, json.loads(found.stdout)["status"]) == (3, "error")
    assert found.stderr.count("\n") == 1
    assert f"does not answer (stopped?); end it with `kill -9 {pid}`" in found.stderr


@pytest.mark.slow
def test_a_run_that_waits_can_be_interrupted(busy):
    waiting = start_waiting()
    time.sleep(0.2)
    waiting.send_signal(signal.SIGINT)
    answer, told = waiting.communicate(timeout=SOON)
    assert (waiting.returncode, answer) == (-signal.SIGINT, "")
    assert told.endswith("interrupted\n")
    assert busy.poll() is None
