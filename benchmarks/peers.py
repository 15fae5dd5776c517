"""The peers that `benchmarks.saliency` times: each explains the same scorer, as documented."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saliency.methods.lime_image import ImageLime
from saliency.types import probabilities
from vqa.scorers.native import ClassScorer

CHUNKS = (5, 8, 25)  # pictures that captum runs at once
TARGETS = [0, 1, 2]
STEPS, NOISY = 50, 25
Call = Callable[[], object]


def cams(scorer: nn.Module, pixels: Tensor) -> dict[str, Call]:
    """Grad-CAM by the others, each as its documentation does it."""
    from captum.attr import LayerGradCam
    from torchcam.methods import GradCAM

    layer = scorer.feature_layer
    layered = LayerGradCam(scorer, layer)

    def captum() -> list[Tensor]:
        return [layered.attribute(pixels, t, relu_attributions=True) for t in TARGETS]

    def torchcam() -> list[list[Tensor]]:
        with GradCAM(scorer, layer) as extract:
            scores = scorer(pixels.clone().requires_grad_())
            return [extract(t, scores, normalized=False, retain_graph=True) for t in TARGETS]

    peers: dict[str, Call] = {"captum": captum, "torch-cam": torchcam}
    try:
        from pytorch_grad_cam import GradCAM as Other
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError:  # it needs torchvision and OpenCV
        return peers
    other = Other(scorer, [layer])
    peers["pytorch-grad-cam"] = lambda: [
        other(pixels, [ClassifierOutputTarget(t)]) for t in TARGETS
    ]
    return peers


def captum_passes(scorer: nn.Module, pixels: Tensor) -> tuple[dict[str, Call], dict[str, Call]]:
    """Saliency and guided backprop; the latter knows nn.ReLU only, so it runs on ResNet alone."""
    from captum.attr import GuidedBackprop, Saliency

    plain = Saliency(scorer)
    gradient = {"captum": lambda: plain.attribute(leaf(pixels), 0)}
    if not isinstance(scorer, ClassScorer):
        return gradient, {}
    guided = GuidedBackprop(scorer)
    return gradient, {"captum": lambda: guided.attribute(leaf(pixels), 0)}


def captum_smoothgrad(scorer: nn.Module, pixels: Tensor) -> dict[str, Call]:
    """NoiseTunnel over Saliency, at each chunk size."""
    from captum.attr import NoiseTunnel, Saliency

    tunnel = NoiseTunnel(Saliency(scorer))

    def at(chunk: int) -> Call:
        """The call at one chunk size."""
        return lambda: tunnel.attribute(
            leaf(pixels),
            nt_samples=NOISY,
            nt_samples_batch_size=chunk,
            stdevs=0.15,
            target=0,
            abs=False,
        )

    return {f"captum, chunks of {chunk}": at(chunk) for chunk in CHUNKS}


def captum_integrated(scorer: nn.Module, pixels: Tensor) -> dict[str, Call]:
    """IntegratedGradients, at each chunk size."""
    from captum.attr import IntegratedGradients

    integrated = IntegratedGradients(scorer)

    def at(chunk: int) -> Call:
        """The call at one chunk size."""
        return lambda: integrated.attribute(
            leaf(pixels), target=0, n_steps=STEPS, internal_batch_size=chunk
        )

    return {f"captum, chunks of {chunk}": at(chunk) for chunk in CHUNKS}


def lime_package(
    scorer: nn.Module, pixels: Tensor, segments: NDArray[np.int64], samples: int
) -> Call:
    """The lime package on the same picture, superpixels and number of samples."""
    import lime.lime_image
    from lime.lime_image import LimeImageExplainer

    lime.lime_image.tqdm = iter  # printing is not what is measured
    picture = pixels[0].permute(1, 2, 0).double().numpy()

    def classify(pictures: NDArray[np.float64]) -> NDArray[np.float32]:
        """Pictures (B, H, W, 3) -> probabilities (B, K), as lime wants its classifier."""
        batch = torch.from_numpy(np.asarray(pictures, np.float32)).permute(0, 3, 1, 2)
        with torch.inference_mode():
            return probabilities(scorer, scorer(batch)).numpy()

    return lambda: LimeImageExplainer(random_state=0).explain_instance(
        picture,
        classify,
        labels=(0,),
        top_labels=None,
        num_samples=samples,
        segmentation_fn=lambda _picture: segments,
    )


def lime_package_again(sample: ImageLime) -> Call:
    """The lime package's solve for one more target of the same sample."""
    from lime.lime_image import LimeImageExplainer

    solver = LimeImageExplainer(random_state=0).base
    rows = sample.masks.astype(int)
    distances = 1 - np.sqrt(rows.mean(axis=1))
    return lambda: solver.explain_instance_with_data(
        rows, sample.probabilities, distances, 1, 100_000
    )


def leaf(pixels: Tensor) -> Tensor:
    """Pixels as captum wants them."""
    return pixels.clone().requires_grad_()
