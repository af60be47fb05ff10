"""A run in parts: --shard under the real `parallel`, and cli/job_array.sh under a stand-in for Slurm's `sbatch`."""

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
SCRIPT = ROOT / "cli" / "job_array.sh"
ASK = ["-p", "what is that sound?", "--max-new-tokens", "8"]


def run(command, **more):
    """(exit code, standard error) of a command in which python3 is this Python; `more` is added to the environment."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=500)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(7):
        soundfile.write(folder / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 3200), 16_000)
    return folder


@pytest.fixture(scope="module")
def local(sounds, tmp_path_factory):
    out = tmp_path_factory.mktemp("local") / "out"
    assert run(["python3", "qwen_audio.py", "-q", "-i", str(sounds), "-o", str(out), *ASK]) == (0, "")
    return written(out)


def written(out):
    return {path.name: path.read_bytes() for path in out.glob("*.txt")}


def sbatch(script, *arguments, spool):
    """Slurm's way with a job array, one task after another: a copy of the script, run where it was submitted."""
    copy = Path(shutil.copy(script, spool / "slurm_script"))
    first, last = map(int, re.findall(r"^#SBATCH --array=(\d+)-(\d+)$", copy.read_text(), re.MULTILINE)[0])
    cores = re.findall(r"^#SBATCH --cpus-per-task=(\d+)$", copy.read_text(), re.MULTILINE)[0]
    found = []
    for number in range(first, last + 1):
        task = {"SLURM_ARRAY_TASK_ID": str(number), "SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}
        found.append(run(["bash", str(copy), *arguments], **task, SLURM_CPUS_PER_TASK=cores))
    return found


def test_parallel_gives_what_one_run_gives(sounds, local, tmp_path):
    if not shutil.which("parallel"):
        pytest.skip("GNU parallel is not installed")
    command = ["parallel", "-j", "2", "python3", "qwen_audio.py", "-q", "-i", str(sounds), "-o", str(tmp_path)]
    asked = [f"'{word}'" for word in ASK]
    assert run([*command, *asked, "--shard", "{}/3", ":::", "0", "1", "2"]) == (0, "")
    assert written(tmp_path) == local


@pytest.mark.parametrize("array", ["1-3", "0-2"])
def test_the_job_script_gives_what_one_run_gives(sounds, local, tmp_path, array):
    script = tmp_path / "mine.sh"
    script.write_text(re.sub("--array=.*", f"--array={array}", SCRIPT.read_text()))
    spool = tmp_path / "spool"
    spool.mkdir()
    assert sbatch(script, str(sounds), str(tmp_path / "out"), *ASK, spool=spool) == [(0, "")] * 3
    assert written(tmp_path / "out") == local


def test_the_command_for_parallel_in_the_job_script_is_one_that_runs():
    """Its words are known flags: the script's own command and the one in its remark."""
    text = SCRIPT.read_text()
    flags = set(re.findall(r"(?<=\s)(--?[a-z-]+)(?=[\s=])", " ".join(re.findall(r"qwen_audio\.py (.*)", text))))
    command = [sys.executable, "qwen_audio.py", "--help"]
    known = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert flags
    assert [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}\b", known)] == []
