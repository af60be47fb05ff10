"""The conversion itself: sizes from config.json, both graphs, the small files, the manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock, Timeout

from errors import ModelError
from models.convert import qwen_fused, qwen_plain, whisper
from models.convert.calibrate import Progress
from models.convert.calibration_run import calibrate, open_room
from models.convert.calibration_set import CalibrationSet
from models.convert.channel_balance import EvenCheckpoint
from models.convert.checkpoint import Checkpoint
from models.convert.graph import GraphBuilder, WeightsFile
from models.convert.job import (
    BOUNDARY_ROWS,
    EMBEDDINGS,
    ROWS_FILE,
    SLOTS,
    VERSION,
    VOCABULARY,
    Job,
    beside,
    calibration_of,
    can_calibrate,
    check_out,
    describe,
    plan,
    read_examples,
    records,
)
from models.convert.linear import to_float16
from models.convert.loss import Loss
from models.convert.qwen import Qwen, Source
from models.convert.residual_rotation import RotatedCheckpoint
from models.manifest import FILE_NAME, Manifest, save_manifest

OPSET = 17


def convert(
    source: Path,
    out: Path,
    *,
    precision: str,
    flavour: str,
    calibration: Sequence[Path] | Literal["if it can be"] | None = None,
    report: Callable[[str], None] = lambda _: None,
    progress: Progress = lambda numbers: numbers,
) -> None:
    """Convert the checkpoint `source` into the model directory `out`; `report` gets a line for each part.

    `calibration` names sounds and texts to calibrate by; none of them means those that ship, None no calibration, and
    "if it can be" those that ship where precision and checkpoint allow it. A calibration that was interrupted goes on
    where it was; `progress` is put around its layers. Raises ModelError naming the tensor, key or file when the
    checkpoint is incomplete or of another kind.
    """
    job, examples = plan(source, out, precision=precision, flavour=flavour), None
    check_out(job)
    with unfinished(out) as unplaced:
        room = out.absolute().with_name(f".{out.absolute().name}.calibration")
        if calibration == "if it can be":
            calibration = by_default(job, report)
        if calibration is not None:
            examples = read_examples(job, calibration)
            open_room(room, job.checkpoint, examples, f"{VERSION} {precision}")
            job = replace(job, calibration=calibration_of(job, room))
        manifest = write_model(replace(job, out=unplaced), report, progress, examples)
        put_in_place(unplaced, out)
        shutil.rmtree(room, ignore_errors=True)
    if examples is not None:
        report(f"loss (KL from the exact decoder): {Loss(manifest.loss, manifest.answers_loss)}")
    report(f"done: {sum(record.size for record in manifest.files.values()) / 1e9:.2f} GB in {out}")


def by_default(job: Job, report: Callable[[str], None]) -> tuple[()] | None:
    """The set that ships, or no calibration, and why if that is no choice of the user's."""
    if not can_calibrate(job):
        return None
    if job.checkpoint.vocabulary is None:
        report(f"no qwen.tiktoken in {job.checkpoint.directory}: not calibrated, {job.precision} loses more")
        return None
    return ()


@contextmanager
def unfinished(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write a model in, removed at the end; raises ModelError while another run is at it."""
    room = beside(out)
    room.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{room}.lock", timeout=0):
            try:
                yield room
            finally:
                shutil.rmtree(room, ignore_errors=True)
                Path(f"{room}.lock").unlink(missing_ok=True)
    except Timeout:
        raise ModelError(f"{out}: another conversion into it is running", fix="wait for it, or name another") from None


def put_in_place(unplaced: Path, out: Path) -> None:
    """Move the files of a whole model into `out`, its manifest last; a process that has the old model open keeps it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE_NAME).unlink(missing_ok=True)
    for path in sorted(unplaced.iterdir(), key=lambda path: path.name == FILE_NAME):
        path.replace(out / path.name)


def write_model(
    job: Job, report: Callable[[str], None], progress: Progress, examples: CalibrationSet | None
) -> Manifest:
    """Write all files of a model, calibrated by `examples` if there are any."""
    report(f"encoder: {job.encoder_sizes.n_layer} layers of {job.encoder_sizes.n_state}, {job.precision}")
    hashes = {job.names.encoder_weights: write_encoder(job)}
    write_boundary_rows(job)
    loss = Loss(None, None)
    if job.calibration and examples:
        report(f"calibration: {sum(len(one.ids) for one in examples.seen)} tokens")
        loss = calibrate(job.calibration, examples, describe(job), progress)
    report(f"decoder: {job.decoder_sizes.n_layer} layers of {job.decoder_sizes.d_model}, {job.precision}")
    hashes[job.names.decoder_weights] = write_decoder(job)
    if job.fused:
        write_embeddings(job)
    job.checkpoint.finish()
    if job.checkpoint.vocabulary:
        shutil.copyfile(job.checkpoint.vocabulary, job.out / VOCABULARY)
    licences = copy_licences(job.checkpoint.directory, job.out)
    manifest = replace(describe(job), loss=loss.texts, answers_loss=loss.answers)
    manifest = replace(manifest, files=records(manifest, [*hashes, *licences], hashes))
    save_manifest(manifest)
    return manifest


def write_encoder(job: Job) -> str:
    """Write the encoder's graph and weights; returns the SHA-256 of the weights."""
    with WeightsFile(job.out / job.names.encoder_weights) as weights:
        graph = GraphBuilder("encoder", weights, opset=OPSET, contrib=job.fused, floats=job.floats)
        trunk = whisper.Whisper(job.checkpoint, job.encoder_sizes, graph, job.storage.encoder, job.dtype)
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
    config, precision = checkpoint.config, job.storage
    width = config["intermediate_size"] // 2
    tensors: Source = checkpoint
    rotation = None
    if job.calibration:
        rotated = RotatedCheckpoint(checkpoint, job.decoder_sizes.d_model, job.decoder_sizes.n_head)
        tensors, rotation = job.calibration.rounded(rotated, job.calibration.chosen()), rotated.stream
    elif precision.even:
        sizes = (job.decoder_sizes.d_model, width, job.decoder_sizes.n_layer)
        tensors = EvenCheckpoint(checkpoint, sizes, precision.even)
    return Qwen(
        tensors,
        job.decoder_sizes,
        GraphBuilder("decoder", weights, opset=OPSET, contrib=job.fused, floats=job.floats),
        precision,
        width=width,
        epsilon=config["layer_norm_epsilon"],
        dtype=job.dtype,
        finer=job.calibration.chosen() if job.calibration else frozenset(),
        rotation=rotation,
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
