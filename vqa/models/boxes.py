"""Boxes of things in pictures, and the maps that they are read from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[Any]
SAME_BOX = 0.45  # IoU above which the lower of two boxes of a class is dropped


class ObjectMaps(NamedTuple):
    """What an object head says of each cell, at the stride of its config."""

    logits: Tensor  # (B, K, h, w): log-odds that an object of the class has its centre here
    # (B, 4, h, w): how far its left, top, right and bottom side are, as shares of the picture.
    distances: Tensor


class Boxes(NamedTuple):
    """Things in one picture."""

    corners: Array  # (N, 4) float32: left, top, right, bottom, as shares of the picture
    labels: Array  # (N,) int64, which class each is of
    scores: Array  # (N,) float32 in 0..1

    def keep(self, index: Any) -> Boxes:
        """Some of them, by index or mask."""
        return Boxes(*(part[index] for part in self))

    def mirrored(self) -> Boxes:
        """The boxes in the mirror image."""
        left, top, right, bottom = self.corners.T
        return self._replace(corners=np.stack([1 - right, top, 1 - left, bottom], axis=1))


def iou(one: Array, other: Array) -> Array:
    """Intersection over union of each pair of corners (N, 4) and (M, 4): (N, M)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [np.clip(c[:, 2:] - c[:, :2], 0, None).prod(axis=1) for c in (one, other)]
    union = areas[0][:, None] + areas[1][None] - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def suppress(boxes: Boxes, threshold: float = SAME_BOX) -> Boxes:
    """Non-maximum suppression, a class at a time; best first."""
    boxes = boxes.keep(np.argsort(-boxes.scores, kind="stable"))
    same = boxes.labels[:, None] == boxes.labels[None]
    rivals = (iou(boxes.corners, boxes.corners) > threshold) & same
    kept: list[int] = []
    for index in range(len(boxes.scores)):
        if not rivals[index, kept].any():
            kept.append(index)
    return boxes.keep(np.array(kept, dtype=int))
