"""BLEU, ROUGE-L and CIDEr of captions as a metric of `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate

from vqa.metrics.functional.captions import caption_scores
from vqa.preprocessing.ptb_tokenizer import ptb_tokenize


class CaptionScores(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """BLEU, ROUGE-L and CIDEr of many captions, cut into tokens as the COCO evaluation does.

    It fetches nothing and starts no Java: unlike `evaluate.load(...)` it works offline.

        metric = CaptionScores()
        metric.add_batch(predictions=["a dog runs"], references=[["A dog runs.", "A running dog"]])
        metric.compute()

    CIDEr weighs words by how few of the pictures' references have them: it wants the whole test
    set at once, and is 0 for a single picture.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="BLEU, ROUGE-L and CIDEr of captions, as the COCO evaluation gives them.",
            citation=(
                "Chen et al., Microsoft COCO Captions: Data Collection and Evaluation Server, "
                "2015. Vedantam et al., CIDEr: Consensus-based Image Description Evaluation. "
                "IEEE Conference on Computer Vision and Pattern Recognition (CVPR), 2015."
            ),
            inputs_description=(
                "predictions: a caption a picture. references: the captions people wrote, a list "
                "a picture."
            ),
            features=datasets.Features(
                {
                    "predictions": datasets.Value("string"),
                    "references": datasets.Sequence(datasets.Value("string")),
                }
            ),
        )

    def _compute(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> dict[str, float]:
        """Give what `caption_scores` gives."""
        return caption_scores(
            [ptb_tokenize(said) for said in predictions],
            [[ptb_tokenize(text) for text in given] for given in references],
        )
