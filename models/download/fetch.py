"""Fetch the files of a source that no library serves, so that an interruption costs nothing.

In: a `RemoteFile` and the path of a part file. Out: the part file, as long as the file. Bytes already there are kept
if the server still gives the ETag that they came with, which lies beside them in `.etag`. What the bytes are is the
caller's to verify. Models on Hugging Face come through `hub`, which takes its client from here.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import httpx2

from errors import ModelError, printable
from models.download.catalog import HUB, Model, RemoteFile
from models.metadata import regular

WAITS_S = (0.5, 1.0, 2.0, 4.0)  # between one try and the next
PROGRESS_BYTES = (
    8 << 20
)  # after so many more, the tries start again: a long download may lose its connection many times
TIMEOUT_S = 30.0
LISTING_BYTES = 10_000_000  # of an answer that is not a file: a listing has a few thousand


class _Bounded(httpx2.SyncByteStream):
    """The body of an answer, cut where it is longer than it may be."""

    def __init__(self, stream: httpx2.SyncByteStream, limit: int) -> None:
        self.stream, self.limit = stream, limit

    def __iter__(self) -> Iterator[bytes]:
        left = self.limit
        for chunk in self.stream:
            left -= len(chunk)
            if left < 0:
                raise ModelError(f"more than {self.limit} bytes are sent, the size that was listed", kind="download")
            yield chunk

    def close(self) -> None:
        self.stream.close()


def open_client(base: str, sizes: Mapping[str, int]) -> httpx2.Client:
    """Open a client for one file at a time, which never leaves https and reads no more of a file than its size."""
    limit = LISTING_BYTES

    def check_address(request: httpx2.Request) -> None:
        nonlocal limit
        if base.startswith("https:") and request.url.scheme != "https":
            raise ModelError(
                f"{base} redirects to {one_line(request.url)}: refused, https was asked for", kind="download"
            )
        # After a redirect the address may not have the name: then it is still the file that was asked for.
        limit = sizes.get(request.url.path.rpartition("/")[2], limit)

    def check_body(answer: httpx2.Response) -> None:
        # A few compressed bytes may become terabytes; plain ones were asked.
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            message = f"{one_line(answer.url)} is sent compressed, though plain bytes were asked for"
            raise ModelError(message, "is a proxy in between?", kind="download")
        if isinstance(answer.stream, httpx2.SyncByteStream):
            answer.stream = _Bounded(answer.stream, limit)

    return httpx2.Client(
        event_hooks={"request": [check_address], "response": [check_body]},
        headers={"Accept-Encoding": "identity"},
        follow_redirects=True,
        timeout=TIMEOUT_S,
    )


def list_files(model: Model, *, url: str | None) -> list[RemoteFile]:
    """Complete the files of the catalog with what their server tells; `url` is another place that has them all.

    Raises:
        ModelError: the server refuses, cannot be reached, or tells no size.
    """
    from huggingface_hub.constants import ENDPOINT

    places = [f"{url}/{file.name}" if url else file.url.replace(HUB, ENDPOINT) for file in model.files]
    files = [replace(file, url=place) for file, place in zip(model.files, places, strict=True)]
    with open_client(files[0].url, {}) as client:
        return [file if file.hashes else _probe(client, file) for file in files]


def fetch(file: RemoteFile, part: Path) -> None:
    """Bring `part` to the size of the file, going on from the bytes that it holds.

    Raises:
        ModelError: the server refuses or sends too much, or several tries failed; then the part stays for the next run.
    """
    best, waits = 0, iter(WAITS_S)
    while True:
        try:
            with open_client(file.url, {file.name: file.size}) as client:
                return _fetch_rest(client, file, part)
        except httpx2.TransportError as error:
            if (now := held(part)[0]) >= best + PROGRESS_BYTES:
                best, waits = now, iter(WAITS_S)
            if (wait := next(waits, None)) is None:
                raise _failure(file, error) from error
            time.sleep(wait)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise _failure(file, error) from error


def held(part: Path) -> tuple[int, str]:
    """Return how many bytes are here and the ETag that they came with; without one they are worth nothing."""
    note = _note(part)
    etag = regular(note).read_bytes()[:200].decode("latin-1") if note.exists() else ""
    is_strong = re.fullmatch(r'"[!#-~]{1,150}"', etag)
    is_ours = part.exists() and not part.is_symlink()
    return (regular(part).stat().st_size, etag) if is_strong and is_ours else (0, "")


def discard(part: Path) -> None:
    """Delete a part file and the note of where it came from."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def one_line(text: object) -> str:
    """Return what a server said as one line that is safe to print."""
    return printable(" ".join(str(text).split()))[:400]


def _probe(client: httpx2.Client, file: RemoteFile) -> RemoteFile:
    try:
        headers = _accepted(client.head(file.url)).headers
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise _failure(file, error) from error
    if not re.fullmatch(r"[0-9]{1,15}", headers.get("Content-Length", "")):
        raise ModelError(f"{file.url}: the server does not say how long the file is", kind="download")
    md5 = re.search(r"md5=([A-Za-z0-9+/]{22}==)", headers.get("x-goog-hash", ""))  # Google's servers publish it
    hashes = {"md5": base64.b64decode(md5[1]).hex()} if md5 else {}
    return replace(file, size=int(headers["Content-Length"]), hashes=hashes)


def _fetch_rest(client: httpx2.Client, file: RemoteFile, part: Path) -> None:
    start, etag = held(part)
    if start > file.size:
        discard(part)
        start, etag = 0, ""
    if etag and start == file.size:
        return
    # If-Range makes the server send the whole file if it is not the same as before.
    headers = {"Range": f"bytes={start}-", "If-Range": etag} if start else {}
    with client.stream("GET", file.url, headers=headers) as answer:
        if _accepted(answer).status_code == 200:
            _begin(answer, part, file)
            start = 0
        elif (
            answer.headers.get("Content-Range") != f"bytes {start}-{file.size - 1}/{file.size}"
            or answer.headers.get("ETag") != etag
        ):
            discard(part)
            raise httpx2.ReadError("the file changed on the server")
        _write(answer, part, file, start=start)
    if (size := part.stat().st_size) != file.size:
        raise httpx2.ReadError(f"the body ended at {size} of {file.size} bytes")


def _begin(answer: httpx2.Response, part: Path, file: RemoteFile) -> None:
    length = answer.headers.get("Content-Length", str(file.size))
    if length != str(file.size):
        message = f"{file.url}: {one_line(length)} bytes are served, not {file.size}"
        raise ModelError(message, "is it the right file?", kind="download")
    discard(part)
    _note(part).write_bytes(answer.headers.get("ETag", "").encode("latin-1", "replace"))


def _write(answer: httpx2.Response, part: Path, file: RemoteFile, *, start: int) -> None:
    from tqdm import tqdm  # type: ignore[import-untyped]

    bar = tqdm(desc=file.name, total=file.size, initial=start, unit="B", unit_scale=True, disable=None)
    try:
        with bar, part.open("ab" if start else "wb") as out:
            for chunk in answer.iter_raw():
                bar.update(out.write(chunk))
    except ModelError:  # more was sent than was listed: this is not the file
        discard(part)
        raise


def _accepted(answer: httpx2.Response) -> httpx2.Response:
    if answer.status_code == 429 or answer.status_code >= 500:
        raise httpx2.ReadError(f"the server answers {answer.status_code}")
    if answer.status_code not in (200, 206):
        message = f"{one_line(answer.url)}: the server refuses with {answer.status_code}"
        raise ModelError(message, kind="download")
    return answer


def _failure(file: RemoteFile, error: Exception) -> ModelError:
    message = f"{file.url}: {one_line(error) or type(error).__name__}"
    return ModelError(message, "run the same command again to continue", kind="download")


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.etag")
