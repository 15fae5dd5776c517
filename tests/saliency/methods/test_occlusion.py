"""Occlusion: against captum, and where the answer is known."""

import numpy as np
import pytest
import torch
from helpers.toy_scorers import SIDE, ConvScorer, LinearScorer, a_picture

from saliency import hooks
from saliency.registry import explain

TARGETS = [3, 1]


def ours(scorer, pixels, **options):
    """(K, H, W)"""
    found = explain(scorer, pixels, TARGETS, "occlusion", **options)
    return np.stack([each.map for each in found])


def difference(one, other):
    """max |one - other| / max |other|"""
    assert one.shape == other.shape
    return np.abs(one - other).max() / np.abs(other).max()


def by_hand(scorer, pixels, window, stride, fill):
    """Occlusion of a linear scorer, window by window."""
    height, width = pixels.shape[2:]
    worth = ((pixels - fill) * scorer.weights()[TARGETS]).sum(1).numpy()  # (K, H, W)
    total, count = np.zeros_like(worth), np.zeros((height, width))
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            down, across = slice(top, top + window), slice(left, left + window)
            total[:, down, across] += worth[:, down, across].sum((1, 2), keepdims=True)
            count[down, across] += 1
    assert count.min() >= 1
    return total / count


@pytest.mark.parametrize(
    ("window", "stride", "fill"),
    [(8, 4, 0.5), (7, 3, 0.0), (5, 5, 1.0), (1, 1, 0.5), (SIDE, 1, 0.5), (20, 13, 0.5)],
)
def test_falls_of_a_linear_scorer_are_known(window, stride, fill):
    # In float32 a small window changes a logit's last digits, which processors round differently.
    scorer, pixels = LinearScorer().double(), a_picture()
    found = ours(scorer, pixels, window=window, stride=stride, fill=fill)
    assert difference(found, by_hand(scorer, pixels.double(), window, stride, fill)) <= 1e-5


@pytest.mark.parametrize(
    ("shape", "window", "stride", "fill"),
    [
        ((32, 32), 8, 4, 0.5),
        ((32, 32), 7, 3, 0.0),  # the last windows are cut short
        ((32, 32), 6, 6, 1.0),
        ((24, 45), 9, 2, 0.5),
    ],
)
def test_occlusion_is_captum_s_to_1e_5(shape, window, stride, fill):
    from captum.attr import Occlusion

    scorer, pixels = ConvScorer().eval(), a_picture(side=64)[..., : shape[0], : shape[1]]
    with torch.no_grad():
        expected = torch.cat(
            [
                Occlusion(scorer).attribute(
                    pixels,
                    sliding_window_shapes=(3, window, window),
                    strides=(3, stride, stride),
                    baselines=fill,
                    target=target,
                    perturbations_per_eval=8,
                )
                for target in TARGETS
            ]
        )[:, 0]
    found = ours(scorer, pixels, window=window, stride=stride, fill=fill)
    assert difference(found, expected.numpy()) <= 1e-5


@pytest.mark.parametrize(
    ("side", "options", "window", "stride"),
    [
        (224, {}, 32, 16),
        (48, {}, 7, 3),
        (2, {}, 1, 1),
        (48, {"window": 12}, 12, 6),
        (48, {"stride": 2}, 7, 2),
    ],
)
def test_windows_that_are_not_given_follow_the_picture(side, options, window, stride):
    class Mean(torch.nn.Module):
        def forward(self, pixels):
            return pixels.mean((2, 3))

    [found] = explain(Mean(), a_picture(side=side), [1], "occlusion", **options)
    assert found.details == {"window": window, "stride": stride}


def test_a_planted_square_is_where_the_score_falls_and_what_is_against_it_is_below_zero():
    class Contrast(torch.nn.Module):
        """How bright the upper left is, less how bright the lower right is."""

        def forward(self, pixels):
            for_, against = pixels[..., :8, :8], pixels[..., -8:, -8:]
            return (for_.mean((1, 2, 3)) - against.mean((1, 2, 3)))[:, None]

    pixels = torch.full((1, 3, SIDE, SIDE), 0.2)
    pixels[..., :8, :8] = pixels[..., -8:, -8:] = 0.9
    [found] = explain(Contrast(), pixels, [0], "occlusion", window=4, stride=4, fill=0.2)
    expected = np.zeros((SIDE, SIDE))
    expected[:8, :8], expected[-8:, -8:] = 0.7 / 4, -0.7 / 4
    assert found.signed
    assert np.allclose(found.map, expected, atol=1e-6)


def test_maps_do_not_depend_on_the_size_of_the_chunks(monkeypatch):
    scorer, pixels = ConvScorer(), a_picture()
    expected = ours(scorer, pixels)
    for size in (1, 7, 1000):
        monkeypatch.setattr(hooks, "chunk_size", lambda _pixels, size=size: size)
        # Falls are a hundredth of the scores, whose last digits follow the size of the batch.
        assert difference(ours(scorer, pixels), expected) <= 1e-4


def test_all_targets_share_the_forwards():
    scorer, seen = ConvScorer(), []
    scorer.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    ours(scorer, a_picture(), window=8, stride=8)
    assert seen == [1, 8, 8]


def test_progress_rises_to_the_total():
    told = []
    ours(ConvScorer(), a_picture(), window=8, stride=6, progress=lambda *args: told.append(args))
    assert told == [(8, 25), (16, 25), (24, 25), (25, 25)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": 0}, "window is 0 .* from 1 to 32"),
        ({"window": 33}, "window is 33"),
        ({"window": 4.0}, "window is 4.0"),
        ({"stride": 0}, "stride is 0"),
        ({"window": 4, "stride": 5}, "stride is 5 .* window's 4"),
        ({"fill": 1.1}, "fill is 1.1"),
        ({"fill": float("nan")}, "fill is nan"),
    ],
)
def test_an_option_that_cannot_be_is_named(options, words):
    with pytest.raises(ValueError, match=words):
        ours(ConvScorer(), a_picture(), **options)
