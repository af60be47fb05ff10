"""The log-mels of many clips at once, in torch: as `audio_encoder.log_mel`, within 1e-4, and some ten times as fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from numpy.typing import NDArray
from torch import Tensor

from audio_encoder.log_mel import CHUNK_SAMPLES, HOP, N_FFT, N_MELS, mel_filterbank

FLOOR, RANGE = 1e-10, 8.0  # of the power; powers of ten below the loudest band


def log_mels(waveforms: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Waveforms [samples] at 16 kHz -> mel [clips, n_mels, 2 * longest], and the encoder frames of each [clips].

    Columns behind a clip's own frames are zeros, as the convolutions see them at run time.
    """
    filters = torch.from_numpy(mel_filterbank())
    mels = [_log_mel(torch.from_numpy(waveform[:CHUNK_SAMPLES]), filters) for waveform in waveforms]
    frames = torch.tensor([(min(len(waveform), CHUNK_SAMPLES) // HOP + 1) // 2 for waveform in waveforms])
    mel = torch.zeros(len(mels), N_MELS, 2 * int(frames.max()))
    for row, (one, count) in enumerate(zip(mels, frames.tolist(), strict=True)):
        width = min(2 * count, one.shape[1])
        mel[row, :, :width] = one[:, :width]
    return mel, frames


def _log_mel(waveform: Tensor, filters: Tensor) -> Tensor:
    """[samples] -> [n_mels, samples // 160 + 2]: silence follows the clip, as it does up to 30 s."""
    padded = F.pad(F.pad(waveform, (0, 2 * HOP + N_FFT))[None], (N_FFT // 2, 0), mode="reflect")[0]
    spectrum = torch.stft(padded, N_FFT, HOP, window=torch.hann_window(N_FFT), center=False, return_complex=True)
    power = filters @ spectrum.abs().square()  # [n_mels, frames]
    log_mel = power.clamp(min=FLOOR).log10()
    return (torch.maximum(log_mel, log_mel.max() - RANGE) + 4) / 4
