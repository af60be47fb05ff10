"""The conversion itself: sizes from config.json, both graphs, the small files, the manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from errors import ModelError
from models.convert import qwen_fused, qwen_plain, whisper
from models.convert.channel_balance import EvenCheckpoint
from models.convert.checkpoint import Checkpoint
from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.linear import precision_of, to_float16
from models.convert.qwen import Qwen
from models.convert.sizes import read_sizes
from models.manifest import FILE_NAME, DecoderSizes, EncoderSizes, FileRecord, Manifest, file_sha256, save_manifest

VERSION = "models.convert 7"
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
NAMES["cuda"] = NAMES["fused"]
BACKENDS = {"fused": ("onnxruntime",), "cuda": ("onnxruntime",), "plain": ("ailia", "onnxruntime")}
BOUNDARY_ROWS = ("bos.npy", "eos.npy")
EMBEDDINGS, VOCABULARY = "embeddings.npy", "qwen.tiktoken"
DEFAULT_WINDOW = 6144
# A second fused decoder over the same weights, for answers side by side: so many of them run at once.
ROWS_FILE, SLOTS = "decoder_rows.onnx", 8


@dataclass(frozen=True)
class Job:
    """One conversion: from which checkpoint, to where, and what was read of its sizes."""

    checkpoint: Checkpoint
    out: Path
    precision: str
    flavour: str
    encoder_sizes: EncoderSizes
    decoder_sizes: DecoderSizes
    max_window_size: int

    @property
    def names(self) -> FileNames:
        """File names of the flavour."""
        return NAMES[self.flavour]

    @property
    def fused(self) -> bool:
        """Whether the graphs have ONNX Runtime's own operators."""
        return self.flavour != "plain"

    @property
    def floats(self) -> str:
        """Type of the activations inside the graphs."""
        return "float16" if self.flavour == "cuda" else "float32"

    @property
    def dtype(self) -> str:
        """Floating type of the graphs' inputs and outputs."""
        return "float16" if (self.flavour, self.precision) == ("plain", "fp16") else "float32"


def convert(
    source: Path, out: Path, *, precision: str, flavour: str, report: Callable[[str], None] = lambda _: None
) -> None:
    """Convert the checkpoint `source` into the model directory `out`; `report` gets a line for each part.

    Raises ModelError naming the tensor, key or file when the checkpoint is incomplete or of another kind.
    """
    job = plan(source, out, precision=precision, flavour=flavour)
    with unfinished(out) as beside:
        manifest = write_model(replace(job, out=beside), report)
        put_in_place(beside, out)
    report(f"done: {sum(record.size for record in manifest.files.values()) / 1e9:.2f} GB in {out}")


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write a model in, removed at the end; raises ModelError while another run is at it."""
    beside = out.absolute().with_name(f".{out.absolute().name}.unfinished")
    beside.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{beside}.lock", timeout=0):
            try:
                yield beside
            finally:
                shutil.rmtree(beside, ignore_errors=True)
                Path(f"{beside}.lock").unlink(missing_ok=True)
    except Timeout:
        raise ModelError(f"{out}: another conversion into it is running", fix="wait for it, or name another") from None


def put_in_place(beside: Path, out: Path) -> None:
    """Move the files of a whole model into `out`, its manifest last; a process that has the old model open keeps it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE_NAME).unlink(missing_ok=True)
    for path in sorted(beside.iterdir(), key=lambda path: path.name == FILE_NAME):
        path.replace(out / path.name)


def write_model(job: Job, report: Callable[[str], None]) -> Manifest:
    """Write all files of a model."""
    report(f"encoder: {job.encoder_sizes.n_layer} layers of {job.encoder_sizes.n_state}, {job.precision}")
    hashes = {job.names.encoder_weights: write_encoder(job)}
    write_boundary_rows(job)
    report(f"decoder: {job.decoder_sizes.n_layer} layers of {job.decoder_sizes.d_model}, {job.precision}")
    hashes[job.names.decoder_weights] = write_decoder(job)
    if job.fused:
        write_embeddings(job)
    job.checkpoint.finish()
    if job.checkpoint.vocabulary:
        shutil.copyfile(job.checkpoint.vocabulary, job.out / VOCABULARY)
    manifest = describe(job, copy_licences(job.checkpoint.directory, job.out), hashes)
    save_manifest(manifest)
    return manifest


def plan(source: Path, out: Path, *, precision: str, flavour: str) -> Job:
    """Read what the checkpoint says of itself; raises ModelError before anything is written."""
    precision_of(flavour, precision)
    checkpoint = Checkpoint(source)
    if out.resolve() == source.resolve():
        raise ModelError(f"{out}: is the checkpoint itself", fix="choose another directory for the model")
    encoder_sizes, decoder_sizes = read_sizes(checkpoint.config, source / "config.json")
    window = checkpoint.generation_config.get("max_window_size", DEFAULT_WINDOW)
    if not isinstance(window, int):
        raise ModelError(f"{source / 'generation_config.json'}: max_window_size is {window!r}, not a number")
    return Job(checkpoint, out, precision, flavour, encoder_sizes, decoder_sizes, window)


def write_encoder(job: Job) -> str:
    """Write the encoder's graph and weights; returns the SHA-256 of the weights."""
    with WeightsFile(job.out / job.names.encoder_weights) as weights:
        graph = GraphBuilder("encoder", weights, opset=OPSET, contrib=job.fused, floats=job.floats)
        storage = precision_of(job.flavour, job.precision).encoder
        trunk = whisper.Whisper(job.checkpoint, job.encoder_sizes, graph, storage, job.dtype)
        build = whisper.build_fused_encoder if job.fused else whisper.build_plain_encoder
        build(trunk)
        graph.save(job.out / job.names.encoder)
    return weights.sha256()


def write_decoder(job: Job) -> str:
    """Write the decoder's graphs over one file of weights; returns the SHA-256 of the weights."""
    with WeightsFile(job.out / job.names.decoder_weights) as weights:
        if job.flavour == "plain":
            layers = decoder_layers(job, job.checkpoint, weights)
            qwen_plain.build_plain_decoder(layers)
            layers.graph.save(job.out / job.names.decoder)
        else:
            write_fused_decoder(job, job.checkpoint, weights, job.names.decoder, slots=1)
            # The second time round everything is in the file of weights already.
            write_fused_decoder(job, Checkpoint(job.checkpoint.directory), weights, ROWS_FILE, slots=SLOTS)
    return weights.sha256()


def write_fused_decoder(job: Job, checkpoint: Checkpoint, weights: WeightsFile, file: str, *, slots: int) -> None:
    """Write the parts of one decoder."""
    for number, part in enumerate(qwen_fused.parts(job.decoder_sizes, job.floats)):
        layers = decoder_layers(job, checkpoint, weights)
        qwen_fused.build_fused_decoder(layers, part, slots)
        layers.graph.save(job.out / qwen_fused.part_file(file, number))


def decoder_layers(job: Job, checkpoint: Checkpoint, weights: WeightsFile) -> Qwen:
    """What one graph of the decoder is built from, over `weights`, which gets what is not there yet."""
    config, precision = checkpoint.config, precision_of(job.flavour, job.precision)
    width = config["intermediate_size"] // 2
    sizes = (job.decoder_sizes.d_model, width, job.decoder_sizes.n_layer)
    return Qwen(
        EvenCheckpoint(checkpoint, sizes, precision.even) if precision.even else checkpoint,
        job.decoder_sizes,
        GraphBuilder("decoder", weights, opset=OPSET, contrib=job.fused, floats=job.floats),
        precision,
        width=width,
        epsilon=config["layer_norm_epsilon"],
        dtype=job.dtype,
    )


def describe(job: Job, licences: list[str], hashes: dict[str, str]) -> Manifest:
    """The manifest of what was written; files whose hash is not in `hashes` are read once more."""
    names, out, sizes = job.names, job.out, job.decoder_sizes
    fused = job.fused
    pairs = precision_of(job.flavour, job.precision).pairs
    if fused:
        decoder, rows = (
            qwen_fused.fused_graphs(file, sizes, slots=n, pairs=pairs, floats=job.floats)
            for file, n in ((names.decoder, 1), (ROWS_FILE, SLOTS))
        )
    else:
        decoder, rows = (qwen_plain.plain_graph(names.decoder, sizes, job.dtype),), ()
    embeddings = EMBEDDINGS if fused else None
    vocabulary = VOCABULARY if job.checkpoint.vocabulary else None
    files = [names.encoder, names.encoder_weights, names.decoder_weights, *BOUNDARY_ROWS, *licences]
    files += [graph.file for graph in (*decoder, *rows)] + [name for name in (embeddings, vocabulary) if name]
    return Manifest(
        name=job.checkpoint.directory.resolve().name,
        contract="fused" if fused else "plain",
        precision=job.precision,
        dtype=job.dtype,
        backends=BACKENDS[job.flavour],
        chat_format="chatml" if job.checkpoint.generation_config.get("chat_format") == "chatml" else "raw",
        max_window_size=job.max_window_size,
        encoder_sizes=job.encoder_sizes,
        decoder_sizes=sizes,
        encoder=whisper.encoder_graph(names.encoder, "fused" if fused else "plain"),
        decoder=decoder,
        decoder_rows=rows,
        pairs=pairs,
        boundary_rows=BOUNDARY_ROWS,
        embeddings=embeddings,
        vocabulary=vocabulary,
        source=str(job.checkpoint.directory),
        converter=VERSION,
        files={
            name: FileRecord((out / name).stat().st_size, hashes.get(name) or file_sha256(out / name)) for name in files
        },
        directory=out,
    )


def write_boundary_rows(job: Job) -> None:
    """bos.npy and eos.npy [d_model]: the rows that stand in place of <audio> and </audio>."""
    name = "transformer.audio.audio_bos_eos_token.weight"
    rows = job.checkpoint.take(name, 2, job.decoder_sizes.d_model).read()
    for file, row in zip(BOUNDARY_ROWS, rows, strict=True):
        np.save(job.out / file, row)


def write_embeddings(job: Job) -> None:
    """The embedding rows as one .npy [vocab, d_model], mapped at run time: only the rows of a prompt are ever read.

    float32 for fp32 unless the checkpoint is float16 already, else float16.
    """
    sizes = job.decoder_sizes
    table = job.checkpoint.take("transformer.wte.weight", sizes.vocab_size, sizes.d_model)
    exact = job.precision == "fp32" and table.stored != "F16"
    dtype = np.dtype("float32" if exact else "float16")
    with (job.out / EMBEDDINGS).open("wb") as file:
        header = {"descr": dtype.str, "fortran_order": False, "shape": table.shape}
        np.lib.format.write_array_header_2_0(file, header)
        for rows in table.rows():
            file.write((rows if exact else to_float16(rows, table.name)).data.cast("B"))


def copy_licences(source: Path, out: Path) -> list[str]:
    """Licence and notice files go with the weights, as the licence of Qwen-Audio asks."""
    names = sorted(path.name for path in source.iterdir() if path.name.upper().startswith(("LICENSE", "NOTICE")))
    for name in names:
        shutil.copyfile(source / name, out / name)
    return names
