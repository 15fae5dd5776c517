"""How well a map tells where people looked: the measures of the MIT saliency benchmark, and SSIM.

Bylinskii, Judd, Oliva, Torralba, Durand: What do different evaluation metrics tell us about
saliency models? (2019), where each is defined; their Matlab code is the reference named below. With
a predicted map p, a true map t, fixations f >= 0 a pixel, and P, T, B maps divided by their sums:

    AUC-Judd    P(p at a fixation > p at a pixel without one) + half the chance that they are equal
    shuffled    the same, against the places where people looked in other pictures
    NSS         mean of (p - mean p) / sd p over the fixations
    CC          mean of (p - mean p)(t - mean t) / (sd p sd t)
    SIM         sum min(P, T)
    KL          sum T log(eps + T / (P + eps)), eps = 2.2204e-16, in nats
    gain        mean of log2(eps + P) - log2(eps + B) over the fixations, in bits a fixation

Numpy arrays (H, W) give a float, computed in float64. Torch tensors (..., H, W) give a tensor
(...), one value a map, in the precision of the tensors (float32 at least) and with gradients but
for the areas, which have none; a map (H, W) may go with a batch of others, as a baseline does.

Fixations may be a boolean map or counts: each fixation has the same weight, so a place that was
looked at twice counts twice (the Matlab code counts it once; for a boolean map both are the same).

All raise ValueError if shapes differ, a number is not finite, or there are no fixations.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

EPS = 2.2204e-16  # the benchmark's, which is Matlab's
_PLANE = (-2, -1)


class Metric(Protocol):
    """Numpy in, float out; torch in, torch out."""

    @overload
    def __call__(self, *maps: NDArray[Any], **options: float) -> float: ...
    @overload
    def __call__(self, *maps: Tensor, **options: float) -> Tensor: ...


def _metric(formula: Callable[..., Tensor]) -> Metric:
    """Let a formula on tensors (..., H, W) take arrays too, and check what it takes."""
    names = list(inspect.signature(formula).parameters)

    @functools.wraps(formula)
    def measure(*maps: Any, **options: float) -> Any:
        plain = not any(isinstance(values, Tensor) for values in maps)
        named = dict(zip(names, maps, strict=False))
        tensors = _of_one_size({name: _tensor(values, name) for name, values in named.items()})
        value = formula(*tensors, *maps[len(tensors) :], **options)
        return float(value) if plain else value

    return measure


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        tensor = values if values.dtype == torch.float64 else values.float()
    else:
        tensor = torch.from_numpy(np.array(values, dtype=np.float64))
    fits = tensor.ndim >= 2 if isinstance(values, Tensor) else tensor.ndim == 2
    if not fits or not tensor.numel():
        wanted = "a tensor (..., H, W)" if isinstance(values, Tensor) else "an array (H, W)"
        raise ValueError(f"{name} must be {wanted}, it is {tuple(tensor.shape)}")
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return tensor


def _of_one_size(maps: Mapping[str, Tensor]) -> list[Tensor]:
    shapes = [tuple(values.shape) for values in maps.values()]
    try:
        shape = np.broadcast_shapes(*shapes)
        fits = len({size[-2:] for size in shapes}) == 1
    except ValueError:
        fits = False
    if not fits:
        listed = ", ".join(f"{name} {size}" for name, size in zip(maps, shapes, strict=True))
        raise ValueError(f"maps must be of one size: {listed}")
    return [values.expand(shape) for values in maps.values()]


@_metric
def auc_judd(prediction: Tensor, fixations: Tensor, /) -> Tensor:
    """Chance that a place where someone looked is ranked above one where nobody did.

    The exact area under the curve with ties counted half, so there is nothing to draw and a
    constant map has .5. AUC_Judd.m breaks ties at random instead, and joins the curve's points at
    the N fixations by straight lines, which reads up to 1 / (2 N) higher.

    Args:
        prediction: maps of any scale; only their order counts.
        fixations: how many at each pixel, of the same size.

    Returns:
        From 0 to 1 (best); no gradient.

    Raises:
        ValueError: also if no pixel is without a fixation.
    """
    _check_fixations(fixations, "fixations")
    if not (fixations == 0).any(-1).any(-1).all():
        raise ValueError("every pixel of fixations has one: there is nothing to rank them against")
    return _areas(prediction, fixations, (fixations == 0).to(fixations))


@_metric
def auc_shuffled(prediction: Tensor, fixations: Tensor, others: Tensor, /) -> Tensor:
    """Chance that a fixation of this picture is ranked above one of other pictures.

    Most people look at the middle of any picture, so a map of the middle alone has about .5 here.
    All of the others' fixations are used, each with its weight: the mean of the random draws that
    AUC_shuffled.m takes from them, without the chance.

    Args:
        prediction: maps of any scale; only their order counts.
        fixations: how many at each pixel, of the same size.
        others: how many at each pixel in all other pictures together.

    Returns:
        From 0 to 1 (best); no gradient.
    """
    _check_fixations(fixations, "fixations")
    _check_fixations(others, "others")
    return _areas(prediction, fixations, others)


@_metric
def nss(prediction: Tensor, fixations: Tensor, /) -> Tensor:
    """Height of the map at the fixations, in its own standard deviations.

    Args:
        prediction: maps of any scale.
        fixations: how many at each pixel, of the same size.

    Returns:
        Any number, higher is better, 0 is chance; 0 for a constant map. The standard deviation is
        over all N pixels; Matlab's over N - 1 makes it 1 + 1 / (2 N) times larger.
    """
    _check_fixations(fixations, "fixations")
    return _at_fixations(_standard(prediction), fixations)


@_metric
def cc(prediction: Tensor, truth: Tensor, /) -> Tensor:
    """Pearson's correlation of two maps.

    Args:
        prediction: maps of any scale.
        truth: maps of the same size, such as blurred fixations.

    Returns:
        From -1 to 1 (the same but for scale); 0 if either map is constant.
    """
    return (_standard(prediction) * _standard(truth)).mean(_PLANE)


@_metric
def sim(prediction: Tensor, truth: Tensor, /) -> Tensor:
    """How much of their mass two maps share.

    Args:
        prediction: maps, at least 0.
        truth: maps of the same size, at least 0.

    Returns:
        From 0 (nowhere both) to 1 (the same but for scale).

    Raises:
        ValueError: also if a map is below 0 somewhere, or 0 everywhere.
    """
    return torch.minimum(_density(prediction, "prediction"), _density(truth, "truth")).sum(_PLANE)


@_metric
def kl(prediction: Tensor, truth: Tensor, /) -> Tensor:
    """Divergence of the true map from the predicted one.

    Args:
        prediction: maps, at least 0.
        truth: maps of the same size, at least 0.

    Returns:
        In nats, lower is better, 0 if they are the same but for scale; at most about 36, where
        nothing is predicted at all.

    Raises:
        ValueError: also if a map is below 0 somewhere, or 0 everywhere.
    """
    predicted, true = _density(prediction, "prediction"), _density(truth, "truth")
    return (true * (EPS + true / (predicted + EPS)).log()).sum(_PLANE)


@_metric
def information_gain(prediction: Tensor, fixations: Tensor, baseline: Tensor, /) -> Tensor:
    """How much better than a baseline the map foretells a fixation.

    Args:
        prediction: maps, at least 0.
        fixations: how many at each pixel, of the same size.
        baseline: maps, at least 0, such as the mean of other pictures' fixations, blurred.

    Returns:
        In bits a fixation, higher is better; 0 if the map is the baseline.

    Raises:
        ValueError: also if a map is below 0 somewhere, or 0 everywhere.
    """
    _check_fixations(fixations, "fixations")
    predicted, expected = _density(prediction, "prediction"), _density(baseline, "baseline")
    return _at_fixations((EPS + predicted).log2() - (EPS + expected).log2(), fixations)


@_metric
def ssim(prediction: Tensor, truth: Tensor, /, *, data_range: float = 1.0) -> Tensor:
    """Structural similarity: local means, contrasts and patterns compared.

    Wang, Bovik, Sheikh, Simoncelli: Image Quality Assessment (2004). In a Gaussian window of 11
    pixels (sd 1.5), C1 = (.01 R)^2, C2 = (.03 R)^2, averaged over all windows within the map:
    (2 mp mt + C1)(2 spt + C2) / ((mp^2 + mt^2 + C1)(sp^2 + st^2 + C2)).

    Args:
        prediction: maps.
        truth: maps of the same size.
        data_range: R, from the least to the largest value that there can be.

    Returns:
        From -1 to 1 (identical).

    Raises:
        ValueError: also if the maps are smaller than the window, or data_range is not positive.
    """
    if not data_range > 0:
        raise ValueError(f"data_range is {data_range} and must be positive")
    if min(prediction.shape[-2:]) < 11:
        raise ValueError(f"prediction {tuple(prediction.shape)} is smaller than a window of 11")
    dtype = torch.promote_types(prediction.dtype, truth.dtype)
    p, t = prediction.double(), truth.double()  # the squares nearly cancel
    mean_p, mean_t, pp, tt, pt = _windows(torch.stack([p, t, p * p, t * t, p * t])).unbind()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    both, squares = mean_p * mean_t, mean_p.square() + mean_t.square()
    alike = (2 * both + c1) * (2 * (pt - both) + c2)
    return (alike / ((squares + c1) * (pp + tt - squares + c2))).mean(_PLANE).to(dtype)


def _windows(maps: Tensor) -> Tensor:
    """(..., H, W) float64 -> (..., H - 10, W - 10), each value a Gaussian window's mean."""
    offsets = torch.arange(-5, 6, dtype=maps.dtype, device=maps.device)
    weights = (-(offsets**2) / (2 * 1.5**2)).exp()
    weights = weights / weights.sum()
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    rows = torch.nn.functional.conv2d(flat, weights.view(1, 1, 11, 1))
    means: Tensor = torch.nn.functional.conv2d(rows, weights.view(1, 1, 1, 11))
    return means.view(*maps.shape[:-2], *means.shape[-2:])


def _summable(maps: Tensor) -> Tensor:
    """Maps so large that their sum would overflow, divided by a power of two; others as they are.

    No measure that uses this depends on a map's scale, and a power of two rounds nothing.
    """
    pixels = maps.shape[-2] * maps.shape[-1]
    divisor = 2.0 ** (2 + math.ceil(math.log2(pixels)))
    largest = maps.detach().abs().amax(_PLANE, keepdim=True)
    return torch.where(largest > torch.finfo(maps.dtype).max / divisor, maps / divisor, maps)


def _standard(maps: Tensor) -> Tensor:
    """Maps of mean 0 and standard deviation 1; constant ones are 0 all over."""
    maps = _summable(maps)
    spread = (maps.amax(_PLANE, keepdim=True) - maps.amin(_PLANE, keepdim=True)).detach()
    flat = spread == 0
    # Over the spread first: the squares of a map that sums to 1 would leave float32.
    centred = (maps - maps.mean(_PLANE, keepdim=True)) / spread.masked_fill(flat, 1)
    variance = centred.square().mean(_PLANE, keepdim=True).masked_fill(flat, 1)
    return (centred / variance.sqrt()).masked_fill(flat, 0)


def _density(maps: Tensor, name: str) -> Tensor:
    if (maps < 0).any():
        raise ValueError(f"{name} has values below 0 (the least is {float(maps.min()):g})")
    maps = _summable(maps)
    total = maps.sum(_PLANE, keepdim=True)
    if (total == 0).any():
        raise ValueError(f"{name} is 0 everywhere: it cannot be made to sum to 1")
    return maps / total


def _check_fixations(fixations: Tensor, name: str) -> None:
    if (fixations < 0).any():
        raise ValueError(f"{name} has values below 0 (the least is {float(fixations.min()):g})")
    if (fixations.sum(_PLANE) == 0).any():
        raise ValueError(f"{name} is 0 everywhere: nobody looked anywhere")


def _at_fixations(values: Tensor, fixations: Tensor) -> Tensor:
    return (values * fixations).sum(_PLANE) / fixations.sum(_PLANE)


def _areas(prediction: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """(..., H, W) -> (...): the area for each map, weights of the two kinds given a pixel."""
    shape = prediction.shape
    maps = (prediction.detach(), positive, negative)
    rows = zip(*(values.reshape(-1, shape[-2] * shape[-1]) for values in maps), strict=True)
    return torch.stack([_area(*row) for row in rows]).to(prediction.dtype).view(shape[:-2])


def _area(values: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Chance that a positive has the higher value, ties counted half; all (N,)."""
    level = torch.unique(values, return_inverse=True)[1]  # 0 for the lowest value, and so on
    higher, lower = (torch.bincount(level, w.double()) for w in (positive, negative))
    below = lower.cumsum(0) - lower / 2
    return (higher * below).sum() / (higher.sum() * lower.sum())
