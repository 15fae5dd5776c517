"""Guided backprop: the gradient to the pixels, with negative gradients set to 0 at every ReLU.

Springenberg et al.: Striving for Simplicity: The All Convolutional Net (2015). On its way back
through a ReLU, the gradient R passes where the input was positive and R is: R * [x > 0] * [R > 0].

The maps are sharp but depend little on the score: much of a map stays the same when the weights of
the last layers are replaced by random ones (Adebayo et al.: Sanity Checks for Saliency Maps, 2018).
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
    """Compute the gradient of each score to the pixels, keeping positive gradients alone at ReLUs.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K), through `nn.ReLU` or `nn.ReLU6` modules; a
            ReLU that is called as a function cannot be hooked, and is left as it is.
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain.
        signed: sum over the colour channels instead of taking the largest magnitude of the three.

    Returns:
        Maps (len(targets), H, W), at least 0 unless signed. Cost: 1 forward, a backward a target.

    Raises:
        CannotExplain: if no ReLU module lies between the pixels and the scores.
        ValueError: if a target is out of range.
    """
    guided = 0

    def keep_positive(gradient: Tensor) -> Tensor:
        nonlocal guided
        guided += 1
        return gradient.clamp_min(0)  # a copy: the tensor may be another branch's gradient too

    def guide(_module: nn.Module, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(keep_positive)  # type: ignore[no-untyped-call]

    leaf = hooks.as_leaf(pixels)
    rectifiers = [module for module in scorer.modules() if isinstance(module, hooks.RECTIFIERS)]
    with hooks.after(rectifiers, guide):
        scores = pick(scorer(leaf), targets)
    gradients = hooks.gradients(scores, leaf)[:, 0]
    if not guided:  # then this is the plain gradient
        unused = f"{len(rectifiers)} ReLU modules, none between the pixels and the scores"
        raise CannotExplain(
            f"guided backprop needs ReLU modules, {type(scorer).__name__} has "
            + (unused if rectifiers else "none")
        )
    return Maps(collapse(gradients, signed), scores[0].detach())
