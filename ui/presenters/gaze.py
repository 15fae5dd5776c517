"""The gaze map as it is shown, and its agreement with the model's attention in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from saliency import gaze_metrics, overlay
from ui.components.examples import data_uri
from ui.presenters.answers import HEAT_SIDE, Shown, plain, scaled, trusts
from ui.presenters.explanations import percent
from vqa.models import Answer

ALIKE = (  # least correlation -> in words
    (0.5, "much the same places as people would"),
    (0.2, "partly the same places as people would"),
    (-1.0, "other places than people would"),
)


def figure(picture: Shown, values: np.ndarray, title: str) -> dict[str, Any]:
    """A value of `maps.figure`."""
    heat = overlay.heat(values, scaled(picture.size, HEAT_SIDE))
    return {
        "picture": picture.uri,
        "alt": "",
        "heat": data_uri(heat, "PNG", compress_level=1),
        "words": f"{title}: {overlay.describe(values)}.",
        "nothing": False,
    }


def compared(people: np.ndarray, found: Answer) -> str:
    """How people's map and the model's agree, as Markdown.

    Args:
        people: (H, W), sums to 1.
        found: the answer, with where the model looked (h, w).
    """
    size = found.attention.shape
    tensor = torch.from_numpy(people)[None]
    coarse = torch.nn.functional.adaptive_avg_pool2d(tensor, size)[0].numpy()
    correlation = gaze_metrics.cc(coarse, found.attention)
    overlap = gaze_metrics.sim(coarse, found.attention)
    where = next(words for least, words in ALIKE if correlation >= least)
    told = (
        f"For the answer *{plain(found.text)}* the model looked at {where}: correlation "
        f"{correlation:.2f}, and {percent(overlap)} of the looks in common."
    )
    return " ".join(filter(None, (told, trusts(found.gaze_trust))))
