"""--ray: a run on a cluster gives what a local run gives, whatever dies on the way. nano answers on tiny sounds."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from cli.errors import WRONG_USAGE
from cli.inputs.search import Group
from cli.options import parse_arguments
from cli.output.answer import Answer
from cli.output.outputs import Outputs
from cli.output.progress import Progress
from cli.run.cluster import _connect, _is_due, cores_each
from cli.run.job import Job
from cli.run.reporter import Reporter, RunOver
from errors import BackendError, QwenAudioError, UsageError

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, str(ROOT / "qwen_audio.py")]
ASK = ["-q", "-p", "what is that sound?", "--max-new-tokens", "8", "-f", "txt,json"]


def noise(path, seed, seconds=0.2):
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * 16_000)).clip(-1, 1)
    soundfile.write(path, samples, 16_000, subtype="PCM_16")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """120 sounds and three more; one is no sound, one is silent, one has a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(120):
        noise(folder / f"{number:03}.wav", number)
    (folder / "005b.wav").write_text("this is no sound")
    soundfile.write(folder / "007b.wav", np.zeros(3200), 16_000)
    with open(os.fsencode(folder) + b"/009b\xff.wav", "wb") as file:  # noqa: PTH123
        file.write((folder / "009.wav").read_bytes())
    (folder / "002.txt").write_text("rain")
    return folder


def ask(sounds, out, *more, program=PROGRAM, check=None):
    """(exit code, standard output, standard error) of a run; `check` is called while it goes on."""
    command = [*program, *ASK, "-i", str(sounds), "-o", str(out), *more]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if check:
                check(process)
            shown, told = process.communicate(timeout=500)
        finally:
            process.kill()
    lines = [line for line in told.replace(str(out), "OUT").splitlines() if "no model is open yet" not in line]
    return process.returncode, without_times(shown), lines


def without_times(text):
    lines = []
    for line in text.splitlines():
        record = json.loads(line)
        record.pop("timings")
        lines.append(json.dumps(record))
    return lines


def written(out):
    """Name -> content of each file of an output folder, without timings."""
    found = {}
    for path in sorted(out.rglob("*.*")):
        if path.name != ".qwen_audio.jsonl":
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.loads(content)
                content.pop("timings", None)
                content = json.dumps(content)
            found[path.name] = content
    return found


@pytest.fixture(scope="module")
def local(sounds, tmp_path_factory):
    """(the folder, what the run said) of a local run."""
    out = tmp_path_factory.mktemp("local") / "out"
    return out, ask(sounds, out, "--json", "--score", "contains")


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two machines with a core each: (it, the second of them)."""
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        for name in ("worker_register_timeout_seconds", "raylet_start_wait_time_s"):  # two cores may be busy
            patch.setenv(f"RAY_{name}", "600")
        patch.setenv("RAY_health_check_timeout_ms", "300000")
        patch.setenv("RAY_worker_niceness", "0")  # it is 15
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **free_ports()})
        yield cluster, cluster.add_node(num_cpus=1, **free_ports())
        cluster.shutdown()


def free_ports():
    """Ports for the agents of a machine: where they choose their own, it gives up when they take over 15 s to start."""
    names = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("", 0))) for _ in names]
        return dict(zip(names, (one.getsockname()[1] for one in sockets), strict=True))


def wait_for(count, out, process):
    """Wait until a run has written so many answers."""
    end = time.monotonic() + 400
    while len(list(out.glob("*.json"))) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert process.poll() is None, "too late"


@pytest.mark.slow
def test_a_run_on_a_cluster_is_a_local_run(sounds, local, cluster, tmp_path):
    """Answers, formats, failures, scores and the exit code; then a resume, which shows all and asks nothing again."""
    out = tmp_path / "out"
    flags = ["--json", "--score", "contains", "--ray", cluster[0].address, "--actors", "2"]
    found = ask(sounds, out, *flags)
    assert found == local[1]
    assert found[0] == 1
    assert len(found[1]) == 123
    assert written(out) == written(local[0])
    times = {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.json")}
    assert ask(sounds, out, *flags) == found  # shown again
    assert times == {path: path.stat().st_mtime_ns for path in out.glob("[0-9]*.json")}


@pytest.mark.slow
def test_a_run_that_was_interrupted_goes_on(sounds, local, cluster, tmp_path):
    def interrupt(process):
        wait_for(2, tmp_path / "out", process)
        process.send_signal(signal.SIGTERM)

    flags = ["--json", "--score", "contains"]
    code, shown, told = ask(sounds, tmp_path / "out", *flags, "--ray", cluster[0].address, check=interrupt)
    assert (code, "qwen_audio: terminated" in told) == (-signal.SIGTERM, True)
    assert 2 <= len(shown) < 123
    assert ask(sounds, tmp_path / "out", *flags)[0] == 1
    assert written(tmp_path / "out") == written(local[0])


@pytest.mark.slow
def test_a_file_that_kills_its_worker_twice_fails(sounds, local, cluster, tmp_path):
    program = [sys.executable, "-m", "tests.deadly_sound", str(tmp_path / "deaths"), "003.wav"]
    code, shown, told = ask(sounds, tmp_path / "out", "--json", "--ray", cluster[0].address, program=program)
    assert code == 1
    failures = {Path(one["input"]).name: one["kind"] for one in map(json.loads, shown) if one["status"] == "error"}
    assert failures == {"003.wav": "worker", "005b.wav": "not a sound"}
    assert f"qwen_audio: {sounds}/003.wav: its worker died, twice; answer it without --ray to see why" in told
    assert (tmp_path / "deaths").read_text() == "died\n" * 2
    others = {name for name in written(local[0]) if not name.startswith(("003", "score"))}
    assert set(written(tmp_path / "out")) == others


@pytest.mark.slow
def test_a_node_that_dies_costs_nothing(sounds, local, cluster, tmp_path):
    """The last test of this cluster."""
    machines, second = cluster

    def kill(process):
        wait_for(2, tmp_path / "out", process)
        machines.remove_node(second, allow_graceful=False)
        assert process.poll() is None, "too late"

    flags = ["--json", "--score", "contains", "--ray", machines.address, "--actors", "2"]
    assert ask(sounds, tmp_path / "out", *flags, check=kill) == local[1]
    assert written(tmp_path / "out") == written(local[0])


@pytest.mark.slow
def test_a_model_that_does_not_open_ends_the_run_as_a_local_one(sounds, tmp_path):
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    model = tmp_path / "model"
    model.mkdir()
    flags = ["--json", "--model", str(model)]
    assert ask(sounds, tmp_path / "a", *flags, "--ray") == ask(sounds, tmp_path / "b", *flags)


@pytest.mark.slow
def test_no_cluster_at_the_address_is_one_line(sounds, tmp_path):
    pytest.importorskip("ray", reason="requirements-ray.txt is not installed")
    code, _, told = ask(sounds, tmp_path / "out", "--ray", "127.0.0.1:1")
    assert code == 3
    assert [line.split(" after ")[0] for line in told] == ["qwen_audio: --ray 127.0.0.1:1: no cluster answers"]


def start_too_slowly(*_, **__):
    raise Exception("The current node timed out during startup.\nMore about it.")  # noqa: TRY002 - as Ray does


@pytest.mark.parametrize("address", ["", "auto"])
def test_a_cluster_that_does_not_start_is_one_line(address):
    with pytest.raises(BackendError, match=r"^--ray[^\n]*\(The current node timed out during startup\.\); [^\n]*$"):
        _connect(SimpleNamespace(init=start_too_slowly), address)


def test_actors_never_share_a_core():
    assert cores_each([2], 2) == 1
    assert cores_each([2], 1) == 2
    assert cores_each([8, 8], 2) == 8
    assert cores_each([8, 8], 3) == 4
    assert cores_each([4, 64], 2) == 32
    assert cores_each([2], 5) == 1
    assert cores_each([], 1) == 1


def test_standard_input_stays_here():
    job = Job(Group(("-",)), [], [Answer(["-"], "")])
    reporter = Reporter(Outputs(), Progress(1, quiet=True), streams=False)
    with pytest.raises(RunOver):
        _is_due(job, reporter)
    assert reporter.code == WRONG_USAGE


def test_without_ray_the_package_to_install_is_named(monkeypatch):
    monkeypatch.setattr("cli.options.find_spec", lambda _: None)
    with pytest.raises(QwenAudioError, match=r"ray is not installed; `.*requirements-ray\.txt`") as caught:
        parse_arguments(["a.wav", "--ray"])
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "flags", [["--actors", "2"], ["--ray=", "--actors", "0"], ["--ray=", "--chat"], ["--ray=", "-b"]]
)
def test_flags_that_contradict_each_other_are_refused(flags, monkeypatch):
    monkeypatch.setattr("cli.options.find_spec", lambda _: True)
    with pytest.raises(UsageError, match=r"--ray|--actors"):
        parse_arguments(["a.wav", *flags])
