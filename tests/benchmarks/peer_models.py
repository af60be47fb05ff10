"""The peers' files of the same geometry with random weights: a GGUF for llama.cpp, Whisper's encoder for CTranslate2.

llama.cpp's file is what its own `quantize … Q4_0` would write: blocks of 32 in 4 bits with a float16 scale, the output
layer as Q6_K. Speed does not depend on the values, so one random block pattern serves all matrices of a shape.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from models.manifest import DecoderSizes, EncoderSizes

Q4_0_BLOCK, Q4_0_BYTES = 32, 18
Q6_K_BLOCK, Q6_K_BYTES = 256, 210


def make_gguf(path: Path, sizes: DecoderSizes, width: int) -> None:
    """Write a Qwen-7B of these sizes with random Q4_0 matrices and a Q6_K output layer, without a vocabulary."""
    import gguf  # type: ignore[import-not-found]

    random = np.random.default_rng(0)

    def q4_0(rows: int, columns: int) -> np.ndarray[Any, Any]:
        blocks = random.integers(0, 256, (rows, columns // Q4_0_BLOCK, Q4_0_BYTES), np.uint8)
        blocks[..., :2] = np.frombuffer(np.float16(0.2 / columns**0.5).tobytes(), np.uint8)
        return blocks.reshape(rows, -1)

    def q6_k(rows: int, columns: int) -> np.ndarray[Any, Any]:
        blocks = random.integers(0, 256, (rows, columns // Q6_K_BLOCK, Q6_K_BYTES), np.uint8)
        blocks[..., 192:208] = 16
        blocks[..., 208:] = np.frombuffer(np.float16(0.003 / columns**0.5).tobytes(), np.uint8)
        return blocks.reshape(rows, -1)

    d, kinds = sizes.d_model, gguf.GGMLQuantizationType
    writer = gguf.GGUFWriter(path, "qwen")
    writer.add_context_length(sizes.max_positions)
    writer.add_embedding_length(d)
    writer.add_block_count(sizes.n_layer)
    writer.add_feed_forward_length(2 * width)
    writer.add_rope_freq_base(sizes.rotary_base)
    writer.add_rope_dimension_count(sizes.head_dim)
    writer.add_head_count(sizes.n_head)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(sizes.vocab_size)
    matrices = {
        "attn_qkv": q4_0(3 * d, d),
        "attn_output": q4_0(d, d),
        "ffn_gate": q4_0(width, d),
        "ffn_up": q4_0(width, d),
        "ffn_down": q4_0(d, width),
    }
    writer.add_tensor("token_embd.weight", q4_0(sizes.vocab_size, d), raw_dtype=kinds.Q4_0)
    writer.add_tensor("output_norm.weight", np.ones(d, np.float32))
    writer.add_tensor("output.weight", q6_k(sizes.vocab_size, d), raw_dtype=kinds.Q6_K)
    for layer in range(sizes.n_layer):
        for name, matrix in matrices.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", matrix, raw_dtype=kinds.Q4_0)
        writer.add_tensor(f"blk.{layer}.attn_qkv.bias", np.zeros(3 * d, np.float32))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(d, np.float32))
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
