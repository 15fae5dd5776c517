"""The VQA accuracy (Antol et al. 2015) as a metric of `evaluate`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from vqa.metrics.functional.answers import accuracy


class VqaAccuracy(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The mean accuracy of many answers, and that of each answer type.

    It fetches nothing: unlike `evaluate.load(...)` it works offline.

        metric = VqaAccuracy()
        metric.add_batch(predictions=["2"], references=[["2"] * 10])
        metric.compute(answer_types=["number"])

    `strict_official=True` gives what the official script prints: see `accuracy`; and each share is
    rounded to a hundredth of a percent.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Accuracy of answers to questions on pictures, by the consensus of people.",
            citation=(
                "Antol et al., VQA: Visual Question Answering. IEEE International Conference on "
                "Computer Vision (ICCV), 2015."
            ),
            inputs_description=(
                "predictions: an answer a question. references: ten people's answers a question, "
                "or the single agreed one. answer_types (to compute, optional): a name a question, "
                "in the order in which the questions were added. strict_official (to compute): the "
                "official script to the letter."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self,
        predictions: Sequence[str],
        references: Sequence[Sequence[str]],
        answer_types: Sequence[str] | None = None,
        strict_official: bool = False,
    ) -> dict[str, Any]:
        """Give `accuracy` and, with types, `per_answer_type`: all in [0, 1]."""
        scores = [
            accuracy(said, given, strict_official=strict_official)
            for said, given in zip(predictions, references, strict=True)
        ]
        digits = 4 if strict_official else None
        if not scores:
            raise ValueError("There is no answer to score: add some before compute.")
        result: dict[str, Any] = {"accuracy": _mean(scores, digits)}
        if answer_types is not None:
            result["per_answer_type"] = _by_type(scores, answer_types, digits)
        return result


def _mean(scores: Sequence[float], digits: int | None) -> float:
    mean = float(np.mean(scores))
    return mean if digits is None else round(mean, digits)


def _by_type(scores: Sequence[float], types: Sequence[str], digits: int | None) -> dict[str, float]:
    """Give the mean score of each type, by its name."""
    if len(types) != len(scores):
        raise ValueError(f"Give each of the {len(scores)} answers a type, not {len(types)} in all.")
    groups: dict[str, list[float]] = defaultdict(list)
    for kind, score in zip(types, scores, strict=True):
        groups[kind].append(score)
    return {kind: _mean(group, digits) for kind, group in sorted(groups.items())}
