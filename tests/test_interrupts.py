"""A signal to a command of `models`: it tells in one line, cleans up and ends by the signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FAILING = """
import os, signal, sys, time
number = int(sys.argv[1])
signal.signal(number, signal.SIG_DFL)  # whoever runs this may ignore it
from models.convert import __main__ as command, convert
from models.interrupts import clean_up_first, leave

def import_of_a_library(*_, **__):
    try:
        os.kill(os.getpid(), number)
        time.sleep(10)
    except KeyboardInterrupt:
        raise ImportError("a library that could not be loaded") from None

convert.convert = import_of_a_library
clean_up_first()
leave(command.main(["checkpoint", "model"]))
"""
IGNORED = """
import os, signal
from models.interrupts import clean_up_first, end_at_once, leave
signal.signal(signal.SIGINT, signal.SIG_IGN)
end_at_once()
clean_up_first()
os.kill(os.getpid(), signal.SIGINT)
leave(7)
"""


def ended(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_library_that_makes_an_error_of_a_signal_is_not_blamed(number):
    process = ended(FAILING, str(int(number)))
    assert process.returncode == -number
    assert process.stderr == "models.convert: interrupted; model is as it was. Run again, a calibration goes on\n"


def test_a_signal_that_the_parent_ignores_stays_ignored():
    assert ended(IGNORED).returncode == 7


@pytest.mark.slow
@pytest.mark.parametrize("module", ["models.convert", "models.download"])
def test_a_command_that_is_interrupted_while_it_is_imported_ends_by_the_signal(module):
    code = (
        "import os, runpy, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, type('Stop', (), {'find_spec': lambda name, *_: "
        "os.kill(os.getpid(), signal.SIGINT) if name == 'argparse' else None}))\n"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    process = ended(code)
    assert (process.returncode, process.stderr) == (-signal.SIGINT, "")


@pytest.mark.parametrize("module", ["models.convert", "models.download"])
def test_a_command_that_is_interrupted_while_it_reads_its_arguments_ends_by_the_signal(module):
    code = (
        "import argparse, os, runpy, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "argparse.ArgumentParser.parse_args = lambda *_: os.kill(os.getpid(), signal.SIGINT)\n"
        f"runpy.run_module({module!r}, run_name='__main__')"
    )
    process = ended(code)
    assert (process.returncode, process.stderr) == (-signal.SIGINT, "")


def test_a_signal_behind_the_work_of_a_command_shows_no_traceback():
    code = (
        "import os, signal, time\nfrom models.interrupts import finish\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "finish(lambda: os.kill(os.getpid(), signal.SIGINT) or time.sleep(9))"
    )
    process = ended(code)
    assert (process.returncode, process.stderr) == (-signal.SIGINT, "")


def test_the_program_that_is_interrupted_before_its_signals_are_taken_over_shows_no_traceback():
    """All of its first imports are looked at: each of them takes a millisecond or more."""
    code = (
        "import os, runpy, signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, type('Stop', (), {'find_spec': lambda name, *_: "
        "os.kill(os.getpid(), signal.SIGINT) if name == sys.argv[1] else None}))\n"
        "runpy.run_path('qwen_audio.py', run_name='__main__')"
    )
    for module in ("cli", "cli.signals", "models", "models.interrupts"):
        process = ended(code, module)
        assert (process.returncode, process.stderr) == (-signal.SIGINT, ""), module
