"""Make a Qwen-Audio checkpoint with random weights, in the Hugging Face layout.

    python3 -m tests.benchmarks.random_checkpoint OUT [--layers N | --tiny] [--seed S] [--outliers] [--vocab FILE] [--base]

In: a `Geometry` and a seed. Out: a folder with config.json, generation_config.json, bfloat16 safetensors shards of at
most 2 GB, model.safetensors.index.json and, if asked, qwen.tiktoken. It knows nothing of the rest of the project: names
and shapes are written down here from the architecture. The full size is 16.8 GB and never more than a few row chunks
of it are in memory.

Values. Every value is one of 65536 quantiles of the normal distribution (so nothing beyond 4.3 sigma), drawn by a
uniform 16-bit index from a table already rounded to bfloat16: 4 times as fast as drawing normals and rounding them,
and after rounding hardly another distribution. The stream is seeded by (seed, tensor name, first row of the chunk), hence
the same bytes for any number of threads; --layers changes the residual scale and the outlier layers only.

Scales. Matrices have std gain/sqrt(fan_in); matrices that write into a residual stream are smaller by
sqrt(2 * layers), so that 32 layers together add about as much as the embedding brought. c_attn has gain 1.5 so that
attention is neither uniform nor one-hot, the convolutions 1.5 for what GELU takes away, lm_head 3: logits have std 3.
Norm gains are 1 + 0.1 N(0, 1), biases 0.02 N(0, 1). The audio position table is the real sinusoid.

Outliers (--outliers). Trained transformers have channels 20 to 100 times the rest; they are what ruins 8-bit
activations, 4-bit blocks and fp16. Planted as factors f, log-uniform in 25..80, on top of the same random values
(a checkpoint without --outliers and with the same seed is equal elsewhere):
- gain channels, 3 of 4096, the same in all layers: ln_1 and ln_2 gains times f, so every c_attn, w1, w2 sees them;
- stream channels, 3 others: columns of wte and audio_bos_eos_token and rows of audio.proj times f, so the residual
  stream starts with them, and rows of attn.c_proj and mlp.c_proj times f in three layers, so some layers add to them;
- intermediate channels, 6 of 11008, others in each layer: rows of w1 times f, so mlp.c_proj sees them;
- audio encoder: attn_ln and mlp_ln gains times f in 2 of 1280 channels, the same in all blocks; rows of mlp.0 times f
  in 4 of 5120, others in each block.
Gain and stream channels differ on purpose: on one channel the two factors multiply to 400 and more, and then a handful
of channels alone would decide every attention score and every logit. As planted, outliers and the rest weigh about the
same in a dot product of 4096. In the full model (float32, seed 1, 24 words, audio, 24 words) these channels have 10 to
95 times the median RMS of a channel after ln_1, up to 220 times before mlp.c_proj (layers 0 to 3, 16 and 31); the
largest value of any layer is 3700 (fp16 ends at 65504), logits have std 2.96 and the best two are 0.38 apart (3.01 and
0.49 without outliers). In a tiny geometry one channel outweighs the rest and attention is nearly one-hot, but the
largest value is 4600.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint16]  # bfloat16 values, as numpy has no such dtype
Gains = dict[int, float]  # channel -> factor

MAKER = "tests.benchmarks.random_checkpoint"  # marks a config.json as ours: such a folder may be overwritten
SHARD_BYTES = 2_000_000_000
CHUNK_VALUES = 1 << 21  # part of the format: another value gives other weights for the same seed
SPARE_BYTES = 64_000_000  # headers, JSON, vocabulary
OUTLIER_RANGE = (25.0, 80.0)  # inside 20..100, with room for the spread of what is multiplied
WRITE_LAYERS = 3


class CheckpointError(Exception):
    """A user mistake: the message names the path and the fix."""


@dataclass(frozen=True)
class Geometry:
    """Sizes of a Qwen-Audio model, named as in its config.json; the defaults are the published model."""

    hidden_size: int = 4096
    intermediate_size: int = 22016  # twice the real width: w1 and w2 are counted together
    num_attention_heads: int = 32
    num_hidden_layers: int = 32
    vocab_size: int = 155947
    seq_length: int = 2048
    audio_start_id: int = 155163
    n_state: int = 1280
    n_head: int = 20
    n_layer: int = 32
    n_mels: int = 80
    n_ctx: int = 1500

    def __post_init__(self) -> None:
        """Reject sizes that the architecture cannot have."""
        assert self.hidden_size % (2 * self.num_attention_heads) == 0, "rotary needs an even head_dim"
        assert self.n_state % (2 * self.n_head) == 0, "n_state is n_head times an even head_dim"
        assert self.intermediate_size % 2 == 0, "w1 and w2 are halves of intermediate_size"
        assert min(self.num_hidden_layers, self.n_layer) >= 1, "at least one layer"


FULL = Geometry()
TINY = Geometry(  # real vocabulary, 20 MB
    hidden_size=32, intermediate_size=256, num_attention_heads=4, num_hidden_layers=2, n_state=64, n_head=4, n_layer=2
)


@dataclass(frozen=True)
class Tensor:
    """One tensor of the checkpoint: mean + std * N(0, 1), then rows and columns times their outlier factors."""

    name: str
    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    rows: Gains = field(default_factory=dict)
    columns: Gains = field(default_factory=dict)

    @property
    def matrix(self) -> tuple[int, int]:
        """Shape as rows and columns; a vector is a column."""
        return self.shape[0], math.prod(self.shape[1:])

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        return 2 * math.prod(self.shape)


def list_tensors(geometry: Geometry) -> list[Tensor]:
    """Every tensor of the checkpoint in the order of the original state dict, without outliers."""
    g, prefix = geometry, "transformer."
    tensors = [Tensor(prefix + "wte.weight", (g.vocab_size, g.hidden_size), 0.5)]
    for layer in range(g.num_hidden_layers):
        tensors += _decoder_layer(g, f"{prefix}h.{layer}.")
    tensors.append(_norm_gain(prefix + "ln_f", g.hidden_size))
    tensors += _encoder(g, prefix + "audio.")
    return [*tensors, _matrix("lm_head.weight", (g.vocab_size, g.hidden_size), gain=3.0)]


def _decoder_layer(g: Geometry, prefix: str) -> list[Tensor]:
    hidden, inner = g.hidden_size, g.intermediate_size // 2
    residual = 1 / math.sqrt(2 * g.num_hidden_layers)
    return [
        _norm_gain(prefix + "ln_1", hidden),
        _matrix(prefix + "attn.c_attn.weight", (3 * hidden, hidden), gain=1.5),
        _bias(prefix + "attn.c_attn", 3 * hidden),
        _matrix(prefix + "attn.c_proj.weight", (hidden, hidden), gain=residual),
        _norm_gain(prefix + "ln_2", hidden),
        _matrix(prefix + "mlp.w1.weight", (inner, hidden)),
        _matrix(prefix + "mlp.w2.weight", (inner, hidden)),
        _matrix(prefix + "mlp.c_proj.weight", (hidden, inner), gain=residual),
    ]


def _encoder(g: Geometry, prefix: str) -> list[Tensor]:
    state = g.n_state
    tensors = [
        Tensor(prefix + "positional_embedding", (g.n_ctx, state), 0.0),  # filled by _sinusoid
        _matrix(prefix + "conv1.weight", (state, g.n_mels, 3), gain=1.5),
        _bias(prefix + "conv1", state),
        _matrix(prefix + "conv2.weight", (state, state, 3), gain=1.5),
        _bias(prefix + "conv2", state),
    ]
    for block in range(g.n_layer):
        tensors += _encoder_block(g, f"{prefix}blocks.{block}.")
    return [
        *tensors,
        _norm_gain(prefix + "ln_post", state),
        _bias(prefix + "ln_post", state),
        _matrix(prefix + "proj.weight", (g.hidden_size, state), gain=0.5),  # as large as wte
        _bias(prefix + "proj", g.hidden_size),
        Tensor(prefix + "audio_bos_eos_token.weight", (2, g.hidden_size), 0.5),
    ]


def _encoder_block(g: Geometry, prefix: str) -> list[Tensor]:
    state, inner = g.n_state, 4 * g.n_state
    residual = 1 / math.sqrt(2 * g.n_layer)
    return [
        _matrix(prefix + "attn.query.weight", (state, state)),
        _bias(prefix + "attn.query", state),
        _matrix(prefix + "attn.key.weight", (state, state)),  # no bias in Whisper
        _matrix(prefix + "attn.value.weight", (state, state)),
        _bias(prefix + "attn.value", state),
        _matrix(prefix + "attn.out.weight", (state, state), gain=residual),
        _bias(prefix + "attn.out", state),
        _norm_gain(prefix + "attn_ln", state),
        _bias(prefix + "attn_ln", state),
        _matrix(prefix + "mlp.0.weight", (inner, state)),
        _bias(prefix + "mlp.0", inner),
        _matrix(prefix + "mlp.2.weight", (state, inner), gain=residual),
        _bias(prefix + "mlp.2", state),
        _norm_gain(prefix + "mlp_ln", state),
        _bias(prefix + "mlp_ln", state),
    ]


def _matrix(name: str, shape: tuple[int, ...], *, gain: float = 1.0) -> Tensor:
    return Tensor(name, shape, gain / math.sqrt(math.prod(shape[1:])))


def _bias(layer: str, width: int) -> Tensor:
    return Tensor(layer + ".bias", (width,), 0.02)


def _norm_gain(layer: str, width: int) -> Tensor:
    return Tensor(layer + ".weight", (width,), 0.1, mean=1.0)


@dataclass(frozen=True)
class Channels:
    """The outlier channels that several tensors of one model share, with their factors."""

    gain: Gains  # hidden, in ln_1 and ln_2
    stream: Gains  # hidden, in the residual stream
    state: Gains  # of the audio encoder, in attn_ln and mlp_ln
    write_layers: frozenset[int]  # decoder layers that add to the stream channels


def pick_channels(geometry: Geometry, *, seed: int) -> Channels:
    """Choose the shared outlier channels: the same ones for the same widths and seed."""
    g = geometry
    each = _share(g.hidden_size, 3, 4096)
    hidden = list(_pick(seed, "hidden", g.hidden_size, 2 * each).items())
    return Channels(
        gain=dict(hidden[:each]),
        stream=dict(hidden[each:]),
        state=_pick(seed, "state", g.n_state, _share(g.n_state, 2, 1280)),
        write_layers=frozenset(_pick(seed, "layers", g.num_hidden_layers, min(WRITE_LAYERS, g.num_hidden_layers))),
    )


def plant_outliers(tensor: Tensor, channels: Channels, *, seed: int) -> Tensor:
    """Give the tensor the row and column factors that the module docstring describes."""
    width = tensor.shape[0]
    match tensor.name.split(".")[1:]:  # without "transformer"
        case ["wte", _] | ["audio", "audio_bos_eos_token", _]:
            return replace(tensor, columns=channels.stream)
        case ["audio", "proj", "weight"]:
            return replace(tensor, rows=channels.stream)
        case ["h", layer, "attn" | "mlp", "c_proj", _] if int(layer) in channels.write_layers:
            return replace(tensor, rows=channels.stream)
        case ["h", _, "ln_1" | "ln_2", _]:
            return replace(tensor, rows=channels.gain)
        case ["h", _, "mlp", "w1", _]:
            return replace(tensor, rows=_pick(seed, tensor.name, width, _share(width, 6, 11008)))
        case ["audio", "blocks", _, "attn_ln" | "mlp_ln", "weight"]:
            return replace(tensor, rows=channels.state)
        case ["audio", "blocks", _, "mlp", "0", "weight"]:
            return replace(tensor, rows=_pick(seed, tensor.name, width, _share(width, 4, 5120)))
    return tensor


def _share(width: int, count: int, full_width: int) -> int:
    """Number of outliers in a narrower layer: in proportion, at least one."""
    return max(1, round(count * width / full_width))


def _pick(seed: int, label: str, width: int, count: int) -> Gains:
    rng = np.random.default_rng([seed, zlib.crc32(f"outliers {label}".encode())])
    channels = rng.choice(width, count, replace=False)
    low, high = (math.log(factor) for factor in OUTLIER_RANGE)
    factors = np.exp(rng.uniform(low, high, count))
    return dict(zip(channels.tolist(), factors.tolist(), strict=True))


def to_bfloat16(values: npt.NDArray[np.float32]) -> Bits:
    """Round float32 to the nearest bfloat16, ties to even (finite values only)."""
    bits = values.view(np.uint32)
    return ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def from_bfloat16(bits: Bits) -> npt.NDArray[np.float32]:
    """Widen bfloat16 to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


@lru_cache(maxsize=1)
def _quantiles() -> npt.NDArray[np.float32]:
    normal = statistics.NormalDist()
    return np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(65536)], np.float32)


@lru_cache(maxsize=64)
def _table(mean: float, std: float) -> Bits:
    return to_bfloat16(np.float32(mean) + np.float32(std) * _quantiles())


def chunks(tensor: Tensor) -> Iterator[tuple[int, int]]:
    """Row ranges [first, last) in which the tensor is made: about CHUNK_VALUES values each."""
    height, width = tensor.matrix
    step = max(1, CHUNK_VALUES // width)
    return ((first, min(first + step, height)) for first in range(0, height, step))


def make_rows(tensor: Tensor, first: int, last: int, *, seed: int) -> Bits:
    """Values of one chunk of the tensor; depends on nothing but the arguments."""
    if tensor.name.endswith("positional_embedding"):
        return to_bfloat16(_sinusoid(*tensor.matrix)[first:last])
    width = tensor.matrix[1]
    count = (last - first) * width
    rng = np.random.Generator(np.random.SFC64([seed, zlib.crc32(tensor.name.encode()), first]))
    words = rng.integers(0, 2**64 - 1, -(-count // 4), np.uint64, endpoint=True)  # 4 indices each
    indices = words.astype("<u8", copy=False).view("<u2")[:count]
    # "wrap" spares a bounds check: every 16-bit index is in the table
    rows = np.take(_table(tensor.mean, tensor.std), indices, mode="wrap").reshape(-1, width)  # [rows, width]
    for row, factor in tensor.rows.items():
        if first <= row < last:
            rows[row - first] = _times(rows[row - first], factor)
    for column, factor in tensor.columns.items():
        rows[:, column] = _times(rows[:, column], factor)
    return rows


def _times(bits: Bits, factor: float) -> Bits:
    return to_bfloat16(from_bfloat16(bits) * np.float32(factor))


def _sinusoid(positions: int, width: int) -> npt.NDArray[np.float32]:
    """Whisper's position table: sines, then cosines, timescales 1 to 10000, in float32."""
    steps = np.arange(width // 2, dtype=np.float32) / np.float32(width // 2 - 1)
    rates = np.exp(-np.float32(math.log(10000)) * steps)
    angles = np.arange(positions, dtype=np.float32)[:, None] * rates  # [positions, width / 2]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)  # [positions, width]


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
        shutil.copyfile(vocab, out / "qwen.tiktoken")
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
    parser.add_argument("--vocab", type=Path, metavar="FILE", help="qwen.tiktoken to copy into OUT")
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
