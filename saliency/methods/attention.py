"""Attention: the weights that the model itself gave to the places of the picture.

High attention does not mean that a place decided the score (Jain, Wallace: Attention is not
Explanation, 2019); compare the map with those of methods that follow or test the score.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency import hooks
from saliency.types import CannotExplain, Maps, pick


def attention(scorer: nn.Module, pixels: Tensor, targets: Sequence[int]) -> Maps:
    """Read the attention map that the scorer itself computes, one a target.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K), with `attention(pixels)` beside.
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.

    Returns:
        Maps (len(targets), H, W), at least 0; equal for all targets where the scorer has one map
        for all of them. Cost: 2 forwards.

    Raises:
        CannotExplain: if the scorer has no attention.
        ValueError: if a target is out of range.
    """
    attend = getattr(scorer, "attention", None)
    if not callable(attend):
        raise CannotExplain(f"{type(scorer).__name__} has no attention to show")
    with torch.no_grad():
        scores = scorer(pixels)
        maps = attend(pixels)[0]
        picked = pick(scores, targets)[0]
        maps = maps[list(targets)] if len(maps) > 1 else maps.expand(len(targets), -1, -1)
        return Maps(hooks.enlarge(maps, pixels.shape[2:]), picked)
