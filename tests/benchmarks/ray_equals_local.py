"""`python3 -m tests.benchmarks.ray_equals_local [--files N]`: a local run, --ray with a node killed, three shards.

Tiny sounds, answered by nano, each way into a folder of its own. The cluster has two machines with a core each, on
this machine; the second is killed when a quarter is answered. The last line is JSON: seconds, exit codes, and how many
files differ from those of the local run, timings aside.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
ASK = ["-q", "-p", "what is that sound?", "--max-new-tokens", "8", "-f", "txt,json"]


def make_sounds(folder: Path, count: int) -> None:
    """`count` different sounds of 50 ms; each hundredth file is none."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:05}.wav"
        if number % 100 == 99:
            path.write_text("no sound")
        else:
            soundfile.write(path, random.normal(0, 0.1, 800).clip(-1, 1), 16_000, subtype="PCM_16")


def start(sounds: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    """A run over all sounds, begun."""
    command = [sys.executable, str(ROOT / "qwen_audio.py"), *ASK, "-i", str(sounds), "-o", str(out), *more]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def written(out: Path) -> dict[str, Any]:
    """Name -> content of what a run wrote, without timings."""
    found: dict[str, Any] = {path.name: path.read_text() for path in out.glob("*.txt")}
    for path in out.glob("*.json"):
        found[path.name] = json.loads(path.read_text())
        found[path.name].pop("timings", None)  # the summary of a run has none
    return found


def differing(out: Path, local: dict[str, Any]) -> int:
    """How many files are missing, too many or different."""
    found = written(out)
    return sum(found.get(name) != local.get(name) for name in {*found, *local})


def on_cluster(sounds: Path, out: Path, count: int) -> int:
    """The exit code of a run on two machines, one of which dies."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    with start(sounds, out, "--ray", cluster.address, "--actors", "2") as run:
        while run.poll() is None and len(list(out.glob("*.json"))) < count // 4:
            time.sleep(0.1)
        assert run.poll() is None, "the run ended before a machine was killed"
        cluster.remove_node(second, allow_graceful=False)
        code = run.wait()
    cluster.shutdown()
    return code


def main() -> int:
    """Print what each way gave."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--files", type=int, default=2_000)
    count = parser.parse_args().files
    found: dict[str, Any] = {"benchmark": "ray equals local", "files": count}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sounds").mkdir()
        make_sounds(folder / "sounds", count)
        ways: dict[str, Callable[[Path], int]] = {
            "local": lambda out: start(folder / "sounds", out).wait(),
            "ray": lambda out: on_cluster(folder / "sounds", out, count),
            "shards": lambda out: max(start(folder / "sounds", out, "--shard", f"{i}/3").wait() for i in range(3)),
        }
        for way, run in ways.items():
            begun = time.monotonic()
            code = run(folder / way)
            seconds = round(time.monotonic() - begun, 1)
            differ = differing(folder / way, written(folder / "local"))
            found[way] = {"exit_code": code, "seconds": seconds, "answers": len(written(folder / way)) // 2,
                          "differ": differ}  # fmt: skip
            print(f"{way}: {found[way]}", file=sys.stderr, flush=True)
    print(json.dumps(found))
    return max(int(found[way]["differ"]) for way in ways)


if __name__ == "__main__":
    raise SystemExit(main())
