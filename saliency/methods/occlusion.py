"""Occlusion: how much a score falls when part of the picture is covered.

Zeiler, Fergus: Visualizing and Understanding Convolutional Networks (2014). With the windows W that
cover a pixel, M = mean_W (S(x) - S(x with W filled)).

Windows lie on a grid, so both the covering and the mean are products of a row's part and a
column's: no loop goes over pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, Progress, pick


def occlusion(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    fill: float = 0.5,
    progress: Progress = lambda _done, _total: None,
) -> Maps:
    """Compute how much each score falls on average when a square that holds the pixel is covered.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain; all share the forwards.
        window: side of the square, in pixels; None for a seventh of the picture's shorter side.
        stride: pixels from one square to the next; None for half a window.
        fill: grey level that covers; 0 is black.
        progress: called with (done, total) squares.

    Returns:
        Signed maps (len(targets), H, W): above 0 where covering lowers the score. The details tell
        the window and stride used. Cost: a forward a square, and 1; 170 of a square picture whose
        side 14 divides.

    Raises:
        ValueError: if the window is not in 1..shorter side, the stride not in 1..window, fill not
            in 0..1, or a target is out of range.
    """
    height, width = pixels.shape[2:]
    window, stride = _sides(min(height, width), window, stride)
    if not 0 <= fill <= 1:
        raise ValueError(f"fill is {fill!r} and must be from 0 to 1")
    rows = _covers(height, window, stride, pixels.device)  # (R, H)
    columns = _covers(width, window, stride, pixels.device)  # (C, W)
    total = len(rows) * len(columns)
    with torch.no_grad():
        scores = pick(scorer(pixels), targets)[0]
        covered = []
        for part in hooks.chunks(total, hooks.chunk_size(pixels)):
            square = torch.arange(part.start, part.stop, device=pixels.device)
            row, column = rows[square // len(columns)], columns[square % len(columns)]
            hidden = (row[:, :, None] & column[:, None, :])[:, None]  # (n, 1, H, W)
            covered.append(pick(scorer(pixels.masked_fill(hidden, fill)), targets))
            progress(part.stop, total)
        falls = (scores - torch.cat(covered)).T.view(len(targets), len(rows), len(columns))
        values = _shares(rows).to(falls).T @ falls @ _shares(columns).to(falls)
    return Maps(values, scores, [{"window": window, "stride": stride}] * len(targets))


def _sides(shorter: int, window: int | None, stride: int | None) -> tuple[int, int]:
    """Window and stride in pixels, chosen where not given, checked where given."""
    window = max(1, round(shorter / 7)) if window is None else window
    if not isinstance(window, int) or not 1 <= window <= shorter:
        raise ValueError(f"window is {window!r} and must be whole pixels, from 1 to {shorter}")
    stride = max(1, window // 2) if stride is None else stride
    if not isinstance(stride, int) or not 1 <= stride <= window:
        raise ValueError(
            f"stride is {stride!r} and must be whole pixels, from 1 to the window's {window}, "
            "or places stay uncovered"
        )
    return window, stride


def _covers(side: int, window: int, stride: int, device: torch.device) -> Tensor:
    """Which of a side's pixels each window covers, (windows, side) bool; the last is cut short."""
    starts = torch.arange(0, side - window + stride, stride, device=device)[:, None]
    places = torch.arange(side, device=device)
    return (starts <= places) & (places < starts + window)


def _shares(covers: Tensor) -> Tensor:
    """Each window's share in a pixel's mean, (windows, side): columns sum to 1."""
    return covers / covers.sum(dim=0)
