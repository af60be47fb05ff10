"""Fetch one file over HTTP(S) so that an interruption costs nothing.

In: a URL and the path of a part file. Out: the part file, as long as the server says it is. Bytes already there are
kept and asked for no more, if the server's validator (ETag or Last-Modified) is still the one they came with. Knows
nothing of models, of hashes or of final names: `models.download` decides what the bytes must be.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import requests

TRIES = 4
BACKOFF_S = 0.5  # doubled at each try
TIMEOUT_S = (10.0, 60.0)  # to connect, between two reads
CHUNK_BYTES = 1 << 16  # what a lost connection may cost of what had already arrived
# Tries are counted from zero again after this much news: a long download may lose its line many times.
PROGRESS_BYTES = 8 << 20

Result = TypeVar("Result")


class TransientError(Exception):
    """This try failed, another may not."""


@dataclass(frozen=True)
class Probe:
    """What a server says of a file before it is fetched."""

    size: int | None
    etag: str
    md5: str  # hex, empty when unpublished
    crc32c: str  # base64 as published: recorded, never verified


@dataclass(frozen=True)
class Source:
    """Where a file comes from."""

    url: str
    size: int | None  # None when the source does not say
    hashed: bool  # the caller checks the content: then bytes without a validator may be kept as well
    headers: Mapping[str, str]


def probe(url: str) -> Probe:
    """Ask for a file's size and checksums without its body.

    Raises:
        ModelError: the server refuses, or cannot be reached.
    """

    def attempt() -> Probe:
        with send("HEAD", url, accepted=(405, 501)) as response:
            if response.status_code != 200 or _is_encoded(response):
                return Probe(size=None, etag="", md5="", crc32c="")  # nothing known before the first GET
            published = _google_hashes(response.headers.get("x-goog-hash", ""))
            return Probe(
                size=_number(response.headers.get("Content-Length", "")),
                etag=response.headers.get("ETag", ""),
                md5=published.get("md5", ""),
                crc32c=published.get("crc32c", ""),
            )

    return retry(url, attempt)


def read_json(url: str, *, headers: Mapping[str, str]) -> Any:
    """Read a small JSON document.

    Raises:
        ModelError: the server refuses, cannot be reached, or sends something else than JSON.
    """

    def attempt() -> Any:
        with send("GET", url, headers=headers) as response:
            try:
                return response.json()
            except ValueError as error:
                raise ModelError(f"{url} does not answer with JSON: is it the right server?") from error
            except _dropped() as error:
                raise TransientError(_why(error)) from error

    return retry(url, attempt)


def fetch(source: Source, part: Path, *, report: Callable[[int, int | None], None]) -> None:
    """Bring `part` to the full length of what the source serves, going on from the bytes that it holds.

    `report` is called with the bytes held and, when known, the bytes in all.

    Raises:
        ModelError: the server refuses, or several tries in a row brought nothing; the part is kept.
    """
    best = length(part)
    tries = 0
    while True:
        try:
            _fetch_once(source, part, report=report)
        except TransientError as error:
            tries = 0 if length(part) - best >= PROGRESS_BYTES else tries + 1
            best = max(best, length(part))
            if tries >= TRIES:
                raise ModelError(
                    f"{source.url}: {error} ({TRIES} tries)", fix="run the same command again to resume"
                ) from error
            time.sleep(BACKOFF_S * 2 ** max(tries - 1, 0))
        else:
            return


def discard(part: Path) -> None:
    """Delete a part file and the note of where it came from."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def length(part: Path) -> int:
    """Bytes that a part file holds, 0 without one."""
    return part.stat().st_size if part.exists() else 0


def retry(what: str, attempt: Callable[[], Result]) -> Result:
    """Call `attempt` until it does not raise TransientError.

    Raises:
        ModelError: it did at every try.
    """
    for tried in range(TRIES):
        try:
            return attempt()
        except TransientError as error:
            last = error
            if tried + 1 < TRIES:
                time.sleep(BACKOFF_S * 2**tried)
    raise ModelError(f"{what}: {last} ({TRIES} tries)", fix="check the connection and run the same command again")


def send(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, accepted: tuple[int, ...] = ()
) -> requests.Response:
    """Send one request, follow redirects, and sort what comes back.

    Raises:
        ModelError: refused, a bad certificate, or a redirect from https to http.
        TransientError: no connection, 408, 429 or 5xx.
    """
    import requests

    # Compressed bodies have other lengths and offsets than the file: ask for the bytes as they are.
    asked = {"Accept-Encoding": "identity", "User-Agent": "qwen-audio-download", **(headers or {})}
    try:
        response = requests.request(
            method, url, headers=asked, stream=True, timeout=TIMEOUT_S, hooks={"response": _refuse_downgrade}
        )
    except _dropped() as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):  # will not heal by itself
            raise ModelError(f"{url}: the server's certificate is not trusted: {_why(error)}") from error
        raise TransientError(_why(error)) from error
    except requests.exceptions.RequestException as error:
        raise ModelError(f"{url}: {_why(error)}") from error
    status = response.status_code
    if status in (200, 206) or status in accepted:
        return response
    response.close()
    if status in (408, 429) or status >= 500:
        raise TransientError(f"the server answers {status} {response.reason}")
    raise ModelError(f"{url}: the server refuses with {status} {response.reason}", fix="check the name and --url")


def _fetch_once(source: Source, part: Path, *, report: Callable[[int, int | None], None]) -> None:
    held = length(part)
    if part.exists() and held == source.size:
        return
    validator = _note(part).read_text(encoding="utf-8") if _note(part).exists() else ""
    if (source.size is not None and held > source.size) or (held and not validator and not source.hashed):
        discard(part)  # too long, or nothing would tell that the rest belongs to it
        held, validator = 0, ""
    asked = {**source.headers, **_resume_headers(held, validator)}
    with send("GET", source.url, headers=asked, accepted=(416,)) as response:
        total = _total(response)
        if response.status_code == 416 and total == held and _validator(response) in ("", validator):
            return  # it was whole, only nobody had said so
        start = _start(response, part, held=held, validator=validator)
        if source.size is not None and total is not None and total != source.size:
            discard(part)
            raise TransientError(f"{total} bytes are served where {source.size} were announced")
        _write(response, part, start=start, total=source.size if total is None else total, report=report)


def _write(
    response: requests.Response,
    part: Path,
    *,
    start: int,
    total: int | None,
    report: Callable[[int, int | None], None],
) -> None:
    if start == 0:
        discard(part)
        _note(part).write_text(_validator(response), encoding="utf-8")
    done = start
    with part.open("ab" if start else "wb") as file:
        report(done, total)
        try:
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                done += len(chunk)
                report(done, total)
        except _dropped() as error:
            raise TransientError(f"the connection was lost at {done} of {total or 'unknown'} bytes") from error
    if total is not None and done != total:
        if done > total:
            discard(part)
        raise TransientError(f"the body ended at {done} of {total} bytes")


def _start(response: requests.Response, part: Path, *, held: int, validator: str) -> int:
    """Say at which byte the body begins, 0 or `held`; anything else cannot be used."""
    if _is_encoded(response):
        raise ModelError(f"{response.url} is sent compressed though plain bytes were asked: a proxy in between?")
    if response.status_code == 200:
        return 0  # Range ignored, or another file than the one we hold a part of
    begins = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    changed = bool(validator and _validator(response) and validator != _validator(response))
    if response.status_code == 206 and begins and int(begins[1]) == held and not changed:
        return held
    discard(part)  # 416, or an answer that does not go on from what we hold
    raise TransientError("the file changed on the server")


def _resume_headers(held: int, validator: str) -> dict[str, str]:
    if not held:
        return {}
    # If-Range makes the server send the whole file when it is no longer the one that the part came from.
    return {"Range": f"bytes={held}-", **({"If-Range": validator} if validator else {})}


def _validator(response: requests.Response) -> str:
    etag = response.headers.get("ETag", "")
    return response.headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _total(response: requests.Response) -> int | None:
    if response.status_code == 200:
        return _number(response.headers.get("Content-Length", ""))
    return _number(response.headers.get("Content-Range", "").rpartition("/")[2])


def _refuse_downgrade(response: requests.Response, **_: object) -> None:
    target = urljoin(response.url, response.headers.get("Location", ""))
    if response.is_redirect and urlsplit(response.url).scheme == "https" and urlsplit(target).scheme != "https":
        raise ModelError(f"{response.url} redirects to {target}: refused, https was asked")


def _google_hashes(header: str) -> dict[str, str]:
    """Read `crc32c=BASE64,md5=BASE64`; requests joins repeated headers with `, `."""
    published = dict(item.strip().split("=", 1) for item in header.split(",") if "=" in item)
    try:
        published["md5"] = base64.b64decode(published.get("md5", ""), validate=True).hex()
    except binascii.Error:
        published["md5"] = ""
    return published


def _is_encoded(response: requests.Response) -> bool:
    return response.headers.get("Content-Encoding", "identity").lower() not in ("identity", "")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _dropped() -> tuple[type[Exception], ...]:
    from requests import exceptions

    return (exceptions.ConnectionError, exceptions.Timeout, exceptions.ChunkedEncodingError)


def _why(error: BaseException) -> str:
    """Return the innermost reason in one line: requests wraps urllib3 wraps the socket's own words."""
    while True:
        inner = getattr(error, "reason", None) or next((a for a in error.args if isinstance(a, BaseException)), None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    return " ".join(str(error).split()) or type(error).__name__
