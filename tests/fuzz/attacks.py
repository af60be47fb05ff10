"""What a user may do to a run: batches, entries over the context, output over input, a dialogue of any bytes."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path
from typing import Any

from tests.fuzz.place import FORMATS, ROWS, Case, Ended, Kind, Place, run

CHANGING = ("timings",)  # fields of a record that differ from run to run
BYTES = [b"\xff", b"\xed\xa0\x80", b"\0", b"\r", b"\x1b[2J", b"\xf0\x9f\x98", b"<|im_end|>", b"what?", b" ", b"\xc3"]


def batch_equals_single(rng: random.Random, place: Place) -> str | None:
    """Several sounds and questions in windows of a second: side by side they get what each gets alone."""
    sounds = [str(place.folder / rng.choice([*FORMATS, "long.wav", "missing.wav"])) for _ in range(rng.randrange(1, 5))]
    _long_sound(place)
    asked = [word for text in rng.sample(["one?", "two?", "three?"], rng.randrange(3)) for word in ("-p", text)]
    arguments = ["--json", "--each", "--window", "1", *asked, "-i", *sounds]
    alone, beside = (
        run(Case([*arguments, *more], {0, 1}), place) for more in ([], ["--batch", str(rng.randrange(2, ROWS + 1))])
    )
    one, other = ([_lasting(record) for record in ended.records] for ended in (alone, beside))
    key = lambda record: json.dumps(record, sort_keys=True)  # noqa: E731 - failures come when they are noticed
    return None if sorted(one, key=key) == sorted(other, key=key) else f"batch differs: {one} {other} {arguments}"


def _long_sound(place: Place) -> None:
    if not (place.folder / "long.wav").exists():
        import numpy as np
        import soundfile

        noise = np.random.default_rng(1).normal(0, 0.1, 56_000)
        soundfile.write(place.folder / "long.wav", noise, 16_000)


def _lasting(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in CHANGING}


def over_the_context(rng: random.Random, place: Place) -> Case:
    """An entry with a prompt that is too long among others: it fails alone."""
    good = str(place.folder / "a.wav")
    entries = [{"audio": good, "prompt": f"{number}?"} for number in range(3)]
    entries.insert(rng.randrange(4), {"audio": good, "prompt": "so many words " * 20_000})
    path = place.folder / "entries.jsonl"
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))

    def check(ended: Ended) -> str | None:
        failed = [record for record in ended.records if record["status"] == "error"]
        is_right = len(ended.records) == 4 and len(failed) == 1
        return None if is_right else f"of 4 entries {len(ended.records)} are told, {len(failed)} failed"

    return Case(["--json", "--files-from", str(path)], {1}, check=check)


def output_over_something(rng: random.Random, place: Place) -> Case:
    """`-s FILE` where there is a file, a link, a pipe, a folder or an input: nothing else is touched."""
    folder = place.empty("saved")
    (folder / "theirs").write_text("theirs")
    sound = (place.folder / "a.wav").read_bytes()
    (folder / "a.wav").write_bytes(sound)
    target = folder / rng.choice(["out.txt", "a.wav", "theirs/x", "no/x", ".", "x" * 300, "o\udcff", "out.txt"])
    mode = rng.choice([0o600, 0o644, 0o444, 0o755])
    if target.name in {"out.txt", "o\udcff"}:
        _put(rng.choice(["", "file", "link", "folder", "device"]), target, mode)
    for name in (f"{target.name}.part", f".{target.name}.part"):
        if rng.random() < 0.5 and len(name) < 200 and target.parent == folder and target.name:
            (target.parent / name).symlink_to("theirs")
    is_file = len(target.name) < 200 and target.is_file() and not target.is_symlink() and target.name != "a.wav"

    def check(ended: Ended) -> str | None:
        if (folder / "theirs").read_text() != "theirs" or (folder / "a.wav").read_bytes() != sound:
            return "a file of the user's was written over"
        if is_file and ended.code == 0 and stat.S_IMODE(target.stat().st_mode) != mode:
            return "the mode changed"
        left = [path.name for path in folder.glob("*.part") if not path.is_symlink()]
        return f"left over: {left}" if left else None

    return Case(["-i", str(folder / "a.wav"), "-s", str(target)], {0, 1, 2}, check=check)


def _put(kind: str, target: Path, mode: int) -> None:
    """Something that lies where the answer shall go."""
    if kind == "file":
        target.write_text("old")
        target.chmod(mode)
    elif kind == "link":
        target.symlink_to("elsewhere")
    elif kind == "folder":
        target.mkdir()
    elif kind == "device":
        target.symlink_to("/dev/null")


def dialogue(rng: random.Random, place: Place) -> Case:
    """`--chat` with lines of any bytes and commands of any kind, in a folder of its own."""
    folder = place.empty("talk")
    commands = [b"/audio ../a.wav", b"/audio missing", b"/audio ", b"/save talk/t.txt", b"/save talk/t.json", b"/save \0",
                b"/save a.wav", b"/audio a.wav", b"/reset", b"/help", b"/nonsense", b"/", b"/audio " + rng.choice(BYTES),
                b"/save talk/" + rng.choice(BYTES)]  # fmt: skip
    lines = [
        rng.choice(commands) if rng.random() < 0.5 else b"".join(rng.choices(BYTES, k=rng.randrange(1, 5)))
        for _ in range(rng.randrange(1, 6))
    ]
    data = rng.choice([b"\n", b"\r\n"]).join(lines) + rng.choice([b"\n", b""])
    sound = (place.folder / "a.wav").read_bytes()

    def check(_ended: Ended) -> str | None:
        if (place.folder / "a.wav").read_bytes() != sound:
            (place.folder / "a.wav").write_bytes(sound)
            return "the sound was written over"
        return f"left over in {folder}" if list(folder.glob(".*.part")) else None

    return Case([*rng.choice([[], ["--json"]]), "--chat", "-q"], {0, 1}, data, check)


def odd_value(rng: random.Random, place: Place) -> Case:
    """Odd values in every flag that takes a number, and choices that are none."""
    numbers = ["--threads", "--batch", "--max-new-tokens", "--window", "--timeout", "--max-line-width", "--clip",
               "--shard", "--choices", "--max-line-count", "--long", "--system", "--word", "--language"]  # fmt: skip
    values = ["9" * 5000, "-" + "9" * 5000, "nan", "inf", "1e999", "0x10", "", ",", " , ", "\ud800", "\0", "²", "1_0",
              "1/0", "0/0", "1/1/1", "1-0", "0-1,0-2", "1e-320", "a,a", "a,\ud800", "\u0663", "--"]  # fmt: skip
    flag, value = rng.choice(numbers), rng.choice(values)
    codes = {2} if flag in {"--choices", "--shard", "--clip"} and value in {"", ",", " , ", "a,a", "nan"} else {0, 1, 2}

    def check(ended: Ended) -> str | None:
        is_short = ended.err.count("\n") <= 3 and len(ended.err) < 5_000
        return None if is_short else f"{ended.err.count(chr(10))} lines of {len(ended.err)} characters"

    return Case(["--json", "-q", f"{flag}={value}", "-i", str(place.folder / "a.wav")], codes, check=check)


KINDS: tuple[Kind, ...] = (batch_equals_single, over_the_context, output_over_something, dialogue, odd_value)
