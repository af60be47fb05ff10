"""Which models can be fetched, from where, and under which licence.

A model on Hugging Face names its repository: its files, sizes and hashes are asked from the hub. A model without one
names its files here. Makes no connection.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from errors import command

HUB = "https://huggingface.co"
BUCKET = "https://storage.googleapis.com/ailia-models/qwen_audio"
# Published beside the source code, not in the bucket. Our best guess: this address was never verified.
SAMPLES = "https://raw.githubusercontent.com/axinc-ai/ailia-models/master/audio_language_model/qwen_audio"
# Never *.py: we read the weights, we do not execute what lies beside them.
HUB_PATTERNS = (
    "config.json", "generation_config.json", "qwen.tiktoken", "LICENSE*", "NOTICE*", "tokenizer_config.json",
    "model.safetensors.index.json", "*.safetensors",
)  # fmt: skip
LICENCE = (
    "the Tongyi Qianwen licence (redistribute only with a copy of the licence and its notice; "
    "a service with over 100 million monthly users needs a licence from Alibaba)"
)
AILIA_LICENCE = f"{LICENCE}; the ailia SDK that runs them has terms of its own, https://ailia.ai/license/en/"
CONVERT = "python3 -m models.convert {model} {model}-int4 --precision int4"
PUBLISHED = "python3 -m models.convert.published {model}, then python3 qwen_audio.py --model {model} -i AUDIO"


@dataclass(frozen=True)
class RemoteFile:
    """A file at its source, and what is known of it. Raises ValueError for what no honest server or lockfile says."""

    name: str
    url: str
    size: int = 0
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256, git_sha1 or md5, to hex

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", self.name):
            raise ValueError(f"{self.name!a} is not a plain file name")
        if type(self.url) is not str or type(self.size) is not int or not 0 <= self.size < 10**15:
            raise ValueError(f"{self.name} has no address or no size")
        if not all(re.fullmatch(r"[0-9a-f]{32,64}", digest) for digest in self.hashes.values()):
            raise ValueError(f"{self.name} has no hash")


@dataclass(frozen=True)
class Model:
    """A row of the catalog: what can be downloaded, and what comes next."""

    name: str
    about: str
    licence: str
    next_commands: str  # {model}: the directory
    repository: str = ""  # on Hugging Face
    files: tuple[RemoteFile, ...] = ()


VOCABULARY = RemoteFile(
    name="qwen.tiktoken",
    url=f"{HUB}/Qwen/Qwen-Audio-Chat/resolve/main/qwen.tiktoken",
    size=2_561_218,
    hashes={"sha256": "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"},
)
MODELS = {
    model.name: model
    for model in (
        Model("Qwen-Audio-Chat", "about 16.8 GB", LICENCE, CONVERT, repository="Qwen/Qwen-Audio-Chat"),
        Model("Qwen-Audio", "about 16.8 GB", LICENCE, CONVERT, repository="Qwen/Qwen-Audio"),
        Model(
            "ailia-Qwen-Audio-Chat",
            "about 17 GB",
            AILIA_LICENCE,
            PUBLISHED,
            # The small ones first: a wrong address shows before the long wait.
            files=(
                VOCABULARY,
                *(RemoteFile(name, f"{SAMPLES}/{name}") for name in ("bos.npy", "eos.npy")),
                *(
                    RemoteFile(name, f"{BUCKET}/{name}")
                    for name in ("Qwen-Audio-Chat.onnx", "Qwen-Audio-Chat_encode.onnx", "Qwen-Audio-Chat_weights.pb")
                ),
            ),
        ),
    )
}


def describe_missing(name: str) -> str:
    """Return one line: how to get a model, its size, its licence."""
    model = MODELS.get(name)
    if model is None:
        return (
            f"no model is called {name!r}; {command('python3 -m models.download')} fetches one of: {', '.join(MODELS)}"
        )
    fetch = command(f"python3 -m models.download {name}")
    return f"{name} is fetched by: {fetch} ({model.about}, under {model.licence})"
