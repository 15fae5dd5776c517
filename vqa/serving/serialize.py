"""What was found as plain values, which JSON can hold: for the command and for programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vqa.engine import Explanation, TokenExplanation, in_words
from vqa.models import Answer, Caption, Feeling

MAP_CELLS = 14  # cells of a side of a map: enough to see where, and few enough to read


def answer(found: Answer) -> dict[str, Any]:
    """An answer, the likeliest ones, and where the model looked."""
    return {
        "answer": found.text,
        "probability": found.probability,
        "top": [list(guess) for guess in found.top],
        "attention": found.attention.tolist(),
        "looked": in_words(found.attention),
        "word_weights": [list(word) for word in found.word_weights],
        "unknown": list(found.unknown),
        "gaze_trust": found.gaze_trust,
        "word_fits": [list(word) for word in found.word_fits],
    }


def caption(found: Caption) -> dict[str, Any]:
    """A caption, its words with their probabilities, and the other captions found."""
    words = zip(found.words, found.word_probs, strict=True)
    return {
        "caption": found.text,
        "log_prob": found.log_prob,
        "unsure": found.unsure,
        "words": [list(word) for word in words],
        "alternatives": [list(other) for other in found.alternatives],
    }


def explanation(found: Explanation) -> dict[str, Any]:
    """Say what a map explains and where it is hot; its means in MAP_CELLS x MAP_CELLS cells."""
    return {
        "label": found.label,
        "score": found.score,
        "method": found.method,
        "signed": found.signed,
        "marks": in_words(found),
        "map": _rounded(_cells(found.map)),
        "seconds": found.seconds,
    }


def gaze(people: np.ndarray) -> dict[str, Any]:
    """Where people would look, (H, W), in words and as shares of MAP_CELLS x MAP_CELLS cells."""
    cells = _cells(people)
    return {"looked": in_words(people), "map": _rounded(cells / cells.sum())}


def feeling(found: Feeling, why: TokenExplanation) -> dict[str, Any]:
    """How a text feels, and how far each of its words pushes the score of that label."""
    words = zip((word for word, _ in found.word_weights), why.pushes.tolist(), strict=True)
    return {
        "emoji": found.emoji,
        "label": found.label,
        "probability": found.probability,
        "top": [list(guess) for guess in found.top],
        "words": [list(word) for word in words],
    }


def _cells(values: np.ndarray) -> np.ndarray:
    means = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values)[None], MAP_CELLS)
    return np.asarray(means[0])


def _rounded(values: np.ndarray) -> list[list[float]]:
    """To four digits: the others say nothing, and are many."""
    return [[float(f"{value:.4g}") for value in row] for row in values.tolist()]
