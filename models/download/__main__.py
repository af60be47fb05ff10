"""Fetch a model's files, whole and verified: `python3 -m models.download NAME`.

In: a name from `catalog`. Out: a directory with the files and `download.json`, which pins their commit, sizes and
hashes. A file is pinned once its content was checked against what its source publishes. The next run trusts only these
pins: what agrees is skipped, what does not is an error, and nothing is replaced silently.
"""

from __future__ import annotations

if __name__ == "__main__":  # before all else
    from models.interrupts import end_at_once

    end_at_once()

import argparse
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from errors import ModelError, command, path
from models.download.catalog import MODELS, RemoteFile, describe_missing
from models.download.lockfile import PINS_NAME, Pins, add_pin, check_content, check_pinned, read_pins, write_pins
from models.interrupts import finish, is_interrupted

ROOT = Path(__file__).resolve().parents[2]
ABOUT = """Fetch a model, whole and verified. After an interruption run the same command again: whole files are kept.
Of a file that was cut, ailia's goes on where it stopped, Hugging Face's starts again."""
DAMAGED = f"deleted: run again, give --url of another place, or delete its entry in {PINS_NAME} to accept a new file"


def download(
    name: str, *, directory: Path, url: str | None = None, verify: bool = False, offline: bool = False
) -> None:
    """Fetch what is missing of a model into `directory`; `verify` hashes again what is already there.

    Raises:
        ModelError: a file cannot be had, or is not what its source or its pin says.
    """
    from huggingface_hub.constants import is_offline_mode

    is_offline = offline or is_offline_mode()
    with nullcontext() if is_offline else _only_writer(directory):
        pins = read_pins(directory)
        if pins.model not in {"", name}:
            message = f"{directory} holds {pins.model}, not {name}"
            raise ModelError(message, "give --to another directory", kind="download")
        check_pinned(directory, pins, verify=verify)
        missing = [file for file in pins.names if file not in pins.files or not (directory / file).exists()]
        if pins.names and not missing:
            agree = ", sha256 of each as pinned" if verify else ""
            print(f"{name}: all {len(pins.names)} files are here{agree}; nothing to fetch", file=sys.stderr)
        elif is_offline:
            what = f"{directory} misses {', '.join(missing)}" if missing else f"{directory} has no {PINS_NAME}"
            raise ModelError(f"{what}, and this run is offline", describe_missing(name), kind="download")
        else:
            _fetch(name, directory, pins, url)


def _fetch(name: str, directory: Path, pins: Pins, url: str | None) -> None:
    """Ask the source what it has, adopt what is here already, fetch the rest."""
    from models.download import fetch, hub  # these take a quarter of a second to import: not for --help

    model, revision = MODELS[name], ""
    if model.repository:
        remote, revision = hub.list_files(model, url=url, revision=pins.revision)
    else:
        remote = fetch.list_files(model, url=url)
    remote = [replace(pins.files.get(file.name, file), url=file.url) for file in remote]
    pins = replace(pins, model=name, revision=revision, names=tuple(file.name for file in remote))
    for file in remote:
        if file.name not in pins.files and (directory / file.name).exists():  # put here by hand, or by a killed run
            found = check_content(directory / file.name, file, fix="move it away and run the same command again")
            pins = add_pin(directory, pins, file, found)
    missing = [file for file in remote if not (directory / file.name).exists()]
    parts = {file.name: directory / f"{file.name}.part" for file in missing}
    _announce(name, directory, remote, needed=sum(file.size - fetch.held(parts[file.name])[0] for file in missing))
    write_pins(directory, pins)
    if model.repository and missing:
        hub.fetch(model, missing, directory, url=url, revision=revision)
    for number, file in enumerate(missing, 1):
        verb = "verify" if model.repository else "fetch"
        print(f"[{number}/{len(missing)}] {verb} {file.name}  {_gb(file.size)}", file=sys.stderr)
        arrived = directory / file.name if model.repository else parts[file.name]
        if not model.repository:
            fetch.fetch(file, arrived)
        try:
            found = check_content(arrived, file, fix=DAMAGED)
        except ModelError:
            fetch.discard(arrived)
            raise
        arrived.replace(directory / file.name)
        fetch.discard(parts[file.name])
        pins = add_pin(directory, pins, file, found)


def _announce(name: str, directory: Path, remote: Sequence[RemoteFile], *, needed: int) -> None:
    """Print licence and sizes before the first byte; refuse what the disk cannot hold."""
    total, free = sum(file.size for file in remote), shutil.disk_usage(directory).free
    print(f"{name}: {len(remote)} files, {_gb(total)}, under {MODELS[name].licence}", file=sys.stderr)
    print(f"to fetch: {_gb(needed)}, {_gb(free)} free in {directory}", file=sys.stderr)
    if needed > free:
        message = f"not enough disk space in {directory}: {_gb(needed)} needed, {_gb(free)} free"
        raise ModelError(message, "make room or give --to", kind="download")


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 5e6 else f"{size:,} bytes"


@contextmanager
def _only_writer(directory: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    directory.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(directory / ".download.lock", timeout=0):
            yield
    except Timeout as error:
        message, fix = f"another download is writing to {directory}", "wait for it or give --to"
        raise ModelError(message, fix, kind="download") from error


def _base_url(text: str) -> str:
    if not text.startswith(("https://", "http://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not an https:// (or http://) address")
    return text.rstrip("/")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m models.download", description=ABOUT)
    parser.add_argument("name", choices=MODELS, metavar="NAME", help=", ".join(MODELS))
    parser.add_argument("--to", type=path, metavar="DIR", help="target directory (default: models/NAME)")
    url_help = "hub endpoint (default: HF_ENDPOINT), or a place with ailia's files"
    parser.add_argument("--url", type=_base_url, metavar="BASE", help=url_help)
    offline_help = "make no connection, say what is missing (HF_HUB_OFFLINE=1)"
    parser.add_argument("--offline", action="store_true", help=offline_help)
    parser.add_argument("--verify", action="store_true", help="hash again the files that are already here")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for a wrong command, 3 for a failure, 130 when interrupted."""
    return _run(_parser().parse_args(argv))


def _run(args: argparse.Namespace) -> int:
    directory = (args.to or ROOT / "models" / args.name).expanduser().resolve()
    try:
        download(args.name, directory=directory, url=args.url, verify=args.verify, offline=args.offline)
    except (ModelError, OSError, ImportError, KeyboardInterrupt) as failure:
        if is_interrupted(failure):
            print("models.download: interrupted; run the same command again to continue", file=sys.stderr)
            return 130
        print(f"models.download: {failure}", file=sys.stderr)
        return 3
    # The commands run from the root of the clone: a directory inside it is named from there.
    shown = directory.relative_to(ROOT) if directory.is_relative_to(ROOT) else directory
    following = MODELS[args.name].next_commands.format(model=shlex.quote(str(shown)))
    print(f"next: {command(following)}", file=sys.stderr)
    print(directory)
    return 0


if __name__ == "__main__":
    finish(partial(_run, _parser().parse_args()))
