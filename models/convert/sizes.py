"""config.json -> the sizes of both halves of the model. Refuses what this architecture does not mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from errors import ModelError
from models.manifest import LARGEST, DecoderSizes, EncoderSizes


def read_sizes(config: dict[str, Any], path: Path) -> tuple[EncoderSizes, DecoderSizes]:
    """The sizes in a config.json, checked for what this architecture means by them; `path` is for the messages.

    Raises ModelError naming the key that is missing or says something else.
    """

    def number(data: dict[str, Any], key: str) -> int:
        value = data.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise ModelError(f"{path}: {key} is {value!r:.60}, expected a positive number")
        return value

    audio = config.get("audio")
    if config.get("model_type") != "qwen" or not isinstance(audio, dict):
        raise ModelError(f"{path}: not a Qwen-Audio checkpoint (model_type qwen with an audio section)")
    d_model, n_head, head_dim = (number(config, key) for key in ("hidden_size", "num_attention_heads", "kv_channels"))
    expected: dict[str, tuple[Any, Any]] = {"kv_channels * num_attention_heads": (n_head * head_dim, d_model)}
    expected["audio.output_dim"] = (number(audio, "output_dim"), d_model)
    for key, default in (("no_bias", True), ("rotary_pct", 1.0)):
        expected[key] = (config.get(key, default), default)
    for key in ("avg_pool", "add_audio_bos_eos_token"):
        expected[f"audio.{key}"] = (audio.get(key, True), True)
    for key, (found, wanted) in expected.items():
        if found != wanted:
            raise ModelError(f"{path}: {key} is {found!r:.60}, this architecture has {wanted!r}")
    if not isinstance(config.get("layer_norm_epsilon"), float) or number(config, "intermediate_size") % 2:
        raise ModelError(f"{path}: layer_norm_epsilon must be a float and intermediate_size even")
    encoder = EncoderSizes(
        **{key: number(audio, key) for key in ("n_mels", "n_ctx", "n_state", "n_head", "n_layer")}, d_model=d_model
    )
    start = number(audio, "audio_start_id")
    seq_length = number(config, "seq_length")
    decoder = DecoderSizes(
        vocab_size=number(config, "vocab_size"),
        d_model=d_model,
        n_layer=number(config, "num_hidden_layers"),
        n_head=n_head,
        head_dim=head_dim,
        seq_length=seq_length,
        max_positions=max(
            seq_length, number({"max_position_embeddings": seq_length, **config}, "max_position_embeddings")
        ),
        rotary_base=_base(config, path),
        dynamic_ntk=bool(config.get("use_dynamic_ntk", True)),
        logn=bool(config.get("use_logn_attn", True)),
        audio_start=start,
        audio_end=start + 1,
    )
    return encoder, decoder


def _base(config: dict[str, Any], path: Path) -> float:
    value = config.get("rotary_emb_base")
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 < value < LARGEST["rotary_base"]:
        raise ModelError(f"{path}: rotary_emb_base is {value!r:.60}, expected a number over 1 and under 1e30")
    return float(value)
