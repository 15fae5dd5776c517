"""How much maps agree: those of several methods, or of one method before and after randomisation.

Adebayo et al.: Sanity Checks for Saliency Maps (2018): redraw a network's weights layer by layer
from the output down, and explain again. A map that stays as it was does not depend on what the
network learned; it shows the picture's edges, say.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saliency import hooks
from saliency.faithfulness import Map
from saliency.registry import explain
from saliency.types import CannotExplain, Progress, check_pixels


@dataclass(frozen=True)
class Agreement:
    """How much the maps of one picture agree, pair by pair; rows and columns as in `names`."""

    names: tuple[str, ...]
    correlations: NDArray[np.float64]  # (M, M), in [-1, 1]: `rank_correlation`
    overlaps: NDArray[np.float64]  # (M, M), in [0, 1]: `top_overlap`


@dataclass(frozen=True)
class Stage:
    """A method's map after some layers were redrawn."""

    layer: str  # the last one redrawn: all that run after it are, too
    redrawn: int  # how many layers are
    correlation: float  # of the map with the original, `rank_correlation`


def rank_correlation(one: Map, other: Map) -> float:
    """Spearman's correlation of two maps: whether they rank the places alike.

    Args:
        one: (H, W); equal values share the mean of their ranks.
        other: of the same size.

    Returns:
        From -1 (in opposite order) to 1 (in the same). A constant map ranks nothing: 0.

    Raises:
        ValueError: if the sizes differ or a number is not finite.
    """
    _check([one, other])
    return float(_standard_ranks(one) @ _standard_ranks(other))


def top_overlap(one: Map, other: Map, fraction: float = 0.1) -> float:
    """How much the places of the highest values overlap, as intersection over union.

    Args:
        one: (H, W).
        other: of the same size.
        fraction: how much of the picture counts as the top, in (0, 1].

    Returns:
        From 0 (apart) to 1 (the same). Where equal values straddle the edge of the top, each of
        them is in it in part, so that it has its area: a constant map is everywhere a little.

    Raises:
        ValueError: if the sizes differ, a number is not finite or there is no such fraction.
    """
    _check([one, other])
    return _overlap(_top(one, fraction), _top(other, fraction))


def agreement(maps: Mapping[str, Map], fraction: float = 0.1) -> Agreement:
    """Compare several maps of a picture, pair by pair.

    Args:
        maps: name -> (H, W), all of one size.
        fraction: how much of the picture counts as the top, in (0, 1].

    Raises:
        ValueError: if there are none, the sizes differ, a number is not finite or there is no such
            fraction.
    """
    _check(list(maps.values()))
    ranks = np.stack([_standard_ranks(values) for values in maps.values()])
    tops = [_top(values, fraction) for values in maps.values()]
    overlaps = np.array([[_overlap(one, other) for other in tops] for one in tops])
    return Agreement(tuple(maps), ranks @ ranks.T, overlaps)


def randomisation(
    scorer: nn.Module,
    pixels: Tensor,
    target: int,
    method: str = "grad_cam",
    *,
    stages: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Stage, ...]:
    """Replace the layers' weights by random ones from the output down, and compare the maps.

    A copy is redrawn; the scorer itself is only read. Each tensor is drawn from a normal of its own
    mean and standard deviation, so that the signal neither dies nor grows on its way; one of
    constant numbers stays, and so do running statistics.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        target: which of the K scores to explain.
        method: a name in `saliency.registry.METHODS`.
        stages: after how many layers, at most, to explain again: evenly spread, the last after all.
        seed: of the draws, and of the method's own.
        progress: called with (done, total) explanations; what it raises ends the work.
        options: the method's own.

    Returns:
        One stage an explanation, from the output down. For a map that depends on the weights the
        correlation falls towards 0. Cost: stages + 1 explanations and 1 forward.

    Raises:
        CannotExplain: if the scorer lacks what the method needs, or has no parameters.
        ValueError: if method, option, pixels, target or stages is none that there is.
    """
    if stages < 1:
        raise ValueError(f"stages is {stages} and must be positive")
    check_pixels(pixels)
    report = progress or (lambda _done, _total: None)
    draw, maps, done = torch.Generator().manual_seed(seed), [], 0
    with torch.inference_mode(False), torch.no_grad():  # or the copy would be of the caller's mode
        twin, options = copy.deepcopy((scorer, options))  # together: a layer may be an option
        layers = _layers(twin, pixels)
        ends = np.unique(np.linspace(0, len(layers), stages + 1).round()).astype(int).tolist()
        for step, end in enumerate(ends):
            for _, tensors in layers[done:end]:
                _redraw(tensors, draw)
            done = end

            def inside(_done: int, _total: int, step: int = step) -> None:
                report(step, len(ends))

            explanations = explain(
                twin, pixels, [target], method, seed=seed, progress=inside, **options
            )
            maps.append(explanations[0].map)
            report(step + 1, len(ends))
    return tuple(
        Stage(layers[end - 1][0], end, rank_correlation(maps[0], map))
        for end, map in zip(ends[1:], maps[1:], strict=True)
    )


def _layers(scorer: nn.Module, pixels: Tensor) -> list[tuple[str, list[Tensor]]]:
    """The layers that run and have parameters, with their names, from the output down."""
    ran: dict[nn.Module, None] = {}  # in the order of their last run

    def note(module: nn.Module, _output: Any) -> None:
        ran.pop(module, None)
        ran[module] = None

    with hooks.evaluating(scorer), torch.no_grad(), hooks.after(list(scorer.modules()), note):
        scorer(pixels.detach().clone())
    names = {module: name for name, module in scorer.named_modules()}
    layers = []
    for module in reversed(ran):
        if any(True for _ in module.parameters(recurse=False)):
            # With its parts that it uses without running them, as nn.MultiheadAttention does.
            parts = (part for part in module.modules() if part is module or part not in ran)
            tensors: list[Tensor] = [p for part in parts for p in part.parameters(recurse=False)]
            layers.append((names[module] or type(module).__name__, tensors))
    if not layers:
        raise CannotExplain(f"{type(scorer).__name__} has no parameters to redraw")
    return layers


def _redraw(tensors: Sequence[Tensor], draw: torch.Generator) -> None:
    for tensor in tensors:
        spread, mean = torch.std_mean(tensor.float(), correction=0)
        tensor.copy_(mean + spread * torch.randn(tensor.shape, generator=draw).to(mean.device))


def _check(maps: Sequence[Map]) -> None:
    shapes = {np.shape(values) for values in maps}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2 or not np.size(maps[0]):
        raise ValueError(f"maps must be (H, W) and of one size, these are {sorted(shapes)}")
    if not all(np.isfinite(values).all() for values in maps):
        raise ValueError("a map holds numbers that are not finite")


def _standard_ranks(map: Map) -> NDArray[np.float64]:
    """The places' ranks (N,), shifted to the mean 0 and scaled to the length 1; 0 if constant."""
    _, level, counts = np.unique(np.ravel(map), return_inverse=True, return_counts=True)
    ranks = counts.cumsum() - (counts - 1) / 2
    centred = ranks[level] - (len(level) + 1) / 2
    length = float(np.linalg.norm(centred))
    return np.asarray(centred / length if length else centred)


def _top(map: Map, fraction: float) -> NDArray[np.float64]:
    """How much each place (N,) belongs to the top: 1, 0, or between where values tie."""
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction} and must be above 0 and at most 1")
    values = np.ravel(map)
    size = max(1, round(fraction * len(values)))
    edge = np.partition(values, -size)[-size]
    inside, tied = values > edge, values == edge
    return np.asarray(inside + tied * ((size - inside.sum()) / tied.sum()))


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())
