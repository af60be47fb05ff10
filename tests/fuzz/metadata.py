"""Small files about models that lie, a server that lies, and a journal that is damaged."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import shutil
from pathlib import Path

from cli.output.folder import JOURNAL
from models.convert.__main__ import main as convert_command
from models.download import fetch
from models.download.__main__ import main as download_command
from models.download.lockfile import PINS_NAME
from tests.fuzz.place import Case, Ended, Kind, Place
from tests.test_download import CDN, COMMIT, HUB_INFO, RESOLVE, SHARD, WANTED, Server, fill_hub, start
from tests.test_hostile import VALUES, leaves, replaced

FAULTS = ["drop:1000", "drop:300000", "status:404", "status:503", "careless", "norange", "endless", "unsized:100",
          "unsized", "corrupt"]  # fmt: skip
VALIDATORS = [b"", b'W/"weak"', b'"a"\r\nX: y', b'"\0"', b'"' + b"9" * 10_000 + b'"', b"\xff", b'"older"']


def hostile_manifest(rng: random.Random, place: Place) -> Case:
    """Any value at any place of a manifest: a run that goes well, or one line and 3."""
    copy = place.folder / "hostile"
    if not copy.exists():
        shutil.copytree(place.model, copy)
    _spoil(rng, place.model / "manifest.json", copy / "manifest.json")
    arguments = ["--json", "--backend", "onnxruntime", "--model", str(copy), "-i", str(place.folder / "a.wav")]
    return Case(arguments, {0, 3}, check=_few_lines)


def hostile_checkpoint(rng: random.Random, place: Place) -> Case:
    """Any value at any place of what a checkpoint says of itself: a conversion that goes well, or one line and 3."""
    copy = place.folder / "lying"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(place.checkpoint, copy)
    name = rng.choice(["config.json", "config.json", "generation_config.json", "model.safetensors.index.json"])
    _spoil(rng, place.checkpoint / name, copy / name)
    arguments = [str(copy), str(place.empty("converted")), "--precision", "fp32"]
    return Case(arguments, {0, 3}, check=_few_lines, command=convert_command)


def _spoil(rng: random.Random, source: Path, target: Path) -> None:
    """Write a JSON file with other values at one or two places, or something that is no file."""
    text = source.read_text()
    for _ in range(rng.choice([1, 1, 2])):
        with contextlib.suppress(ValueError, RecursionError):  # what is there now may be no JSON
            text = replaced(text, rng.choice(list(leaves(json.loads(text)))), rng.choice(list(VALUES.values())))
    if target.is_dir():
        target.rmdir()
    target.unlink(missing_ok=True)
    if rng.random() < 0.05:
        rng.choice([os.mkfifo, os.mkdir, functools.partial(os.symlink, "/dev/zero")])(target)
    else:
        target.write_text(text, encoding="utf-8", errors="surrogatepass")


def _few_lines(ended: Ended) -> str | None:
    told = ended.err.rstrip("\n").split("\n")
    wrong = [line for line in told if len(line) > 3_000 or not line.replace("\r", "").isprintable()]
    return f"told {wrong[:1]}" if wrong else None


@functools.cache
def _hub() -> Server:
    """A server on this machine, started once. Its clients do not wait between tries, and trust no proxy."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            del os.environ[name]
    fetch.WAITS_S = (0.001, 0.001)
    world = Server()
    start(world)
    return world


def lying_server(rng: random.Random, place: Place) -> Case:
    """Listings, headers and bodies that are wrong, over what an earlier run left: no file but the right one is kept."""
    world = _hub()
    for kept in (world.files, world.headers, world.faults, world.redirects, world.log):
        kept.clear()
    fill_hub(world)
    paths = [CDN, HUB_INFO, f"{HUB_INFO}/tree/{COMMIT}", f"{RESOLVE}/config.json", f"{RESOLVE}/{SHARD}"]
    for path in rng.sample(paths, rng.randrange(3)):
        world.faults[f"{rng.choice(['GET', 'GET', 'HEAD'])} {path}"] = rng.choices(FAULTS, k=rng.randrange(1, 4))
    if rng.random() < 0.6:
        path = rng.choice([HUB_INFO, HUB_INFO, f"{HUB_INFO}/tree/{COMMIT}"])
        text = world.files[path].decode()
        spot = rng.choice(list(leaves(json.loads(text))))
        world.files[path] = replaced(text, spot, rng.choice(list(VALUES.values()))).encode("utf-8", "surrogatepass")
    if rng.random() < 0.3:
        header = rng.choice(["ETag", "Content-Range", "Location", "X-Linked-Size", "X-Repo-Commit", "Content-Encoding"])
        world.headers.setdefault(rng.choice(paths), {})[header] = rng.choice(["", "9" * 400, "\x1b[2J", "gzip", "../x"])
    directory = place.empty("fetched")
    _left_before(rng, directory)
    arguments = ["Qwen-Audio", "--to", str(directory), "--url", world.url]
    return Case(arguments, {0, 3}, check=functools.partial(_only_right_files, directory), command=download_command)


def _left_before(rng: random.Random, directory: Path) -> None:
    """What an earlier run or somebody else may have left in the directory."""
    name = rng.choice(list(WANTED))
    if rng.random() < 0.3:
        (directory / f"{name}.part").write_bytes(WANTED[name][: rng.randrange(len(WANTED[name]))])
        (directory / f"{name}.part.etag").write_bytes(rng.choice(VALIDATORS))
    if rng.random() < 0.3:
        pins = {"model": "Qwen-Audio", "revision": COMMIT, "names": [name], "files": {}}
        pins["files"] = {name: {"url": "", "size": len(WANTED[name]), "hashes": {"sha256": "0" * 64}}}
        text = replaced(json.dumps(pins), rng.choice(list(leaves(pins))), rng.choice(list(VALUES.values())))
        (directory / PINS_NAME).write_text(text, encoding="utf-8", errors="surrogatepass")


def _only_right_files(directory: Path, ended: Ended) -> str | None:
    """Whatever arrived, a file that is not the right one is never pinned, and never there after a good end."""
    try:
        pinned = json.loads((directory / PINS_NAME).read_text())["files"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # what was left before, or nothing
        pinned = {}
    names = pinned if isinstance(pinned, dict) else {}
    counted = WANTED if ended.code == 0 else set(WANTED) & set(names)
    wrong = [name for name in counted if _differs(directory / name, WANTED[name])]
    strange = [str(path) for path in directory.parent.parent.glob("x*") if path.suffix == ".safetensors"]
    return f"{wrong}{strange} with code {ended.code}" if wrong or strange else _few_lines(ended)


def _differs(path: Path, data: bytes) -> bool:
    return path.exists() and path.read_bytes() != data


def damaged_journal(rng: random.Random, place: Place) -> Case:
    """A folder of answers whose journal was damaged: the answer is there afterwards, the user's own file stays."""
    folder = place.empty("answers")
    entry = {"key": "x", "files": {"a.txt": "0" * 64}, "input": "a.wav"}
    text = replaced(json.dumps(entry), rng.choice(list(leaves(entry))), rng.choice(list(VALUES.values())))
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.5:
        del data[rng.randrange(len(data)) :]
    (folder / JOURNAL).write_bytes(b"\n" + bytes(data) + rng.choice([b"\n", b""]))
    (folder / "a.txt").write_text("mine")

    def check(ended: Ended) -> str | None:
        answers = [path for path in folder.glob("*.txt") if path.name != "a.txt"]
        kept = (folder / "a.txt").read_text() == "mine"
        return None if kept and (len(answers) == 1 or ended.code) else f"kept {kept}, answers {answers}"

    return Case(["-i", str(place.folder / "a.wav"), "-o", str(folder)], {0, 1}, check=check)


KINDS: tuple[Kind, ...] = (hostile_manifest, hostile_checkpoint, lying_server, damaged_journal)
