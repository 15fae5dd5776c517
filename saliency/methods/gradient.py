"""Gradient of a score to the pixels: how much a small change of each pixel changes the score.

Simonyan, Vedaldi, Zisserman: Deep Inside Convolutional Networks (2013). M = max_c |dS / dx_c|;
signed: sum_c dS / dx_c.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, pick


def gradient(
    scorer: nn.Module, pixels: Tensor, targets: Sequence[int], *, signed: bool = False
) -> Maps:
    """Compute the magnitude of the gradient of each score to the pixels.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        signed: sum over the colour channels instead of taking the largest magnitude of the three.

    Returns:
        Maps (len(targets), H, W), at least 0 unless signed. Cost: 1 forward, a backward a target.

    Raises:
        ValueError: if a target is out of range.
    """
    leaf = hooks.as_leaf(pixels)
    scores = pick(scorer(leaf), targets)
    return Maps(collapse(hooks.gradients(scores, leaf)[:, 0], signed), scores[0].detach())


def collapse(gradients: Tensor, signed: bool) -> Tensor:
    """Gradients (K, 3, H, W) -> maps (K, H, W): the channels' sum if signed, else the largest
    magnitude of the three."""
    return gradients.sum(dim=1) if signed else gradients.abs().amax(dim=1)
