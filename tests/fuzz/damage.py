"""Sounds, lists and manifests that are damaged, and flags at random."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from tests.fuzz.place import FORMATS, MEDIA, Case, Ended, Kind, Place

WORDS = [
    "", "0", "-1", "1", "2", "1/2", "9/3", "a", "*.wav", "missing.wav", "a.wav", "b.flac", "-", "en", "nano", "\udcff",
    ",", "1-2,", "0-1,3-", "9" * 5000, "1/" + "9" * 5000, "nan", "-inf", "1e999", "\0", "\ud800", "a,b", "a\nb", "~",
]  # fmt: skip
STREAMED = {0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7FFFFF00, 0x7F000008, 0x80000000, 2_000_000_000, 0}
SIZES = [*STREAMED, 1, 36, 0x7FFF0000, 0x7FFF1234, 3_000_000_000, 0xFFFFFFFE, 0xFFFFFFFF - 36, 12_000, 12_001, 12_036]
BEYOND = [1e36, -3.4e38, 1e300, 1e9, np.inf, -np.inf, np.nan, 1e-45, 1e4]


def damaged_sound(rng: random.Random, place: Place) -> Case:
    """A sound with bytes changed, cut out, put in or cut off."""
    name = rng.choice([*FORMATS, *MEDIA])
    data = bytearray((place.folder / name).read_bytes())
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = rng.randrange(min(len(data), rng.choice((64, 512, len(data)))))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        else:
            del data[max(1, at) :]
        data = data or bytearray(b"\0")
    path = place.folder / f"damaged{Path(name).suffix}"
    path.write_bytes(data)
    piped = rng.random() < 0.2
    return Case(["--json", "-i", "-" if piped else str(path)], {0, 1}, bytes(data) if piped else b"")


def damaged_manifest(rng: random.Random, place: Place) -> Case:
    """A manifest with a key gone, added, or of another value; or with its bytes changed."""
    copy = place.folder / "copy"
    if not copy.exists():
        shutil.copytree(place.model, copy)
    text = (place.model / "manifest.json").read_text()
    if rng.random() < 0.3:
        data = bytearray(text.encode())
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (copy / "manifest.json").write_bytes(data)
    else:
        tree = json.loads(text)
        spot = tree
        while True:
            key = rng.choice(list(spot)) if isinstance(spot, dict) else rng.randrange(len(spot))
            if not isinstance(spot[key], dict | list) or not spot[key] or rng.random() < 0.2:
                break
            spot = spot[key]
        values = [None, 0, -1, 1, 2**40, 0.5, "", "x", "..", [], {}, True, "decoder.onnx", [1, 2], "fused", "plain"]
        if rng.random() < 0.25:
            del spot[key]
        else:
            spot[key] = rng.choice(values)
        (copy / "manifest.json").write_text(json.dumps(tree))
    sound = str(place.folder / "a.wav")
    return Case(["--json", "--backend", "onnxruntime", "--model", str(copy), "-i", sound], {0, 3})


def damaged_list(rng: random.Random, place: Place) -> Case:
    """A list of lines, some of them names, some JSON, some nothing."""
    good = [str(place.folder / name) for name in FORMATS]
    odd = [
        {key: value} for key in ("prompt", "task", "text", "language") for value in ("\ud800", "a\0", 10**400, ["x"])
    ]

    def line() -> str:
        kind = rng.randrange(7)
        name = rng.choice([*good, "missing.wav", str(place.folder), "", "\0", "x" * 5000, "\ud800.wav", "\udcff.wav"])
        if kind < 2:
            return name
        record: dict[str, Any] = {"audio": rng.choice([name, [name], [name, name], 3, None, {}, []])}
        record |= rng.choice([{}, {"prompt": "what is it?"}, {"question": 5}, {"prompt": ""}, {"id": 1}, *odd])
        text = json.dumps(record)
        return text if kind < 5 else text[: rng.randrange(len(text))] if kind == 5 else "{" + rng.choice('}]1"')

    lines = [line() for _ in range(rng.randrange(6))]
    data = rng.choice(["\n", "\r\n", "\0"]).join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        data += rng.randbytes(12)
    flags = rng.choice([[], ["-0"], ["--shard", "1/2"], ["-r"]])
    path = place.folder / "list.txt"
    path.write_bytes(data)
    piped = rng.random() < 0.5
    arguments = ["--json", *flags, "--files-from", "-" if piped else str(path)]
    return Case(arguments, {0, 1, 2, 4}, data if piped else b"")


def flags_at_random(rng: random.Random, place: Place) -> Case:
    """Some of all flags, with values that fit and values that do not."""
    from cli.flags import build_parser

    arguments: list[str] = []
    flags = [action for action in build_parser()._actions if action.option_strings]
    for action in rng.sample(flags, rng.randrange(1, 6)):
        flag = rng.choice(action.option_strings)
        if flag in {"--model", "--env_list", "-e", "--env_id", "--device", "--backend", "-b", "--benchmark", "--chat",
                    "--model_dir", "-bc", "--benchmark_count", "--keep", "--ray"}:  # fmt: skip
            continue  # another model, another machine, or a long time
        arguments.append(flag)
        if action.nargs != 0:
            value = str(rng.choice([*(action.choices or []), *WORDS]))
            arguments.append("out.txt" if value == "a.wav" and action.dest == "savepath" else value)
    if rng.random() < 0.7:
        arguments += ["-i", rng.choice(["a.wav", "missing.wav", ".", "*.flac"])]
    return Case(arguments, {0, 1, 2, 4})


def cut_sound(rng: random.Random, place: Place) -> Case:
    """A sound that ends early, though its container says how long it is: never an answer."""
    tight, loose = ["a.wav", "b.flac", "c.ogg", "d.aiff", "f.wav"], ["j.m4a", "k.mov", "p.opus", "x.tta", "z.oga"]
    name = rng.choice([*tight, *loose])
    data = (place.folder / name).read_bytes()
    path = place.folder / f"cut.{name[2:]}"
    # Some writers count the header of up to 44 bytes in; behind the sound there may be a tag.
    left = rng.choice([45, 64, 1000]) if name in tight else len(data) // 10
    path.write_bytes(data[: rng.randrange(60, len(data) - left)])

    def check(ended: Ended) -> str | None:
        (record,) = ended.records
        return "a bug" if record["kind"] == "bug" else None

    return Case(["--json", "-i", str(path)], {1}, check=check)


def wav_sizes(rng: random.Random, place: Place) -> Case:
    """A WAV whose sizes are not its own: refused if it promises more, unless a writer to a pipe puts such a size."""
    data = bytearray((place.folder / "a.wav").read_bytes())
    size, whole = rng.choice([*SIZES, rng.randrange(2**32)]), rng.choice([*SIZES, len(data) - 8])
    at = data.index(b"data") + 4
    data[at : at + 4], data[4:8] = struct.pack("<I", size), struct.pack("<I", whole)
    path = place.folder / "sizes.wav"
    path.write_bytes(data)
    far = 130 < len(data) - at - 4 < size - 64 and all(abs(size - one) > 128 for one in STREAMED)
    return Case(["--json", "-i", str(path)], {1} if far else {0, 1})


def beyond_measure(rng: random.Random, place: Place) -> Case:
    """Samples of any value in float containers: that file fails at most, and the one behind it is answered."""
    name, kind = rng.choice([("x.wav", "WAV"), ("x.aiff", "AIFF"), ("x.au", "AU"), ("x.caf", "CAF"), ("x.w64", "W64")])
    subtype = rng.choice(["FLOAT", "DOUBLE"])
    samples = np.random.default_rng(rng.randrange(2**32)).normal(0, 0.1, rng.choice([1, 999, 6_000]))
    for _ in range(rng.choice([1, 1, 50])):
        with np.errstate(over="ignore"):
            value = np.float64(rng.choice(BEYOND))
            samples[rng.randrange(len(samples))] = value if subtype == "DOUBLE" else np.float32(value)
    soundfile.write(place.folder / name, samples, 16_000, format=kind, subtype=subtype)

    def check(ended: Ended) -> str | None:
        bad, good = ended.records
        return None if good["status"] == "ok" and bad.get("kind") != "bug" else f"{bad} {good}"

    return Case(["--json", "--each", "-i", str(place.folder / name), str(place.folder / "a.wav")], {0, 1}, check=check)


KINDS: tuple[Kind, ...] = (
    damaged_sound, damaged_sound, damaged_manifest, damaged_list, flags_at_random, cut_sound, wav_sizes, beyond_measure,
)  # fmt: skip
