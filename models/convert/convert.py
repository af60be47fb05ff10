"""The conversion itself: sizes from config.json, both graphs, the small files, the manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.convert import qwen, whisper
from models.convert.checkpoint import Checkpoint, ConversionError, Tensor
from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.linear import precision_of, to_float16
from models.convert.sizes import read_sizes
from models.manifest import FILE_NAME, FileRecord, Manifest, file_sha256, save_manifest

VERSION = "models.convert 1"
OPSET = 17


@dataclass(frozen=True)
class FileNames:
    """What the files of a flavour are called; plain takes the names that ailia publishes."""

    encoder: str
    encoder_weights: str
    decoder: str
    decoder_weights: str


NAMES = {
    "fused": FileNames("encoder.onnx", "encoder.data", "decoder.onnx", "decoder.data"),
    "plain": FileNames(
        "Qwen-Audio-Chat_encode.onnx",
        "Qwen-Audio-Chat_encode_weights.pb",
        "Qwen-Audio-Chat.onnx",
        "Qwen-Audio-Chat_weights.pb",
    ),
}
BACKENDS = {"fused": ("onnxruntime",), "plain": ("ailia", "onnxruntime")}
BOUNDARY_ROWS = ("bos.npy", "eos.npy")
EMBEDDINGS, VOCABULARY = "embeddings.npy", "qwen.tiktoken"
DEFAULT_WINDOW = 6144


def convert(
    source: Path, out: Path, *, precision: str, flavour: str, report: Callable[[str], None] = lambda _: None
) -> None:
    """Convert the checkpoint `source` into the model directory `out`.

    Raises ConversionError naming the tensor, key or file when the checkpoint is incomplete or of another kind.
    """
    storage = precision_of(flavour, precision)
    checkpoint = Checkpoint(source)
    if out.resolve() == source.resolve():
        raise ConversionError(f"{out}: is the checkpoint itself; choose another directory for the model")
    encoder_sizes, decoder_sizes = read_sizes(checkpoint.config, source / "config.json")
    max_window_size = checkpoint.generation_config.get("max_window_size", DEFAULT_WINDOW)
    if not isinstance(max_window_size, int):
        raise ConversionError(
            f"{source / 'generation_config.json'}: max_window_size is {max_window_size!r}, not a number"
        )
    width, epsilon = checkpoint.config["intermediate_size"] // 2, checkpoint.config["layer_norm_epsilon"]
    dtype = "float16" if (flavour, precision) == ("plain", "fp16") else "float32"
    names = NAMES[flavour]
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE_NAME).unlink(missing_ok=True)
    hashes: dict[str, str] = {}

    report(f"encoder: {encoder_sizes.n_layer} layers of {encoder_sizes.n_state}, {precision}")
    weights = WeightsFile(out / names.encoder_weights)
    graph = GraphBuilder("encoder", weights, opset=OPSET, contrib=flavour == "fused")
    trunk = whisper.Whisper(checkpoint, encoder_sizes, graph, storage.encoder, dtype)
    if flavour == "fused":
        whisper.build_fused_encoder(trunk)
    else:
        whisper.build_plain_encoder(trunk)
    graph.save(out / names.encoder)
    hashes[names.encoder_weights] = weights.close()
    write_boundary_rows(checkpoint, out, decoder_sizes.d_model)

    report(f"decoder: {decoder_sizes.n_layer} layers of {decoder_sizes.d_model}, {precision}")
    weights = WeightsFile(out / names.decoder_weights)
    graph = GraphBuilder("decoder", weights, opset=OPSET, contrib=flavour == "fused")
    layers = qwen.Qwen(checkpoint, decoder_sizes, graph, storage, width, epsilon, dtype)
    if flavour == "fused":
        qwen.build_fused_decoder(layers)
        table = checkpoint.take("transformer.wte.weight", decoder_sizes.vocab_size, decoder_sizes.d_model)
        write_embeddings(table, out / EMBEDDINGS, exact=precision == "fp32")
    else:
        qwen.build_plain_decoder(layers)
    graph.save(out / names.decoder)
    hashes[names.decoder_weights] = weights.close()
    checkpoint.finish()

    if checkpoint.vocabulary:
        shutil.copyfile(checkpoint.vocabulary, out / VOCABULARY)
    licences = copy_licences(source, out)
    files = [names.encoder, names.encoder_weights, names.decoder, names.decoder_weights, *BOUNDARY_ROWS, *licences]
    files += [EMBEDDINGS] if flavour == "fused" else []
    files += [VOCABULARY] if checkpoint.vocabulary else []
    records = {
        name: FileRecord((out / name).stat().st_size, hashes.get(name) or file_sha256(out / name)) for name in files
    }
    save_manifest(
        Manifest(
            name=source.resolve().name,
            contract=flavour,
            precision=precision,
            dtype=dtype,
            backends=BACKENDS[flavour],
            chat_format="chatml" if checkpoint.generation_config.get("chat_format") == "chatml" else "raw",
            max_window_size=max_window_size,
            encoder_sizes=encoder_sizes,
            decoder_sizes=decoder_sizes,
            encoder=whisper.encoder_graph(names.encoder, flavour),
            decoder=qwen.decoder_graph(names.decoder, flavour, decoder_sizes, dtype),
            boundary_rows=BOUNDARY_ROWS,
            embeddings=EMBEDDINGS if flavour == "fused" else None,
            vocabulary=VOCABULARY if checkpoint.vocabulary else None,
            source=str(source),
            converter=VERSION,
            files=records,
            directory=out,
        )
    )
    report(f"done: {sum(record.size for record in records.values()) / 1e9:.2f} GB in {out}")


def write_boundary_rows(checkpoint: Checkpoint, out: Path, d_model: int) -> None:
    """bos.npy and eos.npy [d_model]: the rows that stand in place of <audio> and </audio>."""
    rows = checkpoint.take("transformer.audio.audio_bos_eos_token.weight", 2, d_model).read()
    for name, row in zip(BOUNDARY_ROWS, rows, strict=True):
        np.save(out / name, row)


def write_embeddings(table: Tensor, path: Path, *, exact: bool) -> None:
    """The embedding rows as one .npy [vocab, d_model], mapped at run time: only the rows of a prompt are ever read.

    float32 when `exact` and the checkpoint is not float16 already, else float16.
    """
    dtype = np.float32 if exact and table.stored != "F16" else np.float16
    with path.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": table.shape}
        )
        for rows in table.rows():
            file.write((rows if dtype is np.float32 else to_float16(rows, table.name)).data.cast("B"))


def copy_licences(source: Path, out: Path) -> list[str]:
    """Licence and notice files go with the weights, as the licence of Qwen-Audio asks."""
    names = sorted(path.name for path in source.iterdir() if path.name.upper().startswith(("LICENSE", "NOTICE")))
    for name in names:
        shutil.copyfile(source / name, out / name)
    return names
