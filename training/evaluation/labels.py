"""Score the labels given to texts.

`python -m training.score emoji` calls this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.evaluation.predictions import read_lines
from vqa.batch.runner import BadPredictions
from vqa.data.text_dataset import Texts
from vqa.errors import BadData
from vqa.metrics.functional.labels import BEST, label_scores
from vqa.models import EmojiModel

FIELDS = {"text": str, "label": int, "top": list}


def score_feelings(texts: Texts, predictions: Path, labels: tuple[str, ...]) -> dict[str, Any]:
    """Measure the labels given to texts.

    Args:
        texts: with their right labels; a text without any is left out.
        predictions: a file of `vqa.batch emoji`, a line a text, in the texts' order.
        labels: the names of all labels.

    Returns:
        `macro_f1`, `accuracy` and `top5`, percentages; `n`; and `confusion`, the counts as of
        `vqa.metrics.functional.labels`, with `labels`.

    Raises:
        BadPredictions: if the file is no such file, or is about other texts.
        BadData: if no text has a label.
    """
    lines = list(read_lines(predictions, FIELDS))
    if [line["text"] for line in lines] != [row.text for row in texts]:
        raise BadPredictions(f"{predictions}: its lines are not the texts of these data, in order")
    if texts.names and texts.names != labels:
        raise BadPredictions(f"{predictions}: other labels than those of these data")
    pairs = [(line, row.labels) for line, row in zip(lines, texts, strict=True) if row.labels]
    if not pairs:
        raise BadData("these data have no label to compare with")
    numbers = {name: number for number, name in enumerate(labels)}
    try:
        given = [[numbers[name] for name, _ in line["top"]][:BEST] for line, _ in pairs]
        scores = label_scores(given, [right for _, right in pairs], len(labels))
    except (KeyError, ValueError, TypeError) as error:
        raise BadPredictions(f"{predictions}: labels that the data have not: {error}") from error
    percentages = {k: round(100 * scores[k], 2) for k in ("macro_f1", "accuracy", "top5")}
    return {
        **percentages,
        "n": len(pairs),
        "labels": list(labels),
        "confusion": scores["confusion"],
    }


def labels_of(model: EmojiModel, head: str) -> tuple[str, ...]:
    """The names of a head's labels.

    Raises:
        BadData: if there is no such head.
    """
    if head not in model.labels:
        raise BadData(f"there is no head {head!r}; there are: {', '.join(model.labels)}")
    return model.labels[head]
