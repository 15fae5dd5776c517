"""Score maps of where people would look, by the measures of the MIT saliency benchmark.

`python -m training.score gaze` calls this; `GazeScores` is the same for the evaluate library. The
measures are those of `saliency.gaze_metrics`, at 200 x 150 pixels, with densities blurred by a
sigma of 6. What knows nothing of a picture is measured beside: where people looked in the others.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import datasets
import evaluate
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


def gaze_scores(
    predictions: Sequence[Any], references: Sequence[Sequence[Sequence[float]]]
) -> dict[str, float]:
    """Measure the maps of some pictures.

    Args:
        predictions: of each picture a map (H, W) of any size, nowhere below 0.
        references: of each picture where people looked, one or more (x, y), 1 at the far edges.

    Returns:
        The means over the pictures: `cc`, `nss`, `auc_judd`, `sim`, `kl`; `auc_shuffled` and
        `information_gain` (in bits a fixation) against where people looked in the other pictures;
        and `centre_cc`, `centre_nss` and `centre_auc_judd` of these others' density itself.

    Raises:
        ValueError: if there are fewer than two pictures, the lengths differ, nobody looked at one,
            or a map is none.
    """
    if len(predictions) != len(references) or len(predictions) < 2:
        given = f"{len(predictions)} maps and {len(references)} lists of fixations"
        raise ValueError(f"Give maps and fixations of two pictures or more, not {given}.")
    counts = [count_map([(x, y) for x, y in looked]) for looked in references]
    everyone = torch.stack(counts).sum(0)
    measured = [
        _measure(_at_size(each), looked, everyone - looked)
        for each, looked in zip(predictions, counts, strict=True)
    ]
    return {name: float(np.mean([one[name] for one in measured])) for name in measured[0]}


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


def _at_size(given: Any) -> Tensor:
    values = torch.as_tensor(np.asarray(given, dtype=np.float64))
    if values.ndim != 2 or not values.numel():
        raise ValueError(f"A map is (H, W), not {tuple(values.shape)}.")
    if not values.isfinite().all() or (values < 0).any() or not values.any():
        raise ValueError("A map must be finite, nowhere below 0 and somewhere above.")
    if tuple(values.shape) == tuple(SIZE):
        return values
    return F.interpolate(values[None, None], size=SIZE, mode="bilinear", antialias=True)[0, 0]


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
        """As `gaze_scores`."""
        return gaze_scores(predictions, references)


def score_gaze(rows: Rows, predictions: Path) -> dict[str, Any]:
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
