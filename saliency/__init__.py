"""Why a score is what it is, as a map over the picture; and whether to trust the map.

from saliency import explain

for explanation in explain(scorer, pixels, [281, 285, 287], method="grad_cam"):
    explanation.map, explanation.score, explanation.overlay(picture)

A scorer is any `nn.Module` from pixels (1, 3, H, W) in [0, 1] to scores (1, K): see
`saliency.types`. Measures of trust are in `saliency.faithfulness` and `saliency.gaze_metrics`.
"""

from saliency.registry import METHODS, explain, explains, options_of
from saliency.types import Cancelled, CannotExplain, Explanation, Maps, MethodSpec, NoEvidence

__all__ = [
    "METHODS",
    "Cancelled",
    "CannotExplain",
    "Explanation",
    "Maps",
    "MethodSpec",
    "NoEvidence",
    "explain",
    "explains",
    "options_of",
]
