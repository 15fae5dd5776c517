"""The numbers that a model is judged by, out of its metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from vqa import checkpoints

MAIN: dict[str, tuple[str, dict[str, str]]] = {  # by type: of which result, which, and their names
    "answerer": ("answer", {"all": "VQA accuracy, all", "not yes/no": "VQA accuracy, not yes/no"}),
    "captioner": ("caption", {"cider": "CIDEr x 100", "bleu4": "BLEU-4 x 100"}),
    "gaze": ("gaze", {"cc": "CC", "nss": "NSS", "auc_judd": "AUC-Judd"}),
    "objects": ("objects", {"f1": "F1 against the teacher's boxes", "count": "right counts, %"}),
    "emoji": ("emoji", {"macro_f1": "macro-F1, emoji", "accuracy": "accuracy"}),
}


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
        main, names = MAIN[str(checkpoints.type_of(folder))]
        result = checkpoints.results(folder)[main]
        found = {name: float(result["metrics"][key]) for key, name in names.items()}
        return Measured(found, str(result["split"]), str(result["dataset"]))
    except (checkpoints.BadCheckpoint, LookupError, TypeError, ValueError):
        return None
