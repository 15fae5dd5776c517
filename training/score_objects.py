r"""Measure an object model on the fold of the training pictures that is kept for choosing.

    python -m training.score_objects --model runs/objects --boxes runs/boxes \
        --data ../shared/data/coco_vqa,../shared/data/flickr8k

Its boxes are compared with the teacher's, which are no truth; its counts with the answers that
people gave to "how many <thing> ...?". The numbers go into the model's metrics.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch.utils.data import ConcatDataset

from training.core.config import flag
from training.core.provenance import provenance
from training.core.run import command
from training.data.extra_annotations import MoreQuestions, PictureLabels
from training.evaluation.objects import Matches
from training.pseudo_boxes import read_boxes
from training.score import add_result, trained
from training.tasks.objects import ObjectSet, compare, find_boxes
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord, open_rows
from vqa.models import ObjectModel
from vqa.models.boxes import Boxes
from vqa.models.object_words import counted, word_index
from vqa.models.objects import count
from vqa.preprocessing.answer_normalization import normalize_answer


@dataclass(frozen=True)
class ScoreConfig:
    """Every setting; each is a flag of the same name."""

    model: str = flag("", "folder of the checkpoint")
    boxes: str = flag("", "folder that training.pseudo_boxes wrote")
    data: str = flag("", "folders (their train split) or parquet files, with commas between")


def count_questions(
    rows: Sequence[ImageRecord], names: Sequence[str]
) -> Iterator[tuple[str, int, int]]:
    """Questions "how many <thing>" that were answered by a number: image id, class, number."""
    index = word_index(names)
    for place in range(len(rows)):
        for question in rows[place].questions:
            label = counted(question.text, index)
            said = normalize_answer(question.answer or "")
            if label is not None and said.isdigit():
                yield str(rows[place].image_id), label, int(said)


def count_scores(
    model: ObjectModel, found: Mapping[str, Boxes], questions: Sequence[tuple[str, int, int]]
) -> dict[str, float]:
    """How often a count is right, in percent.

    Args:
        model: whose thresholds to use.
        found: boxes by image id.
        questions: as of `count_questions`.

    Returns:
        `count` by the thresholds, `soft_count` by the rounded sum of the scores, `always_2`, and
        `questions`, their number.
    """
    known = [(found[name], label, number) for name, label, number in questions if name in found]
    right = np.zeros(3)
    for boxes, label, number in known:
        hard, soft = count(boxes, model.thresholds)
        guesses = (int(hard[label]), round(float(soft[label])), 2)
        right += [guess == number for guess in guesses]
    shares = (100 * right / max(len(known), 1)).round(1).tolist()
    names = ("count", "soft_count", "always_2")
    return {**dict(zip(names, shares, strict=True)), "questions": len(known)}


def score(config: ScoreConfig) -> Path:
    """Measure, print and record; returns the model's folder."""
    model = checkpoints.load_as(ObjectModel, config.model)
    folders = config.data.split(",")
    opened: Any = [open_rows(folder, "train", required="image") for folder in folders]
    listed = [
        names
        for rows, folder in zip(opened, folders, strict=True)
        for names in MoreQuestions(rows, folder, {}).objects()
    ]
    rows: Any = ConcatDataset(opened)
    nothing = [PictureLabels(None, None)] * len(rows)
    data = ObjectSet(rows, model, read_boxes(config.boxes), listed, nothing, concepts=(), held=True)
    found = find_boxes(model, data, Accelerator(cpu=True))
    questions = list(count_questions(rows, model.names))
    metrics = box_scores(compare(found, data)) | {"n": len(found)}
    for name, boxes in (("", found), ("teacher_", data.boxes)):
        by_id = {str(rows[row].image_id): each for row, each in boxes.items()}
        counts = count_scores(model, by_id, questions)
        metrics |= {f"{name}{key}": value for key, value in counts.items()}
    print(metrics)
    made = {key: str(value) for key, value in trained(Path(config.model)).items()}
    entry = {"dataset": "pseudo-boxes", "split": "tune fold", **provenance(), "model": made}
    add_result(Path(config.model) / "metrics.json", "objects", entry | {"metrics": metrics})
    return Path(config.model)


def box_scores(matches: Matches) -> dict[str, float]:
    """F1 at its best threshold, that threshold, and the mean average precision, in percent."""
    f1, threshold = matches.best_f1()
    scores = {"f1": 100 * f1, "ap50": 100 * matches.average_precision()}
    return {name: round(value, 1) for name, value in scores.items()} | {"threshold": threshold}


if __name__ == "__main__":
    command(ScoreConfig, score)
