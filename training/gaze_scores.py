"""Score maps of where people would look, by the measures of the MIT saliency benchmark.

`python -m training.score gaze` calls this.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency import gaze_metrics
from saliency.fixations import SIZE, count_map, density
from training.predictions import say_missing
from vqa.batch import BadPredictions
from vqa.rows import Rows
from vqa.sources import BadData

EPS = 1e-6  # added to a baseline's density: people look at a place where nobody else did


def score_gaze(rows: Rows, predictions: Path) -> dict:
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
    counts = {str(row.image_id): count_map(row.fixations) for row in rows if row.fixations}
    if len(counts) < 2:
        raise BadData("these data have fixations on fewer than two pictures: nothing to compare")
    maps = _read(predictions, counts)
    if not maps:
        raise BadPredictions(f"{predictions}: none of its maps is of a picture of these data")
    missing = [name for name in counts if name not in maps]
    say_missing([f"picture {name}" for name in missing])
    everyone = torch.stack(list(counts.values())).sum(0)
    even = torch.full(SIZE, 1.0)
    each = [_measure(maps.get(name, even), one, everyone - one) for name, one in counts.items()]
    means = {name: round(float(np.mean([m[name] for m in each])), 4) for name in each[0]}
    return means | {"n": len(counts), "n_missing": len(missing)}


def _measure(given: Tensor, counts: Tensor, others: Tensor) -> dict[str, float]:
    truth, centre = density(counts), density(others) + EPS
    measured = {
        "cc": gaze_metrics.cc(given, truth),
        "nss": gaze_metrics.nss(given, counts),
        "auc_judd": gaze_metrics.auc_judd(given, counts),
        "sim": gaze_metrics.sim(given, truth),
        "kl": gaze_metrics.kl(given, truth),
        "auc_shuffled": gaze_metrics.auc_shuffled(given, counts, others),
        "information_gain": gaze_metrics.information_gain(given, counts, centre),
        "centre_cc": gaze_metrics.cc(centre, truth),
        "centre_nss": gaze_metrics.nss(centre, counts),
        "centre_auc_judd": gaze_metrics.auc_judd(centre, counts),
    }
    return {name: float(value) for name, value in measured.items()}


def _read(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The maps (*SIZE) of the pictures that are wanted."""
    found = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in set(archive.files) & set(wanted):
                found[name] = _at_size(archive[name], f"{path}, {name}")
    except (OSError, ValueError, zipfile.BadZipFile, TypeError, AttributeError) as error:
        if isinstance(error, BadPredictions):  # a ValueError that says enough
            raise
        raise BadPredictions(f"{path}: no archive of maps by image id: {error}") from error
    return found


def _at_size(given: np.ndarray, where: str) -> Tensor:
    if given.ndim != 2 or given.dtype.kind not in "fiu" or not given.size:
        raise BadPredictions(
            f"{where}: a map must be numbers (H, W), not {given.dtype}{given.shape}"
        )
    values = torch.from_numpy(given.astype(np.float64))
    if not values.isfinite().all() or (values < 0).any() or not values.any():
        raise BadPredictions(f"{where}: a map must be finite, nowhere below 0 and somewhere above")
    if values.shape == SIZE:
        return values
    return F.interpolate(values[None, None], size=SIZE, mode="bilinear", antialias=True)[0, 0]
