"""How well boxes match other boxes: F1, average precision and counts, at an overlap of a half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vqa.models.boxes import Array, Boxes, iou

OVERLAP = 0.5  # IoU from which a box is right
MIN_BOXES = 5  # a class with fewer true boxes has no average precision
CERTAIN = {True: 0.2, False: 0.6, None: 0.3}  # see `certain`


def certain(boxes: Boxes, names: Sequence[str], listed: set[str] | None) -> Array:
    """Which pseudo-boxes are taken for true; of the others nobody knows.

    Args:
        boxes: of a picture.
        names: of the classes.
        listed: those that people saw in it, where somebody looked: a box of a class among them
            needs a lower score, one of another class a higher one.
    """
    in_list = [None if listed is None else names[label] in listed for label in boxes.labels]
    least = np.array([CERTAIN[known] for known in in_list])
    return np.asarray(boxes.scores >= least)


class Matches(NamedTuple):
    """Found boxes of many pictures."""

    scores: Array  # (N,)
    labels: Array  # (N,)
    right: Array  # (N,) bool
    truths: Array  # (K,) how many true boxes each class has

    def best_f1(self) -> tuple[float, float]:
        """F1 over all classes at the threshold of the score where it is best, and that."""
        order = np.argsort(-self.scores, kind="stable")
        right = self.right[order].cumsum()
        f1 = 2 * right / (np.arange(1, len(order) + 1) + max(self.truths.sum(), 1))
        if not len(f1):
            return 0.0, 1.0
        return float(f1.max()), float(self.scores[order][f1.argmax()])

    def average_precision(self) -> float:
        """Mean over the classes with `MIN_BOXES` true boxes of the area under their curve."""
        known = np.flatnonzero(self.truths >= MIN_BOXES).tolist()
        areas = [self._area(label) for label in known]
        return float(np.mean(areas)) if areas else 0.0

    def _area(self, label: int) -> float:
        mine = self.labels == label
        right = self.right[mine][np.argsort(-self.scores[mine], kind="stable")]
        precision = right.cumsum() / np.arange(1, len(right) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        return float((envelope * right).sum() / self.truths[label])


def match(
    found: Sequence[Boxes], truths: Sequence[Boxes], sure: Sequence[Array], num_classes: int
) -> Matches:
    """Compare boxes, best first: each true box is found once, and one that nobody is sure of
    neither counts for nor against.

    Args:
        found: of each picture, best first.
        truths: of each picture.
        sure: which of these are true, as of `certain`.
        num_classes: K.
    """
    kept, right = [], []
    for boxes, truth, true in zip(found, truths, sure, strict=True):
        verdict = _verdicts(boxes, truth, true)
        kept.append(boxes.keep(verdict >= 0))
        right.append(verdict[verdict >= 0] == 1)
    labels = [truth.labels[true] for truth, true in zip(truths, sure, strict=True)]
    counts = np.bincount(np.concatenate([*labels, np.zeros(0, int)]), minlength=num_classes)
    joined = Boxes(*(np.concatenate(parts) for parts in zip(*kept, strict=True)))
    return Matches(joined.scores, joined.labels, np.concatenate(right), counts)


def _verdicts(found: Boxes, truth: Boxes, true: Array) -> Array:
    """(N,): 1 right, 0 wrong, -1 nobody knows."""
    verdict = np.zeros(len(found.labels), int)
    same = found.labels[:, None] == truth.labels[None]
    overlap = np.where(same, iou(found.corners, truth.corners), 0.0)
    free = true.copy()
    for index, row in enumerate(overlap):
        candidates = np.where(free, row, 0.0)
        if candidates.size and candidates.max() >= OVERLAP:
            verdict[index] = 1
            free[candidates.argmax()] = False
        elif (row[~true] >= OVERLAP).any():
            verdict[index] = -1
    return verdict


def fit_thresholds(found: Matches, prior: float = 20.0) -> Array:
    """From which score on an object of each class counts: where F1 is best.

    Args:
        found: on pictures that these thresholds are not to be measured on.
        prior: so many true boxes of all classes together stand beside each class's own.

    Returns:
        (K,) float32.
    """
    grid = np.arange(0.1, 0.7, 0.02)
    above = found.scores[:, None] >= grid
    share = prior / max(found.truths.sum(), 1)
    best = []
    for label, truths in enumerate(found.truths):
        mine = (found.labels == label)[:, None]
        right, all_found = (
            (above & mine & part[:, None]).sum(0) + share * (above & part[:, None]).sum(0)
            for part in (found.right, np.ones_like(found.right))
        )
        best.append(grid[np.argmax(2 * right / (all_found + truths + prior + 1e-9))])
    return np.array(best, np.float32)
