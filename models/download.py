"""Fetch a model's files, whole and verified: `python3 -m models.download NAME`.

In: a name from the table below. Out: a directory in which every file has its final name only once its size and hash
were checked, and `download.json`, which pins them. A second run trusts nothing but these pins: what agrees is skipped,
what does not is an error, and nothing is ever replaced silently.

Hugging Face files are listed through the hub's own API at one commit, but the bytes come through `models.https`:
huggingface_hub 2.4 gives its temporary file a random name and deletes it on failure, so a run that was cut starts a
2 GB file again from zero, and it follows a redirect from https to http. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE
mean here what they mean there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import shutil
import sys
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models import https
from models.https import DownloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

__all__ = ["MODELS", "DownloadError", "describe_missing", "download", "main"]

ROOT = Path(__file__).resolve().parent.parent
PINS_NAME = "download.json"
HUB = "https://huggingface.co"
BUCKET = "https://storage.googleapis.com/ailia-models/qwen_audio"
# Published beside the source code, not in the bucket. Our best guess: this address was never verified.
SAMPLES = "https://raw.githubusercontent.com/axinc-ai/ailia-models/master/audio_language_model/qwen_audio"
# Never *.py: we read the weights, we do not execute what lies beside them.
HUB_PATTERNS = (
    "config.json", "generation_config.json", "qwen.tiktoken", "LICENSE*", "NOTICE*", "tokenizer_config.json",
    "model.safetensors.index.json", "*.safetensors",
)  # fmt: skip
LICENCE = (
    "the Tongyi Qianwen licence (redistribute only with a copy of the licence and its notice; "
    "a service with over 100 million monthly users needs a licence from Alibaba)"
)
_ACCEPT = (
    "Delete the entry {0!r} in download.json to accept the new one, or give --url of a place that has the old one."
)
AILIA_LICENCE = f"{LICENCE}; the ailia SDK that runs them has terms of its own, https://ailia.ai/license/en/"


@dataclass(frozen=True)
class RemoteFile:
    """One file at its source, with whatever the source publishes of it."""

    name: str
    url: str
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256, git_sha1 or md5, to hex
    notes: Mapping[str, str] = field(default_factory=dict)  # etag, crc32c: kept for the record


@dataclass(frozen=True)
class Model:
    """A row of the table: what can be downloaded, and what comes next."""

    name: str
    about: str
    licence: str
    next_commands: str  # {model}: the directory
    repository: str = ""  # on Hugging Face; without one the files are named here
    files: tuple[RemoteFile, ...] = ()


VOCABULARY = RemoteFile(
    name="qwen.tiktoken",
    url=f"{HUB}/Qwen/Qwen-Audio-Chat/resolve/main/qwen.tiktoken",
    size=2_561_218,
    hashes={"sha256": "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"},
)
CONVERT = "python3 -m models.convert {model} {model}-int4 --precision int4"
PUBLISHED = "python3 -m models.convert.published {model}, then python3 qwen_audio.py --model {model} -i AUDIO"
MODELS = {
    model.name: model
    for model in (
        Model("Qwen-Audio-Chat", "about 16.8 GB", LICENCE, CONVERT, repository="Qwen/Qwen-Audio-Chat"),
        Model("Qwen-Audio", "about 16.8 GB", LICENCE, CONVERT, repository="Qwen/Qwen-Audio"),
        Model(
            "ailia-Qwen-Audio-Chat",
            "about 17 GB",
            AILIA_LICENCE,
            PUBLISHED,
            # The small ones first: a wrong address shows before the long wait.
            files=(
                VOCABULARY,
                *(RemoteFile(name, f"{SAMPLES}/{name}") for name in ("bos.npy", "eos.npy")),
                *(
                    RemoteFile(name, f"{BUCKET}/{name}")
                    for name in ("Qwen-Audio-Chat.onnx", "Qwen-Audio-Chat_encode.onnx", "Qwen-Audio-Chat_weights.pb")
                ),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Pin:
    """What a whole file was when it was first verified."""

    size: int
    url: str
    hashes: Mapping[str, str]  # our sha256, and the md5 or git_sha1 that the source published
    notes: Mapping[str, str]


@dataclass(frozen=True)
class Pins:
    """The content of `download.json`."""

    revision: str = ""  # commit of the Hugging Face repository
    names: tuple[str, ...] = ()  # every file of the model, pinned or not
    files: Mapping[str, Pin] = field(default_factory=dict)


def describe_missing(name: str) -> str:
    """Return one line: how to get a model, its size, its licence."""
    model = MODELS.get(name)
    if model is None:
        return f"no model is called {name!r}; python3 -m models.download fetches one of: {', '.join(MODELS)}"
    return f"{name} is fetched by: python3 -m models.download {name} ({model.about}, under {model.licence})"


def download(name: str, *, directory: Path, url: str | None = None, verify: bool = False) -> None:
    """Fetch what is missing of a model into `directory`; `verify` hashes again what is already there.

    Raises:
        DownloadError: a file cannot be had, or is not what its source or its pin says.
    """
    model = MODELS[name]
    with _only_writer(directory):
        pins = _read_pins(directory)
        _check_pinned(directory, pins, verify=verify)
        if pins.names and all(file in pins.files and (directory / file).exists() for file in pins.names):
            agree = ", sha256 of each as pinned" if verify else ""
            print(f"{name}: all {len(pins.names)} files are here{agree}; nothing to fetch", file=sys.stderr)
            return
        remote, pins = _list_files(model, pins, url=url)
        pins = _adopt(directory, remote, pins)
        missing = [file for file in remote if file.name not in pins.files or not (directory / file.name).exists()]
        _announce(model, directory, remote, missing)
        _write_pins(directory, pins)
        for number, file in enumerate(missing, 1):
            print(f"[{number}/{len(missing)}] {_progress_line(directory, file)}", file=sys.stderr)
            pins = _obtain(directory, file, pins, headers=_token(url) if model.repository else {})


def report_offline(name: str, *, directory: Path, verify: bool = False) -> None:
    """Say on stderr which files are here, without a connection.

    Raises:
        DownloadError: a file is missing, or is not what its pin says.
    """
    pins = _read_pins(directory)
    names = pins.names or _expected_names(MODELS[name], directory)
    here = [file for file in names if (directory / file).exists()]
    for file in names:
        size = f"  {_gb((directory / file).stat().st_size)}" if file in here else ""
        pinned = "" if file in pins.files or not size else f"  (not verified: no pin in {PINS_NAME})"
        print(f"{'present' if size else 'missing'}  {file}{size}{pinned}", file=sys.stderr)
    _check_pinned(directory, pins, verify=verify)
    if missing := len(names) - len(here):
        raise DownloadError(
            f"{missing} files of {directory} are missing, and offline is asked; {describe_missing(name)}"
        )


def _expected_names(model: Model, directory: Path) -> Sequence[str]:
    """Without pins: the table, or the files of a Hugging Face repository that cannot be done without."""
    if model.files:
        return [file.name for file in model.files]
    index = directory / "model.safetensors.index.json"
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        shards = ["*.safetensors"]
    return ["config.json", "qwen.tiktoken", index.name, *shards]


def _list_files(model: Model, pins: Pins, *, url: str | None) -> tuple[list[RemoteFile], Pins]:
    """Ask the source what it has; a pin, where there is one, is asked of the content too."""
    if model.repository:
        remote, revision = _list_hub(model.repository, url=url, revision=pins.revision)
    else:
        remote, revision = [_probe(file, url=url) for file in model.files], ""
    remote = [_bind(file, pins.files.get(file.name)) for file in remote]
    return remote, replace(pins, revision=revision, names=tuple(file.name for file in remote))


def _list_hub(repository: str, *, url: str | None, revision: str) -> tuple[list[RemoteFile], str]:
    endpoint = _endpoint(url)
    at = f"/revision/{revision}" if revision else ""
    asked = f"{endpoint}/api/models/{repository}{at}?blobs=true"
    answer = https.read_json(asked, headers=_token(url))
    try:
        commit = str(answer["sha"])
        base = f"{endpoint}/{repository}/resolve/{commit}"
        files = [_hub_file(base, row) for row in answer["siblings"] if _is_wanted(row["rfilename"])]
    except (KeyError, TypeError, ValueError) as error:
        raise DownloadError(f"{asked} does not answer like a Hugging Face hub: {error!r}") from error
    if not any(file.name.endswith(".safetensors") for file in files):
        raise DownloadError(f"{asked} lists no *.safetensors; is {endpoint} a whole mirror?")
    return sorted(files, key=lambda file: file.size or 0), commit


def _hub_file(base: str, row: dict[str, Any]) -> RemoteFile:
    large = row.get("lfs")
    hashes = {"sha256": str(large["sha256"])} if large else {"git_sha1": str(row["blobId"])}
    return RemoteFile(row["rfilename"], f"{base}/{quote(row['rfilename'])}", size=int(row["size"]), hashes=hashes)


def _is_wanted(name: str) -> bool:
    # The names come from outside: none may lead out of the directory, none may be code.
    return (
        not set(name) & set("/\\:")
        and not name.endswith(".py")
        and any(fnmatchcase(name, pattern) for pattern in HUB_PATTERNS)
    )


def _probe(file: RemoteFile, *, url: str | None) -> RemoteFile:
    """Complete a row of the table with what its server publishes; `url` is a place that has all the files."""
    if url:
        file = replace(file, url=f"{url.rstrip('/')}/{file.name}")
    elif file.url.startswith(HUB):
        file = replace(file, url=_endpoint(None) + file.url.removeprefix(HUB))
    if file.hashes:
        return file
    seen = https.probe(file.url)
    notes = {"etag": seen.etag, "crc32c": seen.crc32c}
    return replace(file, size=seen.size, hashes={"md5": seen.md5} if seen.md5 else {}, notes=notes)


def _bind(file: RemoteFile, pin: Pin | None) -> RemoteFile:
    """Ask of a file what was pinned of it, and refuse now what is already known to differ."""
    if pin is None:
        return file
    differs = [kind for kind, digest in file.hashes.items() if pin.hashes.get(kind, digest) != digest]
    if differs or file.size not in (None, pin.size):
        raise DownloadError(
            f"{file.url} is no longer the pinned file: pinned {pin.size} bytes, {_named(pin.hashes)}; "
            f"served {file.size} bytes, {_named(file.hashes)}. {_ACCEPT.format(file.name)}"
        )
    return replace(file, size=pin.size, hashes={**file.hashes, "sha256": pin.hashes["sha256"]})


def _endpoint(url: str | None) -> str:
    """Return the hub's address; plain http only where the command line itself says so."""
    endpoint = (url or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not url and not endpoint.startswith("https://"):
        raise DownloadError(f"HF_ENDPOINT is {endpoint}, not https; give it as --url if that is meant")
    return endpoint


def _token(url: str | None) -> dict[str, str]:
    token = os.environ.get("HF_TOKEN", "")
    return {"Authorization": f"Bearer {token}"} if token and _endpoint(url).startswith("https://") else {}


def _adopt(directory: Path, remote: Sequence[RemoteFile], pins: Pins) -> Pins:
    """Pin files that someone else put here, if they are what the source publishes."""
    for file in remote:
        path = directory / file.name
        if file.name in pins.files or not path.exists():
            continue
        found = _digests(path, file.hashes)
        if file.size not in (None, path.stat().st_size) or any(found[k] != file.hashes[k] for k in file.hashes):
            raise DownloadError(
                f"{path} is not what {file.url} publishes: {file.size} bytes, {_named(file.hashes)} expected, "
                f"{path.stat().st_size} bytes, {_named(found)} found; move it away and run the same command again"
            )
        pins = _pin(directory, file, found, pins)
    return pins


def _check_pinned(directory: Path, pins: Pins, *, verify: bool) -> None:
    for name, pin in pins.files.items():
        path = directory / name
        if not path.exists() or (path.stat().st_size == pin.size and not verify):
            continue
        found = _digests(path, ())
        if found["sha256"] != pin.hashes["sha256"]:
            raise DownloadError(
                f"{path} is not the file that {PINS_NAME} pins: {pin.size} bytes, {_named(pin.hashes)} pinned, "
                f"{path.stat().st_size} bytes, {_named(found)} found; delete it and run again to fetch it anew"
            )


def _announce(model: Model, directory: Path, remote: Sequence[RemoteFile], missing: Sequence[RemoteFile]) -> None:
    """Print licence and sizes before the first byte; refuse what the disk cannot hold."""
    total = sum(file.size or 0 for file in remote)
    needed = sum(max((file.size or 0) - https.length(_part(directory, file)), 0) for file in missing)
    free = shutil.disk_usage(directory).free
    unsized = sum(file.size is None for file in remote)
    print(
        f"{model.name}: {len(remote)} files, {_gb(total)}{f' and {unsized} of unknown size' if unsized else ''}, "
        f"under {model.licence}\nto fetch: {len(missing)} files, {_gb(needed)} needed, {_gb(free)} free in {directory}",
        file=sys.stderr,
    )
    if needed > free:
        raise DownloadError(
            f"not enough disk space in {directory}: {_gb(needed)} needed, {_gb(free)} free; make room or give --to"
        )


def _progress_line(directory: Path, file: RemoteFile) -> str:
    held = https.length(_part(directory, file))
    size = "size unknown" if file.size is None else _gb(file.size)
    return f"{file.name}  {size}{f', {_gb(held)} of it are here' if held else ''}"


def _obtain(directory: Path, file: RemoteFile, pins: Pins, *, headers: Mapping[str, str]) -> Pins:
    """Fetch one file, verify it, give it its final name and its pin."""
    part = _part(directory, file)
    source = https.Source(url=file.url, size=file.size, hashed=bool(file.hashes), headers=headers)
    for _ in range(2):  # a damaged body is fetched once more, from its first byte
        with _progress(file.name) as report:
            https.fetch(source, part, report=report)
        found = _digests(part, file.hashes)
        if all(found[kind] == digest for kind, digest in file.hashes.items()):
            break
        https.discard(part)
    else:
        fix = _ACCEPT.format(file.name) if file.name in pins.files else "Try --url of another place."
        raise DownloadError(
            f"{file.url} is damaged, twice: {_named(file.hashes)} expected, {_named(found)} received. {fix}"
        )
    with part.open("rb+") as whole:
        os.fsync(whole.fileno())
    part.replace(directory / file.name)
    https.discard(part)
    return _pin(directory, file, found, pins)


def _digests(path: Path, kinds: Iterable[str]) -> dict[str, str]:
    """Hash a file in one pass: sha256, and of `git_sha1` and `md5` what is asked."""
    made = {"sha256": hashlib.sha256()}
    if "md5" in kinds:
        made["md5"] = hashlib.md5(usedforsecurity=False)
    if "git_sha1" in kinds:
        made["git_sha1"] = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            for digest in made.values():
                digest.update(chunk)
    return {kind: digest.hexdigest() for kind, digest in made.items()}


def _pin(directory: Path, file: RemoteFile, found: Mapping[str, str], pins: Pins) -> Pins:
    pin = Pin(size=(directory / file.name).stat().st_size, url=file.url, hashes=found, notes=file.notes)
    pins = replace(pins, files={**pins.files, file.name: pin})
    _write_pins(directory, pins)
    return pins


def _read_pins(directory: Path) -> Pins:
    path = directory / PINS_NAME
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        files = {name: _read_pin(row) for name, row in raw["files"].items()}
        return Pins(revision=raw["revision"], names=tuple(raw["names"]), files=files)
    except FileNotFoundError:
        return Pins()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DownloadError(
            f"{path} cannot be read ({error!r}); delete it, the files stay and are verified anew"
        ) from error


def _read_pin(row: dict[str, Any]) -> Pin:
    pin = Pin(**row)
    if not isinstance(pin.size, int) or "sha256" not in pin.hashes:
        raise ValueError("a pin has no size or no sha256")
    return pin


def _write_pins(directory: Path, pins: Pins) -> None:
    path = directory / PINS_NAME
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(asdict(pins), indent=1) + "\n", encoding="utf-8")
    new.replace(path)


@contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    """Make the directory and hold it against a second download, which would append to the same part files."""
    directory.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl

        handle = os.open(directory, os.O_RDONLY)
    except ImportError:  # Windows: go on without
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise DownloadError(f"another download is writing to {directory}; wait for it or give --to") from error
    except OSError:
        pass  # a file system without locks
    try:
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            directory.rmdir()  # only where nothing came: an empty directory would look like a model


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a bar where stderr is a terminal, silence elsewhere: the line of the file is already printed."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from tqdm import tqdm  # type: ignore[import-untyped]

    terminal = os.get_terminal_size(sys.stderr.fileno())  # one without a size says 0, and tqdm would stay silent
    columns, lines = terminal.columns or 80, terminal.lines or 24
    with tqdm(desc=name, unit="B", unit_scale=True, ncols=columns, nrows=lines) as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


def _part(directory: Path, file: RemoteFile) -> Path:
    return directory / f"{file.name}.part"


def _named(hashes: Mapping[str, str]) -> str:
    return ", ".join(f"{kind} {digest}" for kind, digest in hashes.items()) or "no published hash"


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 5e6 else f"{size:,} bytes"


def _base_url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not an https:// (or http://) address")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m models.download", description="Fetch a model, whole and verified."
    )
    parser.add_argument("name", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--to", type=Path, metavar="DIR", help="target directory (default: models/NAME)")
    parser.add_argument(
        "--url",
        type=_base_url,
        metavar="BASE",
        help="hub endpoint (default: HF_ENDPOINT), or a place with ailia's files",
    )
    parser.add_argument(
        "--offline", action="store_true", help="make no connection, say what is here (HF_HUB_OFFLINE=1)"
    )
    parser.add_argument("--verify", action="store_true", help="hash again the files that are already here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for a wrong command, 3 for a failure, 130 when interrupted."""
    args = _parser().parse_args(argv)
    directory = (args.to or ROOT / "models" / args.name).expanduser().resolve()
    offline = args.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    try:
        if offline:
            report_offline(args.name, directory=directory, verify=args.verify)
        else:
            download(args.name, directory=directory, url=args.url, verify=args.verify)
    except DownloadError as error:
        print(f"models.download: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"models.download: {error.filename or directory}: {error.strerror or error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("\nmodels.download: interrupted; run the same command again to resume", file=sys.stderr)
        return 130
    # The commands run from the root of the clone: a directory inside it is named from there.
    shown = directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory
    print(f"next: {MODELS[args.name].next_commands.format(model=shlex.quote(str(shown)))}", file=sys.stderr)
    print(directory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
