"""How right answers are, and how honest their probabilities: the VQA accuracy and calibration.

Accuracy: Antol et al., "VQA: Visual Question Answering", ICCV 2015. Calibration error: Guo et al.,
"On Calibration of Modern Neural Networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vqa.preprocessing.answer_normalization import normalize_answer

PEOPLE = 10  # how many people the official accuracy asks
ENOUGH = 3  # how many of the others must agree for full marks


def accuracy(prediction: str, answers: Sequence[str], *, strict_official: bool = False) -> float:
    """Score one answer against what people said, as the official evaluation does.

    With ten answers or more it is the mean, over each person left out in turn, of
    min(1, matches among the others / 3). With fewer there is no crowd to agree with: the first is
    the reference, and the prediction is right or wrong.

    Args:
        prediction: the model's answer.
        answers: people's answers, the agreed one first if they are fewer than ten.
        strict_official: compare as the official script does to the letter: where all people gave
            the same answer, both sides are left raw, so that "Yes" is wrong where all said "yes",
            and "two" right where all said "two" although "2" is not. Without it both sides are
            always normalised.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        ValueError: if there is no answer to compare with, or one that is not in a list.
    """
    if not answers or isinstance(answers, str):
        raise ValueError(f"Give a list of ten answers, or of the agreed one, not {answers!r}.")
    raw = strict_official and len(set(map(_trim, answers))) == 1
    form = _trim if raw else normalize_answer
    said = form(prediction)
    if len(answers) < PEOPLE:
        return float(said == form(answers[0]))
    matches = sum(said == form(answer) for answer in answers)
    # A person who said the same leaves one match fewer among the others.
    same = matches * min(1.0, (matches - 1) / ENOUGH)
    different = (len(answers) - matches) * min(1.0, matches / ENOUGH)
    return (same + different) / len(answers)


def _trim(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


def expected_calibration_error(
    probabilities: Sequence[float], accuracies: Sequence[float], bins: int = 15
) -> float:
    """Tell how far the probabilities shown are from how often the answers are right.

    Args:
        probabilities: what the model gave its answers, each in [0, 1].
        accuracies: how right these were, each in [0, 1], in the same order.
        bins: how many parts of equal width [0, 1] is cut into; each but the first excludes its
            lower end.

    Returns:
        The mean over the answers of |mean probability - mean accuracy| in their bin, in [0, 1].

    Raises:
        ValueError: if there are none, the lengths differ, a value is outside [0, 1], or `bins` is
            not positive.
    """
    shown, right = np.asarray(probabilities, float), np.asarray(accuracies, float)
    if shown.ndim != 1 or shown.shape != right.shape or not shown.size:
        raise ValueError(f"Give as many accuracies as probabilities: {right.size}, {shown.size}.")
    if bins < 1:
        raise ValueError(f"The calibration error needs at least one bin, not {bins}.")
    for name, values in (("probability", shown), ("accuracy", right)):
        outside = values[~((values >= 0) & (values <= 1))]
        if outside.size:
            raise ValueError(f"A {name} is in [0, 1], and this is not: {outside[0]}.")
    place = np.clip(np.ceil(shown * bins).astype(int) - 1, 0, bins - 1)
    # Within a bin, count * |difference of means| is |sum of differences|.
    gaps = np.bincount(place, weights=shown - right)
    return float(np.abs(gaps).sum() / shown.size)
