"""Score maps of where people would look.

`python -m training.score gaze` calls this.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from saliency.fixations import SIZE
from training.evaluation.predictions import say_missing
from vqa.batch.runner import BadPredictions
from vqa.data.image_dataset import ImageDataset
from vqa.errors import BadData
from vqa.metrics.functional.gaze import gaze_scores


def score_gaze(rows: ImageDataset, predictions: Path) -> dict[str, Any]:
    """Measure maps at 200 x 150 pixels, the densities blurred by a sigma of 6.

    Args:
        rows: the pictures and where people looked; those without a fixation are left out.
        predictions: an archive of `vqa.batch gaze`, or any of arrays (H, W) >= 0 by image id. A
            picture without a map counts as one looked at evenly.

    Returns:
        The means over the pictures, of the measures of `saliency.gaze_metrics`; `centre_cc`,
        `centre_nss` and `centre_auc_judd` of the other pictures' density, which knows nothing of
        the picture; `n` and `n_missing`. `auc_shuffled` and `information_gain` (in bits a
        fixation) are against these others too.

    Raises:
        BadPredictions: if the file is no such archive, or is about other pictures.
        BadData: if nobody looked at any picture.
    """
    looked = {str(row.image_id): row.fixations for row in rows if row.fixations}
    if len(looked) < 2:
        raise BadData("these data have fixations on fewer than two pictures: nothing to compare")
    maps = _read(predictions, looked)
    if not maps:
        raise BadPredictions(f"{predictions}: none of its maps is of a picture of these data")
    missing = [name for name in looked if name not in maps]
    say_missing([f"picture {name}" for name in missing])
    even = np.ones(SIZE)
    means = gaze_scores([maps.get(name, even) for name in looked], list(looked.values()))
    rounded = {name: round(value, 4) for name, value in means.items()}
    return rounded | {"n": len(looked), "n_missing": len(missing)}


def _read(path: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """The maps of the pictures that are wanted."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in set(archive.files) & set(wanted)}
    except (OSError, ValueError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        raise BadPredictions(f"{path}: no archive of maps by image id: {error}") from error
    for name, given in found.items():
        if given.ndim != 2 or given.dtype.kind not in "fiu" or not given.size:
            raise BadPredictions(
                f"{path}, {name}: a map must be numbers (H, W), not {given.dtype}{given.shape}"
            )
        if not np.isfinite(given).all() or (given < 0).any() or not given.any():
            raise BadPredictions(
                f"{path}, {name}: a map must be finite, nowhere below 0 and somewhere above"
            )
    return found
