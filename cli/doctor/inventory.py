"""Checks of `--doctor` on the models that are here: each whole, each file hashed, and the memory that it takes.

Models are looked for where a run would: --model, $QWEN_AUDIO_MODEL, the folders under models/, and nano, which is
converted into the cache if it is not there yet, as its first run would do.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.doctor.findings import Finding, Seen, State, fix_of, gigabytes, reason_of
from cli.doctor.machine import memory as memory_of_machine
from cli.options import ROOT, Options
from cli.output.streams import say
from errors import command

if TYPE_CHECKING:
    from models.manifest import Manifest

MODELS = ROOT / "models"
EMBEDDED, VARIABLE = "nano", "QWEN_AUDIO_MODEL"  # those of cli.run.open_model, which takes numpy to import
LARGE = 500e6  # bytes: to hash more takes a second, long enough for a word on standard error
# Measured: the full model is 7.0 GB on disk in int4 and 9.1 in int8, 1.3 of them the table of embeddings, and peaks at
# 6.0 and 8.1 GB with 378 positions in its cache, at 6.5 and 8.6 with 810. Hence what is beside the files and the
# cache; rough, and told as "about".
POSITIONS = 512  # a sound of 30 s and a long answer
BASE = 150e6


def models(options: Options, seen: Seen) -> Iterator[Finding]:
    """Each model: precision, contract, size, and whether its files have the size and hash that were recorded."""
    for name, directory in _candidates(options).items():
        yield _examined(name, directory, options, seen)
    yield from _downloads()
    if not any(name != EMBEDDED for name in seen.models):
        from models.download.catalog import describe_missing

        free = gigabytes(shutil.disk_usage(MODELS).free)
        fix = describe_missing("Qwen-Audio-Chat")
        yield Finding("models", "Qwen-Audio-Chat", "note", f"not here; {free} free in {MODELS}", fix)


def _candidates(options: Options) -> dict[str, Path | None]:
    """Name -> directory of each model, each directory once; None is the embedded one, which is yet to be found."""
    named = [str(options.model or ""), os.environ.get(VARIABLE, "")]
    listed = sorted(path.parent for path in MODELS.glob("*/manifest.json"))
    found: dict[Path | None, str] = {}
    for name in [*filter(None, named), *map(str, listed), EMBEDDED]:
        is_path = name != EMBEDDED or (name in named and Path(name).exists())  # who names no model means no file
        directory = Path(name) if is_path else None
        shown = str(directory.relative_to(ROOT)) if directory in listed and directory else name
        found.setdefault(directory and directory.resolve(), name if name in named else shown)
    return {name: directory for directory, name in found.items()}


def _examined(name: str, directory: Path | None, options: Options, seen: Seen) -> Finding:
    """The finding about one model; an error in it does not stop the others."""
    from models.manifest import load_manifest
    from models.nano.embedded import embedded_model

    try:
        flavour = "plain" if options.backend == "ailia" else "fused"
        manifest = load_manifest(embedded_model(flavour=flavour) if directory is None else directory)
        damaged = _damaged(name, manifest, quiet=options.quiet)
    except Exception as failure:  # noqa: BLE001 - numpy may be missing, the disk may fail
        fix = fix_of(failure)
        return Finding("models", name, "bad", reason_of(failure), f"{name}: {fix}" if fix else "")
    if damaged:
        again = (
            f"{name}: convert or download it again" if directory else f"delete {manifest.directory}; nano is made again"
        )
        return Finding("models", name, "bad", f"damaged: {', '.join(damaged)} in {manifest.directory}", again)
    seen.models[name] = manifest
    size = sum(record.size for record in manifest.files.values())
    facts = {"directory": str(manifest.directory), "precision": manifest.precision, "contract": manifest.contract,
             "backends": list(manifest.backends), "bytes": size}  # fmt: skip
    kind = f"{manifest.precision}, {manifest.contract}, {manifest.chat_format}, for {' and '.join(manifest.backends)}"
    whole = f"{gigabytes(size)} in {len(manifest.files)} files, each with its size and sha256"
    return Finding("models", name, "ok", f"{kind}; {whole}; {manifest.directory}", "", facts)


def _damaged(name: str, manifest: Manifest, *, quiet: bool) -> list[str]:
    """The files that do not have the hash that was recorded."""
    from errors import ModelError
    from models.manifest import verify_files

    damaged = []
    for file, record in manifest.files.items():
        if record.size > LARGE:
            say(f"{name}: hashing {file} ({gigabytes(record.size)})", quiet=quiet)
        try:
            verify_files(replace(manifest, files={file: record}))
        except ModelError:
            damaged.append(file)
    return damaged


def _downloads() -> Iterator[Finding]:
    """Checkpoints that were fetched, or are being fetched, and are not converted: those have no manifest."""
    from models.download.catalog import MODELS as SOURCES
    from models.download.lockfile import PINS_NAME, read_pins

    for path in sorted(MODELS.glob(f"*/{PINS_NAME}")):
        directory = path.parent
        if (directory / "manifest.json").exists():
            continue
        pins, shown = read_pins(directory), str(directory.relative_to(ROOT))
        here = sum(name in pins.files and (directory / name).exists() for name in pins.names)
        source = SOURCES.get(pins.model)
        if source and here == len(pins.names):
            done = any((other / "manifest.json").exists() for other in MODELS.glob(f"{directory.name}-*"))
            fix = "" if done else command(source.next_commands.format(model=shown))
            yield Finding("models", shown, "ok" if done else "note", "a complete checkpoint, not yet converted", fix)
        else:
            fix = command(f"python3 -m models.download {pins.model}") if source else ""
            yield Finding("models", shown, "note", f"a download with {here} of {len(pins.names)} files", fix)


def memory(options: Options, seen: Seen) -> Iterator[Finding]:
    """The memory of this machine against what each model takes."""
    total, available = memory_of_machine()
    facts = {"total": total, "available": available}
    told = "this system does not say" if total is None else gigabytes(total)
    free = "" if available is None else f", {gigabytes(available)} of it available"
    yield Finding("memory", "machine", "note" if total is None else "ok", told + free, "", facts)
    with suppress(ImportError):  # numpy may be what is missing
        from models.server.client import ask_server

        if kept := ask_server("state"):
            yield Finding("memory", "kept open", "ok", _about_server(kept), "", kept)
    for name, manifest in seen.models.items():
        need = memory_needed(manifest, rows=options.batch)
        state: State = "ok"
        answers = "one answer" if options.batch == 1 else f"{options.batch} answers side by side"
        text, fix = f"takes about {gigabytes(need)} for {answers}", ""
        if total is not None and need > total:
            state, text = "bad", f"{text}, which is more than this machine has"
            fix = f"{name}: convert it with a smaller --precision, or find a machine with {gigabytes(need)} of memory"
        elif available is not None and need > available:
            state, text, fix = "note", f"{text}, which is more than is available", "close other programs"
        yield Finding("memory", name, state, text, fix, {"needed": need})


def _about_server(kept: Mapping[str, Any]) -> str:
    """Which model the process of --keep holds, and for how long."""
    held = ", ".join(kept["models"]) or "no model"
    left = "a run is using it" if kept["left"] is None else f"for {kept['left'] / 60:.1f} minutes more"
    limits = "".join(f"; it was started with {limit}" for limit in kept["limits"])
    return f"{held}, by process {kept['pid']}, {left}{limits}; --keep 0 or SIGTERM ends it"


def memory_needed(manifest: Manifest, *, rows: int = 1) -> int:
    """About how many bytes `rows` answers at a time take: the weights as they are opened, the cache, room to work."""
    # The table is mapped: only the rows of a prompt are ever read.
    mapped = manifest.files[manifest.embeddings].size if manifest.embeddings else 0
    weights = sum(record.size for record in manifest.files.values()) - mapped
    positions = min(POSITIONS, manifest.decoder_sizes.max_positions)
    cache = 0
    for state in (part.state for part in manifest.decoder if part.state):
        one = prod(positions if size == -1 else max(size, 1) for size in state.shape)
        cache += rows * len(state.names) * one * (2 if state.dtype == "float16" else 4)
    return int(weights + cache + BASE)
