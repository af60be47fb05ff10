"""`--version`: the program, its commit, and the packages that run models."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

__version__ = "1.1.0"

_GIT = Path(__file__).resolve().parent.parent / ".git"


def version_line() -> str:
    """One line, such as `qwen_audio 1.1.0 (commit 0123abc), onnxruntime 1.32.0, ailia not installed`."""
    commit = _commit()
    own = f"qwen_audio {__version__}" + (f" (commit {commit})" if commit else "")
    backends = (f"{name} {package_version(name) or 'not installed'}" for name in ("onnxruntime", "ailia"))
    return ", ".join([own, *backends])


def package_version(name: str) -> str | None:
    """The version of a package, or of another that brings the same module (onnxruntime-gpu for onnxruntime)."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        others = metadata.packages_distributions().get(name, [])
        return metadata.version(others[0]) if others else None


def _commit() -> str:
    """The first letters of the commit that is checked out; "" outside a clone."""
    if not _GIT.exists():
        return ""
    try:
        command = ["git", f"--git-dir={_GIT}", "rev-parse", "--verify", "--quiet", "HEAD"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout[:7]
    except OSError:  # git is not installed
        return ""
