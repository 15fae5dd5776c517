"""The numbers that a model is judged by, out of its metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vqa import checkpoints
from vqa.tasks import BY_MODEL_TYPE


class Measured(NamedTuple):
    """What was measured of a model, on what."""

    numbers: dict[str, float]  # by what they are
    split: str
    dataset: str


def measured(folder: Path) -> Measured | None:
    """The main numbers of a checkpoint.

    Args:
        folder: with config.json, and perhaps metrics.json.

    Returns:
        None if there are none, or they are not told as ours are: the file may be anybody's.
    """
    try:
        task = BY_MODEL_TYPE[str(checkpoints.type_of(folder))]
        result = checkpoints.read_metrics(folder)[task.key]
        found = {name: float(result["metrics"][key]) for key, name in task.metrics.items()}
        return Measured(found, str(result["split"]), str(result["dataset"]))
    except (checkpoints.BadCheckpoint, LookupError, TypeError, ValueError):
        return None
