"""Work done ahead: in order, bounded, in another thread, and never a reason for the run to stand still."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from cli.run.prefetch import _Worker, leave, prefetch
from errors import QwenAudioError
from models.runtime.threads import running

ROOT = Path(__file__).resolve().parent.parent
SOON = 10.0  # seconds: far more than any of this takes


class OddError(Exception):
    """Raised by `halves` for an odd number."""


def halves(number):
    if number % 2:
        raise OddError(number)
    return [number // 2]


def is_soon(condition):
    """Whether a condition holds within `SOON`."""
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.fixture(autouse=True)
def no_thread_left():
    yield
    assert is_soon(lambda: not running())


@pytest.fixture
def gate():
    """An event that a stuck `make` waits for; it is set at the end, so that its thread ends too."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("timeout", [None, SOON])
def test_results_come_in_order_with_their_jobs(timeout):
    found = prefetch(lambda job: [job * job], range(50), timeout=timeout)
    assert list(found) == [(job, job * job) for job in range(50)]


def test_a_job_may_have_several_results_or_none():
    found = prefetch(lambda job: (f"{job}.{part}" for part in range(job)), [2, 0, 1, 0])
    assert list(found) == [(2, "2.0"), (2, "2.1"), (1, "1.0")]


def test_there_may_be_no_jobs():
    assert list(prefetch(halves, [])) == []


def test_a_failure_is_the_result_of_its_job_and_the_run_goes_on():
    (_, first), (job, failure), (_, last) = prefetch(halves, [2, 3, 4])
    assert (first, last) == (1, 2)
    assert job == 3
    assert isinstance(failure, OddError)


def test_a_failure_ends_its_job_after_the_results_before_it():
    def make(job):
        yield job
        raise OddError

    found = list(prefetch(make, [1, 2]))
    assert [job for job, _ in found] == [1, 1, 2, 2]
    assert [isinstance(result, OddError) for _, result in found] == [False, True, False, True]


@pytest.mark.parametrize("kind", [OddError, KeyboardInterrupt, SystemExit])
def test_what_the_jobs_raise_is_raised_after_the_results_before_it(kind):
    def jobs():
        yield 2
        raise kind

    found = prefetch(halves, jobs())
    assert next(found) == (2, 1)
    with pytest.raises(kind):
        next(found)


def test_what_is_no_exception_is_raised_to_the_caller():
    def make(_):
        raise SystemExit(7)

    with pytest.raises(SystemExit):
        next(prefetch(make, [1]))


@pytest.mark.slow
@pytest.mark.parametrize("timeout", [None, SOON])
def test_at_most_one_result_waits(timeout):
    begun, drawn = [], []

    def make(job):
        for part in range(5):
            begun.append((job, part))
            yield part

    jobs = (drawn.append(job) or job for job in range(4))
    with closing(prefetch(make, jobs, timeout=timeout)) as found:
        for taken, _ in enumerate(found, 1):
            is_soon(lambda taken=taken: len(begun) == min(taken + 1, 20))
            time.sleep(0.01)  # time to do too much
            assert len(begun) == min(taken + 1, 20)
            assert len(drawn) == -(-len(begun) // 5)


def test_nothing_is_begun_before_the_first_is_asked_for():
    begun = []
    with closing(prefetch(begun.append, [1, 2])):
        time.sleep(0.02)
    assert begun == []


def test_work_and_caller_overlap():
    """Each waits for the other in turn: without a thread of its own this would never end."""
    taken = threading.Semaphore(0)

    def make(job):
        if job:
            assert taken.acquire(timeout=SOON)
        return [job]

    for _ in prefetch(make, range(5)):
        taken.release()


@pytest.mark.parametrize("timeout", [None, SOON])
def test_one_daemon_thread_does_all(timeout):
    threads = {thread for _, thread in prefetch(lambda _: [threading.current_thread()], range(5), timeout=timeout)}
    (thread,) = threads
    assert thread.daemon
    assert thread is not threading.current_thread()


def test_a_stuck_job_times_out_and_the_next_ones_are_done(gate):
    def make(job):
        if job == 1:
            gate.wait()
        yield job

    (_, zero), (job, failure), *rest = prefetch(make, range(5), timeout=0.05)
    assert (zero, job) == (0, 1)
    assert isinstance(failure, QwenAudioError)
    assert "0.05 s" in str(failure)
    assert "--timeout" in str(failure)
    assert rest == [(job, job) for job in (2, 3, 4)]


def test_several_stuck_jobs_time_out_one_after_the_other(gate):
    start = time.monotonic()
    found = list(prefetch(lambda _: gate.wait(), range(4), timeout=0.02))
    assert time.monotonic() - start < 1
    assert [job for job, _ in found] == [0, 1, 2, 3]
    assert all(isinstance(failure, QwenAudioError) for _, failure in found)


def test_a_job_may_get_stuck_after_some_results(gate):
    def make(job):
        yield "first"
        gate.wait()
        yield "never seen"

    found = list(prefetch(make, "ab", timeout=0.05))
    assert [job for job, _ in found] == ["a", "a", "b", "b"]
    assert [result for _, result in found[::2]] == ["first", "first"]
    assert all(isinstance(failure, QwenAudioError) for _, failure in found[1::2])


def test_a_thread_that_ends_without_a_word_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(_Worker, "_work", lambda _: None)  # as where there is no memory to say anything
    with pytest.raises(MemoryError, match="is gone"):
        next(prefetch(lambda job: [job], [1]))


def test_what_comes_after_the_time_out_goes_nowhere(gate):
    ended = []

    def make(job):
        if job == 0:
            gate.wait()
            ended.append(job)
        yield job

    with closing(prefetch(make, range(3), timeout=0.05)) as found:
        assert isinstance(next(found)[1], QwenAudioError)
        assert next(found) == (1, 1)
        gate.set()
        assert is_soon(lambda: ended)
        assert is_soon(lambda: len(running()) == 1)  # the late one draws no further job
        assert list(found) == [(2, 2)]


@pytest.mark.slow
def test_the_time_of_the_caller_does_not_count():
    found = prefetch(lambda job: iter([job, job]), range(3), timeout=0.1)
    results = []
    for _, result in found:
        time.sleep(0.15)
        results.append(result)
    assert results == [0, 0, 1, 1, 2, 2]


def test_the_wait_for_the_next_job_does_not_count():
    def jobs():
        yield 0
        time.sleep(0.2)
        yield 1

    assert list(prefetch(lambda job: [job], jobs(), timeout=0.05)) == [(0, 0), (1, 1)]


@pytest.mark.slow
def test_a_late_result_is_taken_when_nobody_waited_for_it():
    def make(job):
        time.sleep(0.1 * job)
        yield job

    found = []
    for pair in prefetch(make, range(2), timeout=0.05):
        found.append(pair)
        time.sleep(0.5)
    assert found == [(0, 0), (1, 1)]


def test_a_pipe_that_nobody_writes_times_out(tmp_path):
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    sound = tmp_path / "sound.wav"
    sound.write_bytes(b"RIFF")
    (_, failure), (_, read) = prefetch(lambda path: [path.read_bytes()], [pipe, sound], timeout=0.1)
    assert isinstance(failure, QwenAudioError)
    assert read == b"RIFF"
    pipe.write_bytes(b"")  # lets the thread go


def test_closing_ends_the_thread_and_the_work():
    begun = []

    def make(job):
        begun.append(job)
        yield job

    found = prefetch(make, range(1000))
    assert next(found) == (0, 0)
    found.close()
    assert is_soon(lambda: not running())
    assert len(begun) <= 3


def test_an_interrupt_of_the_caller_is_its_own(gate):
    """Ctrl-C while it waits for a result that does not come."""
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    found = prefetch(lambda _: gate.wait(), range(3))
    with pytest.raises(KeyboardInterrupt):
        next(found)
    assert list(found) == []  # closed


@pytest.mark.parametrize("code", [0, 1, 130])
def test_to_leave_with_nothing_to_do_is_an_ordinary_exit(code):
    with pytest.raises(SystemExit) as caught:
        leave(code)
    assert caught.value.code == code


STUCK_IN_STDIN = """
    import sys
    from cli.run.prefetch import leave, prefetch
    for job, failure in prefetch(lambda job: [sys.stdin.buffer.read()], [1], timeout=0.2):
        print(job, type(failure).__name__)
    leave(130)
"""
BUSY_IN_ONNX_RUNTIME = """
    import sys, numpy as np
    from audio_encoder.encoder import AudioEncoder
    from cli.run.prefetch import leave, prefetch
    from models.manifest import load_manifest
    from models.runtime.session import SessionOptions
    manifest = load_manifest(sys.argv[1])
    encoder = AudioEncoder(manifest, SessionOptions("onnxruntime"))
    mel = np.zeros((manifest.encoder_sizes.n_mels, 3000), np.float32)
    def make(job):
        yield job
        while True:
            encoder.encode([(mel, 2 * manifest.encoder_sizes.n_ctx)])
    for job, _ in prefetch(make, [1], timeout=0.3):
        print(job, flush=True)
    leave(130)
"""


@pytest.fixture
def python():
    """python(code, *arguments) -> (exit code, what was written, what was told); its standard input stays open."""

    def python(code, *arguments):
        command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.wait(SOON * 6) is not None
            return process.returncode, process.stdout.read(), process.stderr.read()

    return python


def test_a_process_can_leave_a_thread_that_waits_for_standard_input(python):
    """With sys.exit Python aborts here: "could not acquire lock for <_io.BufferedReader name='<stdin>'>"."""
    assert python(STUCK_IN_STDIN) == (130, "1 QwenAudioError\n", "")


@pytest.mark.slow
def test_a_process_can_leave_a_thread_that_is_in_onnx_runtime(python, tiny):
    """With sys.exit it would end by "terminate called without an active exception", more often than not."""
    assert python(BUSY_IN_ONNX_RUNTIME, tiny().directory) == (130, "1\n1\n", "")
