"""Fixations -> the maps that measures of gaze compare: counts, and their density.

A density is what an eye tracker's fixations blurred by a Gaussian give; the MIT saliency benchmark
blurs by one degree of visual angle, which for OSIE's pictures is about `SIGMA` pixels of `SIZE`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

SIZE = (150, 200)  # height and width at which gaze is measured
SIGMA = 6.0  # of the blur, in pixels of SIZE


def count_map(fixations: Sequence[tuple[float, float]], size: tuple[int, int] = SIZE) -> Tensor:
    """How often people looked at each pixel.

    Args:
        fixations: x and y of each, from 0 at the left and the top to 1; others are left out.
        size: height and width of the map.

    Returns:
        Counts (H, W) float32.
    """
    height, width = size
    counts = torch.zeros(height * width)
    inside = [(x, y) for x, y in fixations if 0 <= x <= 1 and 0 <= y <= 1]
    cells = [
        min(height - 1, int(y * height)) * width + min(width - 1, int(x * width)) for x, y in inside
    ]
    counts.index_add_(0, torch.tensor(cells, dtype=torch.long), torch.ones(len(cells)))
    return counts.view(height, width)


def density(counts: Tensor, sigma: float = SIGMA) -> Tensor:
    """Blur counts by a Gaussian that ends at four sigma; what would leave the map is mirrored.

    Args:
        counts: (..., H, W).
        sigma: in pixels, above 0.

    Returns:
        (..., H, W), with the counts' sum: `scipy.ndimage.gaussian_filter`.

    Raises:
        ValueError: if sigma is not above 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, it is {sigma}")
    rows, columns = (_blur(length, sigma).to(counts) for length in counts.shape[-2:])
    return rows @ counts @ columns.t()


@functools.lru_cache(maxsize=8)
def _blur(length: int, sigma: float) -> Tensor:
    """The blur of a row of pixels as a matrix (length, length)."""
    reach = int(4 * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1)
    weights = (-0.5 * (offsets.double() / sigma) ** 2).exp()
    weights = weights / weights.sum()
    places = torch.arange(length).unsqueeze(1) + offsets  # (length, 2 * reach + 1)
    folded = places % (2 * length)  # mirrored at both edges: d c b a | a b c d | d c b a
    folded = torch.where(folded < length, folded, 2 * length - 1 - folded)
    blur = torch.zeros(length, length, dtype=torch.float64)
    return blur.scatter_add_(1, folded, weights.expand_as(folded)).float()
