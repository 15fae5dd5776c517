"""Score answers: `python -m training.score answer` calls this."""

from __future__ import annotations

import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from training.evaluation.predictions import Line, Metrics, read_lines, say_missing
from vqa.batch.runner import BadPredictions
from vqa.data.image_dataset import ImageDataset, Question
from vqa.errors import BadData
from vqa.metrics.functional.answers import PEOPLE, accuracy, expected_calibration_error

ANSWER_FIELDS = {  # name -> its type
    "image_id": (int, str),
    "index": int,
    "question": str,
    "answer": str,
    "top": list,
}
GROUPS: dict[str, Callable[[str], bool]] = {  # name -> whether an answer type belongs to it
    "all": lambda kind: True,
    "yes/no": lambda kind: kind == "yes/no",
    "number": lambda kind: kind == "number",
    "other": lambda kind: kind not in ("yes/no", "number"),
    "not yes/no": lambda kind: kind != "yes/no",
}


@dataclass(frozen=True)
class Scored:
    """A question, how right its answer is, and how sure the model was (None: no prediction)."""

    name: str
    answer_type: str
    accuracy: float  # in [0, 1]
    probability: float | None


def score_answers(rows: ImageDataset, predictions: Path) -> Metrics:
    """Print the accuracy of answers, overall and by type, and how honest their probabilities are.

    Args:
        rows: the questions and what people answered.
        predictions: a file of `vqa.batch answer`.

    Returns:
        The percentage of each group that has questions, `n`, `n_missing` and `calibration_error`,
        a percentage too.

    Raises:
        BadPredictions: if the file is no such file, or is about other questions.
        BadData: if a question has no answer to compare with.
    """
    scored = list(_join(rows, read_lines(predictions, ANSWER_FIELDS)))
    sure = [(s.probability, s.accuracy) for s in scored if s.probability is not None]
    if not sure:
        raise BadPredictions(f"{predictions}: none of its lines is about a question of these data")
    missing = [one.name for one in scored if one.probability is None]
    say_missing(missing)
    shown, right = zip(*sure, strict=True)
    error = expected_calibration_error(shown, right)
    counts: Metrics = {"n": len(scored), "n_missing": len(missing)}
    return _by_group(scored) | counts | {"calibration_error": round(100 * error, 2)}


def _join(rows: ImageDataset, lines: Iterator[Line]) -> Iterator[Scored]:
    """Give each question its prediction. The same key may come again: then in the same order."""
    waiting: dict[tuple[int | str, int, str], deque[Line]] = defaultdict(deque)
    for line in lines:
        waiting[line["image_id"], line["index"], line["question"]].append(line)
    for row in rows:
        for question in row.questions:
            name = f"picture {row.image_id}, question {question.index}"
            references = _references(question, name)
            found = waiting[row.image_id, question.index, question.text]
            right, probability = 0.0, None
            if found:
                line = found.popleft()
                right, probability = accuracy(line["answer"], references), line["top"][0][1]
            yield Scored(name, question.answer_type, right, probability)
    if unused := sum(map(len, waiting.values())):
        print(f"{unused} predictions are about no question of these data", file=sys.stderr)


def _references(question: Question, name: str) -> Sequence[str]:
    """The ten answers of the official accuracy, or the agreed one."""
    if len(question.answers) >= PEOPLE or question.answer is None:
        references = question.answers
    else:
        references = (question.answer,)
    if not references:
        raise BadData(f"{name}: has no answer to compare with")
    return references


def _by_group(scored: Sequence[Scored]) -> Metrics:
    metrics: Metrics = {}
    for group, belongs in GROUPS.items():
        values = [one.accuracy for one in scored if belongs(one.answer_type)]
        if values:
            metrics[group] = round(100 * sum(values) / len(values), 2)
    return metrics
