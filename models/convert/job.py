"""What one conversion is: its checkpoint, its precision and sizes, the names of its files, and its manifest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from errors import ModelError
from models.convert import qwen_fused, qwen_plain, whisper
from models.convert.calibrate import Calibration
from models.convert.calibration_set import CalibrationSet, load_set
from models.convert.checkpoint import Checkpoint
from models.convert.linear import CALIBRATED, Precision, precision_of
from models.convert.residual_rotation import RotatedCheckpoint
from models.convert.sizes import read_sizes
from models.manifest import FILE_NAME, DecoderSizes, EncoderSizes, FileRecord, Manifest, file_sha256
from models.metadata import read_object

VERSION = "models.convert 10"


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
    calibration: Calibration | None = None

    @property
    def storage(self) -> Precision:
        """How its matrices are stored."""
        return self.calibration.precision if self.calibration else precision_of(self.flavour, self.precision)

    @property
    def chat(self) -> bool:
        """Whether prompts are in ChatML."""
        return bool(self.checkpoint.generation_config.get("chat_format") == "chatml")

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


def beside(out: Path) -> Path:
    """The folder that a model is written in before its files get their places in `out`."""
    return out.absolute().with_name(f".{out.absolute().name}.unfinished")


def check_out(job: Job) -> None:
    """Raise ModelError where a model cannot lie, or would replace what no conversion wrote, before the work is done."""
    out, manifest = job.out, describe(job)
    own = (*(graph.file for graph in manifest.graphs), job.names.encoder_weights, job.names.decoder_weights)
    try:
        if out.exists() and not out.is_dir():
            raise ModelError(f"{out}: a file is in its place", fix="name a folder")
        if (out / FILE_NAME).exists():
            is_ours = read_object(out / FILE_NAME).get("contract") is not None
            there = [] if is_ours else [FILE_NAME]
        elif beside(out).exists():  # a conversion was killed while it put its files in place
            there = []
        else:
            there = [name for name in (*own, *BOUNDARY_ROWS, EMBEDDINGS, VOCABULARY) if (out / name).exists()]
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise ModelError(f"{out}: {getattr(error, 'strerror', None) or error}", fix="name another folder") from None
    if there:
        raise ModelError(f"{out / there[0]}: would be replaced, and is of no model", fix="name another folder")


def describe(job: Job) -> Manifest:
    """The manifest of a model, without its list of files."""
    names, sizes, pairs = job.names, job.decoder_sizes, job.storage.pairs
    fused = job.fused
    if fused:
        decoder, rows = (
            qwen_fused.fused_graphs(file, sizes, slots=n, pairs=pairs, floats=job.floats)
            for file, n in ((names.decoder, 1), (ROWS_FILE, SLOTS))
        )
    else:
        decoder, rows = (qwen_plain.plain_graph(names.decoder, sizes, job.dtype),), ()
    return Manifest(
        name=job.checkpoint.directory.resolve().name,
        contract="fused" if fused else "plain",
        precision=job.precision,
        dtype=job.dtype,
        backends=BACKENDS[job.flavour],
        chat_format="chatml" if job.chat else "raw",
        max_window_size=job.max_window_size,
        encoder_sizes=job.encoder_sizes,
        decoder_sizes=sizes,
        encoder=whisper.encoder_graph(names.encoder, "fused" if fused else "plain"),
        decoder=decoder,
        decoder_rows=rows,
        pairs=pairs,
        boundary_rows=BOUNDARY_ROWS,
        embeddings=EMBEDDINGS if fused else None,
        vocabulary=VOCABULARY if job.checkpoint.vocabulary else None,
        source=str(job.checkpoint.directory),
        converter=VERSION,
        files={},
        directory=job.out,
    )


def records(manifest: Manifest, others: list[str], hashes: dict[str, str]) -> dict[str, FileRecord]:
    """The files of a model and `others`; those whose hash is not in `hashes` are read once more."""
    names = [graph.file for graph in manifest.graphs] + [*manifest.boundary_rows, *others]
    names += [name for name in (manifest.embeddings, manifest.vocabulary) if name]
    return {
        name: FileRecord(manifest.path(name).stat().st_size, hashes.get(name) or file_sha256(manifest.path(name)))
        for name in names
    }


def can_calibrate(job: Job) -> bool:
    """Whether flavour and precision are of those that are rounded by a calibration."""
    return job.flavour == "fused" and job.precision in CALIBRATED


def read_examples(job: Job, files: Sequence[Path]) -> CalibrationSet:
    """What to calibrate by, in the words of the checkpoint; raises ModelError where it has none."""
    vocabulary, sizes = job.checkpoint.vocabulary, job.decoder_sizes
    if vocabulary is None:
        raise ModelError(f"{job.checkpoint.directory}: no qwen.tiktoken to calibrate with", fix="use --calibrate none")
    if not can_calibrate(job):
        raise ModelError(
            f"--precision {job.precision} of --flavour {job.flavour} takes no calibration", fix="use --calibrate none"
        )
    return load_set(vocabulary, chat=job.chat, longest=sizes.max_positions, files=files)


def calibration_of(job: Job, room: Path) -> Calibration:
    """The calibration of a job, in its folder."""
    sizes = job.decoder_sizes
    tensors = RotatedCheckpoint(job.checkpoint, sizes.d_model, sizes.n_head)
    return Calibration(tensors, sizes, CALIBRATED[job.precision], room)
