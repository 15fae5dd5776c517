"""What every explanation is made of: the seam it explains, what it returns, what can go wrong.

A scorer is an `nn.Module` that maps pixels (B, 3, H, W) in [0, 1] to raw, differentiable scores
(B, K), one a target: a classifier's logits are one as they are. What it may have besides:

- `feature_layer`: the module whose (B, C, h, w) output Grad-CAM reads.
- `attention(pixels)`: where it looked, (B, K, h, w), or (B, 1, h, w) if alike for all targets.
- `probabilities(scores)`: (B, K) -> (B, K) in [0, 1]; the softmax where it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

Progress = Callable[[int, int], object]  # (done, total); raise from it, e.g. Cancelled, to stop


class CannotExplain(ValueError):
    """The scorer lacks what the method needs; the message names both."""


class NoEvidence(ValueError):
    """The map has nothing above 0: there is nothing to cover."""


class Cancelled(Exception):
    """Raised by `progress` to end an explanation; the scorer's state is restored first."""


class Maps(NamedTuple):
    """What a method returns: K maps of one picture."""

    values: Tensor  # (K, H, W) float32, raw
    scores: Tensor  # (K,) float32, the scorer's own on the picture as it is
    details: Sequence[Mapping[str, Any]] = ()  # one a target: what else the method knows


@dataclass(frozen=True)
class MethodSpec:
    """One line of the registry."""

    run: Callable[..., Maps]  # (scorer, pixels, targets, *, options)
    label: str  # as menus and tables show it
    signed: bool  # whether maps tell for from against; an option of that name goes first
    cost: str  # forward and backward passes, for k targets
    needs: tuple[str, ...] = ()  # of the scorer: "feature_layer", "attention", "ReLU modules"


@dataclass(frozen=True)
class Explanation:
    """Why one score is what it is, as a map over the picture."""

    method: str  # its name in the registry
    target: int  # which of the scorer's scores
    map: NDArray[np.float32]  # (H, W), raw: comparable between targets of one call
    signed: bool  # below 0 speaks against the target
    score: float  # the scorer's raw score of the target
    seconds: float  # wall time of the whole call, all its targets together
    options: Mapping[str, Any]  # all the method's own, defaults included
    label: str = ""  # the target in words, where somebody knew it
    details: Mapping[str, Any] = field(default_factory=dict)  # such as "completeness_error"

    @property
    def has_evidence(self) -> bool:
        """Whether any place speaks for the target; if not, there is nothing to show."""
        return bool(self.map.max() > 0)

    @property
    def drawable(self) -> NDArray[np.float32]:
        """The map as it is drawn: below 0 only if that speaks against the target."""
        return self.map if self.signed else self.map.clip(0)

    def normalised(self) -> NDArray[np.float32]:
        """The map over its largest magnitude: in [-1, 1] if signed, else in [0, 1]."""
        peak = float(np.abs(self.drawable).max())
        return np.asarray(self.drawable / (peak or 1), dtype=np.float32)

    def overlay(self, picture: Image.Image, opacity: float = 0.7) -> Image.Image:
        """The map over its picture, RGB of the upright picture's size."""
        from saliency import overlay

        return overlay.blend(picture, self.normalised(), opacity, signed=self.signed)


def probabilities(scorer: nn.Module, scores: Tensor) -> Tensor:
    """Scores (B, K) as probabilities in [0, 1]: the scorer's own, else their softmax."""
    own = getattr(scorer, "probabilities", None)
    return torch.as_tensor(own(scores)) if callable(own) else scores.softmax(dim=-1)


def check_pixels(pixels: Tensor) -> None:
    """Refuse what is not one picture, (1, 3, H, W) float in [0, 1].

    Raises:
        ValueError: that says what it is instead.
    """
    if pixels.ndim != 4 or pixels.shape[0] != 1 or pixels.shape[1] != 3 or not pixels.numel():
        raise ValueError(f"one picture is (1, 3, H, W), this is {tuple(pixels.shape)}")
    if not pixels.is_floating_point():
        raise ValueError(f"pixels are floats in [0, 1], these are {pixels.dtype}")
    low, high = (float(bound) for bound in torch.aminmax(pixels.detach()))
    if not (low >= 0 and high <= 1):  # NaN fails too
        raise ValueError(f"pixels are in [0, 1], these are from {low:g} to {high:g}")


def pick(scores: Tensor, targets: Sequence[int]) -> Tensor:
    """The scores of some targets, (B, K) -> (B, len(targets)).

    Raises:
        ValueError: if the scores have another shape, or a target is none of them.
    """
    if scores.ndim != 2:
        raise ValueError(f"a scorer returns scores (B, K), this one {tuple(scores.shape)}")
    check_targets(targets)
    for target in targets:
        if not 0 <= target < scores.shape[1]:
            raise ValueError(f"target {target} is none of the {scores.shape[1]} scores")
    return scores[:, list(targets)]


def check_targets(targets: Sequence[int]) -> None:
    """Refuse a list of targets that is empty or holds something else than whole numbers."""
    if not targets:
        raise ValueError("there are no targets to explain")
    for target in targets:
        if isinstance(target, bool) or not isinstance(target, int):
            raise ValueError(f"a target is a whole number, {target!r} is none")
