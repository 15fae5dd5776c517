"""What an explanation must leave as it found it."""

from __future__ import annotations

import numpy as np
import torch

from helpers.toy_scorers import ConvScorer


def state(scorer):
    """Everything about a scorer that an explanation might disturb."""
    return {
        "training": [module.training for module in scorer.modules()],
        "inplace": [getattr(module, "inplace", None) for module in scorer.modules()],
        "hooks": [
            len(m._forward_hooks)
            + len(m._forward_pre_hooks)
            + len(m._backward_hooks)
            + len(m._backward_pre_hooks)
            for m in scorer.modules()
        ],
        "grads": [None if p.grad is None else p.grad.clone() for p in scorer.parameters()],
        "needed": [p.requires_grad for p in scorer.parameters()],
        "weights": [t.clone() for t in scorer.state_dict().values()],
        "random": (torch.get_rng_state().tolist(), str(np.random.get_state())),
        "grad mode": torch.is_grad_enabled(),
    }


def alike(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return one == other


def unchanged(before, after):
    return [name for name in before if not alike(before[name], after[name])] == []


class Broken(ConvScorer):
    """Fails in the middle of its run."""

    def forward(self, pixels):
        super().forward(pixels)
        raise FloatingPointError("broken")
