"""Does a map name what the scorer goes by? Cover that, and ask again.

Samek et al.: Evaluating the Visualization of What a Deep Neural Network Has Learned (2017);
Petsiuk, Das, Saenko: RISE, Randomized Input Sampling for Explanation of Black-box Models (2018).
With f the share of the picture that is covered (deletion) or shown (insertion), the places that the
map ranks highest first, and P(f) the probability of the target, the area is the integral of P from
f = 0 to 1 by trapezoids: low for deletion and high for insertion speak for the map.

Scattered covers destroy a picture faster than one compact place of the same area, and scattered
bits of it are recognised later. So pictures are covered patch by patch, not pixel by pixel, or
pixels in random order would look better than any map that has a shape. And so a map is compared
with chance of its own shape: `moved_maps` are the map itself, elsewhere; `random_maps` are as
smooth as the last grid of a convolutional network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saliency import hooks
from saliency.types import NoEvidence, Progress, check_pixels, pick, probabilities

Fill: TypeAlias = Literal["mean", "blurred"] | float  # or a grey level, 0 for black
Map: TypeAlias = NDArray[np.floating]


@dataclass(frozen=True)
class Curve:
    """How the probability of a target goes while the picture is covered, or shown."""

    fractions: tuple[float, ...]  # of the picture, covered or shown: from 0 to 1
    probabilities: tuple[float, ...]  # of the target, one a fraction
    area: float  # under the curve, 0..1


@dataclass(frozen=True)
class Counterfactual:
    """What the scorer answers when the places that a map names are covered."""

    before: int  # the likeliest target of the picture as it is
    probability_before: float
    after: int  # the likeliest one of the covered picture
    probability_after: float  # of `before` still
    fraction: float  # of the picture that is covered
    draws: int  # how many times the same cover was moved to a random place
    draws_changed: int  # how many times that changed the likeliest target
    probability_drawn: float  # of `before` there, on average
    mask: NDArray[np.bool_]  # (H, W), True where covered
    pixels: Tensor  # (1, 3, H, W), the covered picture
    label_before: str = ""  # `before` in words, where somebody knew it
    label_after: str = ""

    @property
    def changed(self) -> bool:
        """Whether covering changes the answer."""
        return self.after != self.before


def curves(
    scorer: nn.Module,
    pixels: Tensor,
    target: int,
    maps: Map,
    *,
    kind: Literal["deletion", "insertion"] = "deletion",
    steps: int = 14,
    patch: int = 16,
    fill: Fill = "mean",
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Curve, ...]:
    """Cover (or show) a picture step by step, in the order of each of several maps.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        target: whose probability is followed.
        maps: (M, H, W); a patch's value is its mean, below 0 is covered last.
        kind: "deletion" covers the picture, "insertion" shows it.
        steps: how many times some more is covered, at most once a patch.
        patch: side of a patch in pixels, about: a whole number of them fills the picture.
        fill: what covers: the picture's "mean" colour, the picture "blurred", or a grey level.
        seed: of the order of patches of equal value.
        progress: called with (done, total) forwards; what it raises ends the work.

    Returns:
        One curve a map. Cost: M (steps - 1) + 2 forwards, as the ends are everybody's.

    Raises:
        ValueError: if an argument is none of these.
    """
    if kind not in ("deletion", "insertion"):
        raise ValueError(f'kind is "deletion" or "insertion", not {kind!r}')
    if steps < 1:
        raise ValueError(f"steps is {steps} and must be positive")
    patches = _Patches(pixels, patch, fill)
    means = patches.means(maps)
    ranks = _ranks(means, np.random.RandomState(seed))
    counts = np.unique(np.linspace(0, patches.count, steps + 1).round())  # from none to all
    reached = ranks[:, None] < counts[1:-1, None]  # (M, steps - 1, patches)
    ends = np.arange(2)[:, None] > np.zeros(patches.count)  # none of the patches, all of them
    named = np.concatenate([ends, reached.reshape(-1, patches.count)])
    covered = named if kind == "deletion" else ~named
    answers = patches.answers(scorer, covered, progress)
    first, last, *inner = pick(answers, [target])[:, 0].tolist()
    rows = np.reshape(inner, (len(means), -1))
    shares = reached @ patches.areas / patches.areas.sum()
    return tuple(
        _curve((0.0, *share, 1.0), (first, *row, last))
        for share, row in zip(shares.tolist(), rows.tolist(), strict=True)
    )


def counterfactual(
    scorer: nn.Module,
    pixels: Tensor,
    map: Map,
    *,
    fraction: float = 0.1,
    patch: int = 16,
    fill: Fill = "mean",
    draws: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Counterfactual:
    """Cover what a map names: does the scorer still answer the same? And if as much is elsewhere?

    To compare, the same cover is moved to random places (what leaves at one edge comes in at the
    opposite one): an equal area of the same shape, as compact or scattered as the map names it.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1].
        map: (H, W); above 0 speaks for the answer. A patch's value is its mean.
        fraction: how much of the picture to cover, between 0 and 1: the patches of the highest
            value, fewer where fewer are above 0.
        patch: side of a patch in pixels, about: a whole number of them fills the picture.
        fill: what covers: the picture's "mean" colour, the picture "blurred", or a grey level.
        draws: how many times to move the cover.
        seed: of the random places, and of the order of patches of equal value.
        progress: called with (done, total) forwards; what it raises ends the work.

    Returns:
        What became of the answer. Cost: 2 + draws forwards.

    Raises:
        NoEvidence: if no patch is above 0.
        ValueError: if the picture is a single patch, or an argument is none of these.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction is {fraction} and must be between 0 and 1")
    if draws < 1:
        raise ValueError(f"draws is {draws} and must be positive")
    patches, draw = _Patches(pixels, patch, fill), np.random.RandomState(seed)
    means = patches.means(np.asarray(map)[None])
    positive = int((means > 0).sum())
    if not positive:
        raise NoEvidence("the map has no positive evidence to cover")
    count = min(positive, max(1, round(fraction * patches.count)))
    marked = _ranks(means, draw)[0] < count
    moved = _moved(marked.reshape(patches.grid), draws, draw).reshape(draws, -1)
    covered = np.concatenate([[np.zeros_like(marked), marked], moved])
    answers = patches.answers(scorer, covered, progress)
    best = answers.argmax(dim=1).tolist()
    old = pick(answers, best[:1])[:, 0].tolist()
    return Counterfactual(
        before=best[0],
        probability_before=old[0],
        after=best[1],
        probability_after=old[1],
        fraction=float(marked @ patches.areas / patches.areas.sum()),
        draws=draws,
        draws_changed=sum(after != best[0] for after in best[2:]),
        probability_drawn=sum(old[2:]) / draws,
        mask=marked[patches.labels],
        pixels=patches.covered(marked[None]),
    )


def random_maps(
    size: Sequence[int], count: int, seed: int = 0, *, cells: int | None = 7
) -> NDArray[np.float32]:
    """Maps that know nothing: noise in [0, 1], (count, *size).

    Args:
        size: height and width of the maps.
        count: how many.
        seed: of the draws.
        cells: the noise has so many values along each side, with bilinear slopes between; None for
            one a pixel.
    """
    noise = np.random.RandomState(seed).rand(count, *((cells, cells) if cells else size))
    return np.asarray(hooks.enlarge(torch.from_numpy(noise).float(), size).numpy())


def moved_maps(map: Map, count: int, seed: int = 0) -> Map:
    """A map (H, W) that names random other places instead, (count, H, W).

    It is shifted down and sideways; what leaves at one edge comes in at the opposite one.

    Raises:
        ValueError: if the map is a single value.
    """
    return _moved(np.asarray(map), count, np.random.RandomState(seed))


def centre_map(size: Sequence[int]) -> NDArray[np.float32]:
    """A map that knows only that things are in the middle: (H, W) in (0, 1].

    A Gaussian, its standard deviation a quarter of each side.
    """
    y, x = (np.linspace(-2, 2, 2 * length + 1)[1::2] for length in size)
    return np.exp(-(y[:, None] ** 2 + x**2) / 2).astype(np.float32)


class _Patches:
    """A picture as a grid of nearly equal rectangles, each of which can be covered."""

    def __init__(self, pixels: Tensor, side: int, fill: Fill) -> None:
        check_pixels(pixels)
        if side < 1:
            raise ValueError(f"patch is {side} and must be a positive number of pixels")
        self.pixels, self.size = pixels.detach(), tuple(pixels.shape[2:])
        rows, columns = self.grid = tuple(max(1, round(length / side)) for length in self.size)
        row, column = (
            np.arange(length) * number // length
            for length, number in zip(self.size, self.grid, strict=True)
        )
        self.count = rows * columns
        self.labels = row[:, None] * columns + column  # (H, W): the patch of each pixel
        self.areas = np.bincount(self.labels.ravel())  # (count,) in pixels
        self.hidden = self._filling(fill)  # (1, 3, H, W), what covers

    def means(self, maps: Map) -> NDArray[np.float64]:
        """Maps (M, H, W) -> (M, count)."""
        maps = np.asarray(maps, dtype=np.float64)
        if maps.ndim != 3 or not len(maps) or maps.shape[1:] != self.size:
            raise ValueError(f"maps of a picture {self.size} are not {maps.shape}")
        if not np.isfinite(maps).all():
            raise ValueError("a map holds numbers that are not finite")
        sums = [np.bincount(self.labels.ravel(), values.ravel()) for values in maps]
        return np.stack(sums) / self.areas

    def covered(self, patches: NDArray[np.bool_]) -> Tensor:
        """The picture with these patches covered, (N, count) -> (N, 3, H, W)."""
        masks = torch.from_numpy(patches[:, self.labels]).to(self.pixels.device)
        return torch.where(masks[:, None], self.hidden, self.pixels)

    def answers(
        self, scorer: nn.Module, patches: NDArray[np.bool_], progress: Progress | None
    ) -> Tensor:
        """What a scorer answers when these are covered, (N, count) -> probabilities (N, K)."""
        batches = []
        with hooks.evaluating(scorer), torch.no_grad():
            for part in hooks.chunks(len(patches), hooks.chunk_size(self.pixels)):
                scores = scorer(self.covered(patches[part]))
                batches.append(probabilities(scorer, scores))
                if progress:
                    progress(part.stop, len(patches))
        return torch.cat(batches)

    def _filling(self, fill: Fill) -> Tensor:
        if fill == "mean":
            return self.pixels.mean(dim=(2, 3), keepdim=True).expand_as(self.pixels)
        if fill == "blurred":  # means of 2 x 2 patches, joined: nothing within a patch is left
            cells = ((self.grid[0] + 1) // 2, (self.grid[1] + 1) // 2)
            means = torch.nn.functional.adaptive_avg_pool2d(self.pixels[0], cells)
            return hooks.enlarge(means, self.size)[None]
        if not isinstance(fill, int | float) or not 0 <= fill <= 1:
            raise ValueError(f'fill is "mean", "blurred" or a grey from 0 to 1, not {fill!r}')
        return torch.full_like(self.pixels, fill)


def _moved(values: NDArray[Any], count: int, draw: np.random.RandomState) -> NDArray[Any]:
    if values.size < 2:
        raise ValueError(f"nothing can be moved within {values.shape}: there is only one place")
    shifts = [divmod(int(by), values.shape[1]) for by in draw.randint(1, values.size, size=count)]
    return np.stack([np.roll(values, by, axis=(0, 1)) for by in shifts])


def _ranks(values: NDArray[np.float64], draw: np.random.RandomState) -> NDArray[np.intp]:
    """Values (M, N) -> (M, N): 0 for the highest of its row; equal ones in a random order."""
    ties = draw.permutation(values.shape[1])
    order = np.stack([np.lexsort((ties, -row)) for row in values])
    return order.argsort(axis=1)


def _curve(fractions: tuple[float, ...], values: tuple[float, ...]) -> Curve:
    heights = (np.array(values[1:]) + np.array(values[:-1])) / 2
    return Curve(fractions, values, float(heights @ np.diff(fractions)))
