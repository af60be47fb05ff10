"""`python3 -m tests.benchmarks.many_files`: resident memory of one run after 100 and after 1,000 files.

The files are 1,000 names of one short sound, of nano's golden ones; the run writes a line of JSON for each, and its
memory is read from /proc as they come. The last line is JSON, in MB.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOUND = ROOT / "tests" / "golden" / "nano" / "xylophone.flac"
MARKS = (100, 1_000)


def resident(pid: int) -> float:
    """Resident memory of a process now, in MB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return round(int(found[1]) / 1024, 1)


def main() -> int:
    """Run and look."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(MARKS[-1] + 1):  # one more, so that the process is there at the last mark
            (Path(folder) / f"{number:04}.flac").write_bytes(SOUND.read_bytes())
        command = [sys.executable, str(ROOT / "qwen_audio.py"), "-q", "--json", "--max-new-tokens", "8", "-i", folder]
        found = {}
        with subprocess.Popen([*command, "-p", "what is that sound?"], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for number, line in enumerate(process.stdout, start=1):
                assert json.loads(line)["status"] == "ok", line
                if number in MARKS:
                    found[number] = resident(process.pid)
    print(json.dumps({"benchmark": "many files", **{f"MB at {number}": size for number, size in found.items()}}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
