"""Agreement of maps, and whether a method depends on what a network learned."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.contract import state, unchanged
from helpers.toy_scorers import SIDE, ConvScorer, LinearScorer, a_picture, asked_all_the_while
from scipy.stats import spearmanr
from torch import nn

from saliency.agreement import agreement, randomisation, rank_correlation, top_overlap
from saliency.registry import METHODS, explain
from saliency.types import Cancelled, CannotExplain, Maps, MethodSpec

LAYERS = ["classify", "widen", "inner.1", "inner.0", "stem.1", "stem.0"]  # from the output down


def a_map(seed=0):
    return np.random.RandomState(seed).rand(12, 10)


# Maps against maps.


@pytest.mark.parametrize("decimals", [1, 2, 9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rank_correlation_is_scipy_s_spearman(decimals, dtype):
    one = a_map().round(decimals).astype(dtype)
    other = (one + a_map(1).round(decimals)).astype(dtype)
    expected = spearmanr(one.ravel(), other.ravel()).statistic
    assert 0.3 < expected < 0.9
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-9)


def test_rank_correlation_knows_order_alone():
    assert rank_correlation(a_map(), a_map() ** 3) == pytest.approx(1, abs=1e-12)
    assert rank_correlation(a_map(), -a_map()) == pytest.approx(-1, abs=1e-12)


@pytest.mark.parametrize("level", [0.0, 0.1, -3.7])
def test_a_constant_map_ranks_nothing(level):
    constant = np.full((12, 10), level, dtype=np.float32)
    assert rank_correlation(constant, a_map()) == 0
    assert rank_correlation(constant, constant) == 0


def test_top_overlap_is_the_intersection_over_the_union():
    one, other = np.arange(100.0).reshape(10, 10), np.arange(100.0).reshape(10, 10)
    other[9, :5] = 0  # of the top ten 5 leave, and the 5 before them come in
    assert top_overlap(one, other) == pytest.approx(5 / 15)
    assert top_overlap(one, one) == 1
    assert top_overlap(one, -one) == 0
    assert top_overlap(one, -one, fraction=1) == 1


def test_values_that_tie_at_the_edge_belong_to_the_top_in_part():
    spot, constant = np.zeros((10, 10)), np.ones((10, 10))
    spot[0, 0] = 1  # the other 9 of the top are any of 99
    apart = np.zeros((10, 10))
    apart[5, 5] = 1
    assert top_overlap(spot, spot) == pytest.approx(1)
    both = 98 * 9 / 99 + 2 * 9 / 99
    assert top_overlap(spot, apart) == pytest.approx(both / (20 - both))
    by_chance = 10 * 0.1
    assert top_overlap(np.arange(100.0).reshape(10, 10), constant) == pytest.approx(
        by_chance / (20 - by_chance)
    )


def test_agreement_is_each_map_with_each():
    maps = {"one": a_map().round(1), "two": a_map(1), "none": np.zeros((12, 10))}
    found = agreement(maps, fraction=0.2)
    assert found.names == ("one", "two", "none")
    for i, one in enumerate(maps.values()):
        for j, other in enumerate(maps.values()):
            assert found.correlations[i, j] == pytest.approx(rank_correlation(one, other))
            assert found.overlaps[i, j] == pytest.approx(top_overlap(one, other, 0.2))
    assert found.correlations.diagonal().tolist() == pytest.approx([1, 1, 0])
    assert found.overlaps.diagonal().tolist() == pytest.approx([1, 1, 1])


def agree(one, other):
    return agreement({"one": one, "other": other})


@pytest.mark.parametrize("compare", [rank_correlation, top_overlap, agree])
@pytest.mark.parametrize(
    ("one", "words"),
    [
        (np.ones((3, 4)), "of one size"),
        (np.full((12, 10), np.nan), "not finite"),
    ],
)
def test_maps_that_cannot_be_compared_are_refused(compare, one, words):
    with pytest.raises(ValueError, match=words):
        compare(one, a_map())
    with pytest.raises(ValueError, match="of one size"):
        compare(a_map()[0], a_map()[0])


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_a_top_that_is_none_is_named(fraction):
    with pytest.raises(ValueError, match=f"fraction is {fraction}"):
        top_overlap(a_map(), a_map(), fraction)


def test_agreement_of_no_maps_is_refused():
    with pytest.raises(ValueError, match="one size"):
        agreement({})


# Weights that are redrawn.


def edges(scorer, pixels, targets):
    """Shows the picture's edges, whatever the scorer learned."""
    grey = pixels.mean(dim=1)
    steps = (grey.diff(dim=2, append=grey[..., -1:])).abs()
    return Maps(steps.expand(len(targets), -1, -1), scorer(pixels)[0, list(targets)])


@pytest.fixture
def seen(monkeypatch):
    """The parameters that each explanation of the method "spy" saw."""
    seen = []

    def spy(scorer, pixels, targets):
        seen.append({name: p.detach().clone() for name, p in scorer.named_parameters()})
        return edges(scorer, pixels, targets)

    monkeypatch.setitem(METHODS, "spy", MethodSpec(spy, "Spy", False, "1 forward"))
    return seen


@pytest.mark.parametrize("method", ["gradient", "grad_cam"])
def test_a_map_of_the_weights_lets_go_when_they_are_redrawn(method):
    last = [randomisation(ConvScorer(), a_picture(), 1, method, seed=s)[-1] for s in range(5)]
    assert {(stage.layer, stage.redrawn) for stage in last} == {("stem.0", 6)}
    assert np.mean([abs(stage.correlation) for stage in last]) < 0.5


def test_a_map_of_the_picture_alone_stays_as_it_was(monkeypatch):
    monkeypatch.setitem(METHODS, "edges", MethodSpec(edges, "Edges", False, "1 forward"))
    found = randomisation(ConvScorer(), a_picture(), 1, "edges")
    assert [stage.correlation for stage in found] == pytest.approx([1] * 6, abs=1e-12)


def test_the_correlation_is_with_the_original_map(monkeypatch):
    explained = []

    def remember(scorer, pixels, targets):
        explained.append(METHODS["gradient"].run(scorer, pixels, targets))
        return explained[-1]

    monkeypatch.setitem(METHODS, "remember", MethodSpec(remember, "", False, ""))
    scorer = ConvScorer()
    found = randomisation(scorer, a_picture(), 1, "remember")
    original, *others = (each.values[0].numpy() for each in explained)
    assert np.array_equal(original, explain(scorer, a_picture(), [1], "gradient")[0].map)
    expected = [spearmanr(original.ravel(), other.ravel()).statistic for other in others]
    assert [stage.correlation for stage in found] == pytest.approx(expected, abs=1e-9)


def test_layers_are_redrawn_from_the_output_down_and_stay_redrawn(seen):
    scorer = ConvScorer()
    found = randomisation(scorer, a_picture(), 1, "spy")
    assert [(stage.layer, stage.redrawn) for stage in found] == list(
        zip(LAYERS, range(1, 7), strict=True)
    )
    for count, now in enumerate(seen):
        changed = {
            name.rpartition(".")[0] for name in now if not torch.equal(now[name], seen[0][name])
        }
        assert changed == set(LAYERS[:count])
    for before, after in pairwise(seen):  # each layer is drawn once
        both = [name for name in before if not torch.equal(before[name], seen[0][name])]
        assert all(torch.equal(before[name], after[name]) for name in both)


def test_a_redrawn_tensor_keeps_its_mean_and_spread(seen):
    scorer = LinearScorer(seed=7)
    with torch.no_grad():
        scorer.linear.weight.mul_(0.2).add_(3)
        scorer.linear.bias.fill_(0.7)
    randomisation(scorer, a_picture(), 1, "spy")
    before, after = (each["linear.weight"] for each in seen)
    assert float(after.mean()) == pytest.approx(3, abs=5 * 0.2 / before.numel() ** 0.5)
    assert float(after.std()) == pytest.approx(0.2, rel=0.02)
    assert abs(np.corrcoef(before.ravel(), after.ravel())[0, 1]) < 0.05
    assert torch.equal(seen[1]["linear.bias"], scorer.linear.bias)  # constant numbers stay


@pytest.mark.parametrize(
    ("stages", "expected"),
    [(1, [6]), (2, [3, 6]), (3, [2, 4, 6]), (6, [1, 2, 3, 4, 5, 6]), (99, [1, 2, 3, 4, 5, 6])],
)
def test_stages_are_evenly_spread_and_the_last_is_all(stages, expected):
    found = randomisation(ConvScorer(), a_picture(), 1, "gradient", stages=stages)
    assert [stage.redrawn for stage in found] == expected
    assert found[-1] == randomisation(ConvScorer(), a_picture(), 1, "gradient")[-1]


class Attentive(nn.Module):
    """Has a layer that it does not run, and one whose part is used without being run."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(3, 3)
        self.look = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, pixels):
        cells = pixels.flatten(2).mT
        return self.look(cells, cells, cells, need_weights=False)[0].mean(1)


def test_a_layer_that_does_not_run_is_skipped_but_not_a_part_of_one_that_does(seen):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scorer = Attentive()
    with torch.no_grad():
        scorer.look.in_proj_bias.normal_(generator=torch.Generator().manual_seed(0))
        scorer.look.out_proj.bias.normal_(generator=torch.Generator().manual_seed(1))
    (stage,) = randomisation(scorer, a_picture(side=8), 1, "spy")
    assert (stage.layer, stage.redrawn) == ("look", 1)
    before, after = seen
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("look.")}


def test_a_layer_given_as_an_option_is_found_in_the_copy():
    scorer = ConvScorer()
    found = randomisation(scorer, a_picture(), 1, "grad_cam", layer=scorer.feature_layer)
    assert found == randomisation(scorer, a_picture(), 1, "grad_cam")


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_randomisation_works_on_frozen_weights_in_every_gradient_mode(mode):
    expected = randomisation(ConvScorer(), a_picture(), 1, "gradient")
    with mode():
        scorer, picture = ConvScorer().requires_grad_(False), a_picture()
        assert randomisation(scorer, picture, 1, "gradient") == expected


def test_randomisation_leaves_everything_as_it_was_found():
    scorer, pixels = ConvScorer().train(), a_picture()
    scorer(pixels.expand(2, -1, -1, -1)).sum().backward()
    before, picture = state(scorer), pixels.clone()
    once = randomisation(scorer, pixels, 1, "gradient", seed=3)
    assert randomisation(scorer, pixels, 1, "gradient", seed=3) == once
    assert randomisation(scorer, pixels, 1, "gradient", seed=4) != once
    assert unchanged(before, state(scorer))
    assert torch.equal(pixels, picture)


def test_randomisation_leaves_everything_as_it_was_found_when_it_is_cancelled():
    told = []

    def stop(done, total):
        told.append((done, total))
        if done == 3:
            raise Cancelled

    scorer = ConvScorer().train()
    before = state(scorer)
    with pytest.raises(Cancelled):
        randomisation(scorer, a_picture(), 1, "gradient", progress=stop)
    assert unchanged(before, state(scorer))
    assert told == [(1, 7), (2, 7), (3, 7)]


def test_a_slow_method_can_be_cancelled_within_a_stage(monkeypatch):
    def slow(scorer, pixels, targets, *, progress):
        progress(1, 2)
        return edges(scorer, pixels, targets)

    monkeypatch.setitem(METHODS, "slow", MethodSpec(slow, "Slow", False, "1 forward"))
    told = []
    randomisation(
        ConvScorer(), a_picture(), 1, "slow", stages=1, progress=lambda *now: told.append(now)
    )
    assert told == [(0, 2), (1, 2), (1, 2), (2, 2)]


def test_other_threads_are_answered_while_weights_are_redrawn():
    scorer = ConvScorer().eval()
    with asked_all_the_while(scorer):
        busy = randomisation(scorer, a_picture(), 1, "gradient")
    assert busy == randomisation(ConvScorer(), a_picture(), 1, "gradient")


class Fixed(nn.Module):
    """Learned nothing."""

    def forward(self, pixels):
        return pixels.mean((2, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": 0}, "stages is 0"),
        ({"target": 9}, "target 9"),
        ({"method": "magic"}, "no method 'magic'"),
        ({"colour": "red"}, "no option colour"),
        ({"pixels": torch.zeros(2, 3, SIDE, SIDE)}, "one picture is"),
    ],
)
def test_what_cannot_be_redrawn_or_explained_is_named(change, words):
    given = {"scorer": ConvScorer(), "pixels": a_picture(), "target": 1} | change
    with pytest.raises(ValueError, match=words):
        randomisation(**given)


def test_a_scorer_without_weights_is_named():
    with pytest.raises(CannotExplain, match="Fixed has no parameters"):
        randomisation(Fixed(), a_picture(), 1, "gradient")
