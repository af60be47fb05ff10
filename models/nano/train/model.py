"""Qwen-Audio in torch, small, for training only; modules are named as the checkpoint's tensors are.

The encoder begins as Whisper base's. `AudioEncoder.features` gives what the projection takes, once for each clip, and
`train` reads that from disk. `tune_encoder` alone changes the encoder. In: ids, features and where they stand. Out:
hidden states. Dimension order: [batch, positions, channels]. The run-time path (ONNX) judges its numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import Tensor, nn

from models.convert.whisper import sinusoids

N_MELS = 80
N_CTX = 1500


@dataclass(frozen=True)
class Sizes:
    """Geometry of nano. `width` is that of the decoder's MLP, `vocab_size` counts the special tokens too.

    The decoder has room for Whisper base's: a layer for positions, and two for each of its six (`graft`).
    """

    vocab_size: int
    audio_start: int
    d_model: int = 576
    n_layer: int = 13
    n_head: int = 8
    width: int = 832
    audio_state: int = 512
    audio_layer: int = 6
    audio_head: int = 8
    seq_length: int = 2048
    epsilon: float = 1e-5
    dropout: float = 0.0  # of what a block adds, while it learns
    rotary_base: float = 5.0**36  # each pair of a head turns five times as fast as the next


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight."""

    def __init__(self, size: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.epsilon)


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
    """conv, conv, blocks, mean of frame pairs, norm; the projection and the boundary rows beside them."""

    positional_embedding: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        state = sizes.audio_state
        self.conv1 = nn.Conv1d(N_MELS, state, 3, padding=1)
        self.conv2 = nn.Conv1d(state, state, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", torch.from_numpy(sinusoids(N_CTX, state)))
        self.blocks = nn.ModuleList(AudioBlock(state, sizes.audio_head) for _ in range(sizes.audio_layer))
        self.ln_post = nn.LayerNorm(state)
        self.proj = nn.Linear(state, sizes.d_model)
        self.audio_bos_eos_token = nn.Embedding(2, sizes.d_model)

    def forward(self, mel: Tensor, n_frames: Tensor) -> Tensor:
        """As `features`, projected: [clips, T, d_model]."""
        projected: Tensor = self.proj(self.features(mel, n_frames))
        return projected

    def features(self, mel: Tensor, n_frames: Tensor) -> Tensor:
        """mel [clips, n_mels, 2 * max frames], n_frames int64 [clips] -> what `proj` takes, [clips, T, state]."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)  # [clips, frames, state]
        keep = torch.arange(x.shape[1], device=x.device) < n_frames[:, None]  # [clips, frames]
        x = (x + self.positional_embedding[: x.shape[1]]) * keep[..., None]
        for block in self.blocks:
            x = block(x, keep[:, None, None, :])
        even = x[:, : x.shape[1] // 2 * 2]
        pooled: Tensor = self.ln_post(even.unflatten(1, (-1, 2)).mean(2))
        return pooled


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
        self.dropout = sizes.dropout

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        x = x + F.dropout(self.attn(self.ln_1(x), rotary), self.dropout, self.training)
        return x + F.dropout(self.mlp(self.ln_2(x)), self.dropout, self.training)


class Transformer(nn.Module):
    """Embeddings, the audio encoder, the decoder's blocks and the last norm."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.wte = nn.Embedding(sizes.vocab_size, sizes.d_model)
        self.h = nn.ModuleList(Block(sizes) for _ in range(sizes.n_layer))
        self.ln_f = RMSNorm(sizes.d_model, sizes.epsilon)
        self.audio = AudioEncoder(sizes)


class Nano(nn.Module):
    """The whole model; the embeddings are the output's rows, too."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.transformer = Transformer(sizes)
        self.lm_head = nn.Linear(sizes.d_model, sizes.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        self.apply(lambda module: _initialise(module, sizes))

    def embed(self, ids: Tensor, features: Tensor, places: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
        """Embeddings of ids [batch, t] with clips in their places.

        `features` [tokens, state] of all clips, one behind the other, stand at the flat positions `places` [tokens];
        the two boundary rows at those of `ends`, [clips] each.
        """
        x = self.transformer.wte(ids).flatten(0, 1)
        audio = self.transformer.audio
        heard = F.dropout(audio.proj(features), self.sizes.dropout, self.training)
        bos, eos = audio.audio_bos_eos_token.weight
        x = x.index_put((places,), heard.to(x.dtype))
        for row, where in ((bos, ends[0]), (eos, ends[1])):
            x = x.index_put((where,), row.to(x.dtype).expand(len(where), -1))
        return x.view(*ids.shape, -1)

    def hidden(self, x: Tensor) -> Tensor:
        """What the last norm gives, [batch, t, d_model]."""
        rotary = rotary_tables(torch.arange(x.shape[1], device=x.device), self.sizes)
        for block in self.transformer.h:
            x = block(x, rotary)
        last: Tensor = self.transformer.ln_f(x)
        return last


def rotary_tables(positions: Tensor, sizes: Sizes) -> tuple[Tensor, Tensor]:
    """cos and sin [..., dim / 2] of positions [...] * base^(-2i/d)."""
    dim = sizes.d_model // sizes.n_head
    turns = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float64)
    angle = positions[..., None] * sizes.rotary_base ** (-turns / dim)
    return angle.cos().float(), angle.sin().float()


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Half-split rotation of x [batch, heads, t, dim]."""
    (cos, sin), (a, b) = rotary, x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


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
