"""Muon: momentum, made orthogonal, as the step of a matrix; in float32 but on processors that are quick in bfloat16.

Formula: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks" (the quintic iteration and its
coefficients); scale of the step to that of AdamW: Liu et al. 2025, "Muon is Scalable for LLM Training".
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MOMENTUM = 0.95
HALF = torch.cpu._is_amx_tile_supported()  # noqa: SLF001 - there is no public name; bfloat16 is slow without AMX
ADAMW_RMS = 0.2  # root mean square of AdamW's usual step, of which the rate is a multiple


class Muon(torch.optim.Optimizer):
    """For matrices inside the blocks; matrices of one shape are worked on together."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch gives none
        """Apply one step."""
        for group in self.param_groups:
            shapes: defaultdict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for shape, parameters in shapes.items():
                updates = _orthogonal_by_all(torch.stack([self._momentum(parameter) for parameter in parameters]))
                size = -group["lr"] * ADAMW_RMS * math.sqrt(max(shape))
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=size)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Nesterov's momentum of the gradient."""
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM)


def _orthogonal_by_all(matrices: Tensor) -> Tensor:
    """What `orthogonal` gives; every process works on its share, as it takes a fifth of a step."""
    if not dist.is_initialized():
        return orthogonal(matrices)
    mine = slice(dist.get_rank(), None, dist.get_world_size())
    found = torch.zeros_like(matrices)
    found[mine] = orthogonal(matrices[mine])
    dist.all_reduce(found)
    return found


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Matrices [n, rows, columns] of the same singular vectors, with singular values near 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    if HALF or x.is_cuda:
        x = x.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
