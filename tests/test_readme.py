"""The README's examples for scripts, run as they stand there, on sounds that are made here and with nano."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RATE = 16_000


def examples():
    """(comment, commands) of each paragraph of the block for scripts."""
    (block,) = re.findall(r"^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return [tuple(part.split("\n", 1)) for part in block.strip().split("\n\n")]


def noise(path, seconds, seed):
    samples = np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE))
    samples[int(seconds * RATE * 0.6) :][:RATE] = 0
    soundfile.write(path, samples.clip(-1, 1), RATE, subtype="PCM_16")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with recordings in which `python3 qwen_audio.py` is this program."""
    place = tmp_path_factory.mktemp("readme")
    (place / "recordings" / "below").mkdir(parents=True)
    for number, name in enumerate(["recordings/a b.wav", "recordings/c.wav", "recordings/below/d.wav"]):
        noise(place / name, 1 + number, number)
    noise(place / "talk.flac", 2, 7)
    noise(place / "meeting.wav", 45, 8)
    (place / "qwen_audio.py").symlink_to(ROOT / "qwen_audio.py")
    return place


@pytest.mark.parametrize(("comment", "commands"), examples(), ids=lambda text: text[2:30] if text[0] == "#" else "")
def test_an_example_runs(place, comment, commands):
    tools = [
        tool for tool in ("jq", "parallel", "xargs", "find") if re.search(rf"(^|\| ){tool} ", commands, re.MULTILINE)
    ]
    if missing := [tool for tool in tools if not shutil.which(tool)]:
        pytest.skip(f"{', '.join(missing)} is not installed")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("QWEN_AUDIO_MODEL", None)
    shell = ["bash", "-e", "-o", "pipefail", "-c", commands]
    done = subprocess.run(shell, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=300)
    # nano has never heard 45 s of noise: a warning that its answer went round in circles is no failure
    assert done.returncode == 0, comment
    assert [line for line in done.stderr.splitlines() if not line.endswith("(finish_reason: loop)")] == [], comment
    results = {"answers.jsonl": 3, "more.jsonl": 3}
    for name, lines in results.items():
        if f"> {name}" in commands:
            assert len((place / name).read_text().splitlines()) == lines
    folders = {"answers": 3, "subtitles": 2, "nightly": 3}
    for name, files in folders.items():
        if f"-o {name}" in commands:
            assert (
                len([path for path in (place / name).rglob("*.*") if path.is_file() and path.name[0] != "."]) >= files
            )
