"""Methods that read gradients and features: against their oracles, and where the answer is known.

`difference` is max |ours - theirs| / max |theirs|; every oracle is asked one target at a time, ours
all at once.
"""

import copy
import warnings

import numpy as np
import pytest
import torch
from helpers.contract import state, unchanged
from helpers.toy_scorers import CLASSES, SIDE, ConvScorer, LinearScorer, a_picture
from PIL import Image
from torch import nn

from saliency import hooks
from saliency.methods.grad_cam import grad_cam
from saliency.methods.smoothgrad import mean_gradients
from saliency.registry import explain
from saliency.types import Cancelled, CannotExplain

TARGETS = [4, 0]  # Grad-CAM has evidence for both in both scorers


class ResNetScorer(nn.Module):
    """A ResNet-18 of `transformers` with random weights."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import AutoModelForImageClassification, ResNetConfig

        config = ResNetConfig(
            layer_type="basic",
            depths=[2, 2, 2, 2],
            hidden_sizes=[64, 128, 256, 512],
            num_labels=CLASSES,
        )
        with torch.random.fork_rng():
            torch.manual_seed(10)
            self.network = AutoModelForImageClassification.from_config(config)
        self.feature_layer = self.network.resnet.encoder.stages[-1]

    def forward(self, pixels):
        return self.network(pixels).logits


@pytest.fixture(params=["toy", "ResNet-18"], scope="module")
def peer(request):
    """A scorer in eval mode, and a picture that oracles may take gradients to."""
    scorer = ConvScorer() if request.param == "toy" else ResNetScorer()
    picture = a_picture(1, SIDE if request.param == "toy" else 64)
    return scorer.eval(), picture.requires_grad_()


def ours(scorer, pixels, method, **options):
    """(K, H, W)"""
    found = explain(scorer, pixels.detach(), TARGETS, method, **options)
    return torch.from_numpy(np.stack([each.map for each in found]))


def theirs(attribute, **options):
    """captum's answers for each of the targets, (K, 3, H, W)."""
    return torch.cat([attribute(target=target, **options).detach() for target in TARGETS])


def difference(one, other):
    assert one.shape == other.shape
    assert other.abs().max() > 0
    return float((one - other).abs().max() / other.abs().max())


# The gradient itself


def test_gradient_is_captum_s_saliency_to_1e_6(peer):
    from captum.attr import Saliency

    scorer, pixels = peer
    magnitudes = theirs(Saliency(scorer).attribute, inputs=pixels)
    slopes = theirs(Saliency(scorer).attribute, inputs=pixels, abs=False)
    assert difference(ours(scorer, pixels, "gradient"), magnitudes.amax(1)) <= 1e-6
    assert difference(ours(scorer, pixels, "gradient", signed=True), slopes.sum(1)) <= 1e-6


@pytest.mark.parametrize("method", ["gradient", "smoothgrad"])
def test_gradients_of_a_linear_scorer_are_its_weights(method):
    scorer = LinearScorer()
    weights = scorer.weights()[TARGETS]
    largest = ours(scorer, a_picture(), method)
    assert torch.allclose(largest, weights.abs().amax(1), rtol=1e-5)
    signed = ours(scorer, a_picture(), method, signed=True)
    assert torch.allclose(signed, weights.sum(1), atol=1e-5)


# SmoothGrad


def mean_of(scorer, pixels, **options):
    settings = {"samples": 25, "noise": 0.15, "seed": 5, "progress": lambda _done, _total: None}
    return mean_gradients(scorer, pixels.detach(), TARGETS, **(settings | options))


def captum_mean(scorer, pixels, batch, samples=25):
    from captum.attr import NoiseTunnel, Saliency

    span = float(pixels.detach().max() - pixels.detach().min())
    means = []
    with torch.random.fork_rng():
        for target in TARGETS:
            torch.manual_seed(5)
            mean = NoiseTunnel(Saliency(scorer)).attribute(
                pixels,
                nt_type="smoothgrad",
                nt_samples=samples,
                nt_samples_batch_size=batch,
                stdevs=0.15 * span,
                target=target,
                abs=False,
            )
            means.append(mean.detach())
    return torch.cat(means)


@pytest.mark.parametrize("batch", [25, 6])
def test_smoothgrad_is_captum_s_noise_tunnel_to_1e_5(peer, batch):
    scorer, pixels = peer
    expected = captum_mean(scorer, pixels, batch)
    assert difference(mean_of(scorer, pixels), expected) <= 1e-5
    assert difference(ours(scorer, pixels, "smoothgrad", seed=5), expected.abs().amax(1)) <= 1e-5


def test_smoothgrad_draws_captum_s_noise_for_sides_that_are_no_multiple_of_four():
    scorer, pixels = ConvScorer().eval(), a_picture(2, 31).requires_grad_()
    expected = captum_mean(scorer, pixels, 1, samples=9)
    assert difference(mean_of(scorer, pixels, samples=9), expected) <= 1e-5


@pytest.mark.parametrize("side", [32, 31])
def test_smoothgrad_does_not_depend_on_the_size_of_its_chunks(monkeypatch, side):
    scorer, pixels = ConvScorer().eval(), a_picture(1, side)
    expected = mean_of(scorer, pixels)
    for size in (1, 7, 25):
        monkeypatch.setattr(hooks, "chunk_size", lambda _pixels, size=size: size)
        assert difference(mean_of(scorer, pixels), expected) <= 1e-6


def test_smoothgrad_without_noise_is_the_gradient_and_with_other_seeds_another():
    scorer, pixels = ConvScorer(), a_picture()
    plain = ours(scorer, pixels, "gradient")
    assert difference(ours(scorer, pixels, "smoothgrad", noise=0.0), plain) <= 1e-6
    assert difference(ours(scorer, pixels, "smoothgrad", seed=1), plain) > 0.01
    one, other = (ours(scorer, pixels, "smoothgrad", seed=seed) for seed in (1, 2))
    assert difference(one, other) > 0.01


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"samples": 2.5}, "samples is 2.5"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"noise": float("nan")}, "noise is nan"),
    ],
)
def test_smoothgrad_names_an_option_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        ours(ConvScorer(), a_picture(), "smoothgrad", **options)


# Guided backprop


def test_guided_backprop_is_captum_s_to_1e_6(peer):
    from captum.attr import GuidedBackprop

    scorer, pixels = peer
    with pytest.warns(UserWarning, match="Setting backward hooks on ReLU"):  # it says so each time
        slopes = theirs(GuidedBackprop(scorer).attribute, inputs=pixels)
    assert difference(ours(scorer, pixels, "guided_backprop"), slopes.abs().amax(1)) <= 1e-6
    signed = ours(scorer, pixels, "guided_backprop", signed=True)
    assert difference(signed, slopes.sum(1)) <= 1e-6
    assert difference(ours(scorer, pixels, "gradient"), slopes.abs().amax(1)) > 0.01


class Twice(nn.Module):
    """One ReLU module, run twice; slopes are known: scores are q . relu(p relu(x) + 2)."""

    def __init__(self, rectify) -> None:
        super().__init__()
        self.rectify = rectify

    def forward(self, pixels):
        factors = torch.tensor([2.0, -3.0, 4.0]).view(3, 1, 1)
        hidden = self.rectify(self.rectify(1 * pixels) * factors + 2)  # above 0 all
        return hidden.sum((2, 3)) @ torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize("rectify", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(inplace=True)])
def test_guided_backprop_guides_reused_and_in_place_modules(rectify):
    pixels = 0.2 + 0.2 * a_picture()
    found = explain(Twice(rectify), pixels, [0, 1], "guided_backprop", signed=True)
    # q is (1, -1, 1) and (-1, 1, 1), q p is (2, 3, 4) and (-2, -3, 4): what is below 0 stops.
    assert [set(each.map.flat) for each in found] == [{2.0 + 4.0}, {4.0}]
    plain = explain(Twice(rectify), pixels, [0, 1], "gradient", signed=True)
    assert [set(each.map.flat) for each in plain] == [{9.0}, {-1.0}]


class Functional(nn.Module):
    """Its rectifiers are functions; a ReLU module that it may have sees no pixels, if it runs."""

    def __init__(self, aside=None, runs=True) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, CLASSES, 3)
        self.bias = nn.Parameter(torch.ones(CLASSES))
        self.aside, self.runs = aside, runs

    def forward(self, pixels):
        seen = self.look(pixels).relu().mean((2, 3))
        return seen + self.aside(self.bias) if self.aside and self.runs else seen


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        (LinearScorer(), "LinearScorer has none"),
        (Functional(), "Functional has none"),
        (Functional(nn.ReLU(), runs=False), "1 ReLU modules, none between"),
        (Functional(nn.ReLU()), "1 ReLU modules, none between"),
    ],
)
def test_guided_backprop_raises_where_it_would_be_the_plain_gradient(scorer, words):
    before = state(scorer)
    with pytest.raises(CannotExplain, match=words):
        explain(scorer, a_picture(), [0], "guided_backprop")
    assert unchanged(before, state(scorer))


# Integrated gradients


@pytest.mark.parametrize("options", [{}, {"baseline": 0.5, "steps": 7}])
def test_integrated_gradients_are_captum_s_to_1e_5(peer, options):
    from captum.attr import IntegratedGradients

    scorer, pixels = peer
    expected = theirs(
        IntegratedGradients(scorer).attribute,
        inputs=pixels,
        baselines=options.get("baseline", 0.0),
        n_steps=options.get("steps", 50),
        method="gausslegendre",
    )
    found = ours(scorer, pixels, "integrated_gradients", **options)
    assert difference(found, expected.sum(1)) <= 1e-5


@pytest.mark.parametrize("baseline", [0.0, 0.25, 1.0])
def test_integrated_gradients_of_a_linear_scorer_are_weight_times_rise(baseline):
    scorer, pixels = LinearScorer(), a_picture()
    found = ours(scorer, pixels, "integrated_gradients", baseline=baseline, steps=1)
    assert difference(found, (scorer.weights()[TARGETS] * (pixels - baseline)).sum(1)) <= 1e-5


def test_integrated_gradients_add_up_to_the_rise_of_the_score(peer):
    scorer, pixels = peer
    with torch.no_grad():
        rises = (scorer(pixels) - scorer(torch.ones_like(pixels)))[0, TARGETS]
    errors = []
    for steps in (3, 50):
        found = explain(scorer, pixels, TARGETS, "integrated_gradients", steps=steps, baseline=1.0)
        sums = torch.tensor([each.map.sum(dtype=np.float64) for each in found])
        told = torch.tensor(
            [each.details["completeness_error"] for each in found], dtype=torch.float64
        )
        assert torch.allclose(told * rises.abs(), (sums - rises).abs(), atol=1e-6)
        errors.append(float(told.max()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_integrated_gradients_of_the_baseline_itself_are_zero():
    black = torch.zeros(1, 3, SIDE, SIDE)
    [found] = explain(ConvScorer(), black, [2], "integrated_gradients", steps=3)
    assert not found.map.any()
    assert found.details == {"completeness_error": 0.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"baseline": 1.5}, "baseline is 1.5"),
        ({"baseline": float("nan")}, "baseline is nan"),
    ],
)
def test_integrated_gradients_name_an_option_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        ours(ConvScorer(), a_picture(), "integrated_gradients", **options)


# Grad-CAM


def cells(scorer, pixels):
    """Our Grad-CAM on its own grid, (K, h, w)."""
    return ours(scorer, pixels, "grad_cam", enlarge=False)


def captum_cells(scorer, pixels):
    from captum.attr import LayerGradCam

    layer = LayerGradCam(scorer, scorer.feature_layer)
    return theirs(layer.attribute, inputs=pixels, relu_attributions=True)[:, 0]


def test_grad_cam_is_captum_s_to_1e_6(peer):
    assert difference(cells(*peer), captum_cells(*peer)) <= 1e-6


def test_grad_cam_is_torch_cam_s_to_1e_6(peer):
    torchcam = pytest.importorskip("torchcam.methods")
    scorer, pixels = copy.deepcopy(peer[0]), peer[1].detach()  # it fills the weights' .grad
    expected = []
    with torchcam.GradCAM(scorer, scorer.feature_layer) as cam:
        for target in TARGETS:
            [found] = cam(target, scorer(pixels), normalized=False)
            expected.append(found[0])
    assert difference(cells(scorer, pixels), torch.stack(expected)) <= 1e-6


def stretched(values):
    """To 0..1, each map for itself."""
    low, high = values.amin((-2, -1), keepdim=True), values.amax((-2, -1), keepdim=True)
    return (values - low) / (high - low)


def test_grad_cam_is_grad_cam_s_normalised_map_to_1e_5(peer):
    """The formula of the package pytorch-grad-cam: stretched, enlarged, stretched again."""
    scorer, pixels = peer
    raw = stretched(captum_cells(scorer, pixels))
    side = pixels.shape[-1]
    enlarged = torch.nn.functional.interpolate(
        raw[None], size=(side, side), mode="bilinear", align_corners=False
    )[0]
    found = stretched(ours(scorer, pixels, "grad_cam"))
    assert difference(found, stretched(enlarged)) <= 1e-5
    # Pillow enlarges between the centres of cells too, by code of its own.
    drawn = [Image.fromarray(each.numpy()).resize((side, side), Image.BILINEAR) for each in raw]
    assert difference(found, stretched(torch.tensor(np.stack(drawn)))) <= 1e-5


def test_grad_cam_reads_the_layer_that_it_is_given(peer):
    from captum.attr import LayerGradCam

    scorer, pixels = peer
    [layer] = [m for m in scorer.modules() if getattr(m, "kernel_size", 0) == (7, 7)] or [
        scorer.stem
    ]
    expected = theirs(LayerGradCam(scorer, layer).attribute, inputs=pixels, relu_attributions=True)[
        :, 0
    ]
    found = ours(scorer, pixels, "grad_cam", layer=layer, enlarge=False)
    assert difference(found, expected) <= 1e-6


class SquareScorer(nn.Module):
    """Scores 0 and 1: how much of the picture is bright, and dark."""

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Conv2d(3, 2, 4, stride=4)
        self.feature_layer = nn.ReLU()
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1) / (3 * 4 * 4))
            self.look.bias.copy_(torch.tensor([-0.6, 0.4]))

    def forward(self, pixels):
        return self.feature_layer(self.look(pixels)).mean((2, 3))


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "smoothgrad", "integrated_gradients"])
def test_a_planted_square_holds_the_mass_of_its_map(method):
    pixels = 0.4 + 0.2 * a_picture(3, 64)
    pixels[..., 8:32, 32:56] = 1.0
    pixels[..., 40:64, 0:24] = 0.0
    options = {"baseline": 0.5} if method == "integrated_gradients" else {}
    bright, dark = explain(SquareScorer(), pixels, [0, 1], method, **options)
    assert bright.map[8:32, 32:56].sum() > 0.8 * bright.map.sum() > 0
    assert dark.map[40:64, 0:24].sum() > 0.8 * dark.map.sum() > 0


class Odd(ConvScorer):
    """A ConvScorer whose feature layer is not what it should be."""

    def __init__(self, layer, runs=0) -> None:
        super().__init__()
        self.feature_layer, self.runs = layer, runs

    def forward(self, pixels):
        features = self.widen(self.stem(pixels))
        for _ in range(self.runs):
            features = self.feature_layer(features)
        return self.classify(features.mean((2, 3)) if features.ndim == 4 else features)


@pytest.mark.parametrize(
    ("scorer", "words"),
    [
        (LinearScorer(), "LinearScorer names no feature_layer"),
        (Odd(None), "Odd names no feature_layer"),
        (Odd(nn.ReLU(), runs=0), "ReLU.* was not run"),
        (Odd(nn.ReLU(), runs=2), "ReLU.* runs more than once"),
        (Odd(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), runs=1), "Sequential.* returns"),
    ],
)
def test_grad_cam_says_what_is_wrong_with_the_layer(scorer, words):
    before = state(scorer)
    with pytest.raises(CannotExplain, match=words):
        explain(scorer, a_picture(), [0], "grad_cam")
    assert unchanged(before, state(scorer))


def test_grad_cam_says_that_a_layer_of_another_scorer_was_not_run():
    scorer = ConvScorer().eval()
    with pytest.raises(CannotExplain, match="was not run"):
        grad_cam(scorer, a_picture(), [0], layer=ConvScorer().feature_layer)


# Attention


class Looker(ConvScorer):
    """Looks at cell (0, k) of an 8 x 8 grid for score k, or at (5, 2) for all."""

    def __init__(self, each: bool) -> None:
        super().__init__()
        self.each = each

    def attention(self, pixels):
        found = torch.zeros(len(pixels), CLASSES if self.each else 1, 8, 8)
        if self.each:
            found[:, range(CLASSES), 0, range(CLASSES)] = 1.0
        else:
            found[:, 0, 5, 2] = 1.0
        return found


@pytest.mark.parametrize(
    ("each", "expected"), [(True, [(0, target) for target in TARGETS]), (False, [(5, 2), (5, 2)])]
)
def test_attention_is_the_scorer_s_own_enlarged(each, expected):
    found = ours(Looker(each), a_picture(), "attention")
    for map_, (row, column) in zip(found, expected, strict=True):
        assert torch.nn.functional.avg_pool2d(map_[None], 4)[0].argmax() == 8 * row + column
        cell = np.zeros((8, 8), np.float32)
        cell[row, column] = 1.0
        drawn = np.asarray(Image.fromarray(cell).resize((SIDE, SIDE), Image.BILINEAR))
        assert difference(map_, torch.tensor(drawn)) <= 1e-6


def test_a_scorer_without_attention_has_none_to_show():
    with pytest.raises(CannotExplain, match="LinearScorer has no attention"):
        explain(LinearScorer(), a_picture(), [0], "attention")


# What takes long


STEPS = {"smoothgrad": "samples", "integrated_gradients": "steps"}


@pytest.mark.parametrize("method", STEPS)
def test_progress_rises_to_the_total(method):
    told = []
    explain(
        ConvScorer(),
        a_picture(),
        [0],
        method,
        progress=lambda *args: told.append(args),
        **{STEPS[method]: 19},
    )
    assert told == [(8, 19), (16, 19), (19, 19)]


@pytest.mark.parametrize("method", [*STEPS, "occlusion"])
def test_a_cancelled_explanation_ends_and_leaves_everything_as_it_was(method):
    told = []

    def cancel(done, _total):
        told.append(done)
        raise Cancelled

    scorer = ConvScorer().train()
    before = state(scorer)
    with pytest.raises(Cancelled):
        explain(scorer, a_picture(), [0, 1], method, progress=cancel)
    assert told == [8]
    assert unchanged(before, state(scorer))


def test_no_method_warns_or_touches_gradients_outside(peer):
    scorer, pixels = peer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for method in ("gradient", "guided_backprop", "grad_cam"):
            ours(scorer, pixels, method)
    assert pixels.grad is None
    assert all(parameter.grad is None for parameter in scorer.parameters())
