"""Where golden data lie: the small set in tests/golden, the large one outside the repository."""

import lzma
import os
from pathlib import Path

import pytest

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
