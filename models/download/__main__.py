"""Fetch a model's files, whole and verified: `python3 -m models.download NAME`.

In: a name from the table in `catalog`. Out: a directory in which every file has its final name only once its
size and hash were checked, and `download.json`, which pins them. A second run trusts nothing but these pins: what
agrees is skipped, what does not is an error, and nothing is ever replaced silently.

Hugging Face files are listed through the hub's own API at one commit, but the bytes come through `https`:
huggingface_hub 2.4 gives its temporary file a random name and deletes it on failure, so a run that was cut starts a
2 GB file again from zero, and it follows a redirect from https to http. HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE
mean here what they mean there.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from errors import ModelError
from models.download import https
from models.download.catalog import (
    MODELS,
    Model,
    RemoteFile,
    describe_missing,
    expected_names,
    list_files,
    request_headers,
)
from models.download.lockfile import (
    ACCEPT,
    PINS_NAME,
    Pins,
    add_pin,
    adopt,
    agrees,
    bind,
    check_pinned,
    digests,
    only_writer,
    read_pins,
    shown,
    write_pins,
)

__all__ = ["MODELS", "ModelError", "describe_missing", "download", "main"]

ROOT = Path(__file__).resolve().parents[2]


def download(name: str, *, directory: Path, url: str | None = None, verify: bool = False) -> None:
    """Fetch what is missing of a model into `directory`; `verify` hashes again what is already there.

    Raises:
        ModelError: a file cannot be had, or is not what its source or its pin says.
    """
    model = MODELS[name]
    with only_writer(directory):
        pins = _pins_of(name, directory)
        check_pinned(directory, pins, verify=verify)
        if pins.names and all(file in pins.files and (directory / file).exists() for file in pins.names):
            agree = ", sha256 of each as pinned" if verify else ""
            print(f"{name}: all {len(pins.names)} files are here{agree}; nothing to fetch", file=sys.stderr)
            return
        remote, revision = list_files(model, url=url, revision=pins.revision)
        remote = [bind(file, pins.files.get(file.name)) for file in remote]
        pins = replace(pins, model=name, revision=revision, names=tuple(file.name for file in remote))
        pins = adopt(directory, remote, pins)
        missing = [file for file in remote if not (directory / file.name).exists()]
        _announce(model, directory, remote, missing)
        write_pins(directory, pins)
        for number, file in enumerate(missing, 1):
            print(f"[{number}/{len(missing)}] {_progress_line(directory, file)}", file=sys.stderr)
            pins = _obtain(directory, file, pins, headers=request_headers(model, url=url))


def report_offline(name: str, *, directory: Path, verify: bool = False) -> None:
    """Say on stderr which files are here, without a connection.

    Raises:
        ModelError: a file is missing, or is not what its pin says.
    """
    pins = _pins_of(name, directory)
    missing = 0
    for file in pins.names or expected_names(MODELS[name], directory):
        path = directory / file
        if path.exists():
            pinned = "" if file in pins.files else f"  (not verified: no pin in {PINS_NAME})"
            print(f"present  {file}  {_gb(path.stat().st_size)}{pinned}", file=sys.stderr)
        else:
            missing += 1
            print(f"missing  {file}", file=sys.stderr)
    check_pinned(directory, pins, verify=verify)
    if missing:
        raise ModelError(
            f"{missing} files of {directory} are missing, and offline is asked", fix=f"{describe_missing(name)}"
        )


def _pins_of(name: str, directory: Path) -> Pins:
    """The pins of a directory, which must not hold another model."""
    pins = read_pins(directory)
    if pins.model not in {"", name}:
        raise ModelError(f"{directory} holds {pins.model}, not {name}", fix="give --to another directory")
    return pins


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
        raise ModelError(
            f"not enough disk space in {directory}: {_gb(needed)} needed, {_gb(free)} free",
            fix="make room or give --to",
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
        found = digests(part, file.hashes)
        if agrees(file, found):
            break
        https.discard(part)
    else:
        fix = ACCEPT.format(file.name) if file.name in pins.files else "Try --url of another place."
        raise ModelError(f"{file.url} is damaged, twice: {shown(file.hashes)} expected, {shown(found)} received. {fix}")
    with part.open("rb+") as whole:
        os.fsync(whole.fileno())
    part.replace(directory / file.name)
    https.discard(part)
    return add_pin(directory, file, found, pins)


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
    except ModelError as error:
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
