"""Explain models that read text: how much each token raises or lowers a score.

A token scorer is an `nn.Module` that maps the vectors of tokens (B, T, D) to raw, differentiable
scores (B, K), every row a text of T tokens; T may be any number from 1 on. Two methods:

- Integrated gradients (Sundararajan, Taly, Yan: Axiomatic Attribution for Deep Networks, 2017) on
  the way from vectors of nothing but 0 to those of the text.
- Leave one out (Li, Monroe, Jurafsky: Understanding Neural Networks through Representation Erasure,
  2016): how far the score falls when the token is taken out of the text.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saliency import hooks
from saliency.types import Maps, check_targets, pick

_CHUNK = 64  # texts at a time


@dataclass(frozen=True)
class TokenExplanation:
    """How much each token of a text raises or lowers one score."""

    method: str  # its name in TOKEN_METHODS
    target: int  # which of the scorer's scores
    pushes: NDArray[np.float32]  # (T,), raw; below 0 speaks against the target
    score: float  # the scorer's raw score of the target
    details: Mapping[str, Any] = field(default_factory=dict)  # such as "completeness_error"


def integrated_gradients(
    scorer: nn.Module, vectors: Tensor, targets: Sequence[int], *, steps: int = 50
) -> Maps:
    """Divide the difference of each score to that of all-zero vectors among the tokens.

    Args:
        scorer: (B, T, D) -> (B, K).
        vectors: one text's, (1, T, D).
        targets: which of the K scores to explain.
        steps: Gauss-Legendre points on the straight path between the two.

    Returns:
        Signed pushes (len(targets), T). Each row sums to score(vectors) - score(0), but for its
        `completeness_error` in the details: a share of that rise, 0 or more.

    Raises:
        ValueError: if steps is not positive or a target is out of range.
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps is {steps!r} and must be a positive whole number")
    nothing = torch.zeros_like(vectors)
    with torch.no_grad():
        scores, start = pick(scorer(torch.cat([vectors, nothing])), targets)
    points, weights = np.polynomial.legendre.leggauss(steps)  # on -1..1
    shares = vectors.new_tensor((points + 1) / 2).view(-1, 1, 1)
    lengths = vectors.new_tensor(weights / 2).view(-1, 1)
    leaf = hooks.as_leaf(nothing)
    slopes = vectors.new_zeros(len(targets), *vectors.shape[1:])
    for part in hooks.chunks(steps, _CHUNK):
        along = pick(scorer(leaf + shares[part] * vectors), targets) * lengths[part]
        slopes += hooks.gradients(along, leaf)[:, 0]  # of all the steps, as they share the leaf
    pushes = (slopes * vectors).sum(dim=2)
    rises = (scores - start).double()
    errors = (pushes.double().sum(dim=1) - rises).abs() / rises.abs().clamp(sys.float_info.min)
    details = [
        {"completeness_error": error, "rise": rise}
        for error, rise in zip(errors.tolist(), rises.tolist(), strict=True)
    ]
    return Maps(pushes, scores, details)


def leave_one_out(scorer: nn.Module, vectors: Tensor, targets: Sequence[int]) -> Maps:
    """Compute how much each score falls when one token is removed from the text, token by token.

    The vectors of the others stay as they are.

    Args:
        scorer: (B, T, D) -> (B, K).
        vectors: one text's, (1, T, D). A text of one token becomes one vector of 0.
        targets: which of the K scores to explain.

    Returns:
        Signed pushes (len(targets), T): above 0 the token speaks for the target.

    Raises:
        ValueError: if a target is out of range.
    """
    count = vectors.shape[1]
    with torch.no_grad():
        (scores,) = pick(scorer(vectors), targets)
        if count == 1:
            without = pick(scorer(torch.zeros_like(vectors)), targets)
        else:
            others = torch.tensor([[i for i in range(count) if i != t] for t in range(count)])
            parts = (vectors[0, others[part]] for part in hooks.chunks(count, _CHUNK))
            without = torch.cat([pick(scorer(part), targets) for part in parts])
    return Maps((scores - without).T, scores)


TOKEN_METHODS: dict[str, tuple[Callable[..., Maps], str]] = {  # name -> function, label
    "integrated_gradients": (integrated_gradients, "Integrated gradients"),
    "leave_one_out": (leave_one_out, "Leave one out"),
}


def explain_tokens(
    scorer: nn.Module,
    vectors: Tensor,
    targets: Sequence[int],
    method: str = "integrated_gradients",
    **options: Any,
) -> tuple[TokenExplanation, ...]:
    """Say which tokens of a text made its scores what they are.

    The scorer's training flags, hooks and gradients are restored, also after an exception.

    Args:
        scorer: vectors of tokens (B, T, D) -> scores (B, K).
        vectors: one text's, (1, T, D), T at least 1.
        targets: which of the K scores to explain.
        method: a name in TOKEN_METHODS.
        options: the method's own.

    Returns:
        One explanation a target, in their order.

    Raises:
        ValueError: if there is no such method, the vectors are no such tensor, or a target is out
            of range.
    """
    if method not in TOKEN_METHODS:
        raise ValueError(f"there is no method {method!r}; there are: {', '.join(TOKEN_METHODS)}")
    if vectors.ndim != 3 or vectors.shape[0] != 1 or not vectors.numel():
        raise ValueError(f"one text is (1, T, D), this is {tuple(vectors.shape)}")
    check_targets(targets)
    run, _ = TOKEN_METHODS[method]
    with hooks.evaluating(scorer):
        maps = run(scorer, vectors.detach().float().clone(), targets, **options)
    pushes = maps.values.detach().float().cpu().numpy()
    details = maps.details or [{}] * len(targets)
    return tuple(
        TokenExplanation(method, target, pushes[i].copy(), float(maps.scores[i]), details[i])
        for i, target in enumerate(targets)
    )
