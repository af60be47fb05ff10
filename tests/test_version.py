"""`--version`: the program, its commit, its backends."""

import subprocess
from importlib import metadata

import pytest

from cli import version as module
from cli.version import __version__, version_line


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """git(*arguments) in a new clone with one commit, whose --version is asked."""
    root = tmp_path / "clone"
    root.mkdir()
    monkeypatch.setattr(module, "_GIT", root / ".git")

    def git(*arguments):
        command = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org", *arguments]
        return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "first")
    return git


@pytest.fixture
def packages(monkeypatch):
    """packages(name=version, ...): what is installed."""

    def packages(**versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError
            return versions[name]

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(metadata, "packages_distributions", dict)

    return packages


def test_the_line_names_program_and_backends(clone, packages):
    packages(onnxruntime="1.30.0", ailia="1.6.1")
    commit = clone("rev-parse", "HEAD")[:7]
    assert version_line() == f"qwen_audio {__version__} (commit {commit}), onnxruntime 1.30.0, ailia 1.6.1"


def test_what_is_missing_is_said(tmp_path, packages, monkeypatch):
    packages()
    monkeypatch.setattr(module, "_GIT", tmp_path / ".git")
    assert version_line() == f"qwen_audio {__version__}, onnxruntime not installed, ailia not installed"


def test_onnxruntime_counts_under_another_name(packages, monkeypatch):
    packages(**{"onnxruntime-gpu": "1.30.0"})
    monkeypatch.setattr(metadata, "packages_distributions", lambda: {"onnxruntime": ["onnxruntime-gpu"]})
    assert "onnxruntime 1.30.0" in version_line()


@pytest.mark.parametrize("state", ["loose", "packed", "detached", "worktree"])
def test_the_commit_is_the_one_that_git_names(clone, tmp_path, monkeypatch, state):
    if state == "packed":
        clone("pack-refs", "--all")
    if state == "detached":
        clone("checkout", "-q", "--detach")
    if state == "worktree":
        clone("worktree", "add", "-q", str(tmp_path / "other"))
        monkeypatch.setattr(module, "_GIT", tmp_path / "other" / ".git")
    assert module._commit() == clone("rev-parse", "HEAD")[:7]


@pytest.mark.parametrize("head", [b"ref: refs/heads/none", b"ref: \x00", b"\xff\xfe"])
def test_a_broken_clone_has_no_commit(clone, head):
    (module._GIT / "HEAD").write_bytes(head)
    assert module._commit() == ""
