"""Where golden data lie: the small set in tests/golden, the large one outside the repository."""

import functools
import lzma
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from models.convert.convert import convert
from models.manifest import load_manifest
from models.server.client import end_server
from tests.benchmarks.geometry import TINY as WITH_VOCABULARY
from tests.benchmarks.random_checkpoint import make_checkpoint
from tests.tiny_models import TINY, Case, make_tiny
from tokenizer.tokenizer import Tokenizer

# Told to keep no bytecode, each of the many processes that tests start would compile the whole program again.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = Path(os.environ.get("QWEN_AUDIO_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """No test reads or leaves anything in the user's cache, or asks a model that the user keeps open."""
    runtime = Path(tempfile.mkdtemp(prefix="qa-"))  # a socket's path must be short
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_RUNTIME_DIR", str(runtime))
        patch.delenv("QWEN_AUDIO_KEEP", raising=False)
        yield
        end_server()
    shutil.rmtree(runtime)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """A shell has a command in the background ignore Ctrl-C; tests send it to themselves and to others."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def golden():
    return GOLDEN


@pytest.fixture(scope="session")
def reference():
    if not REFERENCE.is_dir():
        pytest.skip(f"golden data of the original are not at {REFERENCE} (set QWEN_AUDIO_REFERENCE)")
    return REFERENCE


@pytest.fixture(scope="session")
def vocab_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "qwen.tiktoken"
    path.write_bytes(lzma.decompress((GOLDEN / "qwen.tiktoken.xz").read_bytes()))
    return path


@pytest.fixture(scope="session")
def tokenizer(vocab_path):
    return Tokenizer(vocab_path)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """tiny(precision, flavour, seed=…, **keys of config.json) -> the manifest of a random model, converted once."""

    @functools.cache
    def checkpoint(seed, geometry, config):
        return make_tiny(tmp_path_factory.mktemp("checkpoint"), seed=seed, geometry=geometry, **dict(config))

    @functools.cache
    def manifest(precision, flavour, seed, geometry, config):
        out = tmp_path_factory.mktemp(f"{flavour}-{precision}")
        convert(checkpoint(seed, geometry, config), out, precision=precision, flavour=flavour)
        return load_manifest(out)

    def tiny(precision="fp32", flavour="fused", *, seed=1, geometry=TINY, **config):
        return manifest(precision, flavour, seed, geometry, tuple(sorted(config.items())))

    return tiny


@pytest.fixture(scope="session")
def demo_model(tmp_path_factory, vocab_path):
    """A model directory that the command line can answer with: random weights, the real vocabulary, 40 MB."""
    checkpoint, out = tmp_path_factory.mktemp("demo-checkpoint"), tmp_path_factory.mktemp("demo")
    make_checkpoint(checkpoint, WITH_VOCABULARY, seed=0, vocab=vocab_path)
    convert(checkpoint, out, precision="fp32", flavour="fused")
    return out


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """original(checkpoint directory, flavour) -> the manifest of a golden checkpoint in float32, converted once."""

    @functools.cache
    def original(checkpoint, flavour):
        out = tmp_path_factory.mktemp(f"{checkpoint.name}-{flavour}")
        convert(checkpoint, out, precision="fp32", flavour=flavour)
        return load_manifest(out)

    return original


@pytest.fixture(scope="session")
def golden_case(golden):
    """golden_case(name) -> a golden case of tests/golden/tiny-long; columns behind a clip are constant."""

    def golden_case(name):
        with np.load(golden / "tiny-long" / f"{name}.npz") as file:
            arrays = dict(file)
        lengths = arrays.get("mel_len", np.zeros(0)).tolist()
        mels = [
            np.pad(arrays[f"mel_{k}"], ((0, 0), (0, 3000 - arrays[f"mel_{k}"].shape[1])), "edge")
            for k in range(len(lengths))
        ]
        return Case(arrays, list(zip(mels, lengths, strict=True)))

    return golden_case


@pytest.fixture(scope="session", autouse=True)
def no_licence_download():
    """ailia's Net looks for its licence and fetches one over the network: from a test that is a failure, not a try."""
    try:
        from ailia import license as licence
        from ailia import wrapper
    except ImportError:
        yield
        return

    def refuse(*_):
        pytest.fail("a test reached ailia's real licence check: name a backend, or put a stand-in for ailia.Net")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wrapper, "check_and_download_license", refuse)
        patch.setattr(licence, "_download_license", refuse)
        yield
