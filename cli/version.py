"""`--version`: the program, its commit, and the packages that run models."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

__version__ = "1.1.0"

_GIT = Path(__file__).resolve().parent.parent / ".git"


def version_line() -> str:
    """One line, such as `qwen_audio 1.1.0 (commit 0123abc), onnxruntime 1.32.0, ailia not installed`."""
    commit = _commit()
    own = f"qwen_audio {__version__}" + (f" (commit {commit})" if commit else "")
    return ", ".join([own, *(f"{name} {_version(name)}" for name in ("onnxruntime", "ailia"))])


def _version(name: str) -> str:
    """The version of a package, or of another that brings the same module, as onnxruntime-gpu does."""
    try:
        return version(name)
    except PackageNotFoundError:
        others = packages_distributions().get(name, [])
        return version(others[0]) if others else "not installed"


def _commit() -> str:
    """The first letters of the commit that is checked out; "" outside a clone."""
    try:
        git = Path(_GIT.read_text().removeprefix("gitdir:").strip()) if _GIT.is_file() else _GIT
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head[:7]
        name = head.removeprefix("ref: ")
        common = git / "commondir"
        shared = git / common.read_text().strip() if common.is_file() else git
        if (shared / name).is_file():
            return (shared / name).read_text().strip()[:7]
        packed = (shared / "packed-refs").read_text().splitlines()
        return next((line[:7] for line in packed if line.endswith(f" {name}")), "")
    except (OSError, ValueError):  # no clone, or files that are not git's
        return ""
