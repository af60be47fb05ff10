"""`python3 -m models.nano.train.voices OUT --snapshots DIR`: more read English, in the form of the recordings.

Sounds and texts come from git snapshots of public repositories (DIR/OWNER+NAME/repo, bare or with `.git`) and from the
prompts of Asterisk as Debian has them. OUT gets `meta.jsonl` and 16 kHz FLAC files, so that `features --recordings OUT`
reads it. Speakers that are held out, and all of LibriSpeech's dev and test sets, are left out.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import soundfile
from numpy.typing import NDArray

from audio_encoder.waveform import load_waveform
from models.nano.train.recordings import recordings, test_ids

Found = tuple[dict[str, Any], Callable[[], bytes]]  # a line of meta.jsonl without `audio`, and its sound's file

RATE = 16_000
META = "meta.jsonl"
LIBRISPEECH = {  # repository -> the folder of its files of train-clean-100
    "Jenny-Smolensky+LibriSpeechFilesParser": "sample_data_libriSpeech/audio/",
    "Walleclipse+Deep_Speaker-speaker_recognition_system": "audio/LibriSpeechSamples/train-clean-100/",
}
GENDERS = {"27": "male", "4088": "female", "4406": "male", "5652": "female", "8226": "male"}  # of SPEAKERS.TXT
ASTERISK = "asterisk-core-sounds-en"
SAID = re.compile(r"[A-Za-z][A-Za-z' ,.?!-]+")  # texts of prompts without notes on music, beeps and numbers
WITHOUT_TEXT, FIRST_LINE = "27", 7323  # a speaker without transcripts, and where his are among train-clean-100's lines


class Snapshot:
    """A commit of a repository that was fetched, the newest unless told otherwise."""

    def __init__(self, folder: Path, commit: str = "HEAD") -> None:
        self.folder, self.commit = folder, commit
        self.git = [
            "git",
            "-c",
            "core.quotePath=false",
            "--git-dir",
            str(folder / ".git" if (folder / ".git").exists() else folder),
        ]
        self.source = (
            f"github.com/{folder.parent.name.replace('+', '/')}@{self._run('rev-parse', commit).decode()[:12]}"
        )
        self.paths = self._run("ls-tree", "-r", "--name-only", commit).decode().splitlines()

    def _run(self, *words: str) -> bytes:
        return subprocess.run([*self.git, *words], check=True, capture_output=True).stdout

    def read(self, path: str) -> bytes:
        """One file."""
        return self._run("show", f"{self.commit}:{path}")

    def matches(self, pattern: str) -> Iterator[re.Match[str]]:
        """Files whose whole path is like this."""
        return (match for path in self.paths if (match := re.fullmatch(pattern, path)))

    def beside(self, repository: str, commit: str) -> Snapshot:
        """Another repository, fetched into the same place."""
        return Snapshot(self.folder.parent.parent / repository.replace("/", "+") / "repo", commit)


def librispeech(snapshot: Snapshot, folder: str, held_out: set[str], lines: list[str]) -> Iterator[Found]:
    """Clips of train-clean-100, whose transcripts in order are `lines`: for the speaker who comes without."""
    inside = [path for path in snapshot.paths if path.startswith(folder) and "/._" not in path]
    texts: dict[str, str] = {}
    for path in inside:
        if path.endswith(".trans.txt"):
            texts |= dict(line.split(" ", 1) for line in snapshot.read(path).decode().splitlines())
    untold = sorted(Path(path).stem for path in inside if path.endswith(".flac") and f"/{WITHOUT_TEXT}/" in path)
    texts |= dict(zip(untold, lines[FIRST_LINE:], strict=False))
    for path in inside:
        name = Path(path).stem
        speaker = name.split("-")[0]
        if path.endswith(".flac") and f"libri-{speaker}" not in held_out:
            row = {"text": texts[name], "speaker": f"libri-{speaker}", "source": snapshot.source}
            row |= {"name": f"librispeech_more/{name}", "licence": "CC BY 4.0 (LibriSpeech, OpenSLR 12)"}
            yield row | {"labels": {"gender": GENDERS[speaker], "utt_id": name}}, partial(snapshot.read, path)


def asterisk(folder: Path) -> Iterator[Found]:
    """Allison Smith's prompts, from the two unpacked Debian packages."""
    sounds = folder / "usr/share/asterisk/sounds/en_US_f_Allison"
    for line in (folder / f"{ASTERISK}.txt").read_text(encoding="utf-8").splitlines():
        name, _, text = line.partition(": ")
        path = sounds / f"{name}.g722"
        if SAID.fullmatch(text.strip()) and path.exists():
            written = " ".join(text.split())
            written = written[0].upper() + written[1:] + ("" if written[-1] in ".?!" else ".")
            row = {"text": written, "speaker": "allison", "labels": {"gender": "female"}}
            row |= {"name": f"asterisk/{name.replace('/', '-')}", "source": f"Debian {ASTERISK}-g722 1.6.1-1"}
            yield row | {"licence": "CC BY-SA 3.0 (Allison Smith)"}, path.read_bytes


def decoded(sound: bytes, suffix: str) -> NDArray[Any]:
    """Samples of a sound file: mono at 16 kHz."""
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(sound)
        file.flush()
        return load_waveform(file.name)


def save(path: Path, waveform: NDArray[Any]) -> None:
    """Samples as FLAC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, RATE)


def write(out: Path, found: Iterator[Found], suffix: str) -> Iterator[dict[str, Any]]:
    """Each sound as FLAC, unless it is there, and its line."""
    for row, sound in found:
        audio = f"{row.pop('name')}.flac"
        if not (out / audio).exists():
            save(out / audio, decoded(sound(), suffix))
        yield {"audio": audio} | row | {"language": "en"}


def lines_so_far(out: Path) -> list[dict[str, Any]]:
    """Lines of OUT/meta.jsonl; a last one that was cut off in the middle is taken away."""
    path = out / META
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def add_line(out: Path, row: dict[str, Any]) -> None:
    """One line more, on disk at once."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / META).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def speakers_held_out(folder: Path) -> set[str]:
    """Who speaks in the test clips of the recordings."""
    tests = {one for ids in test_ids().values() for one in ids}
    return {str(row["speaker"]) for row in recordings(folder) if row["id"] in tests}


def main(argv: list[str] | None = None) -> int:
    """All sources, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--snapshots", type=Path, required=True, metavar="DIR")
    parser.add_argument("--recordings", type=Path, required=True, metavar="DIR", help="for the speakers held out")
    parser.add_argument(
        "--asterisk", type=Path, metavar="DIR", help="the Debian packages, unpacked, and the list of texts"
    )
    options = parser.parse_args(argv)
    with lzma.open(options.recordings / "librispeech-train-clean-100.txt.xz", "rt", encoding="utf-8") as file:
        lines = file.read().splitlines()
    held_out = speakers_held_out(options.recordings)
    rows: list[dict[str, Any]] = []
    for name, folder in LIBRISPEECH.items():
        found = librispeech(Snapshot(options.snapshots / name / "repo"), folder, held_out, lines)
        rows += write(options.out, found, ".flac")
    if options.asterisk:
        rows += write(options.out, asterisk(options.asterisk), ".g722")
    kept = [json.dumps(row, ensure_ascii=False) for row in rows]
    (options.out / META).write_text("\n".join(kept) + "\n", encoding="utf-8")
    print(f"{len(kept)} clips")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
