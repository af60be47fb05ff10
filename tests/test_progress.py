"""The counts of a run, the lines and the bar that show them, and the one line that sums them up."""

import io
import os
import pty
import sys

import numpy as np
import pytest
import soundfile

from audio_encoder.waveform import check_length, load_waveform
from cli.errors import named_error
from cli.inputs.listing import find_inputs
from cli.options import parse_arguments
from cli.output.progress import Progress
from cli.output.streams import say
from errors import AudioError, BackendError, PromptError
from tests.conftest import GOLDEN

FLAC = (GOLDEN / "1272-128104-0000.flac").read_bytes()
WAV = (GOLDEN / "1272-128104-0000-middle_classes.wav").read_bytes()


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def lines(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    assert all(line.startswith("qwen_audio: ") for line in err.splitlines())
    return [line.removeprefix("qwen_audio: ") for line in err.splitlines()]


# --- plain lines and the summary


def test_a_plain_line_comes_every_ten_seconds(capsys, clock):
    with Progress(300, clock=clock) as progress:
        for number in range(30):
            clock.now += 1
            progress.failed("missing") if number % 10 == 5 else progress.answered(2.5)
    shown = lines(capsys)
    assert shown == [
        "10 of 300 files, 1 failed, 54 answers per minute, about 5 min left",
        "20 of 300 files, 2 failed, 54 answers per minute, about 5 min left",
        "30 of 300 files, 3 failed, 54 answers per minute, about 4 min left",
        "27 of 300 files answered, 67.5 s of sound, 54 answers per minute; 3 failed (3 missing); 270 not reached",
    ]


def test_the_time_to_pass_what_was_done_before_is_not_that_of_an_answer(capsys, clock):
    with Progress(1004, clock=clock) as progress:
        clock.now += 60
        progress.skipped(1000)
        for _ in range(3):
            clock.now += 20
            progress.answered(1)
    first, *_, summary = lines(capsys)
    assert first == "1000 of 1004 files"
    assert summary.endswith("3.0 answers per minute; 1000 skipped (1000 done before); 1 not reached")


def test_a_short_run_has_its_summary_only(capsys, clock):
    with Progress(2, clock=clock) as progress:
        clock.now += 4
        progress.answered(1.25)
        progress.answered(3)
    assert lines(capsys) == ["2 of 2 files answered, 4.2 s of sound, 30 answers per minute"]


@pytest.mark.parametrize("quiet", [False, True])
def test_one_input_is_no_run(capsys, clock, quiet):
    with Progress(1, quiet=quiet, clock=clock) as progress:
        clock.now += 60
        progress.answered(2) if quiet else progress.failed("empty")
    assert lines(capsys) == []


def test_quiet_is_silent(capsys, clock):
    with Progress(3, quiet=True, clock=clock) as progress:
        for _ in range(3):
            clock.now += 60
            progress.answered(2)
    assert lines(capsys) == []


def test_the_summary_is_said_when_the_run_is_interrupted(capsys):
    def interrupted():
        with Progress(5) as progress:
            progress.failed("damaged")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert lines(capsys) == ["0 of 5 files answered; 1 failed (1 damaged); 4 not reached"]


def test_a_run_that_could_not_begin_has_no_summary(capsys):
    def impossible():
        with Progress(5):
            raise BackendError("no backend")

    with pytest.raises(BackendError):
        impossible()
    assert lines(capsys) == []


def test_causes_are_counted_the_most_common_first(clock):
    progress = Progress(10, clock=clock)
    clock.now += 60
    progress.answered(10, answers=3)  # of three prompts
    for cause in ("missing", "cut short", "timeout", "cut short", "cut short", "timeout"):
        progress.failed(cause)
    for _ in range(3):
        progress.skipped()
    assert progress.summary() == (
        "1 of 10 files answered, 10.0 s of sound, 3.0 answers per minute; "
        "3 skipped (3 done before); 6 failed (3 cut short, 2 timeout, 1 missing)"
    )


def test_what_was_skipped_takes_no_part_in_the_time_left(clock):
    progress = Progress(110, clock=clock)
    for _ in range(100):
        progress.skipped()
    clock.now += 60
    progress.answered(5)
    assert progress.line() == "101 of 110 files, 1.0 answers per minute, about 9 min left"


@pytest.mark.parametrize(
    ("each", "left"),
    [(0.4, "about 40 s left"), (0.95, "about 2 min left"), (50, "about 83 min left"), (80.0, "about 2 h 13 min left")],
)
def test_the_time_left_is_told_as_one_says_it(clock, each, left):
    progress = Progress(101, clock=clock)
    clock.now += each
    progress.answered(1)
    assert progress.line().endswith(left)


# --- causes


@pytest.fixture
def broken(tmp_path):
    """Each way in which a sound can be broken: (path, the cause that it is counted under)."""
    silence, nan = io.BytesIO(), io.BytesIO()
    soundfile.write(silence, np.zeros(0, np.int16), 16_000, format="WAV")
    soundfile.write(nan, np.full(1000, np.nan, np.float32), 16_000, format="WAV", subtype="FLOAT")
    contents = {
        "empty.wav": (b"", "empty"),
        "silent: cut short.wav": (silence.getvalue(), "empty"),
        "noise.flac": (b"no such file: " * 99, "not a sound"),
        "cut.wav": (WAV[:-1000], "cut short"),
        "short.wav": (WAV[:40] + (100).to_bytes(4, "little") + WAV[44:144], "too short"),
        "rate.wav": (WAV[:24] + (7).to_bytes(4, "little") + WAV[28:], "damaged"),
        "nan.wav": (nan.getvalue(), "damaged"),
        "a: cut short: no such file; check.flac": (FLAC[: len(FLAC) // 2], None),
    }  # fmt: skip
    for name, (content, _) in contents.items():
        (tmp_path / name).write_bytes(content)
    return [(tmp_path / name, cause) for name, (_, cause) in contents.items()] + [
        (tmp_path / "nowhere.wav", "missing"),
        (tmp_path / "nul\0.wav", "unreadable"),
        (tmp_path, "folder"),
    ]


def test_each_way_to_be_broken_has_its_cause(broken):
    found = {}
    for path, _ in broken:
        with pytest.raises(AudioError) as caught:
            check_length(load_waveform(str(path)), str(path))
        found[path] = caught.value.kind
    assert found.pop(broken[7][0]) in {"cut short", "not a sound"}  # as the decoder notices it
    assert found == {path: cause for path, cause in broken if cause}


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (FileNotFoundError(2, "No such file or directory"), "missing"),
        (PermissionError(13, "Permission denied"), "unreadable"),
        (MemoryError(), "memory"),
        (PromptError("too long"), "prompt"),
        (BackendError("encoder.onnx: no"), "backend"),
        (AudioError("a.wav: half", kind="cut short"), "cut short"),
    ],
)
def test_what_others_raise_has_a_kind_too(failure, kind):
    assert named_error(failure, "a.wav").kind == kind


def test_inputs_that_fail_unopened_have_their_cause(tmp_path):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "list").write_text(f"{tmp_path}/gone.wav\n{tmp_path}/loop.wav\n")
    found = find_inputs(parse_arguments(["--files-from", str(tmp_path / "list")]))
    assert [error.kind for _, error in found.problems] == ["missing", "broken link"]


# --- the bar


class Terminal:
    """A terminal that standard error can be attached to, within a test: pytest itself changes sys.stderr before it."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch
        self._primary, secondary = pty.openpty()
        self.stream = os.fdopen(secondary, "w", encoding="utf-8")

    def attach(self):
        self._monkeypatch.setattr(sys, "stderr", self.stream)

    def received(self):
        """All that was written to it, which ends it."""
        self.stream.close()
        shown = b""
        try:
            while chunk := os.read(self._primary, 1 << 16):
                shown += chunk
        except OSError:
            os.close(self._primary)  # Linux says end of file so when the other side is closed
        return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    return Terminal(monkeypatch)


def screen(received):
    """The lines that stand on a terminal: a carriage return goes back, what is written then replaces what is there."""
    shown = []
    for line in received.split("\n"):
        cells = []
        for part in line.split("\r"):
            cells[: len(part)] = part
        shown.append("".join(cells).rstrip())
    return shown


def run_on(terminal, clock, **options):
    terminal.attach()
    with Progress(300, clock=clock, **options) as progress:
        clock.now += 6
        progress.answered(2.5)
        say("a.wav: no such file; check the path")
        progress.failed("missing")
        clock.now += 6
        progress.answered(2.5)


def test_a_terminal_has_a_bar_and_notes_stand_above_it(terminal, clock):
    run_on(terminal, clock)
    received = terminal.received()
    assert "3 of 300 files, 1 failed, 10 answers per minute, about 20 min left" in received
    assert "0% |" in received
    *above, last, end = screen(received)
    assert above == ["qwen_audio: a.wav: no such file; check the path"]
    assert last.startswith("qwen_audio: 2 of 300 files answered, 5.0 s of sound, 10 answers per minute; 1 failed")
    assert end == ""


def test_the_bar_stands_in_the_last_line_meanwhile(terminal, clock):
    terminal.attach()
    progress = Progress(4, clock=clock).__enter__()
    clock.now += 60
    progress.answered(2.5)
    say("a note")
    *above, last = screen(terminal.received())
    assert above == ["qwen_audio: a note"]
    assert last.startswith(" 25% |█")
    assert last.endswith("| 1 of 4 files, 1.0 answers per minute, about 3 min left")
    assert len(last) == 79


def test_the_bar_goes_when_the_run_is_interrupted(terminal):
    def interrupted():
        with Progress(3) as progress:
            progress.failed("empty")
            raise KeyboardInterrupt

    terminal.attach()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen(terminal.received()) == [
        "qwen_audio: 0 of 3 files answered; 1 failed (1 empty); 2 not reached",
        "",
    ]


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_the_bar_keeps_to_one_line(terminal, clock, monkeypatch, columns):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    terminal.attach()
    with Progress(300, clock=clock) as progress:
        clock.now += 6
        for _ in range(10):
            progress.answered(2.5)
    *drawn, _ = terminal.received().split("\n")
    assert max(len(part.rstrip()) for part in drawn[0].split("\r")[:-1]) < columns


@pytest.mark.parametrize("no_colour", [False, True])
def test_nothing_but_text_and_carriage_returns_reaches_the_terminal(terminal, clock, monkeypatch, no_colour):
    if no_colour:
        monkeypatch.setenv("NO_COLOR", "1")
    run_on(terminal, clock)
    assert all(char.isprintable() or char in "\r\n" for char in terminal.received())


@pytest.mark.parametrize("why", ["TERM=dumb", "beside answers", "no tqdm"])
def test_a_terminal_that_cannot_have_a_bar_gets_lines(terminal, clock, monkeypatch, why):
    if why == "TERM=dumb":
        monkeypatch.setenv("TERM", "dumb")
    if why == "no tqdm":
        monkeypatch.setitem(sys.modules, "tqdm", None)
    run_on(terminal, clock, beside_answers=why == "beside answers")
    received = terminal.received()
    assert "\r" not in received
    assert "3 of 300 files, 1 failed, 10 answers per minute, about 20 min left\n" in received


@pytest.mark.parametrize("options", [{"total": 1}, {"quiet": True}])
def test_one_input_and_quiet_have_no_bar(terminal, options):
    terminal.attach()
    with Progress(**{"total": 9, **options}) as progress:
        progress.answered(1)
    assert terminal.received() == ""
