"""Guided backprop: the gradient of what only ever speaks for the score.

Springenberg et al.: Striving for Simplicity: The All Convolutional Net (2015). On its way back
through a ReLU, the gradient R passes where the input was positive and R is: R * [x > 0] * [R > 0].

It is sharp but says little of the score: much of the map stays when the last layers are replaced
by random ones (Adebayo et al.: Sanity Checks for Saliency Maps, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from saliency import hooks
from saliency.methods.gradient import collapse
from saliency.types import CannotExplain, Maps, pick


def guided_backprop(
    scorer: nn.Module, pixels: Tensor, targets: Sequence[int], *, signed: bool = False
) -> Maps:
    """How much each score would rise with each pixel, along the ways on which it only rises.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K), through `nn.ReLU` or `nn.ReLU6` modules; those
            that are functions cannot be guided.
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        signed: sum the channels' gradients instead of taking the largest magnitude.

    Returns:
        Maps (len(targets), H, W), at least 0 unless signed. Cost: 1 forward, a backward a target.

    Raises:
        CannotExplain: if no ReLU module lies between the pixels and the scores.
        ValueError: if a target is out of range.
    """
    guided = 0

    def rising(slope: Tensor) -> Tensor:
        nonlocal guided
        guided += 1
        return slope.clamp_min(0)  # a copy: the tensor may be another branch's gradient too

    def guide(_module: nn.Module, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(rising)  # type: ignore[no-untyped-call]

    leaf = hooks.as_leaf(pixels)
    rectifiers = [module for module in scorer.modules() if isinstance(module, hooks.RECTIFIERS)]
    with hooks.after(rectifiers, guide):
        scores = pick(scorer(leaf), targets)
    slopes = hooks.gradients(scores, leaf)[:, 0]
    if not guided:  # then this is the plain gradient
        found = f"{len(rectifiers)} ReLU modules, none between the pixels and the scores"
        raise CannotExplain(
            f"guided backprop needs ReLU modules, {type(scorer).__name__} has "
            + (found if rectifiers else "none")
        )
    return Maps(collapse(slopes, signed), scores[0].detach())
