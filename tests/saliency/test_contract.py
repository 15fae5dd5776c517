"""What every method of the registry keeps, whatever it does."""

import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers.contract import Broken, state, unchanged
from helpers.paths import ROOT
from helpers.toy_scorers import CLASSES, SIDE, ConvScorer, a_picture, asked_all_the_while

from saliency.registry import METHODS, explain

FAST = {  # fewer steps where a method has many
    "lime": {"samples": 40},
    "occlusion": {"window": 8, "stride": 8},
    "smoothgrad": {"samples": 4},
    "integrated_gradients": {"steps": 6},
}
each_method = pytest.mark.parametrize("method", METHODS)


def maps(scorer, method, targets=(1, 3), **more):
    found = explain(scorer, a_picture(), list(targets), method, **(FAST.get(method, {}) | more))
    return np.stack([explanation.map for explanation in found])


@each_method
def test_maps_are_finite_float32_of_the_picture_s_size(method):
    for found in explain(ConvScorer(), a_picture(), [1, 3], method, **FAST.get(method, {})):
        assert found.map.shape == (SIDE, SIDE)
        assert found.map.dtype == np.float32
        assert np.isfinite(found.map).all()
        assert found.signed or found.map.min() >= 0
        assert found.method == method
        assert found.seconds > 0


@each_method
def test_the_score_is_the_scorer_s_own(method):
    scorer = ConvScorer().eval()
    found = explain(scorer, a_picture(), [2, 0], method, **FAST.get(method, {}))
    with torch.no_grad():
        scores = scorer(a_picture())[0]
    assert [e.target for e in found] == [2, 0]
    assert [e.score for e in found] == pytest.approx([float(scores[2]), float(scores[0])], rel=1e-4)


@each_method
def test_the_same_seed_gives_the_same_maps(method):
    assert np.array_equal(maps(ConvScorer(), method, seed=3), maps(ConvScorer(), method, seed=3))


@each_method
def test_several_targets_get_the_maps_they_get_alone(method):
    together = maps(ConvScorer(), method, targets=(4, 1))
    alone = [maps(ConvScorer(), method, targets=(target,))[0] for target in (4, 1)]
    assert np.allclose(together, alone, rtol=1e-4, atol=1e-6 * np.abs(together).max())


@each_method
def test_maps_depend_on_the_weights(method):
    assert not np.allclose(maps(ConvScorer(0), method), maps(ConvScorer(1), method), rtol=1e-2)


@each_method
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_on_frozen_weights_in_every_gradient_mode(method, mode):
    scorer = ConvScorer()
    expected = maps(scorer, method)
    scorer.requires_grad_(False)
    with mode():
        assert np.allclose(maps(scorer, method), expected, atol=1e-6)


@each_method
def test_everything_is_left_as_it_was_found(method):
    scorer, pixels = ConvScorer().train(), a_picture()
    scorer.stem.eval()
    scorer(pixels.expand(2, -1, -1, -1)).sum().backward()
    before, picture = state(scorer), pixels.clone()
    explain(scorer, pixels, [1], method, **FAST.get(method, {}))
    assert unchanged(before, state(scorer))
    assert torch.equal(pixels, picture)
    assert not pixels.requires_grad


@each_method
def test_everything_is_left_as_it_was_found_after_an_exception(method):
    scorer = Broken().train()
    before = state(scorer)
    with pytest.raises(FloatingPointError, match="broken"):
        explain(scorer, a_picture(), [1], method, **FAST.get(method, {}))
    assert unchanged(before, state(scorer))


@each_method
def test_other_threads_are_answered_as_if_nobody_looked(method):
    scorer = ConvScorer().eval()
    with asked_all_the_while(scorer):
        alone = maps(ConvScorer(), method)
        busy = [maps(scorer, method) for _ in range(3)]
    assert all(np.allclose(found, alone, atol=1e-6) for found in busy)


@each_method
@pytest.mark.parametrize(
    ("targets", "words"),
    [([CLASSES], "target 5"), ([-1], "target -1"), ([], "no targets"), ([1.0], "whole number")],
)
def test_a_target_that_there_is_not_is_named(method, targets, words):
    with pytest.raises(ValueError, match=words):
        explain(ConvScorer(), a_picture(), targets, method, **FAST.get(method, {}))


@each_method
@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_pixels_of_any_precision_are_explained(method, kind):
    pixels = a_picture().to(kind)
    found = explain(ConvScorer(), pixels, [1], method, **FAST.get(method, {}))
    same = explain(ConvScorer(), pixels.float(), [1], method, **FAST.get(method, {}))
    assert np.array_equal(found[0].map, same[0].map)


@each_method
def test_an_unknown_option_is_named(method):
    with pytest.raises(ValueError, match="colour"):
        explain(ConvScorer(), a_picture(), [0], method, colour="red")


NEW_METHODS = """
import sys, pytest, torch
sys.path.insert(0, "tests")
from saliency import METHODS, Maps, MethodSpec, hooks
from saliency.types import pick

def by_hand(scorer, pixels, targets):
    leaf = hooks.as_leaf(pixels)
    scores = pick(scorer(leaf), targets)
    return Maps(hooks.gradients(scores, leaf)[:, 0].square().sum(1), scores[0].detach())

def careless(scorer, pixels, targets):
    scorer.register_forward_hook(lambda *_: None)
    torch.rand(1)
    return by_hand(scorer, pixels, targets)

METHODS["by_hand"] = MethodSpec(by_hand, "By hand", False, "1 forward, k backwards")
METHODS["careless"] = MethodSpec(careless, "Careless", False, "1 forward, k backwards")
keep = ["-k", f"{sys.argv[1]} and not new_method"]  # or this test would start itself
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *keep, "tests/saliency/test_contract.py"]))
"""


@pytest.mark.parametrize(("name", "failed"), [("by_hand", 0), ("careless", 2)])
def test_a_new_method_is_held_to_the_contract_by_its_line_alone(name, failed):
    run = subprocess.run(
        [sys.executable, "-c", NEW_METHODS, name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    counts = dict(re.findall(r"(\d+) (passed|failed)", run.stdout))
    counts = {word: int(number) for number, word in counts.items()}
    assert counts.get("failed", 0) == failed, run.stdout
    assert counts["passed"] >= 10
