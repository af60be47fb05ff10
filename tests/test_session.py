"""Both backends run a graph the same way, keep its state to themselves, and say in one line why they cannot."""

import ast
import dataclasses
import inspect
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from errors import BackendError
from models.manifest import BACKENDS
from models.runtime import ailia as ailia_module
from models.runtime import onnxruntime as module
from models.runtime.ailia import AILIA_LICENCE
from models.runtime.cpu import may_saturate
from models.runtime.session import SessionOptions, backend_class, choose_backend, open_session
from models.runtime.threads import together
from tests.fake_ailia import FakeNet
from tests.tiny_models import ONNX_RUNTIME, forced, greedy, make_mels, make_prompt, open_decoder, open_encoder

AILIA = SessionOptions(backend="ailia")
AUTO = SessionOptions()


@pytest.fixture(scope="session")
def ailia():
    return pytest.importorskip("ailia", reason="the ailia package is not installed")


@pytest.fixture
def fake(ailia, monkeypatch):
    """`ailia.Net` is the stand-in; its nets of this test are in `fake.made`."""
    monkeypatch.setattr(ailia, "Net", FakeNet)
    monkeypatch.setattr(FakeNet, "made", [])
    return FakeNet


@pytest.fixture
def copy(tiny, tmp_path):
    """A fused model of one's own to damage: its manifest."""
    manifest = tiny()
    return dataclasses.replace(manifest, directory=shutil.copytree(manifest.directory, tmp_path / "model"))


def failure(call, *arguments):
    """The message of the BackendError that this call raises: one line."""
    with pytest.raises(BackendError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- ONNX Runtime


def test_every_output_that_is_not_state_comes_back(tiny):
    manifest = tiny("fp32", "plain")
    session = open_session(manifest, manifest.decoder[0], ONNX_RUNTIME)
    ids = np.array([[1, 2, 3]])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "audios": np.full((1, 3, 32), -np.inf, np.float32)}
    (logits,) = session.run(feeds, lengths=[3])
    assert logits.shape == (1, 3, 320)


def test_the_cache_in_place_is_one_buffer_for_past_and_present(tiny):
    decoder = open_decoder(tiny())
    decoder.prefill([1, 2, 3])
    held = decoder._contract._session._held
    addresses = [value.data_ptr() for value in held]
    decoder.step(4)
    assert [value.data_ptr() for value in held] == addresses
    assert all(value.shape()[2] == module.CAPACITY_STEP for value in held)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="this ONNX Runtime has CUDA")
def test_a_device_that_is_not_there_is_named_with_its_package(tiny, device):
    message = failure(open_decoder, tiny(), SessionOptions(backend="onnxruntime", device=device))
    assert message.startswith(f"--device {device}: not in the installed ONNX Runtime, which has")
    assert "cpu" in message
    assert "`pip install 'onnxruntime-gpu[cuda,cudnn]'`" in message


@pytest.mark.parametrize("device", ["abacus", "cpu:x", "", "cpu:-1"])
def test_an_unknown_device_is_shown_beside_what_there_is(tiny, device):
    message = failure(open_decoder, tiny(), SessionOptions(backend="onnxruntime", device=device))
    assert message.startswith(f"--device {device}: not in the installed ONNX Runtime, which has")


@pytest.mark.parametrize("content", [b"", b"not a graph", bytes(1000), b"\x08\x08"])
def test_a_file_that_is_no_graph_is_named_with_the_fix(copy, content):
    copy.path("decoder.onnx").write_bytes(content)
    message = failure(open_decoder, copy)
    assert message.startswith(f"{copy.path('decoder.onnx')}: ")
    assert message.endswith("; convert or download this model again")


def test_missing_weights_are_named_with_the_fix(copy):
    copy.path("encoder.data").unlink()
    message = failure(open_encoder, copy)
    assert message.startswith(f"{copy.path('encoder.onnx')}: ")
    assert "encoder.data" in message


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("no input named ids", {"inputs": ("ids",)}),
        ("no output named scores", {"outputs": ("scores",)}),
        ("no input named past9", {"state": (("key_cache_out0", "past9"),)}),
        ("no output named present9", {"state": (("present9", "key_cache0"),)}),
    ],
)
def test_names_that_the_graph_does_not_have_are_told(tiny, words, change):
    manifest = tiny()
    graph = manifest.decoder[0]
    if "state" in change:
        change = {"state": dataclasses.replace(graph.state, names=change["state"])}
    message = failure(open_session, manifest, dataclasses.replace(graph, **change), ONNX_RUNTIME)
    assert message == f"{manifest.path('decoder.onnx')}: {words}; the manifest does not fit it"


def test_a_run_that_fails_names_the_graph(tiny):
    manifest = tiny()
    session = open_session(manifest, manifest.encoder, ONNX_RUNTIME)
    for feeds in ({"mel": np.zeros((1, 3, 8), np.float32), "n_frames": np.array([4])}, {"input_audios": np.zeros(1)}):
        assert failure(session.run, feeds).startswith(f"{manifest.path('encoder.onnx')}: ")


# --- the choice


def test_a_backend_that_the_manifest_does_not_allow_is_refused_with_the_fix(tiny):
    manifest = tiny()
    message = failure(open_decoder, manifest, AILIA)
    assert message.startswith(f"{manifest.directory}: this model runs on onnxruntime, not on ailia")
    assert "--flavour plain" in message


def test_auto_takes_the_first_backend_that_starts(tiny, fake):
    assert choose_backend(tiny("fp32", "plain"), AUTO) == ("ailia", [])
    assert choose_backend(tiny(), AUTO) == ("onnxruntime", [])


def test_a_named_backend_is_taken_without_asking_the_others(tiny):
    assert choose_backend(tiny("fp32", "plain"), ONNX_RUNTIME) == ("onnxruntime", [])


def test_auto_says_why_each_one_cannot(tiny, unlicensed):
    message = failure(choose_backend, tiny("fp32", "plain"), SessionOptions(device="abacus"))
    assert AILIA_LICENCE in message
    assert "--device abacus: not in the installed ONNX Runtime" in message


def test_every_backend_has_a_class_that_can_be_asked():
    for name in BACKENDS:
        assert callable(backend_class(name).probe)


# --- several at the same time


def test_what_is_opened_together_is_opened_at_the_same_time_and_comes_in_order():
    both = threading.Barrier(2)

    def opener(number):
        both.wait(5)
        return number, threading.get_ident()

    (one, first), (two, second) = together(lambda: opener(1), lambda: opener(2))
    assert (one, two) == (1, 2)
    assert first != second != threading.get_ident()


def test_nothing_opened_together_is_nothing():
    assert together() == []


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_the_first_one_raises_is_raised_to_the_caller(kind):
    def fail(words):
        raise kind(words)

    with pytest.raises(kind, match="first"):
        together(lambda: 1, lambda: fail("first"), lambda: fail("second"))


def test_an_interrupt_while_opening_is_the_callers_own():
    gate = threading.Event()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        together(gate.wait)
    gate.set()


# --- ailia: its licence


LICENCE_FAILURES = ["no network", "not found", "expired", "download", "folder", "no home"]


@pytest.fixture(params=LICENCE_FAILURES)
def unlicensed(request, ailia, monkeypatch):
    """ailia as it is without a valid licence: the real Net, and what its licence check raises."""
    from ailia import core, wrapper

    raised = {
        # the package compares today with the date of a licence that is not there
        "no network": TypeError("'<' not supported between instances of 'datetime.datetime' and 'NoneType'"),
        "not found": core.AiliaLicenseNotFoundException("code: -20 (no valid license found)"),
        "expired": core.AiliaLicenseExpiredException("code: -22\n+ error detail : (empty)"),
        "download": core.AiliaException("License file download failed. details:[Errno -2] Name or service not known"),
        "folder": PermissionError(13, "Permission denied", "/root/.shalo"),
        "no home": KeyError("getpwuid(): uid not found: 1234"),
    }[request.param]

    def check():
        raise raised

    monkeypatch.setattr(wrapper, "check_and_download_license", check)
    monkeypatch.setattr(wrapper, "get_version", lambda: "1.6.1 time_license")


def test_a_missing_licence_is_told_with_its_file_and_terms(tiny, unlicensed):
    message = failure(open_decoder, tiny("fp32", "plain"), AILIA)
    assert "no valid licence file AILIA.lic" in message
    assert "https://ailia.ai/license/" in message
    assert "--backend onnxruntime" in message


def test_auto_goes_on_to_onnx_runtime_and_keeps_the_reason(tiny, unlicensed):
    assert choose_backend(tiny("fp32", "plain"), AUTO) == ("onnxruntime", [AILIA_LICENCE])
    assert len(greedy(open_decoder(tiny("fp32", "plain"), AUTO), [1, 2, 3], n=4)) == 4


def test_another_failure_of_ailia_is_told_as_it_is(tiny, ailia, monkeypatch):
    def fail(**_):
        raise ailia.core.AiliaInvalidLayerException("code: -10 (layer)\n+ error detail : Erf")

    monkeypatch.setattr(ailia, "Net", fail)
    manifest = tiny("fp32", "plain")
    path = manifest.path(manifest.decoder[0].file)
    message = failure(open_session, manifest, manifest.decoder[0], AILIA)
    assert message == f"ailia cannot open {path}: code: -10 (layer) + error detail : Erf"


def test_a_named_backend_is_started_once_for_a_graph(tiny, ailia, monkeypatch):
    """Every start of ailia is one more look at its licence."""
    started = []

    def count(**arguments):
        started.append(arguments.get("weight"))
        return FakeNet(**arguments)

    monkeypatch.setattr(ailia, "Net", count)
    manifest = tiny("fp32", "plain")
    open_session(manifest, manifest.decoder[0], AILIA)
    assert started == [str(manifest.path(manifest.decoder[0].file))]


# --- ailia: its calls


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("frames", [[], [40], [35, 80]])
def test_ailia_gives_the_ids_that_onnx_runtime_gives(tiny, fake, precision, frames):
    manifest = tiny(precision, "plain")
    answers = []
    for options in (AILIA, ONNX_RUNTIME):
        clips = open_encoder(manifest, options).encode(make_mels(1, frames)) if frames else []
        ids = make_prompt(1, 11, [len(rows) for rows in clips])
        answers.append(greedy(open_decoder(manifest, options), ids, clips, n=30))
    assert answers[0] == answers[1]
    assert len(fake.made) == (2 if frames else 1)


def test_ailia_rewinds_as_onnx_runtime_does(tiny, fake):
    rows = []
    for options in (AILIA, ONNX_RUNTIME):
        decoder = open_decoder(tiny("fp32", "plain"), options)
        found = [forced(decoder, make_prompt(2, 12), [], [1, 2, 3, 4])]
        for position in (13, 12, 12, 5):
            decoder.rewind(position)
            found.append([decoder.step(new_id) for new_id in (7, 8)])
        decoder.rewind(6)
        decoder.rewind(4)  # twice, with no run between
        found.append([decoder.step(9)])
        found.append(forced(decoder, make_prompt(3, 20), [], [5, 6]))  # another prompt
        rows.append(np.concatenate(found))
    np.testing.assert_array_equal(rows[0], rows[1])


def test_the_cache_does_not_visit_the_host_between_steps(tiny, fake):
    decoder = open_decoder(tiny("fp32", "plain"), AILIA)
    decoder.prefill([1, 2, 3])
    (net,) = fake.made
    net.moved.clear()
    for new_id in range(5):
        decoder.step(new_id)
    assert dict(net.moved) == {("set", name): 5 for name in ("input_ids", "attention_mask", "audios")} | {
        ("get", "logits"): 5
    }


def test_a_new_prompt_does_not_fetch_the_cache_that_it_drops(tiny, fake):
    decoder = open_decoder(tiny("fp32", "plain"), AILIA)
    decoder.prefill([1, 2, 3])
    (net,) = fake.made
    net.moved.clear()
    decoder.prefill([4, 5])
    assert {name for method, name in net.moved if method == "get"} == {"logits"}


def test_ailias_own_options_reach_its_net(tiny, fake):
    options = SessionOptions(backend="ailia", threads=3, env_id=2, memory_mode=9)
    open_decoder(tiny("fp32", "plain"), options)
    assert fake.made[0].arguments == {"env_id": 2, "num_thread": 3, "memory_mode": 9}


def test_a_run_that_fails_on_ailia_names_the_graph(tiny, fake):
    manifest = tiny("fp32", "plain")
    session = open_session(manifest, manifest.encoder, AILIA)
    message = failure(session.run, {"input_audios": np.zeros((1, 16, 80), np.float32)})
    assert message.startswith(f"{manifest.path(manifest.encoder.file)}: ")


def test_names_are_checked_on_ailia_too(tiny, fake):
    manifest = tiny("fp32", "plain")
    graph = dataclasses.replace(manifest.decoder[0], inputs=("ids",))
    assert "no input named ids; the manifest does not fit it" in failure(open_session, manifest, graph, AILIA)


def called_methods():
    """The methods of `Net` that AiliaSession calls: every `net.x(…)` and `self._net.x(…)` in its source."""
    tree = ast.parse(inspect.getsource(ailia_module.AiliaSession))
    calls = [
        node.func for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    owners = {"net", "self._net"}
    return {(call.attr) for call in calls if ast.unparse(call.value) in owners}


def test_the_session_makes_the_calls_that_the_stand_in_knows():
    assert called_methods() == {
        "copy_blob_data", "get_blob_data", "get_blob_name", "get_blob_shape", "get_input_blob_list",
        "get_output_blob_list", "set_input_blob_data", "set_input_blob_shape", "update",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["__init__", *sorted(called_methods())])
def test_the_stand_in_has_the_signatures_of_the_real_net(ailia, method):
    real, fake = (inspect.signature(getattr(net, method)) for net in (ailia.Net, FakeNet))
    assert str(fake) == str(real)


def test_the_memory_mode_is_the_one_that_ailia_means(ailia):
    wanted = ailia.get_memory_mode(reduce_constant=True, ignore_input_with_initializer=True, reuse_interstage=True)
    assert SessionOptions().memory_mode == wanted
    assert SessionOptions().env_id == ailia.ENVIRONMENT_AUTO
    assert SessionOptions().threads == ailia.MULTITHREAD_AUTO


@pytest.mark.parametrize("saturates", [False, True])
def test_a_processor_whose_sums_may_saturate_gets_the_exact_kernels(tiny, monkeypatch, saturates):
    manifest, told = tiny("int4"), []
    expected = forced(open_decoder(manifest), make_prompt(1, 9), [], [5, 6, 0])

    class Options(ort.SessionOptions):
        def add_session_config_entry(self, key, value):
            told.append((key, value))
            super().add_session_config_entry(key, value)

    monkeypatch.setattr(ort, "SessionOptions", Options)
    monkeypatch.setattr(module, "may_saturate", lambda: saturates)
    found = forced(open_decoder(manifest), make_prompt(1, 9), [], [5, 6, 0])
    assert (("session.x64quantprecision", "1") in told) == saturates
    if not may_saturate():  # on this processor both are exact
        np.testing.assert_array_equal(found, expected)


def test_onnxruntime_keeps_to_itself_where_home_cannot_be_written(tiny, tmp_path):
    """Left alone it reports to its maker, and complains here on standard error."""
    (tmp_path / "home").touch()
    code = "import sys; from pathlib import Path; from audio_encoder.encoder import AudioEncoder; "
    code += "from models.manifest import load_manifest; from models.runtime.session import SessionOptions; "
    code += "AudioEncoder(load_manifest(Path(sys.argv[1])), SessionOptions(backend='onnxruntime', threads=1))"
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    for name in ("XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY"):
        environment.pop(name, None)
    command = [sys.executable, "-c", code, str(tiny().directory)]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
