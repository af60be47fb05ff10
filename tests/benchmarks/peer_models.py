"""The peers' files of the same geometry with random weights: a GGUF for llama.cpp, Whisper's encoder for CTranslate2.

llama.cpp's file is what its own `quantize … Q4_0` would write: blocks of 32 in 4 bits with a float16 scale, the output
layer as Q6_K. Speed does not depend on the values, so one random block pattern serves a matrix of every layer. For what is
lost, the trained weights of a checkpoint go into such a file.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from models.convert.checkpoint import Checkpoint
from models.convert.sizes import read_sizes
from models.manifest import DecoderSizes, EncoderSizes

Array = np.ndarray[Any, Any]

Q4_0_BLOCK, Q4_0_BYTES = 32, 18
Q6_K_BLOCK, Q6_K_BYTES = 256, 210
# llama.cpp's name of a part -> ours.
OURS = {
    "token_embd": "transformer.wte",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
    "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn",
    "attn_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_gate": "mlp.w2",
    "ffn_up": "mlp.w1",
    "ffn_down": "mlp.c_proj",
}


def make_gguf(path: Path, sizes: DecoderSizes, width: int) -> None:
    """Write a Qwen-7B of these sizes with random Q4_0 matrices and a Q6_K output layer, without a vocabulary."""
    gguf = import_module("gguf")
    random, kinds = np.random.default_rng(0), gguf.GGMLQuantizationType
    shapes = {**_matrices(sizes.d_model, width), **_ends(sizes)}
    blocks = {name: _q4_0(random, *shape) for name, shape in shapes.items() if name != "output"}

    def find(name: str) -> tuple[Array, Any]:
        part = name.split(".")[-2]
        if name.endswith(".bias"):
            return np.zeros(3 * sizes.d_model, np.float32), kinds.F32
        if part.endswith("norm"):
            return np.ones(sizes.d_model, np.float32), kinds.F32
        return (_q6_k(random, *shapes[part]), kinds.Q6_K) if part == "output" else (blocks[part], kinds.Q4_0)

    _write_gguf(path, sizes, width, find)


def make_trained_gguf(path: Path, checkpoint: Checkpoint) -> None:
    """Write the decoder of a checkpoint as llama.cpp's `quantize … Q4_0` does where rows are no multiple of 256 long.

    Matrices in Q4_0, the output layer in Q8_0; embeddings in float16, of which a prompt reads rows only.
    """
    gguf = import_module("gguf")
    kinds = gguf.GGMLQuantizationType
    _, sizes = read_sizes(checkpoint.config, checkpoint.directory / "config.json")
    d, width = sizes.d_model, checkpoint.config["intermediate_size"] // 2
    shapes = {**_matrices(d, width), **_ends(sizes)}

    def find(name: str) -> tuple[Array, Any]:
        *place, part, kind = name.split(".")
        if part.endswith("norm") or kind == "bias":
            shape: tuple[int, ...] = (3 * d,) if kind == "bias" else (d,)
        else:
            shape = shapes[part]
        ours = f"transformer.h.{place[1]}.{OURS[part]}" if place else OURS[part]
        values = checkpoint.take(f"{ours}.{kind}", *shape).read()
        if len(shape) == 1:
            return values, kinds.F32
        if part == "token_embd":
            return values.astype(np.float16), kinds.F16
        found = kinds.Q8_0 if part == "output" else kinds.Q4_0
        return gguf.quants.quantize(values, found), found

    _write_gguf(path, sizes, width, find)


def _matrices(d: int, width: int) -> dict[str, tuple[int, int]]:
    """Rows and columns of the matrices of a layer, under their names in a GGUF."""
    rows = {"attn_qkv": 3 * d, "attn_output": d, "ffn_gate": width, "ffn_up": width}
    return {name: (n, d) for name, n in rows.items()} | {"ffn_down": (d, width)}


def _ends(sizes: DecoderSizes) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(("token_embd", "output"), (sizes.vocab_size, sizes.d_model))


def _q4_0(random: np.random.Generator, rows: int, columns: int) -> Array:
    blocks = random.integers(0, 256, (rows, columns // Q4_0_BLOCK, Q4_0_BYTES), np.uint8)
    blocks[..., :2] = np.frombuffer(np.float16(0.2 / columns**0.5).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _q6_k(random: np.random.Generator, rows: int, columns: int) -> Array:
    blocks = random.integers(0, 256, (rows, columns // Q6_K_BLOCK, Q6_K_BYTES), np.uint8)
    blocks[..., 192:208] = 16
    blocks[..., 208:] = np.frombuffer(np.float16(0.003 / columns**0.5).tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _write_gguf(path: Path, sizes: DecoderSizes, width: int, find: Callable[[str], tuple[Array, Any]]) -> None:
    """Write a Qwen-7B; `find` gives the stored rows of a tensor by its name, and their kind."""
    gguf = import_module("gguf")
    writer = gguf.GGUFWriter(path, "qwen")
    writer.add_context_length(sizes.max_positions)
    writer.add_embedding_length(sizes.d_model)
    writer.add_block_count(sizes.n_layer)
    writer.add_feed_forward_length(2 * width)
    writer.add_rope_freq_base(sizes.rotary_base)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_head_count(sizes.n_head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(sizes.vocab_size)
    layer = [f"{name}.weight" for name in (*_matrices(sizes.d_model, width), "attn_norm", "ffn_norm")]
    names = ["token_embd.weight", "output_norm.weight", "output.weight"]
    names += [f"blk.{number}.{name}" for number in range(sizes.n_layer) for name in (*layer, "attn_qkv.bias")]
    for name in names:
        rows, kind = find(name)
        writer.add_tensor(name, rows, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_whisper(folder: Path, sizes: EncoderSizes) -> None:
    """Write a CTranslate2 Whisper of this encoder, int8, with a decoder of one layer that is never run."""
    import ctranslate2  # type: ignore[import-not-found]

    random = np.random.default_rng(0)
    state, vocabulary = sizes.n_state, 512
    spec = ctranslate2.specs.WhisperSpec(sizes.n_layer, sizes.n_head, 1, sizes.n_head)

    def normal(*shape: int) -> Any:
        return random.standard_normal(shape, np.float32) * np.float32(0.02)

    def fill(layer: Any, name: str, value: Any) -> None:
        field, owner = name.rsplit("/", 1)[-1], name.rsplit("/", 2)[-2]
        if value is not None and field != "encodings":  # which are optional, but not for Whisper
            return
        if owner == "layer_norm":
            values = np.ones(state) if field == "gamma" else np.zeros(state)
        elif field == "weight" and owner in ("conv1", "conv2"):
            values = normal(state, sizes.n_mels if owner == "conv1" else state, 3)
        elif field == "encodings":
            values = normal(sizes.n_ctx if "encoder" in name else 448, state)
        elif owner in ("embeddings", "projection", "embeddings_0"):
            values = normal(vocabulary, state) if field == "weight" else np.zeros(vocabulary)
        else:
            rows, columns = _linear_shape(name, state)
            values = normal(rows, columns) if field == "weight" else np.zeros(rows)
        if field not in ("weight_scale", "weight_zero"):
            setattr(layer, field, values.astype(np.float32))

    ctranslate2.specs.model_spec.visit_spec(spec, fill)
    spec.register_vocabulary([f"<{i}>" for i in range(vocabulary)])
    spec.config.alignment_heads = [(0, 0)]
    spec.validate()
    spec.optimize(quantization="int8")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))


def _linear_shape(name: str, state: int) -> tuple[int, int]:
    """Rows and columns of a linear layer, from where CTranslate2 puts it."""
    if "linear_0" in name and "ffn" in name:
        return 4 * state, state
    if "linear_1" in name and "ffn" in name:
        return state, 4 * state
    if "linear_0" in name and "self_attention" in name:
        return 3 * state, state
    if "linear_1" in name and "/attention/" in name:
        return 2 * state, state
    return state, state
