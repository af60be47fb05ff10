"""`python3 -m models.convert.published DIR`: a manifest for the ONNX files that ailia publishes.

DIR holds Qwen-Audio-Chat.onnx, Qwen-Audio-Chat_encode.onnx, their weights, bos.npy, eos.npy and, to be of use from
the shell, qwen.tiktoken. Names are read from the graphs and held against the published contract; sizes come from
`--config FILE`, from DIR/config.json, or else are those of Qwen-Audio-Chat itself. No file but the manifest is written.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from errors import ModelError, command
from models.convert.job import BOUNDARY_ROWS, NAMES, VOCABULARY
from models.convert.qwen_plain import INPUTS, plain_graph
from models.convert.sizes import read_sizes
from models.convert.whisper import PLAIN_INPUTS
from models.manifest import FileRecord, Graph, Manifest, State, file_sha256, load_manifest, save_manifest
from models.metadata import read_object

DECODER, ENCODER = NAMES["plain"].decoder, NAMES["plain"].encoder
FETCH = "python3 -m models.download ailia-Qwen-Audio-Chat"

# What Qwen/Qwen-Audio-Chat's own config.json says of its sizes.
QWEN_AUDIO_CHAT: dict[str, Any] = {
    "model_type": "qwen",
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "kv_channels": 128,
    "vocab_size": 155947,
    "seq_length": 2048,
    "max_position_embeddings": 8192,
    "rotary_emb_base": 10000,
    "layer_norm_epsilon": 1e-5,
    "audio": {
        "n_mels": 80,
        "n_ctx": 1500,
        "n_state": 1280,
        "n_head": 20,
        "n_layer": 32,
        "output_dim": 4096,
        "audio_start_id": 155163,
    },
}


def describe(directory: Path, config_path: Path | None = None) -> Manifest:
    """Write and check the manifest of a directory of published files; returns it as loaded.

    Raises ModelError when a file is missing or a graph does not keep the contract, naming what is wrong.
    """
    for name in (DECODER, ENCODER, *BOUNDARY_ROWS):
        if not (directory / name).is_file():
            raise ModelError(f"{directory / name}: missing", fix=f"`{command(FETCH)}`")
    path = config_path or directory / "config.json"
    config = read_object(path) if config_path or path.exists() else QWEN_AUDIO_CHAT
    encoder_sizes, decoder_sizes = read_sizes(config, path)
    # Whether the published graph knows NTK and LogN is not known: its context ends where they would begin.
    decoder_sizes = replace(decoder_sizes, max_positions=decoder_sizes.seq_length)
    encoder, encoder_data = _read_graph(directory / ENCODER, PLAIN_INPUTS)
    decoder, decoder_data = _read_graph(directory / DECODER, INPUTS)
    dtype = decoder["inputs"]["audios"]
    graph = plain_graph(DECODER, decoder_sizes, dtype)
    _check_cache(decoder, graph.state, decoder_sizes.n_layer, directory / DECODER)
    vocabulary = VOCABULARY if (directory / VOCABULARY).is_file() else None
    files = {DECODER, ENCODER, *BOUNDARY_ROWS, *encoder_data, *decoder_data} | ({vocabulary} if vocabulary else set())
    logits = [name for name in decoder["outputs"] if not name.startswith(("key_cache_out", "value_cache_out"))]
    save_manifest(
        Manifest(
            name="Qwen-Audio-Chat",
            contract="plain",
            precision="fp16" if dtype == "float16" else "fp32",
            dtype=dtype,
            backends=("ailia", "onnxruntime"),
            chat_format="chatml",
            max_window_size=6144,
            encoder_sizes=encoder_sizes,
            decoder_sizes=decoder_sizes,
            encoder=Graph(ENCODER, PLAIN_INPUTS, tuple(encoder["outputs"])[:1]),
            decoder=(replace(graph, outputs=tuple(logits[:1])),),
            boundary_rows=BOUNDARY_ROWS,
            embeddings=None,
            vocabulary=vocabulary,
            source="https://storage.googleapis.com/ailia-models/qwen_audio/",
            converter="models.convert.published 1",
            files={
                name: FileRecord((directory / name).stat().st_size, file_sha256(directory / name))
                for name in sorted(files)
            },
            directory=directory,
        )
    )
    return load_manifest(directory)


def _check_cache(decoder: dict[str, dict[str, str]], state: State | None, n_layer: int, path: Path) -> None:
    """Raise ModelError where a graph has other inputs and outputs for its cache than `state` says."""
    for produced, consumed in state.names if state else ():
        if consumed not in decoder["inputs"] or produced not in decoder["outputs"]:
            raise ModelError(f"{path}: no {consumed} or {produced}", fix="is its config another one?")
    found = sum(name.startswith("key_cache") for name in decoder["inputs"])
    if found != n_layer:
        raise ModelError(f"{path}: {found} layers of cache", fix="is its config another one?")


def _read_graph(path: Path, required: tuple[str, ...]) -> tuple[dict[str, dict[str, str]], set[str]]:
    """Names and float types of a graph's inputs and outputs; the external files of its weights, all of them there."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX file ({error})", fix="download it again") from None
    types = {onnx.TensorProto.FLOAT16: "float16"}
    ends = {
        kind: {value.name: types.get(value.type.tensor_type.elem_type, "float32") for value in values}
        for kind, values in (("inputs", model.graph.input), ("outputs", model.graph.output))
    }
    for name in required:
        if name not in ends["inputs"]:
            raise ModelError(f"{path}: no input named {name}", fix="this is not the graph that ailia publishes")
    data = {
        entry.value for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"
    }
    for name in data:
        if not (path.parent / name).is_file():
            raise ModelError(f"{path.parent / name}: missing, {path.name} keeps its weights there")
    return ends, data


def main(argv: list[str] | None = None) -> int:
    """Describe a directory; returns 0, 2 for wrong usage, 3 for files that do not keep the contract."""
    parser = argparse.ArgumentParser(
        prog="python3 -m models.convert.published", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--config", type=Path, metavar="FILE", help="config.json of the model, if it is another one")
    options = parser.parse_args(argv)
    try:
        manifest = describe(options.directory, options.config)
    except ModelError as error:
        print(f"models.convert.published: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        print(f"models.convert.published: {error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    print(manifest.directory)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
