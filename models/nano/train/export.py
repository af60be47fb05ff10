"""`python3 -m models.nano.train.export STATE… --out DIR`: the mean of training states as a checkpoint to ship.

Two files: the encoder, which `train` does not change, and the rest. Matrices are in 8 bits, a scale a row. Along one
run states lie in one valley, and their mean is often better than each (Izmailov and others, 2018).
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.convert.whisper import SINUSOIDS
from models.nano.train import grafted, whisper_base
from models.nano.train.eight_bits import Arrays, eight_bit, eight_bit_near
from models.nano.train.model import N_CTX, N_MELS, Sizes
from models.nano.train.rounding import Moments, met
from tokenizer.tokenizer import Tokenizer

AUDIO = "transformer.audio."
FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def mean_state(paths: list[Path]) -> dict[str, NDArray[np.float32]]:
    """The mean of the trained weights of several states."""
    states = [torch.load(path, weights_only=True)["model"] for path in paths]
    for state in states:
        grafted.wake(state)
    return {name: torch.stack([state[name] for state in states]).mean(0).numpy() for name in states[0]}


def stored(
    weights: dict[str, NDArray[np.float32]], encoder: dict[str, NDArray[np.float16]], moments: Moments
) -> tuple[Arrays, Arrays]:
    """What stands in the two files: the encoder, and all else; the output's rows are the embeddings."""
    second: Arrays = {}
    for name, values in weights.items():
        if name == "lm_head.weight":
            continue
        if name in moments:
            second |= eight_bit_near(name, values, moments[name])
        elif values.ndim == 2:
            second |= eight_bit(name, values)
        else:
            second[name] = values.astype(np.float32)
    return stored_encoder(encoder), second


def stored_encoder(encoder: Mapping[str, NDArray[np.floating]]) -> Arrays:
    """What stands in the file of the encoder. Its positions are sinusoids, which `config` says."""
    found: Arrays = {}
    for name, heard in encoder.items():
        if name == "positional_embedding":
            continue
        is_matrix = heard.ndim > 1 and name.endswith(".weight")
        found |= (
            eight_bit(AUDIO + name, heard) if is_matrix else {AUDIO + name: np.ascontiguousarray(heard, np.float16)}
        )
    return found


def write(out: Path, parts: tuple[Arrays, Arrays], sizes: Sizes, vocabulary: Path) -> None:
    """The Hugging Face layout that `models.convert` reads."""
    out.mkdir(parents=True, exist_ok=True)
    places: dict[str, str] = {}
    for file, arrays in zip(FILES, parts, strict=True):
        save_file(arrays, out / file, metadata={"format": "pt"})
        places |= dict.fromkeys(arrays, file)
    index = {"metadata": {}, "weight_map": places}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=0) + "\n")
    (out / "config.json").write_text(json.dumps(config(sizes), indent=1) + "\n")
    generation = {"chat_format": "chatml", "max_window_size": sizes.seq_length, "max_new_tokens": 256}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    shutil.copyfile(vocabulary, out / "qwen.tiktoken")


def config(sizes: Sizes) -> dict[str, object]:
    """config.json, with the names of Qwen-Audio's own."""
    audio = {
        "n_mels": N_MELS,
        "n_ctx": N_CTX,
        "n_state": sizes.audio_state,
        "n_head": sizes.audio_head,
        "n_layer": sizes.audio_layer,
        "output_dim": sizes.d_model,
        "audio_start_id": sizes.audio_start,
        "avg_pool": True,
        "add_audio_bos_eos_token": True,
        "positions": SINUSOIDS,
    }
    return {
        "model_type": "qwen",
        "hidden_size": sizes.d_model,
        "intermediate_size": 2 * sizes.width,
        "num_attention_heads": sizes.n_head,
        "num_hidden_layers": sizes.n_layer,
        "kv_channels": sizes.d_model // sizes.n_head,
        "vocab_size": sizes.vocab_size,
        "seq_length": sizes.seq_length,
        "max_position_embeddings": sizes.seq_length,
        "layer_norm_epsilon": sizes.epsilon,
        "rotary_emb_base": sizes.rotary_base,
        "tie_word_embeddings": True,
        "no_bias": True,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "torch_dtype": "float16",
        "audio": audio,
    }


def main(argv: list[str] | None = None) -> int:
    """Export what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("states", type=Path, nargs="+", metavar="STATE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--vocabulary", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--whisper", type=Path, required=True, metavar="FILE", help="the encoder: encoder.safetensors, or model.bin"
    )
    parser.add_argument(
        "--features", type=Path, nargs="*", default=[], metavar="DIR", help="round by what is met there"
    )
    options = parser.parse_args(argv)
    tokenizer = Tokenizer(options.vocabulary)
    encoder = whisper_base.encoder_tensors(whisper_base.fetch(options.whisper))
    weights = mean_state(options.states)
    moments = met(weights, options.vocabulary, options.features) if options.features else {}
    parts = stored(weights, encoder, moments)
    sizes = Sizes(tokenizer.vocab_size, tokenizer.audio_start)
    write(options.out, parts, sizes, options.vocabulary)
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
