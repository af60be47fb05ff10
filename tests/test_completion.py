"""Completion scripts: made from any parser, read by the shell itself, and asked as it asks them."""

import argparse
import os
import pty
import select
import shlex
import shutil
import subprocess
import time

import pytest

from cli.completion import completion
from cli.flags import build_parser

WORDS = {"task": ["transcribe", "translate", "caption"]}
SHELLS = ["bash", "zsh", "fish"]
SOON = 20.0  # seconds: far more than a shell takes


def needed(shell):
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the scripts and with something to complete."""
    folder = tmp_path_factory.mktemp("shell")
    for shell in SHELLS:
        (folder / f"script.{shell}").write_text(completion(build_parser(), shell, words=WORDS), encoding="utf-8")
    (folder / "sound one.flac").touch()
    (folder / "solo.wav").touch()
    (folder / "some answers").mkdir()
    return folder


@pytest.fixture(scope="module")
def all_flags():
    return {name for action in build_parser()._actions for name in action.option_strings}


def run(folder, *command):
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SOON, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_its_script(folder, shell):
    assert run(folder, needed(shell), "-n", f"script.{shell}") == ""


@pytest.mark.parametrize("shell", SHELLS)
def test_every_flag_is_there(folder, all_flags, shell):
    text = (folder / f"script.{shell}").read_text(encoding="utf-8")
    for name in all_flags:
        assert (name if shell != "fish" else f" {name.lstrip('-')} ") in text


def test_another_shell_is_refused():
    with pytest.raises(KeyError):
        completion(build_parser(), "tcsh")


# --- bash


def bash(folder, *words, by_python=False):
    """What the function gives for these words, the last of which is being typed."""
    function = "_qwen_audio_python" if by_python else "_qwen_audio"
    code = f"source script.bash; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; {function}"
    return run(folder, needed("bash"), "--norc", "-c", code + '; printf "%s\\n" "${COMPREPLY[@]}"').split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--ba"], ["--batch", "--backend"]),
        (["--backend", ""], ["auto", "onnxruntime", "ailia"]),
        (["--backend", "a"], ["auto", "ailia"]),
        (["--backend", "=", "o"], ["onnxruntime"]),
        (["--backend", "="], ["auto", "onnxruntime", "ailia"]),
        (["--backend", "ailia", "--comp"], ["--completion"]),
        (["--backend", "ailia", "a"], []),
        (["--task", "trans"], ["transcribe", "translate"]),
        (["-i", "a.wav", "b.wav", "--each"], ["--each"]),
        (["-i", "a.wav", "b.wav", ""], []),  # files: left to readline
        (["-i", "-", "s"], []),
        (["-p", ""], []),  # free text
        (["-p", "hm?", "--js"], ["--json"]),
        (["--model", "some"], []),  # folders: left to readline
        (["--bogus", "-bc"], ["-bc"]),
    ],
)
def test_bash_completes(folder, words, found):
    assert sorted(bash(folder, "qwen_audio.py", *words)) == sorted(found)
    assert sorted(bash(folder, "python3", "./qwen_audio.py", *words, by_python=True)) == sorted(found)


@pytest.mark.parametrize("words", [[""], ["-"], ["--json", ""], ["-i", "a.wav", "-"]])
def test_bash_knows_all_flags(folder, all_flags, words):
    assert set(bash(folder, "qwen_audio.py", *words)) == all_flags


def test_python_by_itself_is_completed_as_before(folder):
    code = "_old() { COMPREPLY=(before); }; complete -F _old python3; source script.bash; source script.bash;"
    code += 'COMP_WORDS=(python3 -m js); COMP_CWORD=2; _qwen_audio_python; echo "${COMPREPLY[@]}"; complete -p python3'
    assert run(folder, needed("bash"), "--norc", "-c", code).splitlines() == [
        "before",
        "complete -o default -F _qwen_audio_python python3",
    ]
    assert bash(folder, "python3", "-m", "js", by_python=True) == []


def type_in(folder, command, setup, line, *, pause):
    """What an interactive shell answers to a line with a tab in it."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, {**os.environ, "TERM": "dumb", "PS1": "$ ", "HISTFILE": ""})
    received = ""

    def wait_for(text, seconds=SOON):
        nonlocal received
        end = time.monotonic() + seconds
        while text not in received and time.monotonic() < end:
            if select.select([terminal], [], [], 0.05)[0]:
                received += os.read(terminal, 4096).decode()
        assert text in received, received

    try:
        os.write(terminal, f"{setup}\necho rea''dy\n".encode())
        wait_for("ready\r")
        received = ""
        os.write(terminal, line.encode())
        time.sleep(pause)
        os.write(terminal, b"\necho do''ne\n")
        wait_for("done\r")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
    return received


# In place of the program: its arguments, whatever the shell puts between a flag and its value and behind a folder.
PRINT = """qwen_audio.py() { printf '<%s>' "$@"; echo; }"""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("typed", "made"),
    [
        ("-i solo.wav sound\t", "<-i><solo.wav><sound one.flac>"),
        ("--files-from=sol\t", "<--files-from><solo.wav>"),
        ("--output-dir so\t", "<--output-dir><some answers>"),
        ("--json --back\tonn\t", "<--json><--backend><onnxruntime>"),
    ],
)
def test_a_line_is_completed_as_it_is_typed(folder, shell, typed, made):
    if shell == "bash":
        command, setup, pause = [needed("bash"), "--norc", "--noprofile", "-i"], "", 0
    else:  # which completes nothing while there is more to be read
        command, setup, pause = [needed("zsh"), "-f", "-i"], "autoload -U compinit && compinit -u -d ./dump; ", 1
    setup += f"{PRINT}; source ./script.{shell}"
    received = type_in(folder, command, setup, f"qwen_audio.py {typed}", pause=pause)
    assert made in received.replace("=", "><").replace("/>", ">")


# --- fish


@pytest.mark.parametrize("program", ["qwen_audio.py", "qwen-audio", "python3 ./qwen_audio.py"])
@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("--ba", ["--backend", "--batch"]),
        ("--backend a", ["ailia", "auto"]),
        ("--task=trans", ["--task=transcribe", "--task=translate"]),
        ("-i solo.wav so", ["solo.wav", "some answers/", "sound one.flac"]),
        ("--model so", ["some answers/"]),
        ("-p so", []),
    ],
)
def test_fish_completes(folder, program, typed, found):
    code = f"source script.fish; complete -C {shlex.quote(f'{program} {typed}')}"
    lines = run(folder, needed("fish"), "--no-config", "-c", code).splitlines()
    assert sorted(line.split("\t")[0] for line in lines) == found


# --- any parser


@pytest.fixture
def nasty():
    """A parser whose words mean something to a shell."""
    parser = argparse.ArgumentParser(prog="it.py", add_help=False)
    parser.add_argument("--cost", default="$(touch hacked)", help="it's [100%%]: `touch hacked` \\ $HOME (%(default)s)")
    parser.add_argument("--kind", choices=("a", "b;touch hacked", "two words"), help="a\n   kind")
    parser.add_argument("--pair", nargs=2, metavar=("FILE", "N"))
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    parser.add_argument("file", help="a positional one")
    return parser


@pytest.mark.parametrize("shell", SHELLS)
def test_no_text_of_the_parser_is_run(tmp_path, nasty, shell):
    script = tmp_path / f"script.{shell}"
    script.write_text(completion(nasty, shell), encoding="utf-8")
    assert "hidden" not in script.read_text(encoding="utf-8")
    setup = {"zsh": "autoload -U compinit; compinit -u -D; ", "fish": "", "bash": ""}[shell]
    flags = {"zsh": ["-f"], "fish": ["--no-config"], "bash": ["--norc"]}[shell]
    run(tmp_path, needed(shell), *flags, "-c", f"{setup}source ./script.{shell}")
    assert not (tmp_path / "hacked").exists()


def test_fish_shows_help_as_it_is(tmp_path, nasty):
    (tmp_path / "script.fish").write_text(completion(nasty, "fish"), encoding="utf-8")
    code = "source script.fish; complete -C 'it.py --'"
    assert run(tmp_path, needed("fish"), "--no-config", "-c", code).splitlines() == [
        "--cost\tit's [100%]: `touch hacked` \\ $HOME ($(touch hacked))",
        "--kind\ta kind",
        "--pair",
    ]
