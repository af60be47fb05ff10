"""`python3 -m tests.benchmarks.folder`: 300 files of mixed kinds, 40 of them broken, with nano; killed ten times.

One run goes through undisturbed. Another is killed with SIGKILL at random moments and started again until it ends by
itself. What must hold: exit code 1 and every broken file named; the union of the outputs equal byte for byte; no file
answered twice, which the journal of the output folder tells. Then the memory of a run over 1,000 sounds, and of a
three-hour recording beside one of 30 s. One JSON line last; the exit code is 1 if anything did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, str(ROOT / "qwen_audio.py"), "--model", "nano"]
RATE = 16_000
KINDS = (("wav", "WAV", "PCM_16"), ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("mp3", "MP3", None))


def make_files(folder: Path, good: int, broken: int) -> None:
    """Short sounds of several formats and rates below `folder`, and files that are damaged in different ways."""
    generator = np.random.default_rng(0)
    for number in range(good + broken):
        suffix, kind, subtype = KINDS[number % len(KINDS)]
        rate = (16_000, 44_100, 8_000)[number % 3] if kind != "MP3" else 44_100
        time_axis = np.arange(int(rate * generator.uniform(0.5, 2.5))) / rate
        sound = 0.3 * np.sin(2 * np.pi * generator.uniform(150, 900) * time_axis) + generator.normal(
            0, 0.02, len(time_axis)
        )
        path = folder / f"part{number % 5}" / f"{number:04}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound, rate, format=kind, subtype=subtype)
        if number >= good:
            damage(path, number - good)


def damage(path: Path, way: int) -> None:
    """Empty, text, cut, no header, all zero, a dangling link."""
    data = path.read_bytes()
    path.unlink()
    ways = [b"", b"this is no sound", data[: len(data) // 3], data[60:], bytes(len(data))]
    if way % 6 == 5:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(ways[way % 6])


def command(sounds: Path, out: Path) -> list[str]:
    """A run over a folder into another."""
    return [*COMMAND, "-i", str(sounds), "-r", "-o", str(out), "-f", "txt,json", "--max-new-tokens", "32"]


def outputs(folder: Path) -> dict[str, bytes]:
    """Every output file with its bytes; the journal and what a killed run left are not among them."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".qwen_audio")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def answered(folder: Path) -> Counter[str]:
    """How often the journal says that each file was written."""
    lines = (folder / ".qwen_audio.jsonl").read_text().splitlines()
    return Counter(name for line in lines if line for name in json.loads(line).get("files", ()))


def killed_run(sounds: Path, out: Path, kills: int, seconds: float) -> tuple[int, str, int]:
    """The exit code and standard error of the last start, and how many starts were killed."""
    rng, done = random.Random(1), 0
    while True:
        process = subprocess.Popen(command(sounds, out), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done < kills:
            time.sleep(rng.uniform(0.5, 1.0 + seconds / kills))
            if process.poll() is None:
                process.kill()
                done += 1
                process.communicate()
                continue
        err = process.communicate()[1]
        return process.returncode, err, done


def peak(arguments: list[str]) -> int:
    """Peak resident memory of a run, in bytes."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024


def long_recording(path: Path, seconds: int) -> Path:
    """Bursts of noise with pauses, written block by block."""
    generator = np.random.default_rng(2)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for _ in range(seconds // 10):
            block = generator.normal(0, 0.1, 10 * RATE)
            block[9 * RATE :] *= 0.001
            file.write(block.clip(-1, 1))
    return path


def main(argv: list[str] | None = None) -> int:
    """Run it all and print what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--good", type=int, default=260)
    parser.add_argument("--broken", type=int, default=40)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--hours", type=float, default=3.0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        make_files(place / "sounds", options.good, options.broken)
        start = time.monotonic()
        whole = subprocess.run(command(place / "sounds", place / "whole"), capture_output=True, text=True, check=False)
        seconds = time.monotonic() - start
        code, _, kills = killed_run(place / "sounds", place / "killed", options.kills, seconds)
        first, second, counts = outputs(place / "whole"), outputs(place / "killed"), answered(place / "killed")
        named = [path.name for path in (place / "sounds").rglob("*.*") if path.name in whole.stderr]
        found: dict[str, object] = {
            "files": options.good + options.broken,
            "seconds": round(seconds, 1),
            "exit_codes": [whole.returncode, code],
            "outputs": len(first),
            "broken_named": len(named),
            "kills": kills,
            "same_bytes": first == second,
            "answered_twice": sum(count > 1 for count in counts.values()),
        }
        holds = found["exit_codes"] == [1, 1] and first == second and len(first) == 2 * options.good
        holds = holds and not found["answered_twice"] and len(named) == options.broken
        make_files(place / "many", 1000, 0)
        short = peak(["-i", str(place / "many" / "part0"), "--max-new-tokens", "16", "-q"])
        many = peak(["-i", str(place / "many"), "-r", "--max-new-tokens", "16", "-q"])
        half = peak(["-i", str(long_recording(place / "half.wav", 30)), "--max-new-tokens", "16", "-q"])
        hours = peak(
            ["-i", str(long_recording(place / "hours.wav", int(options.hours * 3600))), "--max-new-tokens", "16", "-q"]
        )
        found |= {"peak_mb_200_files": short >> 20, "peak_mb_1000_files": many >> 20}
        found |= {"peak_mb_30_s": half >> 20, f"peak_mb_{options.hours:g}_h": hours >> 20}
        print(json.dumps({"benchmark": "folder", "holds": holds, **found}))
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
