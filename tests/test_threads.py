"""Threads that begin or raise, where memory and processes are short: no run waits for one that never began."""

import _thread
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from cli.main import main
from errors import BackendError
from models.runtime import threads
from models.runtime.shortage import LEAST_THREADS
from models.runtime.threads import Thread, can_start, running, together

ROOT = Path(__file__).resolve().parent.parent
SOUND = str(ROOT / "tests/golden/nano/speech.flac")
AT_THE_EDGE = """
    import os, resource
    from errors import BackendError
    from models.runtime.threads import Thread

    ended = set()
    for spare in range(0, 64 << 10, 4 << 10):  # bytes beyond those of the stack
        pid = os.fork()
        if not pid:
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20) + spare,) * 2)
            try:
                Thread(lambda: None).join()
                os._exit(0)
            except BackendError as error:
                os._exit(3 if error.kind == "memory" else 4)
        ended.add(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    print(*sorted(ended))
"""


def never_begins(_work, _arguments):
    """A thread that died before its first line, as where there is no memory for it."""
    return 1


def refused(_work, _arguments):
    raise RuntimeError("can't start new thread")


@pytest.fixture
def starts(monkeypatch):
    """starts(first, then): threads begin, but from the given number on in another way."""

    def starts(first, then):
        begin, begun = _thread.start_new_thread, []

        def start(work, arguments):
            begun.append(work)
            return (begin if len(begun) <= first else then)(work, arguments)

        monkeypatch.setattr(_thread, "start_new_thread", start)

    return starts


def test_a_thread_works_and_ends():
    gate, done = threading.Event(), []
    thread = Thread(lambda: done.append(gate.wait()))
    thread.join(0.01)
    assert thread.is_alive()
    assert thread in running()
    gate.set()
    thread.join()
    assert done == [True]
    assert not thread.is_alive()
    assert thread not in running()


@pytest.mark.parametrize(("start", "kind"), [(never_begins, "memory"), (refused, "processes")])
def test_a_thread_that_never_begins_is_an_error(starts, start, kind):
    starts(0, start)
    with pytest.raises(BackendError, match="a thread cannot be started") as caught:
        Thread(lambda: None)
    assert (caught.value.kind, caught.value.exit_code) == (kind, 3)
    assert not can_start(1)


def test_no_room_for_the_stack_is_want_of_memory(starts, monkeypatch):
    starts(0, refused)
    monkeypatch.setattr(threads, "can_have", lambda _: False)
    with pytest.raises(BackendError, match="not enough memory"):
        Thread(lambda: None)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read as on Linux")
def test_at_the_edge_of_the_memory_a_thread_begins_or_is_an_error():
    """`threading.Thread.start` waits for ever where 4 to 24 kB are left beside the stack."""
    command = [sys.executable, "-c", textwrap.dedent(AT_THE_EDGE)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert (done.stdout, done.stderr) == ("0 3\n", "")


def test_works_that_have_no_memory_to_tell_their_end_are_an_error(monkeypatch):
    begin = _thread.start_new_thread
    monkeypatch.setattr(_thread, "start_new_thread", lambda run, words: begin(run, (words[0], lambda: None)))
    with pytest.raises(BackendError, match="not enough memory"):
        together(lambda: 1)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3))
@pytest.mark.parametrize("start", [never_begins, refused])
def test_a_run_whose_thread_never_begins_ends_with_a_line(demo_model, starts, capsys, monkeypatch, first, start):
    """Two open the model, the third reads ahead."""
    monkeypatch.setattr("cli.main.check_limits", lambda _: None)
    starts(first, start)
    code = main(["--json", "-q", "--max-new-tokens", "2", "--model", str(demo_model), "-i", SOUND])
    out, err = capsys.readouterr()
    assert (code, json.loads(out)["status"], err.count("\n")) == (3, "error", 1)
    assert "a thread cannot be started" in err


@pytest.mark.slow
def test_three_threads_are_all_of_a_run(demo_model, starts, capsys):
    starts(3 + LEAST_THREADS + 3, never_begins)
    assert (
        main(["--json", "-q", "--threads", "1", "--max-new-tokens", "2", "--model", str(demo_model), "-i", SOUND]) == 0
    )
    assert json.loads(capsys.readouterr().out)["status"] == "ok"
