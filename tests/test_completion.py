"""Completion scripts: read by the shell itself, and asked as it asks them."""

import shutil
import subprocess

import pytest

from cli.completion import completion
from cli.flags import build_parser

WORDS = {"task": ["transcribe", "translate", "caption"]}


@pytest.fixture
def script(tmp_path):
    def script(shell):
        if not shutil.which(shell):
            pytest.skip(f"{shell} is not installed")
        path = tmp_path / f"script.{shell}"
        path.write_text(completion(build_parser(), shell, words=WORDS), encoding="utf-8")
        return path

    return script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_its_script(script, shell):
    ended = subprocess.run([shell, "-n", script(shell)], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_flag_is_in_the_script(shell):
    text = completion(build_parser(), shell, words=WORDS)
    names = [name for action in build_parser()._actions for name in action.option_strings if name.startswith("--")]
    assert [name for name in names if name.removeprefix("--") not in text] == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("--tas", ["--task"]), ("--task tran", ["transcribe", "translate"]), ("-i so", ["solo.wav"])],
)
def test_bash_completes(script, tmp_path, typed, offered):
    path = script("bash")
    (tmp_path / "solo.wav").touch()
    *before, last = ["qwen_audio.py", *typed.split()]
    words = " ".join([*before, last])
    ask = f"""
        source {path}
        COMP_WORDS=({words}); COMP_CWORD={len(before)}; COMP_LINE="{words}"; COMP_POINT=${{#COMP_LINE}}
        compopt() {{ :; }}
        {"$(complete -p qwen_audio.py | sed 's/.*-F *//; s/ .*//')"} qwen_audio.py {last} {before[-1]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ended = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert [word.strip() for word in ended.stdout.splitlines()] == offered
