"""Integrated gradients: the score's difference to a uniform picture, divided among the pixels.

Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks (2017). With the uniform picture b,
M = sum_c (x_c - b) * integral over t in 0..1 of dS / dx_c at b + t (x - b). The integral is a
Gauss-Legendre sum: exact for polynomials of degree 2 * steps - 1, so few steps go far.

Completeness: sum M = S(x) - S(b), but for the sum's error, which each explanation tells.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, Progress, pick


def integrated_gradients(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    baseline: float = 0.0,
    steps: int = 50,
    progress: Progress = lambda _done, _total: None,
) -> Maps:
    """Divide the difference of each score to that of a uniform picture among the pixels.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        baseline: grey level of the uniform picture, 0 (black) to 1.
        steps: Gauss-Legendre points on the straight path between the two.
        progress: called with (done, total) steps.

    Returns:
        Signed maps (len(targets), H, W). Each sums to score(pixels) - score(baseline), but for its
        `completeness_error` in the details: a share of that rise, 0 or more. Cost: 2 + steps
        forwards, a backward a step and target.

    Raises:
        ValueError: if steps is not positive, baseline is not in 0..1, or a target is out of range.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is {steps!r} and must be a positive whole number")
    if not 0 <= baseline <= 1:
        raise ValueError(f"baseline is {baseline!r} and must be from 0 to 1")
    flat = torch.full_like(pixels, baseline)
    with torch.no_grad():
        scores, start = pick(scorer(torch.cat([pixels, flat])), targets)
    way = pixels - flat
    points, weights = np.polynomial.legendre.leggauss(steps)  # on -1..1
    shares = way.new_tensor((points + 1) / 2).view(-1, 1, 1, 1)
    lengths = way.new_tensor(weights / 2).view(-1, 1)
    leaf = hooks.as_leaf(flat)
    slopes = way.new_zeros(len(targets), *way.shape[1:])
    for part in hooks.chunks(steps, hooks.chunk_size(pixels)):
        along = pick(scorer(leaf + shares[part] * way), targets) * lengths[part]
        slopes += hooks.gradients(along, leaf)[:, 0]  # of all the steps, as they share the leaf
        progress(part.stop, steps)
    values = (slopes * way).sum(dim=1)
    rises = (scores - start).double()
    errors = (values.double().sum(dim=(1, 2)) - rises).abs() / rises.abs().clamp(sys.float_info.min)
    return Maps(values, scores, [{"completeness_error": error} for error in errors.tolist()])
