"""Encoders to start a training from: pretrained, side by side, with true statistics."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vqa.models.encoder import Encoder, EncoderConfig

_LABELS = ("id2label", "label2id", "transformers_version", "architectures", "dtype")


def side_by_side(first: Encoder, second: Encoder) -> Encoder:
    """Two trained encoders as one: the cells of the second are laid beside those of the first.

    Raises:
        ValueError: if their grids differ in size.
    """
    both = Encoder(replace(first.config, beside=second.config))
    both.load_state_dict(first.state_dict() | second.state_dict(prefix="beside."))
    return both


def depthwise_padding(architecture: dict[str, Any], image_size: int) -> dict[str, list[int]]:
    """The padding that an EfficientNet was taught with, at another picture size.

    TensorFlow pads a strided convolution by the size of its input, transformers by a list of the
    blocks whose input side is odd; with the wrong list features lie a pixel off, and nothing fails.

    Args:
        architecture: a transformers config as a dict.
        image_size: side of the square pictures, in pixels.

    Returns:
        The field of the config to change; empty for another kind of network.
    """
    if architecture["model_type"] != "efficientnet":
        return {}
    side, block, odd = -(-image_size // 2), 0, []
    stages = zip(architecture["strides"], architecture["num_block_repeats"], strict=True)
    for stride, repeats in stages:
        if stride == 2 and side % 2:
            odd.append(block)
        side = -(-side // stride)
        block += math.ceil(architecture["depth_coefficient"] * repeats)
    return {"depthwise_padding": odd}


def pretrained(source: str, *, image_size: int = 224, stride: int = 32) -> Encoder:
    """An encoder that starts from pretrained weights.

    Args:
        source: a local folder in the transformers layout, or a Hub id.
        image_size: side of the square the pictures are squashed to, in pixels.
        stride: which stage to read, in pixels a grid cell.

    Raises:
        OSError: if there is no such folder or Hub id (transformers' own message).
        ValueError: if the network has no stage of that stride.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoModel

    padding = depthwise_padding(AutoConfig.from_pretrained(source).to_dict(), image_size)
    network = AutoModel.from_pretrained(source, dtype=torch.float32, **padding)
    processor = AutoImageProcessor.from_pretrained(source)
    architecture = {k: v for k, v in network.config.to_diff_dict().items() if k not in _LABELS}
    config = EncoderConfig(
        architecture=architecture,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        image_size=image_size,
        stride=stride,
        name=str(source).rstrip("/").rsplit("/", maxsplit=1)[-1],
    )
    encoder = Encoder(config)
    encoder.network.load_state_dict(network.state_dict())
    return encoder


@torch.no_grad()
def standardise(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Give what is read of earlier stages mean 0 and spread 1, channel by channel.

    Args:
        encoder: changed in place; one that reads no earlier stage is left as it is.
        batches: pixels (B, 3, S, S) in [0, 1]; a few hundred real pictures are enough.
    """
    if not encoder.config.finer:
        return
    size = encoder.grid_size
    seen = torch.cat([encoder.finer(encoder.maps(p), p, size) for p in batches])
    encoder.finer_mean.copy_(seen.mean((0, 2, 3)))
    encoder.finer_std.copy_(seen.std((0, 2, 3)).clamp(min=1e-3))


@torch.no_grad()
def unfold_batch_norm(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm the true statistics of its input, leaving the function as it is.

    Weights whose normalisation was folded into the convolutions carry mean 0 and variance 1 that
    are not those of their inputs: in training mode such a network diverges. Afterwards training
    mode works.

    Args:
        encoder: changed in place.
        batches: pixels (B, 3, S, S) in [0, 1]; a few hundred real pictures are enough.
    """
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.Module, Tensor] = {
        norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms
    }

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        ones = torch.full((x.shape[1],), x.numel() / x.shape[1])
        sums[norm] += torch.stack([ones, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])

    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    was_training = encoder.training
    try:
        encoder.eval()
        for pixels in batches:
            encoder(pixels)
    finally:
        for handle in handles:
            handle.remove()
        encoder.train(was_training)
    for norm in norms:
        count, total, squares = sums[norm]
        if not count.all():
            continue  # a layer past the stage that is read: it never ran
        _restate(norm, total / count, squares / count - (total / count) ** 2)


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Express the same affine map with other running statistics."""
    old_mean, old_variance = norm.running_mean, norm.running_var
    if old_mean is None or old_variance is None:
        raise ValueError("a BatchNorm without running statistics cannot be unfolded")
    scale = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + scale * (mean - old_mean))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    old_mean.copy_(mean)
    old_variance.copy_(variance)
