"""Macro-F1, accuracy and confusions of labels given to texts as a metric of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate

from vqa.metrics.functional.labels import label_scores


class EmojiScores(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """Macro-F1, accuracy, the best five and the confusions of labels given to texts.

    It fetches nothing: unlike `evaluate.load(...)` it works offline.

        metric = EmojiScores()
        metric.add_batch(predictions=[[1, 0]], references=[[1]])
        metric.compute(num_labels=20)
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="How right the labels given to texts are, every label counting the same.",
            citation=(
                "Barbieri et al., TweetEval: Unified Benchmark and Comparative Evaluation for "
                "Tweet Classification. Findings of EMNLP, 2020."
            ),
            inputs_description=(
                "predictions: of each text the likeliest labels, best first, as numbers. "
                "references: of each text the right labels. num_labels (to compute): how many "
                "labels there are."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("int32")),
                    "references": datasets.Sequence(datasets.Value("int32")),
                }
            ),
        )

    def _compute(
        self,
        predictions: Sequence[Sequence[int]],
        references: Sequence[Sequence[int]],
        num_labels: int,
    ) -> dict[str, Any]:
        """Compute what `vqa.metrics.functional.labels.label_scores` returns."""
        return label_scores(predictions, references, num_labels)
