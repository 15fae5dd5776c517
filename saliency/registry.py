"""All methods by name, and the one call that runs any of them."""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from saliency import hooks
from saliency.methods.attention import attention
from saliency.methods.grad_cam import grad_cam
from saliency.methods.gradient import gradient
from saliency.methods.guided_backprop import guided_backprop
from saliency.methods.integrated_gradients import integrated_gradients
from saliency.methods.lime_image import lime
from saliency.methods.occlusion import occlusion
from saliency.methods.smoothgrad import smoothgrad
from saliency.types import Explanation, Maps, MethodSpec, Progress, check_pixels, check_targets

# Menus, the README's table and the contract tests follow this table.
METHODS: dict[str, MethodSpec] = {
    "grad_cam": MethodSpec(
        grad_cam, "Grad-CAM", False, "1 forward, k backwards of the head", ("feature_layer",)
    ),
    "gradient": MethodSpec(gradient, "Gradient", False, "1 forward, k backwards"),
    "smoothgrad": MethodSpec(
        smoothgrad, "SmoothGrad", False, "1 + samples forwards, k * samples backwards"
    ),
    "guided_backprop": MethodSpec(
        guided_backprop, "Guided backprop", False, "1 forward, k backwards", ("ReLU modules",)
    ),
    "integrated_gradients": MethodSpec(
        integrated_gradients,
        "Integrated gradients",
        True,
        "2 + steps forwards, k * steps backwards",
    ),
    "occlusion": MethodSpec(occlusion, "Occlusion", True, "1 + windows forwards"),
    "lime": MethodSpec(lime, "LIME", True, "samples forwards"),
    "attention": MethodSpec(attention, "Attention", False, "2 forwards", ("attention",)),
}
_RUN = ("scorer", "pixels", "targets", "seed", "progress")  # arguments that are no options


def explain(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    method: str = "grad_cam",
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Explanation, ...]:
    """Compute a map for each of several scores of one picture.

    The scorer's training flags, hooks and gradients are restored afterwards, also after an
    exception.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K); see `saliency.types`.
        pixels: one picture, (1, 3, H, W) in [0, 1].
        targets: which of the K scores to explain; all share the passes that can be shared.
        method: a name in METHODS.
        seed: of the methods that draw at random; the same seed gives the same maps.
        progress: called with (done, total) between steps; what it raises ends the explanation.
        options: the method's own; see `options_of`.

    Returns:
        One explanation a target, in their order.

    Raises:
        CannotExplain: if the scorer lacks what the method needs.
        ValueError: if method, option, pixels or a target is none that there is.
    """
    spec = find(method)
    settings = options_of(method)
    if unknown := sorted(set(options) - set(settings)):
        names = ", ".join(settings) or "none"
        raise ValueError(f"{method} has no option {', '.join(unknown)}; it has: {names}")
    check_pixels(pixels)
    check_targets(targets)
    common: dict[str, Any] = {"seed": seed, "progress": progress or (lambda _done, _total: None)}
    accepted = inspect.signature(spec.run).parameters
    common = {name: value for name, value in common.items() if name in accepted}
    start = time.perf_counter()
    with hooks.evaluating(scorer):
        maps = spec.run(scorer, pixels.detach().float().clone(), targets, **common, **options)
    seconds = time.perf_counter() - start
    return _explanations(method, targets, maps, settings | options, seconds)


def find(method: str) -> MethodSpec:
    """The registry's line of a method.

    Raises:
        ValueError: naming the methods that there are.
    """
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; there are: {', '.join(METHODS)}")
    return METHODS[method]


def options_of(method: str) -> dict[str, Any]:
    """A method's options and their defaults."""
    parameters = inspect.signature(find(method).run).parameters
    return {name: p.default for name, p in parameters.items() if name not in _RUN}


def explains(scorer: nn.Module, method: str) -> bool:
    """Whether a scorer has what a method needs."""
    present = {
        "feature_layer": isinstance(getattr(scorer, "feature_layer", None), nn.Module),
        "attention": callable(getattr(scorer, "attention", None)),
        "ReLU modules": any(isinstance(m, hooks.RECTIFIERS) for m in scorer.modules()),
    }
    return all(present[need] for need in find(method).needs)


def table() -> str:
    """The methods as a Markdown table, for the README."""
    lines = ["| method | name | maps | needs | cost for k targets |", "|---|---|---|---|---|"]
    for name, spec in METHODS.items():
        sign = "signed" if spec.signed else "0 and above"
        needs = ", ".join(spec.needs) or "-"
        lines.append(f"| {spec.label} | `{name}` | {sign} | {needs} | {spec.cost} |")
    return "\n".join(lines)


def _explanations(
    method: str, targets: Sequence[int], maps: Maps, options: dict[str, Any], seconds: float
) -> tuple[Explanation, ...]:
    signed = bool(options.get("signed", METHODS[method].signed))
    values = maps.values.detach().float().cpu().numpy()
    scores = maps.scores.detach().float().tolist()
    details = maps.details or [{}] * len(targets)
    return tuple(
        Explanation(
            method,
            target,
            values[i].copy(),
            signed,
            scores[i],
            seconds,
            options,
            details=details[i],
        )
        for i, target in enumerate(targets)
    )
