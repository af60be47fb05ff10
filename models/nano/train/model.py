"""Qwen-Audio in torch, small, for training only; modules are named as the checkpoint's tensors are.

In: a batch of log-mels and of ids with the places of their clips. Out: hidden states, and what the auxiliary losses
look at. Dimension order: [batch, positions, channels]. The run-time path (ONNX) is the judge of its numbers.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from safetensors.torch import save_file
from torch import Tensor, nn

N_MELS = 80
N_CTX = 1500


@dataclass(frozen=True)
class Sizes:
    """Geometry of nano. `width` is that of the decoder's MLP, `vocab_size` counts the special tokens too."""

    vocab_size: int
    audio_start: int
    d_model: int = 192
    n_layer: int = 4
    n_head: int = 4
    width: int = 512
    audio_state: int = 256
    audio_layer: int = 4
    audio_head: int = 4
    seq_length: int = 2048
    epsilon: float = 1e-5


@dataclass
class Heard:
    """What the encoder made of a batch of clips: frames before pooling, tokens after projection, who is padding."""

    frames: Tensor  # [clips, frames, audio_state]
    tokens: Tensor  # [clips, T, d_model]
    frame_mask: Tensor  # bool [clips, frames], True = sound


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


class AudioAttention(nn.Module):
    """Bidirectional attention of the encoder; keys have no bias."""

    def __init__(self, state: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.value, self.out = (nn.Linear(state, state) for _ in range(3))
        self.key = nn.Linear(state, state, bias=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )  # [clips, heads, frames, dim]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2))


class AudioBlock(nn.Module):
    """Pre-norm block of the Whisper trunk."""

    def __init__(self, state: int, heads: int) -> None:
        super().__init__()
        self.attn_ln, self.attn = nn.LayerNorm(state), AudioAttention(state, heads)
        self.mlp_ln = nn.LayerNorm(state)
        self.mlp = nn.Sequential(nn.Linear(state, 4 * state), nn.GELU(), nn.Linear(4 * state, state))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attn(self.attn_ln(x), mask)
        return x + self.mlp(self.mlp_ln(x))


class AudioEncoder(nn.Module):
    """conv, conv, blocks, mean of frame pairs, norm, projection; boundary rows beside them."""

    positional_embedding: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        state = sizes.audio_state
        self.conv1 = nn.Conv1d(N_MELS, state, 3, padding=1)
        self.conv2 = nn.Conv1d(state, state, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", sinusoids(N_CTX, state))
        self.blocks = nn.ModuleList(AudioBlock(state, sizes.audio_head) for _ in range(sizes.audio_layer))
        self.ln_post = nn.LayerNorm(state)
        self.proj = nn.Linear(state, sizes.d_model)
        self.audio_bos_eos_token = nn.Embedding(2, sizes.d_model)

    def forward(self, mel: Tensor, n_frames: Tensor) -> Heard:
        """mel [clips, n_mels, 2 * max frames], n_frames int64 [clips]."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)  # [clips, frames, state]
        keep = torch.arange(x.shape[1], device=x.device) < n_frames[:, None]  # [clips, frames]
        x = (x + self.positional_embedding[: x.shape[1]]) * keep[..., None]
        for block in self.blocks:
            x = block(x, keep[:, None, None, :])
        even = x[:, : x.shape[1] // 2 * 2]
        pooled = even.unflatten(1, (-1, 2)).mean(2)  # [clips, T, state]
        return Heard(x, self.proj(self.ln_post(pooled)), keep)


class Attention(nn.Module):
    """Causal attention with rotary positions, half-split layout."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.heads = sizes.n_head
        self.c_attn = nn.Linear(sizes.d_model, 3 * sizes.d_model)
        self.c_proj = nn.Linear(sizes.d_model, sizes.d_model, bias=False)

    def project(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """q, k (rotated) and v, each [batch, heads, t, dim]."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1))
        return rotate(q, rotary), rotate(k, rotary), v

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        mixed = F.scaled_dot_product_attention(*self.project(x, rotary), is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class MLP(nn.Module):
    """c_proj(w1(x) * silu(w2(x)))."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.w1, self.w2 = (nn.Linear(sizes.d_model, sizes.width, bias=False) for _ in range(2))
        self.c_proj = nn.Linear(sizes.width, sizes.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(self.w1(x) * F.silu(self.w2(x)))


class Block(nn.Module):
    """Pre-norm block of the decoder."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = (RMSNorm(sizes.d_model, sizes.epsilon) for _ in range(2))
        self.attn, self.mlp = Attention(sizes), MLP(sizes)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attn(self.ln_1(x), rotary)
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """Embeddings, the audio encoder, the decoder's blocks and the last norm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.wte = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.h = nn.ModuleList(Block(sizes) for _ in range(sizes.n_layer))
        self.ln_f = RMSNorm(sizes.d_model, sizes.epsilon)
        self.audio = AudioEncoder(sizes)


class Nano(nn.Module):
    """The whole model; `heard` and `hidden` are the two halves of a training step."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.transformer = Transformer(sizes)
        self.lm_head = nn.Linear(sizes.d_model, sizes.vocab_size, bias=False)
        self.apply(lambda module: _initialise(module, sizes))

    def embed(self, ids: Tensor, heard: Heard, spans: list[tuple[int, int, int, int]]) -> Tensor:
        """Embeddings of ids [batch, t] with clips spliced in: spans are (row, first position, clip, tokens)."""
        x = self.transformer.wte(ids).clone()
        bos, eos = self.transformer.audio.audio_bos_eos_token.weight.to(x.dtype)
        for row, start, clip, tokens in spans:
            x[row, start] = bos
            x[row, start + 1 : start + 1 + tokens] = heard.tokens[clip, :tokens].to(x.dtype)
            x[row, start + 1 + tokens] = eos
        return x

    def hidden(self, x: Tensor, guided_layer: int) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, t, d_model] after ln_f, and the attention weights of one layer [batch, heads, t, t]."""
        rotary = rotary_tables(x.shape[1], self.sizes.d_model // self.sizes.n_head, x.device)
        weights = x
        for number, block in enumerate(self.transformer.h):
            if number == guided_layer:
                q, k, _ = block.attn.project(block.ln_1(x), rotary)
                scores = (q @ k.transpose(2, 3)).float() / math.sqrt(q.shape[-1])
                future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
                weights = scores.masked_fill(future, -torch.inf).softmax(-1)
            x = block(x, rotary)
        return self.transformer.ln_f(x), weights


def sinusoids(length: int, channels: int) -> Tensor:
    """Whisper's fixed positions: sines, then cosines, over log-spaced timescales up to 10000."""
    scales = torch.exp(-math.log(10000) / (channels // 2 - 1) * torch.arange(channels // 2))
    angle = torch.arange(length)[:, None] * scales
    return torch.cat([angle.sin(), angle.cos()], 1)


def rotary_tables(length: int, dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin [length, dim / 2] of position * 10000^(-2i/d)."""
    inverse = 1.0 / 10000 ** (torch.arange(0, dim, 2, device=device) / dim)
    angle = torch.outer(torch.arange(length, device=device, dtype=torch.float32), inverse)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Half-split rotation of x [batch, heads, t, dim]."""
    (cos, sin), (a, b) = rotary, x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def save_checkpoint(model: Nano, out: Path, vocabulary: Path) -> None:
    """The Hugging Face layout that `models.convert` reads: config.json, float16 safetensors, qwen.tiktoken."""
    sizes = model.sizes
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().half().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, out / "model.safetensors")
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
    }
    config = {
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
        "rotary_emb_base": 10000,
        "no_bias": True,
        "use_dynamic_ntk": True,
        "use_logn_attn": True,
        "torch_dtype": "float16",
        "audio": audio,
    }
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"chat_format": "chatml", "max_window_size": sizes.seq_length, "max_new_tokens": 128}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    (out / "qwen.tiktoken").write_bytes(vocabulary.read_bytes())


def describe(sizes: Sizes) -> dict[str, object]:
    """The sizes, for a training checkpoint to be resumed from."""
    return asdict(sizes)


def _initialise(module: nn.Module, sizes: Sizes) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d):
        nn.init.trunc_normal_(module.weight, std=1 / math.sqrt(module.weight[0].numel()))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=0.5)
    if isinstance(module, Attention | MLP):
        with torch.no_grad():
            module.c_proj.weight.mul_(1 / math.sqrt(2 * sizes.n_layer))
