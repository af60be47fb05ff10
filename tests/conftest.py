"""Where golden data lie: the small set in tests/golden, the large one outside the repository."""

import functools
import lzma
import os
from pathlib import Path

import pytest

from models.convert.convert import convert
from models.manifest import load_manifest
from tests.tiny_models import TINY, make_tiny
from tokenizer.tokenizer import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = Path(os.environ.get("QWEN_AUDIO_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


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
def original(tmp_path_factory):
    """original(checkpoint directory, flavour) -> the manifest of a golden checkpoint in float32, converted once."""

    @functools.cache
    def original(checkpoint, flavour):
        out = tmp_path_factory.mktemp(f"{checkpoint.name}-{flavour}")
        convert(checkpoint, out, precision="fp32", flavour=flavour)
        return load_manifest(out)

    return original
