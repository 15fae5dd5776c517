"""SmoothGrad: the gradient to the pixels, averaged over noisy copies of the picture.

Smilkov et al.: SmoothGrad: removing noise by adding noise (2017). G_c = mean_n dS / dx_c at
x + N(0, sigma^2), sigma = noise * (max x - min x); M = max_c |G_c|; signed: sum_c G_c.

The mean is taken of signed gradients, so that parts whose sign differs between copies cancel out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from saliency import hooks
from saliency.methods.gradient import collapse
from saliency.types import Maps, Progress, pick


def smoothgrad(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    samples: int = 25,
    noise: float = 0.15,
    signed: bool = False,
    seed: int = 0,
    progress: Progress = lambda _done, _total: None,
) -> Maps:
    """Compute the mean gradient of each score over noisy copies of the picture.

    Args:
        scorer: pixels (B, 3, H, W) -> scores (B, K).
        pixels: one picture, (1, 3, H, W) in [0, 1]; its noisy copies may leave that range.
        targets: which of the K scores to explain.
        samples: noisy copies to average over.
        noise: standard deviation of the noise, as a share of the picture's range of values; 0
            gives the plain gradient.
        signed: sum over the colour channels instead of taking the largest magnitude of the three.
        seed: of the noise.
        progress: called with (done, total) copies.

    Returns:
        Maps (len(targets), H, W), at least 0 unless signed. Cost: 1 + samples forwards, a backward
        a sample and target.

    Raises:
        ValueError: if samples is not positive, noise is below 0, or a target is out of range.
    """
    if not isinstance(samples, int) or samples < 1:
        raise ValueError(f"samples is {samples!r} and must be a positive whole number")
    if not 0 <= noise < math.inf:
        raise ValueError(
            f"noise is {noise!r} and must be a share of the picture's range, 0 or more"
        )
    with torch.no_grad():
        scores = pick(scorer(pixels), targets)[0]
    means = mean_gradients(
        scorer, pixels, targets, samples=samples, noise=noise, seed=seed, progress=progress
    )
    return Maps(collapse(means, signed), scores)


def mean_gradients(
    scorer: nn.Module,
    pixels: Tensor,
    targets: Sequence[int],
    *,
    samples: int,
    noise: float,
    seed: int,
    progress: Progress,
) -> Tensor:
    """Average the signed gradient of each score over noisy copies: (len(targets), 3, H, W).

    Noise is drawn one copy at a time on the CPU, so that it does not depend on the chunk size or
    the device. captum draws the same noise; where 3 * H * W is no multiple of 16, it does so with
    `nt_samples_batch_size=1` alone.
    """
    deviation = noise * float(pixels.max() - pixels.min())
    generator = torch.Generator().manual_seed(seed)
    leaf = hooks.as_leaf(pixels)
    total = pixels.new_zeros(len(targets), *pixels.shape[1:])
    for part in hooks.chunks(samples, hooks.chunk_size(pixels)):
        noise_batch = torch.empty(part.stop - part.start, *pixels.shape[1:])
        for sample_noise in noise_batch:
            sample_noise.normal_(std=deviation, generator=generator)
        scores = pick(scorer(leaf + noise_batch.to(leaf.device)), targets)
        total += hooks.gradients(scores, leaf)[:, 0]  # summed over the copies, which share the leaf
        progress(part.stop, samples)
    return total / samples
