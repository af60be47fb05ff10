"""Make a Qwen-Audio checkpoint with random weights, in the Hugging Face layout.

    python3 -m tests.benchmarks.random_checkpoint OUT [--layers N | --tiny] [--seed S] [--outliers] [--vocab FILE] [--base]

In: a `Geometry` and a seed. Out: a folder with config.json, generation_config.json, bfloat16 safetensors shards of at
most 2 GB, model.safetensors.index.json and, if asked, qwen.tiktoken. The full size is 16.8 GB and never more than a few
row chunks of it are in memory. --layers changes the residual scale and the outlier layers only.
What is in the tensors is decided elsewhere: their scales in `geometry`, their values and outliers in `random_weights`.
"""

import argparse
import json
import lzma
import os
import shutil
import struct
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path

from tests.benchmarks.geometry import FULL, TINY, Geometry, Tensor, list_tensors
from tests.benchmarks.random_weights import chunks, make_rows, pick_channels, plant_outliers

__all__ = ["FULL", "TINY", "CheckpointError", "Geometry", "main", "make_checkpoint"]

MAKER = "tests.benchmarks.random_checkpoint"  # marks a config.json as ours: such a folder may be overwritten
SHARD_BYTES = 2_000_000_000
SPARE_BYTES = 64_000_000  # headers, JSON, vocabulary


class CheckpointError(Exception):
    """A user mistake: the message names the path and the fix."""


def split_shards(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """Fill shards in order, up to SHARD_BYTES each."""
    shards: list[list[Tensor]] = [[]]
    room = SHARD_BYTES
    for tensor in tensors:
        if tensor.nbytes > room and shards[-1]:
            shards.append([])
            room = SHARD_BYTES
        shards[-1].append(tensor)
        room -= tensor.nbytes
    return shards


def write_shard(path: Path, tensors: Sequence[Tensor], *, seed: int, pool: Executor) -> None:
    """Write one safetensors file: under a temporary name, renamed when it is complete."""
    header, begin = _header(tensors)
    part = path.with_suffix(".tmp")
    try:
        with part.open("wb") as file:
            file.write(header)
            file.flush()
            jobs: list[Future[None]] = []
            for tensor in tensors:
                offset = len(header) + begin[tensor.name]
                for first, last in chunks(tensor):
                    at = offset + 2 * first * tensor.matrix[1]
                    jobs.append(pool.submit(_write_rows, file.fileno(), at, tensor, first, last, seed))
            _finish(jobs)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _finish(jobs: Sequence[Future[None]]) -> None:
    """Wait for all jobs; after the first failure none of them may touch the file any more."""
    try:
        for job in jobs:
            job.result()
    finally:
        for job in jobs:
            job.cancel()
        wait(jobs)


def _write_rows(descriptor: int, at: int, tensor: Tensor, first: int, last: int, seed: int) -> None:
    data = memoryview(make_rows(tensor, first, last, seed=seed).astype("<u2", copy=False).tobytes())
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written


def _header(tensors: Sequence[Tensor]) -> tuple[bytes, dict[str, int]]:
    """First bytes of a safetensors file, and where each tensor begins after them."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin: dict[str, int] = {}
    end = 0
    for tensor in tensors:
        begin[tensor.name], end = end, end + tensor.nbytes
        offsets = [begin[tensor.name], end]
        entries[tensor.name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, begin


def make_checkpoint(
    out: Path,
    geometry: Geometry,
    *,
    seed: int,
    outliers: bool = False,
    vocab: Path | None = None,
    base: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> None:
    """Write a whole checkpoint folder; `report` gets a line per shard. User mistakes raise CheckpointError."""
    tensors = list_tensors(geometry)
    if outliers:
        channels = pick_channels(geometry, seed=seed)
        tensors = [plant_outliers(tensor, channels, seed=seed) for tensor in tensors]
    if vocab is not None and not vocab.is_file():
        raise CheckpointError(f"{vocab}: no such vocabulary file; give the path of qwen.tiktoken")
    _prepare(out, need=sum(tensor.nbytes for tensor in tensors) + SPARE_BYTES)
    _write_json(out / "config.json", _config(geometry, seed=seed, outliers=outliers))  # first: it marks OUT as ours
    _write_json(out / "generation_config.json", _generation_config(base=base))
    if vocab is not None:
        opened = lzma.open if vocab.suffix == ".xz" else open
        with opened(vocab, "rb") as source, (out / "qwen.tiktoken").open("wb") as target:
            shutil.copyfileobj(source, target)
    shards = split_shards(tensors)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, shard in enumerate(shards, 1):
            write_shard(out / _shard_name(number, len(shards)), shard, seed=seed, pool=pool)
            size = sum(tensor.nbytes for tensor in shard)
            report(f"{out}: shard {number} of {len(shards)}, {size / 1e9:.2f} GB")
    _write_json(out / "model.safetensors.index.json", _index(shards))  # last: without it nothing loads


def _shard_name(number: int, total: int) -> str:
    return f"model-{number:05}-of-{total:05}.safetensors"


def _prepare(out: Path, *, need: int) -> None:
    """Make OUT a folder free of an older checkpoint of ours, on a disk with room."""
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: is not a folder; choose another one")
    if out.is_dir() and any(out.iterdir()) and not _is_ours(out):
        raise CheckpointError(f"{out}: holds files that were not made here; choose a new or empty folder")
    out.mkdir(parents=True, exist_ok=True)
    old = [*out.glob("model-?????-of-?????.*"), *out.glob("model.safetensors.index.json")]
    free = shutil.disk_usage(out).free + sum(path.stat().st_size for path in old)
    if free < need:
        raise CheckpointError(f"{out}: needs {need / 1e9:.1f} GB, the disk has {free / 1e9:.1f} GB; free some space")
    for path in old:
        path.unlink()


def _is_ours(out: Path) -> bool:
    try:
        config = json.loads((out / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("made_by") == MAKER


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _index(shards: Sequence[Sequence[Tensor]]) -> dict[str, object]:
    total = sum(tensor.nbytes for shard in shards for tensor in shard)
    names = {tensor.name: _shard_name(k, len(shards)) for k, shard in enumerate(shards, 1) for tensor in shard}
    return {"metadata": {"total_size": total}, "weight_map": names}


def _generation_config(*, base: bool) -> dict[str, object]:
    chat: dict[str, object] = {} if base else {"chat_format": "chatml"}
    ends = {"eos_token_id": 151643, "pad_token_id": 151643, "max_window_size": 6144, "max_new_tokens": 512}
    return {**chat, **ends, "do_sample": False, "top_k": 0, "top_p": 0.5, "transformers_version": "4.31.0"}


def _config(geometry: Geometry, *, seed: int, outliers: bool) -> dict[str, object]:
    sizes = asdict(geometry)
    audio = {name: sizes.pop(name) for name in ("audio_start_id", "n_ctx", "n_head", "n_layer", "n_mels", "n_state")}
    audio |= {"output_dim": geometry.hidden_size, "add_audio_bos_eos_token": True, "avg_pool": True}
    kv_channels = geometry.hidden_size // geometry.num_attention_heads
    made = {"made_by": MAKER, "seed": seed, "outliers": outliers}
    return {**made, **json.loads(_CONFIG_OF_ANY_SIZE), **sizes, "kv_channels": kv_channels, "audio": audio}


_CONFIG_OF_ANY_SIZE = """{
"architectures": ["QWenLMHeadModel"], "model_type": "qwen", "tokenizer_type": "QWenTokenizer",
"auto_map": {"AutoConfig": "configuration_qwen.QWenConfig", "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel"},
"bf16": true, "fp16": false, "fp32": false, "torch_dtype": "bfloat16", "transformers_version": "4.32.0",
"attn_dropout_prob": 0.0, "emb_dropout_prob": 0.0, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
"max_position_embeddings": 8192, "no_bias": true, "onnx_safe": null, "rotary_emb_base": 10000, "rotary_pct": 1.0,
"scale_attn_weights": true, "softmax_in_fp32": false, "tie_word_embeddings": false, "use_cache": true,
"use_cache_kernel": false, "use_cache_quantization": false, "use_dynamic_ntk": true, "use_flash_attn": false,
"use_logn_attn": true
}"""


def _at_least(lowest: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if int(text) < lowest:
            raise argparse.ArgumentTypeError(f"must be {lowest} or more, not {text}")
        return int(text)

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python3 -m {MAKER}", description="Make a Qwen-Audio checkpoint of random weights."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to make; replaced if it was made here")
    parser.add_argument("--layers", type=_at_least(1), metavar="N", help="decoder and encoder layers, 32 unless told")
    parser.add_argument("--tiny", action="store_true", help="a model of 20 MB instead of 16.8 GB")
    parser.add_argument("--seed", type=_at_least(0), default=0, metavar="S")
    parser.add_argument("--outliers", action="store_true", help="plant channels 20 to 100 times the rest")
    parser.add_argument("--vocab", type=Path, metavar="FILE", help="qwen.tiktoken, or its .xz, to put into OUT")
    parser.add_argument("--base", action="store_true", help="the base model: no chat format")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 on success, 2 on a user's mistake."""
    args = _parser().parse_args(argv)
    geometry = TINY if args.tiny else FULL
    if args.layers:
        geometry = replace(geometry, num_hidden_layers=args.layers, n_layer=args.layers)
    start = time.perf_counter()

    def report(line: str) -> None:
        print(f"{line}, {time.perf_counter() - start:.0f} s", file=sys.stderr)

    try:
        make_checkpoint(
            args.out, geometry, seed=args.seed, outliers=args.outliers, vocab=args.vocab, base=args.base, report=report
        )
    except (CheckpointError, OSError) as error:
        print(f"random_checkpoint: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
