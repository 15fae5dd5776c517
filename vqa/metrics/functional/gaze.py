"""How well maps tell where people look, by the measures of the MIT saliency benchmark.

Maps are compared at 200 x 150 pixels, with densities blurred by a sigma of 6. What knows nothing of
a picture is measured beside: where people looked in the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from saliency.fixations import SIZE, count_map, density
from saliency.gaze_metrics import auc_judd, auc_shuffled, cc, information_gain, kl, nss, sim

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
        "cc": cc(given, truth),
        "nss": nss(given, counts),
        "auc_judd": auc_judd(given, counts),
        "sim": sim(given, truth),
        "kl": kl(given, truth),
        "auc_shuffled": auc_shuffled(given, counts, others),
        "information_gain": information_gain(given, counts, centre),
        "centre_cc": cc(centre, truth),
        "centre_nss": nss(centre, counts),
        "centre_auc_judd": auc_judd(centre, counts),
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
