"""Grad-CAM: a sum of feature maps, each weighted by the mean gradient of the score to it.

Selvaraju et al.: Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization
(2017). With the feature maps A_c: w_c = mean_ij dS / dA_cij, L = ReLU(sum_c w_c A_c).

The layers up to the feature maps run once and without a graph; only those after them run backwards,
once a target. Three targets therefore cost hardly more than a forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, pick


def grad_cam(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    layer: nn.Module | None = None,
    enlarge: bool = True,
) -> Maps:
    """Compute the Grad-CAM map of each score.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        layer: the module to read, within the scorer; None for its own `feature_layer`.
        enlarge: whether to resize the maps to the picture; False returns the layer's own grid.

    Returns:
        Maps (len(targets), H, W), at least 0. Cost: 1 forward, a backward of the head a target.

    Raises:
        CannotExplain: if there is no such layer, it is not run just once, or returns no maps.
        ValueError: if a target is out of range.
    """
    layer = hooks.feature_layer(scorer) if layer is None else layer
    features, scores = hooks.forward_from(scorer, pixels, layer)
    scores = pick(scores, targets)
    weights = hooks.gradients(scores, features)[:, 0].mean(dim=(2, 3))  # (k, C)
    cells = (weights @ features.detach()[0].flatten(1)).relu()
    maps = cells.view(len(targets), *features.shape[2:])
    values = hooks.enlarge(maps, pixels.shape[2:]) if enlarge else maps
    return Maps(values, scores[0].detach())
