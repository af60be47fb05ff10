"""Opening nano: converted once into the cache, found again, made anew when damaged or changed, and told about."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cli.options import parse_arguments
from cli.run.open_model import find_model
from errors import ModelError
from models.convert import convert as converter
from models.manifest import load_manifest
from models.nano import embedded
from tests.tiny_models import edit_json, make_tiny


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("nano") / "checkpoint")


@pytest.fixture
def cache(tmp_path, checkpoint, monkeypatch):
    """A stand-in for nano and an empty cache."""
    monkeypatch.setattr(embedded, "CHECKPOINT", checkpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "qwen-audio"


def refuse(*_args, **_options):
    raise AssertionError("converted again")


def test_the_checkpoint_is_converted_once(cache, monkeypatch):
    made = embedded.embedded_model()
    assert made.parent == cache
    manifest = load_manifest(made)
    assert (manifest.precision, manifest.contract) == ("int8-fine", "fused")
    assert [path.name for path in cache.iterdir()] == [made.name]
    monkeypatch.setattr(converter, "convert", refuse)
    assert embedded.embedded_model() == made


def test_ailia_gets_the_plain_flavour(cache):
    manifest = load_manifest(embedded.embedded_model(flavour="plain"))
    assert manifest.contract == "plain"
    assert "ailia" in manifest.backends


def test_no_folder_that_can_be_written_is_told(cache, monkeypatch):
    cache.write_text("in its place")
    monkeypatch.setattr(embedded.tempfile, "mkdtemp", lambda **_: Path("/nowhere").stat())
    with pytest.raises(ModelError, match="TMPDIR"):
        embedded.embedded_model()


@pytest.mark.parametrize("damage", ["cut", "no manifest"])
def test_a_damaged_conversion_is_made_again(cache, damage):
    made = embedded.embedded_model()
    whole = (made / "decoder.data").read_bytes()
    if damage == "cut":
        (made / "decoder.data").write_bytes(whole[:-1])
    else:
        (made / "manifest.json").unlink()
    assert embedded.embedded_model() == made
    load_manifest(made)
    assert (made / "decoder.data").read_bytes() == whole


@pytest.mark.parametrize("name", ["decoder.data", "manifest.json", "embeddings.npy"])
def test_a_conversion_damaged_at_equal_size_is_made_again(cache, name):
    made = embedded.embedded_model()
    whole = (made / name).read_bytes()
    times = (made / name).stat()
    place = whole.rindex(b'"name"') + 9 if name == "manifest.json" else len(whole) // 2
    (made / name).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    os.utime(made / name, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert embedded.embedded_model() == made
    assert (made / name).read_bytes() == whole


def test_a_conversion_is_hashed_once_after_its_change_time_differs(cache, monkeypatch):
    made = embedded.embedded_model()
    (made / "decoder.data").chmod(0o600)
    hashed = list[Path]()
    monkeypatch.setattr(embedded, "verify_files", lambda manifest: hashed.append(manifest.directory))
    monkeypatch.setattr(converter, "convert", refuse)
    for _ in range(3):
        assert embedded.embedded_model() == made
    assert hashed == [made]


@pytest.mark.parametrize("content", ["", "[]", "{}", "9" * 5000])
def test_a_conversion_without_its_seal_is_made_again(cache, content):
    made = embedded.embedded_model()
    (made / embedded.SEAL).write_text(content)
    before = (made / "decoder.data").stat().st_ctime_ns  # the number of a file may be given again
    assert embedded.embedded_model() == made
    assert (made / "decoder.data").stat().st_ctime_ns != before


def test_another_checkpoint_is_another_directory(cache, checkpoint, tmp_path, monkeypatch):
    first = embedded.embedded_model()
    other = tmp_path / "other"
    shutil.copytree(checkpoint, other)
    edit_json(other / "config.json", seq_length=17)
    monkeypatch.setattr(embedded, "CHECKPOINT", other)
    second = embedded.embedded_model()
    assert first != second
    assert load_manifest(second).decoder_sizes.seq_length == 17


def test_several_processes_at_once_find_one_whole_model(cache):
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: embedded.embedded_model(), range(8)))
    assert len(found) == 1
    assert [path.name for path in cache.iterdir()] == [found.pop().name]


def test_a_cache_that_cannot_be_written_costs_a_conversion_only(cache, monkeypatch):
    cache.write_text("a file where the cache should be")
    made = embedded.embedded_model()
    assert cache not in made.parents
    load_manifest(made)
    shutil.rmtree(made.parent)


def test_a_relative_cache_variable_is_not_followed(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert embedded.embedded_model().parent == tmp_path / "home" / ".cache" / "qwen-audio"


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_checkpoint_that_is_not_whole_is_refused(cache, checkpoint, tmp_path, monkeypatch, damage):
    broken = tmp_path / "broken"
    if damage == "cut":
        shutil.copytree(checkpoint, broken)
        weights = next(broken.glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:-10])
    monkeypatch.setattr(embedded, "CHECKPOINT", broken)
    with pytest.raises(ModelError, match="clone"):
        embedded.embedded_model()
    assert not cache.exists() or not list(cache.iterdir())


def found(capsys, *arguments: str) -> tuple[Path, str]:
    return find_model(parse_arguments(["x.wav", *arguments])), capsys.readouterr().err


def test_nano_is_what_is_opened_when_nothing_else_is_there(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cli.run.open_model.ROOT", tmp_path)
    monkeypatch.delenv("QWEN_AUDIO_MODEL", raising=False)
    nano, told = found(capsys)
    assert nano == embedded.embedded_model()
    assert told.count("\n") == 1
    assert "nano" in told
    assert "models.download" in told
    assert found(capsys, "--quiet") == (nano, "")
    assert found(capsys, "--model", "nano") == (nano, "")
    monkeypatch.setenv("QWEN_AUDIO_MODEL", "nano")
    assert found(capsys) == (nano, "")
    assert found(capsys, "--backend", "ailia")[0] == embedded.embedded_model(flavour="plain")


def test_a_directory_called_nano_is_what_it_is(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    assert found(capsys, "--model", "nano")[0] == Path("nano")
