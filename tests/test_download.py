"""Downloads against local servers that misbehave in every way that we promise to survive."""

from __future__ import annotations

import base64
import hashlib
import json
import os
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
from filelock import FileLock

from errors import ModelError
from models.download import catalog, fetch
from models.download.__main__ import main
from models.download.lockfile import PINS_NAME

ROOT = Path(__file__).resolve().parent.parent
AILIA = "ailia-Qwen-Audio-Chat"
COMMIT = "c0ffee" + "0" * 34
HUB_INFO = "/api/models/Qwen/Qwen-Audio"
RESOLVE = f"/Qwen/Qwen-Audio/resolve/{COMMIT}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def noise(name: str, size: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


@dataclass
class Server:
    """Files by path, a queue of faults by `METHOD path`, and a log of what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    log: list[SimpleNamespace] = field(default_factory=list)
    sent: int = 0
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
            return self.reply(302, {"Location": world.redirects[path], **world.headers.get(path, {})}, b"")
        if path not in world.files:
            return self.reply(404, {}, b"no such file")
        body = world.files[path]
        if fault == "corrupt":
            body = bytes([body[0] ^ 1]) + body[1:]
        head = {"ETag": etag(body), **world.headers.get(path, {})}
        status, start = self.range(body, head, fault)
        if status == 206:
            head["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return self.reply(status, head, body[start:], fault=fault, number=int(number or 0))

    def range(self, body, head, fault):
        begins = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        is_same = fault == "careless" or self.headers.get("If-Range", head["ETag"]) == head["ETag"]
        if not begins or not is_same or fault == "norange":
            return 200, 0
        return (206, int(begins[1])) if int(begins[1]) < len(body) else (416, 0)

    def reply(self, status, head, body, *, fault="", number=0):
        self.send_response(status)
        for key, value in head.items():
            self.send_header(key, value)
        if fault not in ("endless", "unsized"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body[:number] if number else body)
        self.wfile.flush()
        if fault == "hang":
            time.sleep(20)
        while fault == "endless":
            self.world.sent += self.wfile.write(body)


def start(world: Server, context: ssl.SSLContext | None = None):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"world": world}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None
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
    server.shutdown()
    server.socket.close()


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """The only authority that is trusted here: to read those of the system takes 20 ms for each client."""
    made = trustme.CA()
    made.path = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(made.path)
    return made


@pytest.fixture
def secure(authority):
    """A second server, with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    world = Server()
    server = start(world, context)
    yield world
    server.shutdown()
    server.socket.close()


@pytest.fixture(autouse=True)
def hermetic(monkeypatch, authority):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("HF_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    monkeypatch.setattr(fetch, "WAITS_S", (0.01,) * 3)


# --- one file --------------------------------------------------------------------------------------------------------

DATA = noise("one file", 500_000)


def fetch_one(world: Server, part: Path, size: int = len(DATA)) -> None:
    fetch.fetch(catalog.RemoteFile("f", f"{world.url}/f", size), part)


@pytest.fixture
def part(tmp_path, world):
    world.files["/f"] = DATA
    return tmp_path / "f.part"


def held_before(part: Path, data: bytes = DATA[:1000], validator: str = etag(DATA)) -> None:
    part.write_bytes(data)
    part.with_name("f.part.etag").write_text(validator)


def test_a_dropped_connection_goes_on_where_it_stopped(world, part):
    world.faults["GET /f"] = ["drop:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    first, second = world.asked("/f")
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=200000-"
    assert second.headers["If-Range"] == etag(DATA)


def test_a_part_of_an_earlier_run_is_continued(world, part):
    world.faults["GET /f"] = ["drop:200000"] + ["status:503"] * 9
    with pytest.raises(ModelError, match=r"answers 503; run the same command again"):
        fetch_one(world, part)
    assert len(world.asked("/f")) == 4
    assert part.read_bytes() == DATA[:200_000]
    world.faults.clear()
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert world.asked("/f")[-1].headers["Range"] == "bytes=200000-"


def test_tries_are_counted_anew_after_progress(world, part, monkeypatch):
    monkeypatch.setattr(fetch, "PROGRESS_BYTES", 50_000)
    world.faults["GET /f"] = ["drop:60000"] * 7
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert len(world.asked("/f")) == 8


def test_a_link_in_the_place_of_a_part_is_not_written_through(world, part, tmp_path):
    held_before(part)
    part.rename(tmp_path / "mine")
    part.symlink_to(tmp_path / "mine")
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert (tmp_path / "mine").read_bytes() == DATA[:1000]


def test_a_whole_part_asks_nothing(world, part):
    held_before(part, DATA)
    fetch_one(world, part)
    assert world.log == []


@pytest.mark.parametrize("fault", ["", "careless", "norange"])
def test_changed_content_is_never_taken_for_a_resume(world, part, fault):
    held_before(part, b"x" * 1000, '"older"')
    world.faults["GET /f"] = [fault]
    fetch_one(world, part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("validator", ["", 'W/"weak"', '"a"\r\nX: y', '"\0"', '"' + "9" * 10_000 + '"', "\ud800\xff"])
def test_a_part_without_a_usable_etag_is_not_continued(world, part, validator):
    held_before(part, b"x" * 1000)
    part.with_name("f.part.etag").write_bytes(validator.encode("utf-8", "surrogatepass"))
    fetch_one(world, part)
    assert "Range" not in world.asked("/f")[0].headers
    assert part.read_bytes() == DATA


def test_a_part_that_is_too_long_starts_over(world, part):
    held_before(part, DATA + b"too long")
    fetch_one(world, part)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("name", ["f.part", "f.part.etag"])
def test_a_pipe_in_the_place_of_a_part_is_refused(world, part, name):
    held_before(part)
    part.with_name(name).unlink()
    os.mkfifo(part.with_name(name))
    with pytest.raises(ModelError, match="no regular file"):
        fetch_one(world, part)


@pytest.mark.parametrize("begun", [False, True])
def test_an_endless_body_is_cut_at_the_listed_size(world, part, begun):
    if begun:
        held_before(part)
    world.faults["GET /f"] = ["endless"]
    with pytest.raises(ModelError, match="more than 500000 bytes are sent"):
        fetch_one(world, part)
    assert world.sent < 20 * len(DATA)
    assert not part.exists()


def test_a_body_that_ends_early_without_a_length_is_noticed(world, part):
    world.faults["GET /f"] = ["unsized:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert world.asked("/f")[1].headers["Range"] == "bytes=200000-"


def test_a_compressed_body_is_refused(world, part):
    world.headers["/f"] = {"Content-Encoding": "gzip"}
    with pytest.raises(ModelError, match="compressed"):
        fetch_one(world, part)


@pytest.mark.parametrize(("status", "tries"), [(500, 2), (429, 2), (403, 1), (404, 1)])
def test_a_server_in_trouble_is_asked_again_and_one_that_refuses_is_not(world, part, status, tries):
    world.faults["GET /f"] = [f"status:{status}"]
    if tries == 1:
        with pytest.raises(ModelError, match=f"/f: the server refuses with {status}"):
            fetch_one(world, part)
    else:
        fetch_one(world, part)
        assert part.read_bytes() == DATA
    assert len(world.asked("/f")) == tries


def test_a_silent_server_is_given_up_and_resumed(world, part, monkeypatch):
    monkeypatch.setattr(fetch, "TIMEOUT_S", 0.3)
    world.faults["GET /f"] = ["hang:200000"]
    fetch_one(world, part)
    assert part.read_bytes() == DATA
    assert "Range" in world.asked("/f")[1].headers


def test_no_server_is_one_line(part):
    with pytest.raises(ModelError, match=r"^http://127\.0\.0\.1:9/f: .*refused.*; run") as caught:
        fetch.fetch(catalog.RemoteFile("f", "http://127.0.0.1:9/f", 1), part)
    assert "\n" not in str(caught.value)


def test_https_is_fetched(secure, part):
    secure.files["/f"] = DATA
    fetch_one(secure, part)
    assert part.read_bytes() == DATA


def test_a_redirect_to_http_is_refused(world, secure, part):
    secure.redirects["/f"] = f"{world.url}/f"
    with pytest.raises(ModelError, match="refused, https was asked"):
        fetch_one(secure, part)
    assert world.log == []


def test_an_unknown_certificate_is_refused(secure, part, tmp_path, monkeypatch):
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    with pytest.raises(ModelError, match="certificate verify failed"):
        fetch_one(secure, part)


# --- ailia's published files, made small -----------------------------------------------------------------------------

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
    """The published files under /b, with a vocabulary of our own in the table, and the md5 that Google tells."""
    world.files |= {f"/b/{name}": data for name, data in AILIA_FILES.items()}
    world.headers[f"/b/{WEIGHTS}"] = google_hash(AILIA_FILES[WEIGHTS])
    small = replace(catalog.VOCABULARY, size=5_000, hashes={"sha256": sha256(AILIA_FILES["qwen.tiktoken"])})
    model = catalog.MODELS[AILIA]
    files = tuple(small if file.name == small.name else file for file in model.files)
    monkeypatch.setitem(catalog.MODELS, AILIA, replace(model, files=files))
    return world


def google_hash(data: bytes) -> dict[str, str]:
    return {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(hashlib.md5(data).digest()).decode()}"}


def fetch_ailia(world: Server, directory: Path, *more: str) -> int:
    return main([AILIA, "--to", str(directory), "--url", f"{world.url}/b", *more])


def held(directory: Path) -> dict[str, bytes]:
    """Every file but the pins and the lock."""
    return {
        path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and "download" not in path.name
    }


def pins(directory: Path) -> dict:
    return json.loads((directory / PINS_NAME).read_text())


def test_the_published_files_arrive_and_are_pinned(bucket, tmp_path, capsys):
    bucket.faults[f"GET /b/{WEIGHTS}"] = ["drop:300000"]
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert held(tmp_path / "m") == AILIA_FILES
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n"
    assert "Tongyi Qianwen" in err
    assert "https://ailia.ai/license/en/" in err
    assert f"next: python3 -m models.convert.published {tmp_path / 'm'}" in err
    assert len(re.findall(r"^\[\d/6\] ", err, re.MULTILINE)) == 6
    pin = pins(tmp_path / "m")["files"][WEIGHTS]
    assert pin["size"] == len(AILIA_FILES[WEIGHTS])
    assert pin["hashes"]["sha256"] == sha256(AILIA_FILES[WEIGHTS])
    assert pin["hashes"]["md5"] == hashlib.md5(AILIA_FILES[WEIGHTS]).hexdigest()


def test_a_second_run_makes_no_connection(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    bucket.log.clear()
    for more in ([], ["--verify"], ["--offline"], ["--offline", "--verify"]):
        assert fetch_ailia(bucket, tmp_path / "m", *more) == 0
    assert bucket.log == []
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n" * 5
    assert err.count("nothing to fetch") == 4


def test_a_flipped_bit_is_found_by_verify_and_mended_by_deleting_the_file(bucket, tmp_path, capsys):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    good = AILIA_FILES[WEIGHTS]
    (tmp_path / "m" / WEIGHTS).write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert fetch_ailia(bucket, tmp_path / "m") == 0  # size alone is checked
    assert fetch_ailia(bucket, tmp_path / "m", "--verify") == 3
    assert f"{WEIGHTS}: 700000 bytes and {{'sha256': '{sha256(good)}'" in capsys.readouterr().err
    (tmp_path / "m" / WEIGHTS).write_bytes(b"short")
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "delete it and run again" in capsys.readouterr().err
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == b"short"
    (tmp_path / "m" / WEIGHTS).unlink()
    assert fetch_ailia(bucket, tmp_path / "m", "--verify", "--offline") == 3
    assert f"misses {WEIGHTS}, and this run is offline" in capsys.readouterr().err
    assert fetch_ailia(bucket, tmp_path / "m", "--verify") == 0
    assert held(tmp_path / "m") == AILIA_FILES


def test_another_file_than_pinned_is_refused_until_its_entry_is_deleted(bucket, tmp_path):
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    (tmp_path / "m" / WEIGHTS).unlink()
    bucket.files[f"/b/{WEIGHTS}"] = other = noise("published anew", 710_000)
    bucket.headers.clear()
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert not (tmp_path / "m" / WEIGHTS).exists()
    content = pins(tmp_path / "m")
    del content["files"][WEIGHTS]
    (tmp_path / "m" / PINS_NAME).write_text(json.dumps(content))
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert (tmp_path / "m" / WEIGHTS).read_bytes() == other


def test_a_damaged_file_is_an_error_and_leaves_nothing(bucket, tmp_path, capsys):
    bucket.faults[f"GET /b/{WEIGHTS}"] = ["corrupt"]
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert WEIGHTS in last
    assert hashlib.md5(AILIA_FILES[WEIGHTS]).hexdigest() in last
    assert held(tmp_path / "m").keys() == AILIA_FILES.keys() - {WEIGHTS}


@pytest.mark.parametrize("fault", ["status:404", "unsized"])
def test_a_file_that_is_missing_or_has_no_size_is_found_before_anything_is_fetched(bucket, tmp_path, capsys, fault):
    bucket.faults[f"HEAD /b/{WEIGHTS}"] = [fault]
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert capsys.readouterr().err.count("\n") == 1
    assert all(seen.method == "HEAD" for seen in bucket.log)


def test_files_put_there_by_hand_are_taken_over_if_right_and_refused_if_wrong(bucket, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / WEIGHTS).write_bytes(b"mine")
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "move it away" in capsys.readouterr().err
    assert held(tmp_path / "m") == {WEIGHTS: b"mine"}
    (tmp_path / "m" / WEIGHTS).write_bytes(AILIA_FILES[WEIGHTS])
    assert fetch_ailia(bucket, tmp_path / "m") == 0
    assert bucket.asked(f"/b/{WEIGHTS}") == []
    assert pins(tmp_path / "m")["files"][WEIGHTS]["hashes"]["sha256"] == sha256(AILIA_FILES[WEIGHTS])


def test_disk_space_is_checked_before_the_start_and_counts_what_is_here(bucket, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=460_000))
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "1,055,200 bytes needed, 460,000 bytes free" in capsys.readouterr().err.splitlines()[-1]
    assert all(seen.method == "HEAD" for seen in bucket.log)
    (tmp_path / "m" / f"{WEIGHTS}.part").write_bytes(AILIA_FILES[WEIGHTS][:600_000])
    (tmp_path / "m" / f"{WEIGHTS}.part.etag").write_text(etag(AILIA_FILES[WEIGHTS]))
    assert fetch_ailia(bucket, tmp_path / "m") == 0


def test_a_second_download_into_the_same_directory_is_refused(bucket, tmp_path, capsys):
    (tmp_path / "m").mkdir()
    with FileLock(tmp_path / "m" / ".download.lock"):
        assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert "another download is writing" in capsys.readouterr().err


def test_hostile_pins_are_one_line(bucket, tmp_path, capsys):
    pin = '{"model": "", "revision": "", "names": [], "files": {"a": {"url": "", "size": SIZE, "hashes": HASHES}}}'
    hostile = [
        '{"files": [', "[]", "\0", '"\ud800"', "[" * 100_000, "9" * 5000,
        '{"model": "\\u001b", "revision": "", "names": [], "files": {}}',
        '{"model": "", "revision": ["x"], "names": [], "files": {}}',
        '{"model": "", "revision": "", "names": ["../x"], "files": {}}',
        '{"model": "", "revision": "", "names": ["a\\u0000"], "files": {}}',
        '{"model": "", "revision": "", "names": ["\\ud800"], "files": {}}',
        '{"model": "", "revision": "", "names": 1, "files": {}}',
        *(pin.replace("SIZE", size).replace("HASHES", "{}") for size in ["9" * 400, "-1", "1.5", "true", '"1"', "NaN"]),
        *(pin.replace('"url": ""', f'"url": {url}').replace("SIZE", "1").replace("HASHES", "{}")
          for url in ["1", "[" * 900 + "]" * 900]),
        *(pin.replace("SIZE", "1").replace("HASHES", hashes) for hashes in ["[]", '{"sha256": 1}', '{"sha256": "x"}']),
    ]  # fmt: skip
    (tmp_path / "m").mkdir()
    wrong = []
    for text in hostile:
        (tmp_path / "m" / PINS_NAME).write_bytes(text.encode("utf-8", "surrogatepass"))
        code, err = fetch_ailia(bucket, tmp_path / "m"), capsys.readouterr().err
        if code != 3 or err.count("\n") != 1 or "download.json cannot be read" not in err:
            wrong.append((text[:80], code, err))
    (tmp_path / "m" / PINS_NAME).unlink()
    os.mkfifo(tmp_path / "m" / PINS_NAME)
    assert fetch_ailia(bucket, tmp_path / "m") == 3
    assert wrong == []


def test_a_directory_keeps_to_its_model(tmp_path, capsys):
    (tmp_path / PINS_NAME).write_text('{"model": "Qwen-Audio", "revision": "", "names": [], "files": {}}')
    assert main(["Qwen-Audio-Chat", "--to", str(tmp_path)]) == 3
    assert "holds Qwen-Audio, not Qwen-Audio-Chat" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([AILIA, "--to", str(tmp_path / "file" / "m")]) == 3
    assert capsys.readouterr().err.count("\n") == 1


# --- Hugging Face ----------------------------------------------------------------------------------------------------

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


def fill_hub(world: Server) -> Server:
    """A Hugging Face hub with Qwen/Qwen-Audio: small files answered at once, large ones by redirect to a CDN."""
    rows, tree = [], []
    for name, data in HUB_SMALL.items():
        rows.append({"rfilename": name, "size": len(data), "blobId": git_sha1(data)})
        tree.append({"type": "file", "path": name, "size": len(data), "oid": git_sha1(data)})
        world.files[f"{RESOLVE}/{name}"] = data
        world.headers[f"{RESOLVE}/{name}"] = {"ETag": f'"{git_sha1(data)}"', "X-Repo-Commit": COMMIT}
    for name, data in SHARDS.items():
        lfs = {"size": len(data), "pointerSize": 134}
        rows.append({"rfilename": name, "size": len(data), "blobId": "0" * 40, "lfs": {**lfs, "sha256": sha256(data)}})
        lfs["oid"] = sha256(data)
        tree.append({"type": "file", "path": name, "size": len(data), "oid": "0" * 40, "lfs": lfs})
        world.redirects[f"{RESOLVE}/{name}"] = f"{world.url.replace('127.0.0.1', 'localhost')}/cdn/{sha256(data)}"
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
        world.headers[f"{RESOLVE}/{name}"] = {"X-Repo-Commit": COMMIT, **linked}
        world.files[f"/cdn/{sha256(data)}"] = data
    for path in (HUB_INFO, f"{HUB_INFO}/revision/{COMMIT}"):
        world.files[path] = json.dumps({"id": "Qwen/Qwen-Audio", "sha": COMMIT, "siblings": rows}).encode()
    world.files[f"{HUB_INFO}/tree/{COMMIT}"] = json.dumps(tree).encode()
    return world


@pytest.fixture
def hub(world):
    return fill_hub(world)


CDN = f"/cdn/{sha256(SHARDS[SHARD])}"


def fetch_hub(world: Server, directory: Path, *more: str) -> int:
    return main(["Qwen-Audio", "--to", str(directory), "--url", world.url, *more])


def command(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "models.download", *argv],
        cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_the_hub_files_arrive_without_code(hub, tmp_path, capsys):
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'm'}\n"
    assert "\r" not in err
    assert "100 million monthly users" in err
    assert f"next: python3 -m models.convert {tmp_path / 'm'} {tmp_path / 'm'}-int4 --precision int4" in err
    assert pins(tmp_path / "m")["revision"] == COMMIT
    assert {name: pin["hashes"]["sha256"] for name, pin in pins(tmp_path / "m")["files"].items()} == {
        name: sha256(data) for name, data in WANTED.items()
    }


@pytest.mark.slow
def test_the_environment_of_the_hub_counts(hub, tmp_path):
    env = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_secret"}
    done = command("Qwen-Audio", "--to", str(tmp_path / "m"), **env)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'm'}\n"), done.stderr
    assert hub.asked(HUB_INFO)[0].headers["authorization"] == "Bearer hf_secret"
    assert "authorization" not in {name.lower() for name in hub.asked(CDN)[0].headers}
    hub.log.clear()
    done = command("Qwen-Audio", "--to", str(tmp_path / "n"), **env, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert "python3 -m models.download Qwen-Audio" in done.stderr
    assert not (tmp_path / "n").exists()
    assert hub.log == []


def test_a_hub_run_that_failed_goes_on_at_the_same_commit(hub, tmp_path, capsys):
    hub.faults[f"GET {CDN}"] = ["status:404"]
    assert fetch_hub(hub, tmp_path / "m") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("models.download: Qwen/Qwen-Audio at ")
    assert "404" in last
    assert held(tmp_path / "m").keys() == WANTED.keys() - {SHARD}
    hub.log.clear()
    hub.files[HUB_INFO] = b'{"sha": "a newer commit"}'
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    assert {seen.path for seen in hub.log if seen.method == "GET"} == {f"{HUB_INFO}/revision/{COMMIT}", CDN}


@pytest.mark.parametrize("path", [CDN, f"{RESOLVE}/config.json"])
def test_a_damaged_hub_file_is_deleted_and_fetched_by_the_next_run(hub, tmp_path, capsys, path):
    hub.faults[f"GET {path}"] = ["corrupt"]
    name, kind = (SHARD, "sha256") if path == CDN else ("config.json", "git_sha1")
    assert fetch_hub(hub, tmp_path / "m") == 3
    last = capsys.readouterr().err.splitlines()[-1]
    assert name in last
    assert f"'{kind}': '{(sha256 if path == CDN else git_sha1)(WANTED[name])}'" in last
    assert not (tmp_path / "m" / name).exists()
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED


@pytest.mark.parametrize("path", [CDN, f"{RESOLVE}/config.json"])
def test_an_endless_body_from_the_hub_is_cut_at_the_listed_size(hub, tmp_path, capsys, path):
    hub.faults[f"GET {path}"] = ["endless"]
    assert fetch_hub(hub, tmp_path / "m") == 3
    size = 400_002 if path == CDN else 14
    assert f"more than {size} bytes are sent" in capsys.readouterr().err.splitlines()[-1]
    assert not list((tmp_path / "m").rglob("*.incomplete"))


def test_an_endless_listing_is_cut(hub, tmp_path, capsys):
    hub.files[HUB_INFO] = b" " * 1_000_000
    hub.faults[f"GET {HUB_INFO}"] = ["endless"]
    assert fetch_hub(hub, tmp_path / "m") == 3
    assert "more than 10000000 bytes are sent" in capsys.readouterr().err


def test_a_hub_that_fails_in_the_middle_is_told(hub, tmp_path, capsys):
    del hub.files[f"{HUB_INFO}/tree/{COMMIT}"]
    assert fetch_hub(hub, tmp_path / "m") == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith("models.download: ")


def test_a_downgrade_is_refused_when_listing_too(world, secure, tmp_path, capsys):
    secure.redirects[HUB_INFO] = f"{world.url}{HUB_INFO}"
    assert fetch_hub(secure, tmp_path / "m") == 3
    assert "refused, https was asked" in capsys.readouterr().err
    assert world.log == []


def listing(**row: object) -> bytes:
    row = {"rfilename": "model.safetensors", "size": 1, "blobId": "0" * 40} | row
    return json.dumps({"id": "x", "sha": COMMIT, "siblings": [row]}).encode()


def test_something_that_is_no_hub_is_one_line(hub, tmp_path, capsys):
    answers = [
        b"<html>", b"[]", b"\0", b"[" * 100_000, b'{"sha": "x"}', b'{"sha": "x", "siblings": []}',
        b'{"sha": 1e999, "siblings": 3}', listing(rfilename=[".safetensors"]), listing(size="1"), listing(size=None),
        listing(size=-1), listing(blobId=None), listing(blobId="\x1b[2J"), listing(lfs={"sha256": 1}), listing(lfs=[1]),
        listing().replace(b'"size": 1', b'"size": ' + b"9" * 5000),
    ]  # fmt: skip
    wrong = []
    for answer in answers:
        hub.files[HUB_INFO] = answer
        code, err = fetch_hub(hub, tmp_path / "m"), capsys.readouterr().err
        if code != 3 or err.count("\n") != 1 or not err[:-1].isprintable():
            wrong.append((answer[:80], code, err))
    assert wrong == []


def test_names_that_lead_elsewhere_or_have_control_characters_are_refused_and_escaped(hub, tmp_path, capsys):
    wrong = []
    for name in [
        "../x.safetensors",
        "a/b.safetensors",
        "\x1b[2J.safetensors",
        "LICENSE\n",
        "LICENSE\0",
        ".safetensors",
    ]:
        hub.files[HUB_INFO] = listing(rfilename=name)
        code, err = fetch_hub(hub, tmp_path / "m"), capsys.readouterr().err
        if code != 3 or err.count("\n") != 1 or ascii(name) not in err:
            wrong.append((name, code, err))
    assert wrong == []


@pytest.mark.slow
def test_ctrl_c_ends_at_once_and_leaves_no_rubbish(hub, tmp_path):
    hub.faults[f"GET {CDN}"] = ["hang:200000"]
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from models.download.__main__ import main\nfrom models.interrupts import clean_up_first, leave\n"
        "clean_up_first()\nleave(main())"
    )
    argv = [sys.executable, "-c", code, "Qwen-Audio", "--to", str(tmp_path / "m"), "--url", hub.url]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not list((tmp_path / "m").rglob("*.incomplete")) or not hub.asked(CDN):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert not list((tmp_path / "m").rglob("*.incomplete"))
    hub.faults.clear()
    leftover = tmp_path / "m/.cache/huggingface/download/x.incomplete"  # of a run that was killed
    leftover.write_bytes(b"x")
    assert fetch_hub(hub, tmp_path / "m") == 0
    assert held(tmp_path / "m") == WANTED
    assert not leftover.exists()


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["Qwen-7B"], ["Qwen-Audio", "--url", "ftp://x"]])
def test_a_wrong_command_is_2(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2


def test_a_missing_model_is_described_in_one_line():
    for name in catalog.MODELS:
        line = catalog.describe_missing(name)
        assert all(words in line for words in (f"python3 -m models.download {name} ", " GB", "Tongyi Qianwen"))
        assert "\n" not in line
        assert name in catalog.describe_missing("nano")


def test_the_table_asks_https_only():
    assert all(file.url.startswith("https://") for model in catalog.MODELS.values() for file in model.files)
