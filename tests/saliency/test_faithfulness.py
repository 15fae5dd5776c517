"""Curves and counterfactuals: against their definitions, and where the truth was planted."""

import threading

import numpy as np
import pytest
import torch
from helpers.contract import Broken, state, unchanged
from helpers.toy_scorers import SIDE, ConvScorer, a_picture
from scipy.integrate import trapezoid
from torch import nn

from saliency import hooks
from saliency.faithfulness import centre_map, counterfactual, curves, moved_maps, random_maps
from saliency.types import Cancelled, NoEvidence, probabilities

SIZE = (SIDE, SIDE)
PATCH = 4  # 8 x 8 patches
KINDS = ("deletion", "insertion")
each_kind = pytest.mark.parametrize("kind", KINDS)


class QuarterScorer(nn.Module):
    """Says 1 if the upper left quarter is bright, else 0; looks nowhere else."""

    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(20.0))

    def forward(self, pixels):
        quarter = pixels[:, :, : SIDE // 2, : SIDE // 2].mean((1, 2, 3))
        bright = self.sharpness * (quarter - 0.5)
        return torch.stack([-bright, bright], dim=1)


def a_bright_quarter():
    """(1, 3, H, W): .9 in the quarter that is looked at, dark noise around."""
    pixels = 0.2 * a_picture()
    pixels[:, :, : SIDE // 2, : SIDE // 2] = 0.9
    return pixels


def the_quarter():
    values = np.zeros(SIZE, dtype=np.float32)
    values[: SIDE // 2, : SIDE // 2] = 1
    return values


def areas(maps, kind, **options):
    found = curves(
        QuarterScorer(), a_bright_quarter(), 1, np.stack(maps), kind=kind, patch=PATCH, **options
    )
    return [curve.area for curve in found]


# Where the truth was planted.


def test_deletion_falls_soonest_where_the_scorer_looks():
    true, centre, inverse, *random = areas(
        [the_quarter(), centre_map(SIZE), 1 - the_quarter(), *random_maps(SIZE, 10)], "deletion"
    )
    assert true < 0.2
    assert true < min(random) - 0.15
    assert true < np.mean(random) - 0.4
    assert true < centre - 0.3
    assert true < inverse - 0.5


def test_insertion_rises_soonest_where_the_scorer_looks():
    true, centre, inverse, *random = areas(
        [the_quarter(), centre_map(SIZE), 1 - the_quarter(), *random_maps(SIZE, 10)], "insertion"
    )
    assert true > 0.9
    assert true > max(random)
    assert true > np.mean(random) + 0.2
    assert true > centre + 0.1
    assert true > inverse + 0.5


def test_covering_what_the_scorer_looks_at_changes_its_answer_and_chance_does_not():
    found = counterfactual(
        QuarterScorer(), a_bright_quarter(), the_quarter(), fraction=0.25, patch=PATCH
    )
    assert (found.before, found.after, found.changed) == (1, 0, True)
    assert found.probability_before > 0.99
    assert found.probability_after < 0.01
    assert found.draws == 10
    assert found.draws_changed < 5  # it moves to any place, also to one that overlaps
    assert found.probability_drawn > 0.6
    assert np.array_equal(found.mask, the_quarter() > 0)


def test_covering_another_place_changes_nothing():
    found = counterfactual(
        QuarterScorer(), a_bright_quarter(), 1 - the_quarter(), fraction=0.25, patch=PATCH
    )
    assert (found.before, found.after, found.changed) == (1, 1, False)
    assert found.probability_after == found.probability_before


# Against the definitions, written out for a picture 28 x 24 with patches 7 high and 8 wide.


def ask(scorer, pixels, target):
    with torch.no_grad():
        return float(probabilities(scorer, scorer(pixels))[0, target])


def box(cell):
    row, column = cell
    return slice(7 * row, 7 * row + 7), slice(8 * column, 8 * column + 8)


def by_hand(scorer, pixels, values, kind):
    cells = [(row, column) for row in range(4) for column in range(3)]
    order = sorted(cells, key=lambda cell: -values[box(cell)].mean())
    probabilities = []
    for step in range(5):
        named = order[: 3 * step]
        picture = pixels.clone()
        for cell in named if kind == "deletion" else set(cells) - set(named):
            rows, columns = box(cell)
            picture[:, :, rows, columns] = pixels.mean((2, 3), keepdim=True)
        probabilities.append(ask(scorer, picture, 2))
    return probabilities


@each_kind
def test_a_curve_is_the_answers_to_pictures_covered_by_hand(kind):
    scorer, pixels = ConvScorer().eval(), a_picture()[:, :, :28, :24].clone()
    maps = random_maps((28, 24), 3, seed=5)
    found = curves(scorer, pixels, 2, maps, kind=kind, steps=4, patch=7)
    for values, curve in zip(maps, found, strict=True):
        expected = by_hand(scorer, pixels, values, kind)
        assert np.ptp(expected) > 1e-3
        assert curve.fractions == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-12)
        assert curve.probabilities == pytest.approx(expected, abs=1e-6)
        assert curve.area == pytest.approx(trapezoid(expected, curve.fractions), abs=1e-6)


def test_fractions_are_of_pixels_where_patches_differ_in_size():
    pixels, first = a_picture()[:, :, :10, :10].clone(), np.zeros((10, 10))
    first[:3, :3] = 1  # of 3 x 3 patches, whose sides are 3 or 4
    (curve,) = curves(ConvScorer(), pixels, 0, first[None], steps=9, patch=3)
    assert len(curve.fractions) == 10
    assert {round(float(f), 9) for f in np.diff(curve.fractions)} <= {0.09, 0.12, 0.16}
    assert sum(np.diff(curve.fractions)) == pytest.approx(1)
    covered = round(curve.fractions[1] * 100)
    by_hand = pixels.clone()
    side = round(covered**0.5)
    by_hand[:, :, :side, :side] = pixels.mean((2, 3), keepdim=True)
    assert curve.probabilities[1] == pytest.approx(ask(ConvScorer().eval(), by_hand, 0), abs=1e-6)


def test_to_insert_by_a_map_is_to_delete_by_its_opposite_backwards():
    maps = random_maps(SIZE, 2)
    shown = curves(ConvScorer(), a_picture(), 1, maps, kind="insertion", patch=PATCH, steps=16)
    hidden = curves(ConvScorer(), a_picture(), 1, -maps, kind="deletion", patch=PATCH, steps=16)
    for one, other in zip(shown, hidden, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities[::-1], abs=1e-6)
        assert one.area == pytest.approx(other.area, abs=1e-6)


@each_kind
def test_many_maps_get_the_curves_they_get_alone(kind):
    maps = random_maps(SIZE, 4)
    together = curves(ConvScorer(), a_picture(), 1, maps, kind=kind, patch=PATCH)
    for values, curve in zip(maps, together, strict=True):
        (alone,) = curves(ConvScorer(), a_picture(), 1, values[None], kind=kind, patch=PATCH)
        assert curve.fractions == alone.fractions
        assert curve.probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_all_maps_share_the_ends_and_go_in_chunks():
    sizes, told = [], []

    class Counting(ConvScorer):
        def forward(self, pixels):
            sizes.append(len(pixels))
            return super().forward(pixels)

    curves(
        Counting(),
        a_picture(),
        1,
        random_maps(SIZE, 3),
        patch=PATCH,
        steps=14,
        progress=lambda *now: told.append(now),
    )
    assert sum(sizes) == 3 * 13 + 2
    assert max(sizes) == hooks.chunk_size(a_picture()) == 8
    assert told == [(done, 41) for done in (8, 16, 24, 32, 40, 41)]
    sizes.clear()
    counterfactual(Counting(), a_picture(), the_quarter(), draws=10, patch=PATCH)
    assert sum(sizes) == 12


def test_there_are_no_more_steps_than_patches():
    (curve,) = curves(ConvScorer(), a_picture(), 1, random_maps(SIZE, 1), patch=16)
    assert curve.fractions == (0, 0.25, 0.5, 0.75, 1)
    (curve,) = curves(ConvScorer(), a_picture(), 1, random_maps(SIZE, 1), patch=100)
    assert curve.fractions == (0, 1)
    (curve,) = curves(ConvScorer(), a_picture(), 1, random_maps(SIZE, 1), steps=1, patch=PATCH)
    assert curve.area == pytest.approx(sum(curve.probabilities) / 2)


def test_a_scorer_s_own_probabilities_are_the_ones_followed():
    class Calibrated(ConvScorer):
        def probabilities(self, scores):
            return (scores / 3).sigmoid()

    scorer = Calibrated().eval()
    (curve,) = curves(scorer, a_picture(), 2, the_quarter()[None], patch=PATCH)
    with torch.no_grad():
        expected = float((scorer(a_picture())[0, 2] / 3).sigmoid())
    assert curve.probabilities[0] == pytest.approx(expected, abs=1e-6)
    found = counterfactual(scorer, a_picture(), the_quarter(), patch=PATCH)
    with torch.no_grad():
        best = int(scorer(a_picture()).argmax())
    assert found.before == best
    assert found.probability_before == pytest.approx(ask(scorer, a_picture(), best), abs=1e-6)


@pytest.mark.parametrize(
    ("fill", "colour"), [("mean", None), (0, 0.0), (0.5, 0.5), (1.0, 1.0), ("blurred", None)]
)
def test_what_covers_is_what_was_asked_for(fill, colour):
    picture = a_picture()
    found = counterfactual(ConvScorer(), picture, the_quarter(), patch=PATCH, fill=fill)
    mask = torch.from_numpy(found.mask)
    assert torch.equal(found.pixels[:, :, ~mask], picture[:, :, ~mask])
    under = found.pixels[:, :, mask]
    if fill == "blurred":
        fine, coarse = picture[:, :, mask], under
        assert coarse.std() < fine.std() / 4
        assert coarse.mean() == pytest.approx(float(fine.mean()), abs=0.05)
        assert coarse.std() > 0
    else:
        wanted = picture.mean((2, 3)) if colour is None else torch.full((1, 3), colour)
        assert torch.equal(under, wanted[..., None].expand_as(under))


def test_a_blurred_cover_is_of_the_place_that_it_covers():
    found = counterfactual(
        QuarterScorer(), a_bright_quarter(), the_quarter(), patch=PATCH, fill="blurred"
    )
    assert not found.changed  # still bright
    assert found.pixels[0, :, 0, 0].tolist() == pytest.approx([0.9] * 3)


# Chance.


def test_equal_values_are_covered_in_an_order_of_the_seed():
    constant = np.ones((1, *SIZE), dtype=np.float32)
    first, again, other = (
        curves(ConvScorer(), a_picture(), 1, constant, patch=PATCH, seed=seed)[0]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first.probabilities[1:-1] != other.probabilities[1:-1]
    distinct = random_maps(SIZE, 1)
    one, two = (
        curves(ConvScorer(), a_picture(), 1, distinct, patch=PATCH, seed=seed)[0] for seed in (0, 1)
    )
    assert one == two


def test_the_seed_draws_the_random_covers_and_nothing_else():
    values = random_maps(SIZE, 1)[0]
    first, again, other = (
        counterfactual(ConvScorer(), a_picture(), values, patch=PATCH, seed=seed)
        for seed in (0, 0, 1)
    )
    assert first.probability_drawn == again.probability_drawn != other.probability_drawn
    assert np.array_equal(first.mask, other.mask)
    assert first.probability_after == other.probability_after


def test_random_covers_are_the_same_cover_elsewhere():
    pictures = []

    class Seeing(ConvScorer):
        def forward(self, pixels):
            pictures.append(pixels.clone())
            return super().forward(pixels)

    values = random_maps(SIZE, 1)[0]
    found = counterfactual(Seeing(), a_picture(), values, fraction=0.1, patch=PATCH, draws=6)
    original, marked, *drawn = torch.cat(pictures)
    assert torch.equal(original, a_picture()[0])
    assert torch.equal(marked, found.pixels[0])
    mask, *moved = ((each != original).all(0).numpy() for each in (marked, *drawn))
    assert np.array_equal(found.mask, mask)
    assert found.fraction == 6 / 64 == mask.mean()  # 6 of 64 patches
    shifts = [(y, x) for y in range(0, SIDE, PATCH) for x in range(0, SIDE, PATCH)]
    for other in moved:
        assert not np.array_equal(other, mask)
        assert any(np.array_equal(np.roll(mask, by, (0, 1)), other) for by in shifts)
    assert len({other.tobytes() for other in moved}) > 3
    answers = [ask(ConvScorer().eval(), each[None], found.before) for each in drawn]
    assert found.probability_drawn == pytest.approx(np.mean(answers), abs=1e-6)
    with torch.no_grad():
        guesses = ConvScorer().eval()(torch.stack(drawn)).argmax(1)
    assert found.draws_changed == int((guesses != found.before).sum())


def test_only_what_speaks_for_the_answer_is_covered():
    values = np.full(SIZE, -1.0)
    values[8:12, 20:24] = 1  # one patch
    found = counterfactual(ConvScorer(), a_picture(), values, fraction=0.5, patch=PATCH)
    assert np.array_equal(found.mask, values > 0)
    assert found.fraction == 1 / 64


@pytest.mark.parametrize("values", [np.zeros(SIZE), -random_maps(SIZE, 1)[0]])
def test_a_map_without_positive_evidence_is_refused(values):
    with pytest.raises(NoEvidence, match="no positive evidence to cover"):
        counterfactual(ConvScorer(), a_picture(), values)


# Baselines.


@pytest.mark.parametrize("cells", [None, 7, 2])
def test_random_maps_are_seeded_noise_of_the_grain_that_was_asked_for(cells):
    maps = random_maps((40, 60), 20, seed=2, cells=cells)
    assert maps.shape == (20, 40, 60)
    assert maps.dtype == np.float32
    assert 0 <= maps.min() < 0.03
    assert 0.97 < maps.max() <= 1
    assert np.array_equal(maps, random_maps((40, 60), 20, seed=2, cells=cells))
    assert not np.array_equal(maps, random_maps((40, 60), 20, seed=3, cells=cells))
    steepest = np.abs(np.diff(maps, axis=2)).max()
    assert steepest > 0.9 if cells is None else 0 < steepest <= 1.01 * cells / 60


def test_scattered_covers_destroy_more_than_compact_ones_and_so_chance_must_be_as_smooth():
    class Edgy(nn.Module):  # goes by the fine grain of the picture, wherever it is
        def forward(self, pixels):
            seen = pixels.unfold(2, 8, 4).unfold(3, 8, 4).std((1, 4, 5)) > 0.28
            share = seen.float().mean((1, 2))
            return torch.stack([share, 1 - share], 1) * 10

    fine, smooth = (
        np.mean([c.area for c in curves(Edgy(), a_picture(), 0, maps, patch=PATCH)])
        for maps in (random_maps(SIZE, 20, cells=None), random_maps(SIZE, 20, cells=3))
    )
    assert fine < smooth - 0.05


def test_moved_maps_are_the_map_in_other_places():
    values = np.arange(20.0).reshape(4, 5)
    moved = moved_maps(values, 30, seed=1)
    assert moved.shape == (30, 4, 5)
    for other in moved:
        down, right = (int(i) for i in np.argwhere(other == 0)[0])
        assert (down, right) != (0, 0)
        assert np.array_equal(other, np.roll(values, (down, right), axis=(0, 1)))
    assert len({other.tobytes() for other in moved}) > 10
    assert np.array_equal(moved, moved_maps(values, 30, seed=1))
    assert not np.array_equal(moved, moved_maps(values, 30, seed=2))
    with pytest.raises(ValueError, match=r"within \(1, 1\)"):
        moved_maps(np.ones((1, 1)), 3)


@pytest.mark.parametrize("size", [(5, 9), (6, 4), (1, 1)])
def test_the_centre_map_is_symmetric_and_highest_in_the_middle(size):
    values = centre_map(size)
    assert values.shape == size
    assert values.dtype == np.float32
    assert np.allclose(values, values[::-1], atol=1e-7)
    assert np.allclose(values, values[:, ::-1], atol=1e-7)
    assert values.max() == values[size[0] // 2, size[1] // 2] <= 1
    assert (np.diff(values[: (size[0] + 1) // 2], axis=0) > 0).all()


# Left as found, in every mode and thread, and what is refused.

RUNS = {
    "deletion": lambda s, p, **more: curves(s, p, 1, random_maps(SIZE, 2), patch=PATCH, **more),
    "counterfactual": lambda s, p, **more: counterfactual(s, p, the_quarter(), patch=PATCH, **more),
}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def numbers(found):
    if isinstance(found, tuple):
        return [p for curve in found for p in curve.probabilities]
    return [found.probability_before, found.probability_after, found.probability_drawn]


@each_run
def test_everything_is_left_as_it_was_found(run):
    scorer, pixels = ConvScorer().train(), a_picture()
    scorer.stem.eval()
    scorer(pixels.expand(2, -1, -1, -1)).sum().backward()
    before, picture = state(scorer), pixels.clone()
    run(scorer, pixels)
    assert unchanged(before, state(scorer))
    assert torch.equal(pixels, picture)


@each_run
def test_everything_is_left_as_it_was_found_after_an_exception(run):
    def stop(_done, _total):
        raise Cancelled

    for scorer, error, more in (
        (Broken().train(), FloatingPointError, {}),
        (ConvScorer().train(), Cancelled, {"progress": stop}),
    ):
        before = state(scorer)
        with pytest.raises(error):
            run(scorer, a_picture(), **more)
        assert unchanged(before, state(scorer))


@each_run
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_it_works_in_every_gradient_mode_and_takes_no_gradients(run, mode):
    expected = numbers(run(ConvScorer(), a_picture()))
    graphs = []

    class Watched(ConvScorer):
        def forward(self, pixels):
            scores = super().forward(pixels)
            graphs.append(scores.requires_grad)
            return scores

    with mode():
        assert numbers(run(Watched(), a_picture())) == pytest.approx(expected, abs=1e-7)
        assert numbers(run(Watched(), a_picture().requires_grad_())) == pytest.approx(expected)
    assert not any(graphs)


@each_run
def test_several_threads_get_what_one_gets(run):
    scorer = ConvScorer().eval()
    expected, found = numbers(run(scorer, a_picture())), []
    threads = [
        threading.Thread(target=lambda: found.append(numbers(run(scorer, a_picture()))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [pytest.approx(expected, abs=1e-7)] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "erasure"}, "not 'erasure'"),
        ({"steps": 0}, "steps is 0"),
        ({"patch": 0}, "patch is 0"),
        ({"fill": "pink"}, "not 'pink'"),
        ({"fill": 1.5}, "not 1.5"),
        ({"fill": float("nan")}, "not nan"),
        ({"fill": None}, "not None"),
        ({"target": 5}, "target 5"),
        ({"target": 1.0}, "whole number"),
        ({"maps": np.zeros(SIZE)}, r"\(32, 32\) are not \(32, 32\)"),
        ({"maps": np.zeros((0, *SIZE))}, r"are not \(0, 32, 32\)"),
        ({"maps": np.zeros((1, 7, 7))}, r"are not \(1, 7, 7\)"),
        ({"maps": np.full((1, *SIZE), np.nan)}, "not finite"),
        ({"pixels": torch.zeros(2, 3, 8, 8)}, "one picture is"),
        ({"pixels": 2 + torch.zeros(1, 3, 8, 8)}, "from 2 to 2"),
    ],
)
def test_curves_name_what_they_cannot_use(change, words):
    given = {
        "scorer": ConvScorer(),
        "pixels": a_picture(),
        "target": 1,
        "maps": random_maps(SIZE, 1),
    }
    with pytest.raises(ValueError, match=words):
        curves(**(given | change))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fraction": 0}, "fraction is 0"),
        ({"fraction": 1}, "fraction is 1"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"draws": 0}, "draws is 0"),
        ({"patch": -1}, "patch is -1"),
        ({"patch": 99}, r"within \(1, 1\)"),
        ({"fill": "pink"}, "not 'pink'"),
        ({"map": np.ones((7, 7))}, r"are not \(1, 7, 7\)"),
        ({"map": np.full(SIZE, np.inf)}, "not finite"),
        ({"pixels": torch.zeros(2, 3, 8, 8)}, "one picture is"),
    ],
)
def test_a_counterfactual_names_what_it_cannot_use(change, words):
    given = {"scorer": ConvScorer(), "pixels": a_picture(), "map": the_quarter()}
    with pytest.raises(ValueError, match=words):
        counterfactual(**(given | change))
