"""Checks of `--doctor` on what is installed: Python, packages, backends, the licence of ailia, cache, text, processor.

Each is a generator of findings. They look only: nothing is installed, fetched or written. ailia is not started unless
its licence is there, for it would go and fetch one.
"""

from __future__ import annotations

import importlib
import importlib.util
import locale
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from cli.doctor.findings import Finding, Seen, State, fix_of, gigabytes, reason_of
from cli.doctor.machine import processor
from cli.options import ROOT, Options
from cli.version import package_version
from errors import BackendError, command

REQUIREMENTS = ROOT / "requirements.txt"
NEEDED = ("numpy", "soundfile", "av", "tiktoken")  # without one of these nothing runs; a backend comes on top
RENEWAL = timedelta(days=7)  # with no more than that left, ailia fetches a new licence when it starts
INSTALL = "pip install -r requirements.txt"


def program(_options: Options, _seen: Seen) -> Iterator[Finding]:
    """Python and the system."""
    state: State = "ok" if sys.version_info >= (3, 11) else "bad"
    fix = "install Python 3.11 or newer" if state == "bad" else ""
    yield Finding("program", "python", state, f"{platform.python_version()} ({sys.executable})", fix)
    yield Finding("program", "system", "ok", platform.platform())
    yield Finding("program", "folder", "ok", str(ROOT))


def packages(_options: Options, seen: Seen) -> Iterator[Finding]:
    """Each package of requirements.txt; those that every run needs are loaded, too."""
    for name, least in re.findall(r"^([\w.-]+)>=([\w.]+)", REQUIREMENTS.read_text(encoding="utf-8"), re.MULTILINE):
        version = package_version(name)
        problem = "missing" if version is None else "too old" if _release(version) < _release(least) else ""
        state: State = "note" if problem else "ok"
        if name in NEEDED and (broken := _loading_failure(name)):
            seen.broken.append(name)
            problem, state = problem or f"cannot be loaded ({broken})", "bad"
        text = ", ".join(part for part in (version, problem, f"at least {least} is needed") if part)
        fix = command(INSTALL) if problem else ""
        yield Finding("packages", name, state, text, fix, {"version": version, "least": least})


def _release(version: str) -> tuple[int, ...]:
    leading = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(map(int, leading[0].split("."))) if leading else ()


def _loading_failure(name: str) -> str:
    """Why a package cannot be used although it may be installed: a library of the system is missing, for example."""
    try:
        importlib.import_module(name)
    except Exception as failure:  # noqa: BLE001 - a package that is damaged raises anything
        return reason_of(failure)
    return ""


def backends(options: Options, seen: Seen) -> Iterator[Finding]:
    """Which backends start with these options, and why the others do not."""
    from models.manifest import BACKENDS
    from models.runtime.ailia import AILIA_LICENCE, GET_LICENCE
    from models.runtime.onnxruntime import available_providers
    from models.runtime.session import SessionOptions, backend_class

    wanted = SessionOptions(options.backend, options.device, options.threads, options.env_id, options.memory_mode)
    for name in BACKENDS:
        reason, fix = "", ""
        if name == "ailia" and package_version(name):
            licence = _licence()
            yield licence
            if licence.state != "ok":
                reason, fix = f"not tried: {AILIA_LICENCE.removeprefix('ailia: ')}", GET_LICENCE.strip("`")
        try:
            if not reason:
                backend_class(name).probe(wanted)
                seen.backends.append(name)
        except Exception as failure:  # noqa: BLE001 - a library that does not load raises anything
            reason, fix = reason_of(failure), fix_of(failure)
        first_choice = name == ("onnxruntime" if options.backend == "auto" else options.backend)
        state: State = "ok" if not reason else "bad" if first_choice else "note"
        yield Finding("backends", name, state, reason or "can start", fix if state == "bad" else "")
        if name == "onnxruntime":
            with suppress(BackendError):  # not installed: said above
                devices = sorted(available_providers())
                yield Finding("backends", "devices", "ok", ", ".join(devices), "", {"devices": devices})


def _licence() -> Finding:
    """The state of ailia's licence; "ok" only where ailia starts without asking a server."""
    valid = []
    for path in licence_files():
        until = _licence_date(path)
        if until is None:
            return Finding("backends", "ailia licence", "note", f"no valid file {path}")
        if datetime.now(UTC).astimezone().date() >= until - RENEWAL:
            return Finding("backends", "ailia licence", "note", f"{path} ends on {until} and must be renewed")
        valid.append(f"{path} is valid until {until}")
    return Finding("backends", "ailia licence", "ok", ", ".join(valid))


def licence_files() -> list[Path]:
    """Where the ailia package (1.6.1) looks for its licence; it wants each of these files."""
    if sys.platform == "win32":
        package = importlib.util.find_spec("ailia")  # found, not imported
        return [Path(package.origin or "").parent / "windows" / "x64" / "AILIA.lic"] if package else []
    import pwd

    home = Path(pwd.getpwuid(int(os.environ.get("SUDO_UID", os.getuid()))).pw_dir)
    on_mac = sys.platform == "darwin"
    own = home / ("Library/SHALO" if on_mac else ".shalo")
    shared = Path("/Users/Shared/Library/SHALO" if on_mac else "/usr/local/etc/shalo")
    return [folder / "AILIA.lic" for folder in ([own, shared] if os.getuid() == 0 else [own])]


def _licence_date(path: Path) -> date | None:
    """The last day of a licence file; None if it is missing or not a licence."""
    try:
        head, product, day, *_ = path.read_text(encoding="utf-8").splitlines()
        valid = (head, product) == ("--- shalo license file ---", "axell:ailia")
        return date(*map(int, re.findall(r"\d+", day)[:3])) if valid else None
    except (OSError, ValueError, TypeError):
        return None


def cache(_options: Options, _seen: Seen) -> Iterator[Finding]:
    """The folder for what can be made again: nano, converted."""
    from models.nano.embedded import cache_directory

    folder = cache_directory()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(there).free
    facts = {"folder": str(folder), "bytes": size, "free": free, "writable": os.access(there, os.W_OK)}
    if not facts["writable"]:
        text = f"{folder} cannot be written, so nano is converted again for each run"
        yield Finding("cache", "folder", "note", text, "set XDG_CACHE_HOME to a folder that can be written", facts)
        return
    used = f"{gigabytes(size)} in it" if folder.exists() else "not made yet"
    yield Finding("cache", "folder", "ok", f"{folder}: {used}, {gigabytes(free)} free", "", facts)


def text(_options: Options, _seen: Seen) -> Iterator[Finding]:
    """Whether names and prompts that are not ASCII work."""
    names, contents = sys.getfilesystemencoding(), locale.getencoding()
    told = ", ".join(f"{name}={os.environ[name]}" for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name))
    good = {names.lower(), contents.lower()} == {"utf-8"}
    yield Finding(
        "text",
        "encoding",
        "ok" if good else "note",
        f"{names} in file names, {contents} in files, UTF-8 in what is printed ({told or 'no locale is set'})",
        "" if good else "export LANG=C.UTF-8",
    )


def cpu(_options: Options, _seen: Seen) -> Iterator[Finding]:
    """The processor, and the features that the fast kernels use."""
    name, cores, features = processor()
    slow = platform.machine() in {"x86_64", "AMD64"} and bool(features) and "avx2" not in features
    listed = " ".join(features) or "features unknown"
    told = f"{name}, {cores} cores, {listed}" + ("; without AVX2 it is many times slower" if slow else "")
    yield Finding("cpu", "processor", "note" if slow else "ok", told, "", {"cores": cores, "features": features})
