"""What an answerer gives: scores by the batch, and one answer in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Answer:
    """What the model says to one question, and on what grounds."""

    text: str
    probability: float  # in 0..1; calibrated if the model is ours
    top: tuple[tuple[str, float], ...]  # the likeliest answers, best first
    attention: np.ndarray  # (h, w) float32, sums to 1: where the model looked
    word_weights: tuple[tuple[str, float], ...]  # the question's words, weights sum to 1
    unknown: tuple[str, ...]  # words of the question that the model does not know
    gaze_trust: float | None = None  # weight of where people look in the attention; None: no gaze
    # Words that name what can be seen, and how much better than usual each fits, in deviations.
    word_fits: tuple[tuple[str, float], ...] = ()


class AnswererOutput(NamedTuple):
    """One row a question."""

    logits: Tensor  # (Q, A), uncalibrated
    attention: Tensor  # (Q, glimpses, N), each sums to 1
    word_weights: Tensor  # (Q, T), sums to 1, 0 on padding
    trust: Tensor | None = None  # (Q,), how far gaze weighs in the attention
    fits: Tensor | None = None  # (Q, T), how well each word fits the picture, see `surprise`
