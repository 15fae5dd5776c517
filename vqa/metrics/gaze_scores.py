"""The measures of the MIT saliency benchmark as a metric of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from vqa.metrics.functional.gaze import gaze_scores


class GazeScores(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """The measures of the MIT saliency benchmark, over many pictures.

    It fetches nothing: unlike `evaluate.load(...)` it works offline.

        metric = GazeScores()
        metric.add_batch(predictions=[[[0.1, 0.9]]], references=[[[0.8, 0.5]]])
        ...  # two pictures or more
        metric.compute()
    """

    def _info(self) -> evaluate.MetricInfo:
        numbers = datasets.Sequence(datasets.Sequence(datasets.Value("float64")))
        return evaluate.MetricInfo(
            description="How well maps tell where people look, by the MIT saliency benchmark.",
            citation=(
                "Bylinskii et al., What do different evaluation metrics tell us about saliency "
                "models? IEEE Transactions on Pattern Analysis and Machine Intelligence, 2019."
            ),
            inputs_description=(
                "predictions: of each picture a map, lists of numbers from 0. references: of each "
                "picture where people looked, lists of x and y from 0 to 1."
            ),
            features=datasets.Features({"predictions": numbers, "references": numbers}),
        )

    def _compute(
        self,
        predictions: Sequence[Any],
        references: Sequence[Sequence[Sequence[float]]],
    ) -> dict[str, float]:
        """Compute what `vqa.metrics.functional.gaze.gaze_scores` returns."""
        return gaze_scores(predictions, references)
