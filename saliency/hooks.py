"""Run a module with hooks and gradients, and restore its state afterwards.

Hooks act only in the thread that set them, so that other threads can use the model meanwhile.
Gradients are taken with `torch.autograd.grad`, so no `.grad` is touched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from saliency.types import CannotExplain

RECTIFIERS = (nn.ReLU, nn.ReLU6)  # the modules that guided backprop can guide


@contextmanager
def evaluating(scorer: nn.Module) -> Iterator[None]:
    """Eval mode and gradients for the time of a `with`; every module's own flag comes back after.

    Works inside `no_grad` and `inference_mode`. Flags are set one by one, because a module's own
    `train()` may do more than set them.
    """
    in_training = [module for module in scorer.modules() if module.training]
    try:
        for module in in_training:
            module.training = False
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module in in_training:
            module.training = True


@contextmanager
def after(
    modules: Iterable[nn.Module], act: Callable[[nn.Module, Tensor], Tensor | None]
) -> Iterator[None]:
    """Call `act(module, output)` after every run of these modules; what it returns replaces output.

    Only runs of this thread count.
    """
    mine = threading.get_ident()

    def hook(module: nn.Module, _inputs: Any, output: Any) -> Any:
        return act(module, output) if threading.get_ident() == mine else None

    handles = []
    try:
        for module in modules:
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def feature_layer(scorer: nn.Module) -> nn.Module:
    """The module whose output Grad-CAM reads.

    Raises:
        CannotExplain: if the scorer names none.
    """
    layer = getattr(scorer, "feature_layer", None)
    if not isinstance(layer, nn.Module):
        raise CannotExplain(f"{type(scorer).__name__} names no feature_layer")
    return layer


def forward_from(scorer: nn.Module, pixels: Tensor, layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Run a scorer once, with gradients from one layer on: the trunk before it costs no graph.

    Args:
        scorer: in eval mode.
        pixels: (B, 3, H, W) in [0, 1].
        layer: a module within the scorer that runs once and returns (B, C, h, w).

    Returns:
        The layer's output as a leaf (B, C, h, w), and the scores (B, K) that depend on it.

    Raises:
        CannotExplain: if the layer is not run, runs twice, or returns no feature maps.
    """
    leaves: list[Tensor] = []

    def cut(_module: nn.Module, output: Tensor) -> Tensor:
        """Put a leaf in the place of the layer's output; gradients are on from here."""
        name = type(layer).__name__
        if leaves:
            raise CannotExplain(f"the feature layer ({name}) runs more than once")
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise CannotExplain(f"the feature layer ({name}) returns no (B, C, h, w) tensor")
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return leaves[0]

    with torch.no_grad(), after([layer], cut):  # no_grad restores the flag that `cut` sets
        scores = scorer(pixels)
    if not leaves:
        raise CannotExplain(f"the feature layer ({type(layer).__name__}) was not run")
    return leaves[0], scores


def gradients(scores: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of each score to the inputs, a score at a time.

    Args:
        scores: (B, k), row b a function of inputs[b] alone.
        inputs: (B, ...), what they were computed from.

    Returns:
        (k, B, ...), zero where a score does not depend on the inputs.
    """
    count = scores.shape[1]
    if not scores.requires_grad:  # no score depends on them at all
        return inputs.new_zeros(count, *inputs.shape)
    rows = [
        torch.autograd.grad(
            scores[:, i].sum(),
            inputs,
            retain_graph=i < count - 1,
            allow_unused=True,
            materialize_grads=True,
        )[0]
        for i in range(count)
    ]
    return torch.stack(rows)


def chunks(total: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `total`."""
    return (slice(start, min(start + size, total)) for start in range(0, total, size))


def chunk_size(pixels: Tensor) -> int:
    """How many copies of a picture to run in one batch.

    On a CPU 8 pictures of 224 x 224 are faster than one large batch, which exceeds its caches; on a
    GPU as many as its free memory holds.
    """
    area = pixels.shape[-2] * pixels.shape[-1]
    if pixels.device.type != "cuda":
        return max(1, min(8, 8 * 224 * 224 // area))
    free, _ = torch.cuda.mem_get_info(pixels.device)
    return max(1, min(256, int(free // (2 * 6000 * area))))  # a ResNet-50 keeps 2 kB a pixel


def as_leaf(pixels: Tensor) -> Tensor:
    """A copy of the pixels, as a leaf that gradients can be taken to."""
    return pixels.detach().clone().float().requires_grad_()


def enlarge(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (K, h, w) -> (K, *size), bilinearly between the centres of the cells."""
    enlarged: Tensor = torch.nn.functional.interpolate(
        maps[None], size=tuple(size), mode="bilinear", align_corners=False
    )
    return enlarged[0]
