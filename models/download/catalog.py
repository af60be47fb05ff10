"""Which models can be fetched, from where, and what each source publishes of its files.

In: a row of `MODELS`, and the user's --url if there is one. Out: a `RemoteFile` for each file, with its address and
whatever size and hashes its source makes known. Fetches no file of a model and knows nothing of a directory but its
index of shards. Hugging Face repositories are listed at one commit; HF_ENDPOINT and HF_TOKEN mean here what they mean
there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote

from errors import ModelError
from models.download import https

HUB = "https://huggingface.co"
BUCKET = "https://storage.googleapis.com/ailia-models/qwen_audio"
# Published beside the source code, not in the bucket. Our best guess: this address was never verified.
SAMPLES = "https://raw.githubusercontent.com/axinc-ai/ailia-models/master/audio_language_model/qwen_audio"
INDEX = "model.safetensors.index.json"
# Never *.py: we read the weights, we do not execute what lies beside them.
HUB_PATTERNS = (
    "config.json", "generation_config.json", "qwen.tiktoken", "LICENSE*", "NOTICE*", "tokenizer_config.json",
    INDEX, "*.safetensors",
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
    """One file at its source, with whatever the source publishes of it."""

    name: str
    url: str
    size: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)  # sha256, git_sha1 or md5, to hex
    notes: Mapping[str, str] = field(default_factory=dict)  # etag, crc32c: kept for the record


@dataclass(frozen=True)
class Model:
    """A row of the table: what can be downloaded, and what comes next."""

    name: str
    about: str
    licence: str
    next_commands: str  # {model}: the directory
    repository: str = ""  # on Hugging Face; without one the files are named here
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
        return f"no model is called {name!r}; python3 -m models.download fetches one of: {', '.join(MODELS)}"
    return f"{name} is fetched by: python3 -m models.download {name} ({model.about}, under {model.licence})"


def list_files(model: Model, *, url: str | None, revision: str) -> tuple[list[RemoteFile], str]:
    """Ask the source what it has; return that and the commit of the repository, where there is one.

    Raises:
        ModelError: the source cannot be reached, or does not have the model.
    """
    if model.repository:
        return _list_hub(model, url=url, revision=revision)
    return [_probe(file, url=url) for file in model.files], ""


def request_headers(model: Model, *, url: str | None) -> dict[str, str]:
    """Return HF_TOKEN for a Hugging Face repository over https, nothing for anyone else."""
    token = os.environ.get("HF_TOKEN", "")
    trusted = model.repository and _endpoint(url).startswith("https://")
    return {"Authorization": f"Bearer {token}"} if token and trusted else {}


def expected_names(model: Model, directory: Path) -> Sequence[str]:
    """Name the files without asking the source: those of the table, or those that no checkpoint can do without."""
    if model.files:
        return [file.name for file in model.files]
    try:
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        shards = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        shards = ["*.safetensors"]
    return ["config.json", "qwen.tiktoken", INDEX, *shards]


def _list_hub(model: Model, *, url: str | None, revision: str) -> tuple[list[RemoteFile], str]:
    endpoint = _endpoint(url)
    at = f"/revision/{revision}" if revision else ""
    asked = f"{endpoint}/api/models/{model.repository}{at}?blobs=true"
    answer = https.read_json(asked, headers=request_headers(model, url=url))
    try:
        commit = str(answer["sha"])
        base = f"{endpoint}/{model.repository}/resolve/{commit}"
        files = [_hub_file(base, row) for row in answer["siblings"] if _is_wanted(row["rfilename"])]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{asked} does not answer like a Hugging Face hub: {error!r}") from error
    if revision and commit != revision:
        raise ModelError(f"{asked} answers for commit {commit}", fix=f"the files that are here are of {revision}")
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelError(f"{asked} lists no *.safetensors", fix=f"is {endpoint} a whole mirror?")
    return sorted(files, key=lambda file: file.size or 0), commit


def _hub_file(base: str, row: dict[str, Any]) -> RemoteFile:
    name, large = row["rfilename"], row.get("lfs")
    if "size" not in row:  # a mirror that lists names only: size and ETag come from the file's own answer
        seen = https.probe(f"{base}/{quote(name)}")
        return RemoteFile(name, f"{base}/{quote(name)}", size=seen.size, notes={"etag": seen.etag})
    hashes = {"sha256": str(large["sha256"])} if large else {"git_sha1": str(row["blobId"])}
    return RemoteFile(name, f"{base}/{quote(name)}", size=int(row["size"]), hashes=hashes)


def _is_wanted(name: str) -> bool:
    # The names come from outside: none may lead out of the directory, none may be code.
    return (
        not set(name) & set("/\\:")
        and not name.endswith(".py")
        and any(fnmatchcase(name, pattern) for pattern in HUB_PATTERNS)
    )


def _probe(file: RemoteFile, *, url: str | None) -> RemoteFile:
    """Complete a row of the table with what its server publishes; `url` is a place that has all the files."""
    if url:
        file = replace(file, url=f"{url.rstrip('/')}/{file.name}")
    elif file.url.startswith(HUB):
        file = replace(file, url=_endpoint(None) + file.url.removeprefix(HUB))
    if file.hashes:
        return file
    seen = https.probe(file.url)
    notes = {"etag": seen.etag, "crc32c": seen.crc32c}
    return replace(file, size=seen.size, hashes={"md5": seen.md5} if seen.md5 else {}, notes=notes)


def _endpoint(url: str | None) -> str:
    """Return the hub's address; plain http only where the user's own --url or HF_ENDPOINT says so."""
    endpoint = (url or os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")
    if not endpoint.startswith(("https://", "http://")):
        raise ModelError(f"HF_ENDPOINT is {endpoint}, which is not an https:// (or http://) address")
    return endpoint
