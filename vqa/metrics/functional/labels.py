"""How right the labels given to texts are: macro-F1, accuracy, the best five, and the confusions.

TweetEval (Barbieri et al. 2020) ranks models by macro-F1: every label counts the same, however rare
it is. A text may have several labels; then any of them is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

BEST = 5


def macro_f1(predictions: Sequence[int], truth: NDArray[np.bool_]) -> float:
    """The mean over all labels of F1; 0 for one that is neither given nor right anywhere.

    Args:
        predictions: the label given to each of N texts.
        truth: (N, labels), which labels are right.

    Returns:
        In [0, 1].
    """
    from sklearn.metrics import f1_score

    given = np.zeros_like(truth, dtype=bool)
    given[np.arange(len(truth)), list(predictions)] = True
    return float(f1_score(truth, given, average="macro", zero_division=0))


def label_scores(
    predictions: Sequence[Sequence[int]], references: Sequence[Sequence[int]], num_labels: int
) -> dict[str, Any]:
    """Score the labels given to texts.

    Args:
        predictions: of each text the likeliest labels, best first.
        references: of each text the right labels, one or more.
        num_labels: how many labels there are.

    Returns:
        `macro_f1`, `accuracy` (of the best label) and `top5` (a right one among the best five), in
        [0, 1]; `confusion`, of how many texts with the label of a row the label of a column was
        given; a text with several right labels counts as the one it was given if that is right,
        else as its first.

    Raises:
        ValueError: if there are none, the lengths differ, a list is empty, or a label is out of
            range.
    """
    if not predictions or len(predictions) != len(references):
        raise ValueError(f"Give as many labels as predictions: {len(references)} and not none.")
    for labels in (*predictions, *references):
        if not len(labels) or min(labels) < 0 or max(labels) >= num_labels:
            raise ValueError(f"Labels are numbers from 0 to {num_labels - 1}, not {list(labels)}.")
    truth = np.zeros((len(references), num_labels), dtype=bool)
    for row, labels in enumerate(references):
        truth[row, list(labels)] = True
    best = [int(labels[0]) for labels in predictions]
    confusion = np.zeros((num_labels, num_labels), dtype=int)
    for given, labels in zip(best, references, strict=True):
        confusion[given if given in labels else int(labels[0]), given] += 1
    pairs = list(zip(predictions, references, strict=True))
    return {
        "macro_f1": macro_f1(best, truth),
        "accuracy": float(np.mean([given[0] in right for given, right in pairs])),
        "top5": float(np.mean([bool({*given[:BEST]} & {*right}) for given, right in pairs])),
        "confusion": confusion.tolist(),
    }
