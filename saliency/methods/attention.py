"""Attention: where the scorer itself says that it looked.

Not a measure of what mattered (Jain, Wallace: Attention is not Explanation, 2019): compare it with
the methods that are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency import hooks
from saliency.types import CannotExplain, Maps, pick


def attention(scorer: nn.Module, pixels: Tensor, targets: Sequence[int]) -> Maps:
    """The scorer's own attention.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K), with `attention(pixels)` beside.
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.

    Returns:
        Maps (len(targets), H, W), at least 0; the same for all targets if the scorer looks once
        for all. Cost: 2 forwards.

    Raises:
        CannotExplain: if the scorer has no attention.
        ValueError: if a target is out of range.
    """
    look = getattr(scorer, "attention", None)
    if not callable(look):
        raise CannotExplain(f"{type(scorer).__name__} has no attention to show")
    with torch.no_grad():
        scores = scorer(pixels)
        maps = look(pixels)[0]
        picked = pick(scores, targets)[0]
        maps = maps[list(targets)] if len(maps) > 1 else maps.expand(len(targets), -1, -1)
        return Maps(hooks.enlarge(maps, pixels.shape[2:]), picked)
