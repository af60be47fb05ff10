"""Downloads against a local server that can misbehave in every way that we promise to survive."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from errors import ModelError
from models.download import __main__ as download
from models.download import catalog as sources
from models.download import https
from models.download.__main__ import main
from models.download.lockfile import PINS_NAME, only_writer

ROOT = Path(__file__).resolve().parent.parent
AILIA = "ailia-Qwen-Audio-Chat"
COMMIT = "c0ffee" + "0" * 34
HUB_INFO = "/api/models/Qwen/Qwen-Audio"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def noise(name: str, size: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass
class Server:
    """Files by path, a queue of faults by `METHOD path`, and a log of what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    log: list[SimpleNamespace] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def asked(self, path: str, method: str = "GET") -> list[SimpleNamespace]:
        return [seen for seen in self.log if seen.path == path and seen.method == method]


class Handler(BaseHTTPRequestHandler):
    """One request; the fault at the head of the queue, if any, is used up."""

    world: Server

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        world, path = self.world, self.path.partition("?")[0]
        world.log.append(SimpleNamespace(method=self.command, path=path, headers=dict(self.headers)))
        queue = world.faults.get(f"{self.command} {path}", [])
        fault, _, number = (queue.pop(0) if queue else "").partition(":")
        if fault == "status":
            return self.reply(int(number), {}, b"")
        if path in world.redirects:
            head = {"Location": world.redirects[path], **world.headers.get(path, {})}
            return self.reply(302, head, b"")
        if path not in world.files:
            return self.reply(404, {}, b"no such file")
        body = world.files[path]
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        head = {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        head |= world.headers.get(path, {})
        status, start = self.range(body, head, ignored=fault == "norange")
        if status == 206:
            head["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if status == 416:
            head["Content-Range"] = f"bytes */{len(body)}"
            return self.reply(416, head, b"")
        return self.reply(status, head, body[start:], fault=fault, number=int(number or 0))

    def range(self, body, head, *, ignored):
        begins = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if not begins or ignored or self.headers.get("If-Range", head.get("ETag")) != head.get("ETag"):
            return 200, 0
        start = int(begins[1])
        return (206, start) if start < len(body) else (416, 0)

    def reply(self, status, head, body, *, fault="", number=0):
        self.send_response(status)
        for key, value in head.items():
            self.send_header(key, value)
        if fault != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault in ("drop", "hang"):  # less than was announced
            self.wfile.write(body[:number])
            self.wfile.flush()
            if fault == "hang":
                self.world.released.wait(20)
            return
        self.wfile.write(body[:number] if number else body)


def start(world: Server, context: ssl.SSLContext | None = None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"world": world}))
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    world.url = f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
    return server


@pytest.fixture
def world():
    world = Server()
    server = start(world)
    yield world
    world.released.set()
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def hermetic(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("HF_", "REQUESTS_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(https, "BACKOFF_S", 0.01)


# --- the three sources, made small -----------------------------------------------------------------------------------

AILIA_FILES = {
    "qwen.tiktoken": noise("tiktoken", 5_000),
    "bos.npy": noise("bos", 100),
    "eos.npy": noise("eos", 100),
    "Qwen-Audio-Chat.onnx": noise("onnx", 300_000),
    "Qwen-Audio-Chat_encode.onnx": noise("encode", 50_000),
    "Qwen-Audio-Chat_weights.pb": noise("weights", 700_000),
}
WEIGHTS = "Qwen-Audio-Chat_weights.pb"


@pytest.fixture
def bucket(world, monkeypatch):
    """The published files under /b, with a vocabulary of our own in the table."""
    world.files |= {f"/b/{name}": data for name, data in AILIA_FILES.items()}
    small = replace(sources.VOCABULARY, size=5_000, hashes={"sha256": sha256(AILIA_FILES["qwen.tiktoken"])})
    model = download.MODELS[AILIA]
    files = tuple(small if file.name == small.name else file for file in model.files)
    monkeypatch.setitem(download.MODELS, AILIA, replace(model, files=files))
    return world


def fetch_ailia(world: Server, directory: Path, *more: str) -> int:
    return main([AILIA, "--to", str(directory), "--url", f"{world.url}/b", *more])


HUB_SMALL = {
    "config.json": b'{"n_layer": 1}',
    "LICENSE": b"Tongyi Qianwen\n",
    "qwen.tiktoken": noise("vocabulary", 9_000),
    "model.safetensors.index.json": json.dumps({"weight_map": {"w": "model-00001-of-00002.safetensors"}}).encode(),
    "modeling_qwen.py": b"raise SystemExit('never fetched')\n",
    "LICENSE.py": b"raise SystemExit('never fetched')\n",
    "README.md": b"not wanted\n",
}
SHARDS = {f"model-0000{n}-of-00002.safetensors": noise(f"shard {n}", 400_000 + n) for n in (1, 2)}
SHARD = "model-00002-of-00002.safetensors"
WANTED = {n: d for n, d in {**HUB_SMALL, **SHARDS}.items() if not n.endswith((".py", ".md"))}


@pytest.fixture
def hub(world):
    """A Hugging Face hub with Qwen/Qwen-Audio: small files answered at once, large ones by redirect to a CDN."""
    rows = [{"rfilename": n, "size": len(d), "blobId": git_sha1(d)} for n, d in HUB_SMALL.items()]
    for name, data in HUB_SMALL.items():
        path = f"/Qwen/Qwen-Audio/resolve/{COMMIT}/{name}"
        world.files[path] = data
        world.headers[path] = {"ETag": f'"{git_sha1(data)}"', "X-Repo-Commit": COMMIT}
    for name, data in SHARDS.items():
        lfs = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
        rows.append({"rfilename": name, "size": len(data), "blobId": git_sha1(b"pointer"), "lfs": lfs})
        path = f"/Qwen/Qwen-Audio/resolve/{COMMIT}/{name}"
        world.redirects[path] = f"{world.url.replace('127.0.0.1', 'localhost')}/cdn/{name}"
        world.headers[path] = {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(data)),
            "X-Linked-Etag": f'"{sha256(data)}"',
        }
        world.files[f"/cdn/{name}"] = data
    rows.append({"rfilename": "../escape.safetensors", "size": 1, "blobId": "0"})
    info = {"id": "Qwen/Qwen-Audio", "sha": COMMIT, "siblings": rows}
    for path in (HUB_INFO, f"{HUB_INFO}/revision/{COMMIT}", f"{HUB_INFO}/revision/main"):
        world.files[path] = json.dumps(info).encode()
    return world


def fetch_hub(world: Server, directory: Path, *more: str) -> int:
    return main(["Qwen-Audio", "--to", str(directory), "--url", world.url, *more])


def held(directory: Path) -> dict[str, bytes]:
    """Every file but the pins."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != PINS_NAME}


def pins(directory: Path) -> dict:
    return json.loads((directory / PINS_NAME).read_text())


def command(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "models.download", *argv],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


# --- one file over HTTP ----------------------------------------------------------------------------------------------

DATA = noise("one file", 500_000)


def fetch_one(world: Server, part: Path, *, size: int | None = len(DATA), hashed: bool = True) -> list[int]:
    seen: list[int] = []
    source = https.Source(url=f"{world.url}/f", size=size, hashed=hashed, headers={})
    https.fetch(source, part, report=lambda done, _total: seen.append(done))
    return seen


@pytest.fixture
def part(tmp_path, world):
    world.files["/f"] = DATA
    return tmp_path / "f.part"


def test_a_dropped_connection_goes_on_where_it_stopped(world, part):
    world.faults["GET /f"] = ["drop:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    first, second = world.asked("/f")
    assert "Range" not in first.headers
    assert 0 < int(re.match(r"bytes=(\d+)-", second.headers["Range"])[1]) <= 200_000
    assert second.headers["If-Range"] == f'"{hashlib.md5(DATA).hexdigest()}"'


def test_a_part_of_an_earlier_run_is_continued(world, part):
    world.faults["GET /f"] = ["drop:200000"] + ["drop:0"] * 9
    with pytest.raises(ModelError, match="run the same command again to resume"):
        fetch_one(world, part)
    kept = part.read_bytes()
    assert kept
    assert DATA.startswith(kept)
    world.faults.clear()
    assert fetch_one(world, part)[0] == len(kept)
    assert part.read_bytes() == DATA
    assert world.asked("/f")[-1].headers["Range"] == f"bytes={len(kept)}-"


def test_a_file_that_changed_between_two_tries_starts_from_zero(world, part):
    world.faults["GET /f"] = ["drop:200000"] + ["status:503"] * 9
    with pytest.raises(ModelError, match="503"):
        fetch_one(world, part, size=None)
    world.faults.clear()
    world.files["/f"] = changed = noise("changed", 600_000)
    fetch_one(world, part, size=None)
    assert part.read_bytes() == changed


def test_a_server_that_ignores_if_range_is_found_out_by_its_etag(world, part, monkeypatch):
    part.write_bytes(b"x" * 1000)
    part.with_name("f.part.etag").write_text('"older"')
    careless = Handler.range
    monkeypatch.setattr(
        Handler,
        "range",
        lambda self, body, _head, *, ignored: careless(
            self, body, {"ETag": self.headers.get("If-Range")}, ignored=ignored
        ),
    )
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert [seen.headers.get("Range") for seen in world.asked("/f")] == ["bytes=1000-", None]


def test_a_server_that_ignores_range_restarts_the_file(world, part):
    world.faults["GET /f"] = ["drop:200000", "norange"]
    fetch_one(world, part)
    assert "Range" in world.asked("/f")[-1].headers
    assert part.read_bytes() == DATA


def test_416_for_a_whole_part_is_the_end(world, part):
    part.write_bytes(DATA)
    part.with_name("f.part.etag").write_text(f'"{hashlib.md5(DATA).hexdigest()}"')
    fetch_one(world, part, size=None)
    assert len(world.asked("/f")) == 1
    assert part.read_bytes() == DATA


def test_416_for_a_part_that_is_too_long_restarts(world, part):
    part.write_bytes(DATA + b"too long")
    part.with_name("f.part.etag").write_text(f'"{hashlib.md5(DATA).hexdigest()}"')
    fetch_one(world, part, size=None)
    assert part.read_bytes() == DATA


def test_a_part_of_unknown_origin_is_not_continued_when_nothing_checks_it(world, part):
    part.write_bytes(b"x" * 1000)
    fetch_one(world, part, hashed=False)
    assert "Range" not in world.asked("/f")[0].headers
    assert part.read_bytes() == DATA


def test_a_whole_part_asks_nothing(world, part):
    part.write_bytes(DATA)
    fetch_one(world, part)
    assert world.log == []


def test_an_empty_file_arrives(world, part):
    world.files["/f"] = b""
    fetch_one(world, part, size=0)
    assert part.read_bytes() == b""


def test_a_body_without_length_arrives(world, part):
    world.faults["GET /f"] = ["unsized"]
    fetch_one(world, part, size=None)
    assert part.read_bytes() == DATA


def test_a_body_without_length_that_ends_early_is_noticed(world, part):
    world.faults["GET /f"] = ["unsized:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert world.asked("/f")[1].headers["Range"] == "bytes=200000-"


def test_a_body_of_another_length_than_announced_is_refused(world, part):
    world.files["/f"] = b"<html>please log in</html>"
    with pytest.raises(ModelError, match="26 bytes are served where 500000 were announced"):
        fetch_one(world, part)
    assert not part.exists()


@pytest.mark.parametrize("status", [500, 502, 429])
def test_a_server_in_trouble_is_asked_again(world, part, status):
    world.faults["GET /f"] = [f"status:{status}"] * 3
    fetch_one(world, part)
    assert len(world.asked("/f")) == 4
    assert part.read_bytes() == DATA


def test_a_server_in_lasting_trouble_is_one_error(world, part):
    world.faults["GET /f"] = ["status:500"] * 50
    with pytest.raises(ModelError, match=r"/f: the server answers 500 .*4 tries"):
        fetch_one(world, part)
    assert len(world.asked("/f")) == 4


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_not_asked_again(world, part, status):
    world.faults["GET /f"] = [f"status:{status}"]
    with pytest.raises(ModelError, match=f"/f: the server refuses with {status}"):
        fetch_one(world, part)
    assert len(world.log) == 1


def test_a_silent_server_is_given_up_and_resumed(world, part, monkeypatch):
    monkeypatch.setattr(https, "TIMEOUT_S", (1.0, 0.3))
    world.faults["GET /f"] = ["hang:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert "Range" in world.asked("/f")[1].headers


def test_no_server_is_one_line(part, tmp_path):
    source = https.Source(url="http://127.0.0.1:9/f", size=None, hashed=False, headers={})
    with pytest.raises(ModelError, match=r"^http://127\.0\.0\.1:9/f: .*refused.*4 tries"):
        https.fetch(source, part, report=lambda *_: None)


# --- https -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path, monkeypatch):
    """A second server, with TLS and a certificate of our own authority."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    world = Server()
    server = start(world, context)
    yield world
    server.shutdown()
    server.server_close()


def test_https_is_fetched(secure, tmp_path):
    secure.files["/f"] = DATA
    fetch_one(secure, tmp_path / "f.part")
    assert (tmp_path / "f.part").read_bytes() == DATA


def test_a_redirect_from_https_to_http_is_refused(world, secure, part):
    secure.redirects["/f"] = f"{world.url}/f"
    with pytest.raises(ModelError, match="refused, https was asked"):
        fetch_one(secure, part)
    assert world.log == []
    assert not part.exists()


def test_a_downgrade_is_refused_when_listing_too(world, secure, tmp_path, capsys):
    secure.redirects[HUB_INFO] = f"{world.url}{HUB_INFO}"
    assert fetch_hub(secure, tmp_path / "m") == 3
    assert "refused, https was asked" in capsys.readouterr().err
    assert world.log == []


def test_a_redirect_from_http_to_https_is_followed_but_not_back(world, secure, part):
    world.redirects["/f"] = f"{secure.url}/f"
    secure.redirects["/f"] = f"{world.url}/g"
    world.files["/g"] = DATA
    with pytest.raises(ModelError, match="refused, https was asked"):
        fetch_one(world, part)
    assert world.asked("/g") == []


def test_an_unknown_certificate_is_refused_at_once(secure, part, monkeypatch):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(ModelError, match="certificate is not trusted"):
        fetch_one(secure, part)


def test_the_endpoint_of_the_environment_is_taken(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert main(["Qwen-Audio", "--to", str(tmp_path / "m")]) == 0
    assert held(tmp_path / "m") == WANTED


def test_an_endpoint_that_is_no_address_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "ftp://hub")
    assert main(["Qwen-Audio", "--to", str(tmp_path / "m")]) == 3
    assert "HF_ENDPOINT is ftp://hub" in capsys.readouterr().err


def test_a_mirror_that_lists_names_only_is_enough(hub, tmp_path):
    listing = json.loads(hub.files[HUB_INFO])
    listing["siblings"] = [{"rfilename": row["rfilename"]} for row in listing["siblings"]]
    hub.files[HUB_INFO] = json.dumps(listing).encode()
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED


def test_the_token_goes_to_an_https_hub_and_nowhere_else(world, hub, secure, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch_hub(hub, tmp_path / "plain") == 0
    assert not any("Authorization" in seen.headers for seen in world.log)
    secure.files[HUB_INFO] = b"{}"
    assert fetch_hub(secure, tmp_path / "m") == 3
    assert secure.asked(HUB_INFO)[0].headers["Authorization"] == "Bearer hf_secret"


def test_the_token_does_not_go_to_ailia(bucket, secure, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    secure.files = bucket.files
    assert fetch_ailia(secure, tmp_path / "m") == 0
    assert not any("Authorization" in seen.headers for seen in secure.log)


# --- ailia's published files -----------------------------------------------------------------------------------------


def test_the_published_files_arrive_and_are_pinned(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert held(tmp_path / "m") == AILIA_FILES
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n"
    assert "Tongyi Qianwen" in err
    assert "https://ailia.ai/license/en/" in err
    assert f"python3 -m models.convert.published {tmp_path / 'm'}" in err
    assert len(re.findall(r"^\[\d/6\] ", err, re.MULTILINE)) == 6
    pin = pins(tmp_path / "m")["files"][WEIGHTS]
    assert pin["size"] == len(AILIA_FILES[WEIGHTS])
    assert pin["hashes"]["sha256"] == sha256(AILIA_FILES[WEIGHTS])
    assert pin["notes"]["etag"] == f'"{hashlib.md5(AILIA_FILES[WEIGHTS]).hexdigest()}"'


def test_a_second_run_makes_no_connection(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    bucket.log.clear()
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert fetch_ailia(bucket, tmp_path / "m", "--verify") == 0
    assert bucket.log == []
    assert "nothing to fetch" in capsys.readouterr().err


def test_a_file_cut_short_on_disk_is_reported_and_kept(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    cut = AILIA_FILES[WEIGHTS][:-1]
    (tmp_path / "m" / WEIGHTS).write_bytes(cut)
    capsys.readouterr()
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    err = capsys.readouterr().err
    assert WEIGHTS in err
    assert sha256(cut) in err
    assert sha256(AILIA_FILES[WEIGHTS]) in err
    assert "delete it and run again" in err
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == cut


def test_a_flipped_bit_is_found_by_verify_and_mended_by_deleting_the_file(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    good = AILIA_FILES[WEIGHTS]
    (tmp_path / "m" / WEIGHTS).write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert fetch_ailia(bucket, tmp_path / "m") == 0  # size alone is checked
    assert fetch_ailia(bucket, tmp_path / "m", "--verify") == 3
    assert fetch_ailia(bucket, tmp_path / "m", "--verify", "--offline") == 3
    assert WEIGHTS in capsys.readouterr().err
    (tmp_path / "m" / WEIGHTS).unlink()
    assert fetch_ailia(bucket, tmp_path / "m", "--verify") == 0
    assert held(tmp_path / "m") == AILIA_FILES


@pytest.mark.parametrize("length", [700_000, 710_000])
def test_another_file_at_the_source_than_pinned_is_refused_until_the_pin_is_deleted(bucket, tmp_path, capsys, length):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    (tmp_path / "m" / WEIGHTS).unlink()
    bucket.files[f"/b/{WEIGHTS}"] = other = noise("published anew", length)
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    err = capsys.readouterr().err
    assert sha256(AILIA_FILES[WEIGHTS]) in err
    assert (sha256(other) if length == 700_000 else "710000 bytes") in err
    assert f"Delete the entry '{WEIGHTS}' in download.json" in err
    assert not (tmp_path / "m" / WEIGHTS).exists()
    content = pins(tmp_path / "m")
    del content["files"][WEIGHTS]
    (tmp_path / "m" / PINS_NAME).write_text(json.dumps(content))
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == other


def google_hash(data: bytes) -> dict[str, str]:
    import base64

    return {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(hashlib.md5(data).digest()).decode()}"}


def test_a_published_md5_is_verified_and_recorded(bucket, tmp_path, capsys):
    bucket.headers[f"/b/{WEIGHTS}"] = google_hash(AILIA_FILES[WEIGHTS])
    bucket.faults[f"GET /b/{WEIGHTS}"] = ["corrupt"]
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert held(tmp_path / "m") == AILIA_FILES
    assert len(bucket.asked(f"/b/{WEIGHTS}")) == 2
    pin = pins(tmp_path / "m")["files"][WEIGHTS]
    assert pin["hashes"]["md5"] == hashlib.md5(AILIA_FILES[WEIGHTS]).hexdigest()
    assert pin["notes"]["crc32c"] == "AAAAAA=="


def test_another_md5_than_pinned_is_refused_before_the_long_wait(bucket, tmp_path, capsys):
    bucket.headers[f"/b/{WEIGHTS}"] = google_hash(AILIA_FILES[WEIGHTS])
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    (tmp_path / "m" / WEIGHTS).unlink()
    bucket.headers[f"/b/{WEIGHTS}"] = google_hash(b"other")
    bucket.log.clear()
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    err = capsys.readouterr().err
    assert hashlib.md5(AILIA_FILES[WEIGHTS]).hexdigest() in err
    assert hashlib.md5(b"other").hexdigest() in err
    assert bucket.asked(f"/b/{WEIGHTS}") == []


def test_a_file_damaged_twice_is_an_error_and_leaves_nothing(bucket, tmp_path, capsys):
    bucket.faults["GET /b/qwen.tiktoken"] = ["corrupt"] * 9
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    err = capsys.readouterr().err
    assert "qwen.tiktoken is damaged, twice" in err
    assert sha256(AILIA_FILES["qwen.tiktoken"]) in err
    assert len(bucket.asked("/b/qwen.tiktoken")) == 2
    assert held(tmp_path / "m") == {}


def test_a_missing_file_is_found_before_anything_is_fetched(bucket, tmp_path, capsys):
    del bucket.files[f"/b/{WEIGHTS}"]
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert f"{WEIGHTS}: the server refuses with 404" in capsys.readouterr().err
    assert all(seen.method == "HEAD" for seen in bucket.log)
    assert not (tmp_path / "m").exists()


def test_a_server_without_head_is_no_obstacle(bucket, tmp_path, capsys):
    for name in AILIA_FILES:
        bucket.faults[f"HEAD /b/{name}"] = ["status:405"]
    bucket.faults[f"GET /b/{WEIGHTS}"] = ["drop:300000"]
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert "5 of unknown size" in capsys.readouterr().err
    assert held(tmp_path / "m") == AILIA_FILES


def test_files_put_there_by_hand_are_taken_over_if_right(bucket, tmp_path, capsys):
    bucket.headers[f"/b/{WEIGHTS}"] = google_hash(AILIA_FILES[WEIGHTS])
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / WEIGHTS).write_bytes(AILIA_FILES[WEIGHTS])
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert bucket.asked(f"/b/{WEIGHTS}") == []
    assert pins(tmp_path / "m")["files"][WEIGHTS]["hashes"]["sha256"] == sha256(AILIA_FILES[WEIGHTS])


def test_files_put_there_by_hand_are_refused_if_wrong(bucket, tmp_path, capsys):
    bucket.headers[f"/b/{WEIGHTS}"] = google_hash(AILIA_FILES[WEIGHTS])
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / WEIGHTS).write_bytes(b"mine")
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "move it away" in capsys.readouterr().err
    assert held(tmp_path / "m") == {WEIGHTS: b"mine"}


def test_too_little_disk_is_said_before_the_start(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert "not enough disk space" in last
    assert "1,055,200 bytes needed, 1,000,000 bytes free" in last
    assert all(seen.method == "HEAD" for seen in bucket.log)
    assert not (tmp_path / "m").exists()


def test_what_is_already_here_needs_no_disk(bucket, tmp_path, monkeypatch, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / f"{WEIGHTS}.part").write_bytes(AILIA_FILES[WEIGHTS][:600_000])
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=460_000))
    assert fetch_ailia(bucket, tmp_path / "m") == 0


def test_a_second_download_into_the_same_directory_is_refused(bucket, tmp_path, capsys):
    with only_writer(tmp_path / "m"):
        assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "another download is writing" in capsys.readouterr().err


def test_unreadable_pins_are_one_line(bucket, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / PINS_NAME).write_text('{"files": [')
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_a_directory_that_cannot_be_made_is_one_line(bucket, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert fetch_ailia(bucket, tmp_path / "file" / "m") == 3
    assert capsys.readouterr().err.count("\n") == 1


# --- Hugging Face ----------------------------------------------------------------------------------------------------


def test_the_fake_hub_is_accepted_by_huggingface_hub(hub, tmp_path):
    """Proves the fake, not us: the real client lists and fetches from it what we list and fetch."""
    code = f"""
from huggingface_hub import HfApi, hf_hub_download
info = HfApi(endpoint={hub.url!r}).model_info("Qwen/Qwen-Audio", files_metadata=True)
print(info.sha, *sorted(f"{{s.rfilename}}={{s.size}}={{s.lfs.sha256 if s.lfs else s.blob_id}}" for s in info.siblings))
for name in ("config.json", {SHARD!r}):
    print(hf_hub_download("Qwen/Qwen-Audio", name, revision={COMMIT!r}, local_dir={str(tmp_path)!r}, endpoint={hub.url!r}))
"""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    listed = done.stdout.splitlines()[0]
    assert listed.startswith(COMMIT)
    assert f"{SHARD}={len(SHARDS[SHARD])}={sha256(SHARDS[SHARD])}" in listed
    assert (tmp_path / "config.json").read_bytes() == HUB_SMALL["config.json"]
    assert (tmp_path / SHARD).read_bytes() == SHARDS[SHARD]


def test_the_hub_files_arrive_without_code(hub, tmp_path, capsys):
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n"
    assert "100 million monthly users" in err
    assert f"python3 -m models.convert {tmp_path / 'm'} {tmp_path / 'm'}-int4 --precision int4" in err
    assert pins(tmp_path / "m")["revision"] == COMMIT
    assert not (tmp_path / "escape.safetensors").exists()


def test_the_hub_survives_a_drop_and_a_corruption(hub, tmp_path):
    hub.faults[f"GET /cdn/{SHARD}"] = ["drop:200000", "corrupt"]  # the resumed rest of a damaged body
    hub.faults[f"GET /Qwen/Qwen-Audio/resolve/{COMMIT}/config.json"] = ["corrupt"]
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    assert any("Range" in seen.headers for seen in hub.asked(f"/cdn/{SHARD}"))
    assert len(hub.asked(f"/Qwen/Qwen-Audio/resolve/{COMMIT}/config.json")) == 2


def test_a_hub_run_that_was_cut_goes_on_at_the_same_commit(hub, tmp_path, capsys):
    hub.faults[f"GET /cdn/{SHARD}"] = ["drop:300000"] + ["status:500"] * 9
    assert fetch_hub(hub, tmp_path / "m") == 3
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith("models.download: ")
    assert SHARD in err.splitlines()[-1]
    kept = (tmp_path / "m" / f"{SHARD}.part").stat().st_size
    assert kept
    assert not (tmp_path / "m" / SHARD).exists()
    assert (tmp_path / "m" / "config.json").exists()
    hub.faults.clear()
    hub.log.clear()
    hub.files[HUB_INFO] = b'{"sha": "a newer commit"}'
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    assert [seen.path for seen in hub.log] == [
        f"{HUB_INFO}/revision/{COMMIT}",
        f"/Qwen/Qwen-Audio/resolve/{COMMIT}/{SHARD}",
        f"/cdn/{SHARD}",
    ]
    assert hub.asked(f"/cdn/{SHARD}")[0].headers["Range"] == f"bytes={kept}-"


def test_a_hub_file_damaged_twice_names_both_hashes(hub, tmp_path, capsys):
    hub.faults[f"GET /cdn/{SHARD}"] = ["corrupt"] * 9
    assert fetch_hub(hub, tmp_path / "m") == 3
    err = capsys.readouterr().err
    damaged = bytes([SHARDS[SHARD][0] ^ 1]) + SHARDS[SHARD][1:]
    assert SHARD in err
    assert sha256(SHARDS[SHARD]) in err
    assert sha256(damaged) in err
    assert not list((tmp_path / "m").glob(f"{SHARD}*"))


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"[]",
        b'{"sha": "x"}',
        b'{"sha": "x", "siblings": []}',
        b'{"sha": "x", "siblings": [{"rfilename": [".safetensors"]}]}',
    ],
)
def test_something_that_is_no_hub_is_one_line(hub, tmp_path, capsys, answer):
    hub.files[HUB_INFO] = answer
    assert fetch_hub(hub, tmp_path / "m") == 3
    assert capsys.readouterr().err.count("\n") == 1


# --- the command line ------------------------------------------------------------------------------------------------


def test_the_command_fetches_and_prints_the_directory_alone(hub, tmp_path):
    done = command("Qwen-Audio", "--to", str(tmp_path / "m"), "--url", hub.url)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'm'}\n")
    assert held(tmp_path / "m") == WANTED
    assert "\r" not in done.stderr


def test_the_command_fails_in_one_line(world, tmp_path):
    done = command("Qwen-Audio", "--to", str(tmp_path / "m"), "--url", world.url)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "404" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("flags", "env"), [(["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"})])
def test_the_command_offline_says_what_is_missing(hub, tmp_path, flags, env):
    argv = ["Qwen-Audio", "--to", str(tmp_path / "m"), "--url", hub.url]
    empty = command(*argv, *flags, **env)
    assert (empty.returncode, empty.stdout) == (3, "")
    assert "missing  config.json" in empty.stderr
    assert "python3 -m models.download Qwen-Audio" in empty.stderr
    assert hub.log == []
    assert not (tmp_path / "m").exists()


def test_offline_is_content_when_all_is_here(hub, tmp_path, capsys):
    assert fetch_hub(hub, tmp_path / "m") == 0
    hub.log.clear()
    capsys.readouterr()
    assert fetch_hub(hub, tmp_path / "m", "--offline", "--verify") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n"
    assert err.count("present  ") == len(WANTED)
    (tmp_path / "m" / SHARD).unlink()
    assert fetch_hub(hub, tmp_path / "m", "--offline") == 3
    assert f"missing  {SHARD}" in capsys.readouterr().err
    assert hub.log == []


def test_offline_reads_the_index_of_a_directory_without_pins(tmp_path, capsys):
    for name in ("config.json", "qwen.tiktoken", "model.safetensors.index.json"):
        (tmp_path / name).write_bytes(HUB_SMALL[name])
    assert main(["Qwen-Audio", "--to", str(tmp_path), "--offline"]) == 3
    err = capsys.readouterr().err
    assert "missing  model-00001-of-00002.safetensors" in err
    assert "present  config.json  14 bytes  (not verified" in err


def test_an_interrupt_keeps_what_was_fetched(hub, tmp_path):
    hub.faults[f"GET /cdn/{SHARD}"] = ["hang:200000"]
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from models.download import main\nraise SystemExit(main())"
    )
    argv = [sys.executable, "-c", code, "Qwen-Audio", "--to", str(tmp_path / "m"), "--url", hub.url]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "m" / f"{SHARD}.part"
    deadline = time.monotonic() + 20
    while not hub.asked(f"/cdn/{SHARD}") or not part.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)  # let the first 200,000 bytes arrive
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert "run the same command again to resume" in err
    assert "Traceback" not in err
    assert 0 < part.stat().st_size < len(SHARDS[SHARD])
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED


def test_a_terminal_gets_a_progress_bar(hub, tmp_path):
    primary, secondary = pty.openpty()
    argv = [sys.executable, "-m", "models.download", "Qwen-Audio", "--to", str(tmp_path / "m"), "--url", hub.url]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=secondary)
    os.close(secondary)
    shown = b""
    try:
        while chunk := os.read(primary, 4096):
            shown += chunk
    except OSError:
        pass  # Linux says end of file so when the other side is closed
    os.close(primary)
    assert process.wait(20) == 0
    assert shown.count(b"100%") == len(WANTED), shown
    assert SHARD.encode() in shown


@pytest.mark.parametrize("argv", [[], ["Qwen-7B"], ["Qwen-Audio", "--url", "ftp://x"]])
def test_a_wrong_command_is_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


@pytest.mark.parametrize("name", download.MODELS)
def test_a_missing_model_is_described_in_one_line(name):
    line = download.describe_missing(name)
    assert f"python3 -m models.download {name}" in line
    assert " GB" in line
    assert "Tongyi Qianwen" in line
    assert "\n" not in line


def test_an_unknown_model_is_described_by_those_there_are():
    assert all(name in download.describe_missing("nano") for name in download.MODELS)


def test_the_table_asks_https_only():
    assert all(file.url.startswith("https://") for model in download.MODELS.values() for file in model.files)


def test_a_directory_keeps_to_its_model(tmp_path):
    (tmp_path / "download.json").write_text('{"model": "Qwen-Audio", "revision": "", "names": [], "files": {}}')
    with pytest.raises(ModelError, match="holds Qwen-Audio, not Qwen-Audio-Chat"):
        download.download("Qwen-Audio-Chat", directory=tmp_path)
