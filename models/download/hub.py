"""Models on Hugging Face: what a repository holds at one commit, and its files through `snapshot_download`.

HF_ENDPOINT, HF_TOKEN and the like mean what they mean in huggingface_hub. Read in its version 2.4: it compares the
size of what arrived but hashes nothing, writes a body as long as it goes on, and follows a redirect from https to
http. Hence its client comes from `fetch`, and the caller verifies every file. Xet, its own transfer in Rust, passes
by that client; what comes through it is verified like the rest.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from errors import ModelError
from models.download.catalog import HUB_PATTERNS, Model, RemoteFile
from models.download.fetch import TIMEOUT_S, one_line, open_client
from models.interrupts import end_by, first_calls, put_back

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# What the library raises about an answer that it did not expect, beside its own errors, which are OSErrors.
LIBRARY_ERRORS = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError,
    httpx2.HTTPError, httpx2.InvalidURL,
)  # fmt: skip


def list_files(model: Model, *, url: str | None, revision: str) -> tuple[list[RemoteFile], str]:
    """Ask for the files of a model, the small ones first, and their commit: `revision`, or without one the newest.

    Raises:
        ModelError: the hub cannot be reached, or does not list the model.
    """
    from huggingface_hub.hf_api import HfApi

    with _library(model, url, {}) as endpoint:
        ask = HfApi(endpoint=endpoint).model_info
        info = ask(model.repository, revision=revision or None, files_metadata=True, timeout=TIMEOUT_S)
        commit = str(info.sha)
        files = [
            _remote_file(f"{endpoint}/{model.repository}/resolve/{commit}", row)
            for row in info.siblings or ()
            if _is_wanted(row.rfilename)
        ]
    if not re.fullmatch(revision or r"[0-9a-f]{40}", commit):
        message = f"{endpoint} answers for commit {one_line(commit)}"
        raise ModelError(message, f"the files that are here are of {revision or 'none'}", kind="download")
    if not any(file.name.endswith(".safetensors") for file in files):
        message = f"{endpoint} lists no *.safetensors of {model.repository}"
        raise ModelError(message, "is it a whole mirror?", kind="download")
    return sorted(files, key=lambda file: file.size), commit


def fetch(model: Model, files: Sequence[RemoteFile], directory: Path, *, url: str | None, revision: str) -> None:
    """Let the library fetch files into a directory; the caller verifies them.

    Raises:
        ModelError: the library failed.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    bars = ExitStack()

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)  # type: ignore[no-untyped-call]
            bars.callback(self.close)  # the library does not, and they would be drawn over what is said next

    sizes = {file.name: file.size for file in files}
    with bars, _library(model, url, sizes) as endpoint, _interruptible(directory):
        snapshot_download(
            model.repository,
            revision=revision,
            local_dir=directory,
            allow_patterns=list(sizes),
            endpoint=endpoint,
            max_workers=1,  # a kill loses the file that is under way, not all of them
            tqdm_class=Bar,
        )
    missing = [name for name in sizes if not (directory / name).exists()]
    if missing:  # the library is content with what is here when the hub fails in the middle
        message = f"{endpoint} did not give {', '.join(missing)}"
        raise ModelError(message, "run the same command again to continue", kind="download")


def _is_wanted(name: str) -> bool:
    return not name.endswith(".py") and any(fnmatchcase(name, pattern) for pattern in HUB_PATTERNS)


def _remote_file(base: str, row: RepoSibling) -> RemoteFile:
    hashes = {"sha256": row.lfs.sha256} if row.lfs else {"git_sha1": row.blob_id or ""}
    return RemoteFile(row.rfilename, f"{base}/{row.rfilename}", -1 if row.size is None else row.size, hashes)


@contextmanager
def _library(model: Model, url: str | None, sizes: Mapping[str, int]) -> Iterator[str]:
    """Give the library our client, keep it to errors on standard error, name what it raises; yields the endpoint."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.constants import ENDPOINT
    from huggingface_hub.utils.tqdm import disable_progress_bars

    endpoint = url or ENDPOINT
    set_client_factory(lambda: open_client(endpoint, sizes))
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    if not sys.stderr.isatty():
        disable_progress_bars()
    try:
        yield endpoint
    except LIBRARY_ERRORS as error:
        message = f"{model.repository} at {endpoint}: {one_line(error)} ({type(error).__name__})"
        raise ModelError(message, "run the same command again to continue", kind="download") from error


@contextmanager
def _interruptible(directory: Path) -> Iterator[None]:
    """Let a signal end the process at once: the library's thread would finish its file first, maybe for an hour."""

    def sweep() -> None:  # an unfinished file has a random name: nobody continues it
        for leftover in (directory / ".cache" / "huggingface" / "download").glob("*.incomplete"):
            leftover.unlink(missing_ok=True)

    def end(number: int) -> None:
        sweep()
        if sys.stderr.isatty():
            print(file=sys.stderr)  # below the bar
        print("models.download: interrupted; run the same command again to continue", file=sys.stderr, flush=True)
        end_by(number)

    sweep()
    before = first_calls(end)
    try:
        yield
    finally:
        put_back(before)
