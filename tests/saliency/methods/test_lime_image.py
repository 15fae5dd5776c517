"""LIME: against the lime package, and where the answer is known."""

import numpy as np
import pytest
import torch
from helpers.contract import state, unchanged
from helpers.toy_scorers import ConvScorer, a_picture
from lime.lime_image import LimeImageExplainer
from lime.wrappers.scikit_image import SegmentationAlgorithm
from skimage.segmentation import quickshift

from saliency import hooks
from saliency.methods.lime_image import ImageLime, lime, superpixels
from saliency.registry import explain
from saliency.types import Cancelled

TARGETS = [3, 2]
SAMPLES = 120
CELLS = np.arange(48)[:, None] // 8 * 6 + np.arange(48) // 8  # (48, 48), 36 squares


def a_face(side=48, grain=0.02):
    """(1, 3, side, side) in [0, 1]: a grey oval with eyes and a mouth, in a little grain."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side

    def oval(row, column, height, width):
        return ((y - row) / height) ** 2 + ((x - column) / width) ** 2 < 1

    grey = 0.2 + 0.2 * y
    grey[oval(0.5, 0.5, 0.45, 0.35)] = 0.75
    for row, column, height, width in ((0.4, 0.35, 0.05, 0.08), (0.4, 0.65, 0.05, 0.08)):
        grey[oval(row, column, height, width)] = 0.1
    grey[oval(0.72, 0.5, 0.06, 0.16)] = 0.3
    grey = np.clip(grey + grain * np.random.RandomState(0).randn(side, side), 0, 1)
    return torch.from_numpy(grey).float().expand(1, 3, -1, -1).contiguous()


class Watched(ConvScorer):
    """Notes all the pictures that it is shown; torn between scores 2 and 3."""

    def __init__(self):
        super().__init__(seed=2)
        self.eval()
        self.seen = []

    def forward(self, pixels):
        self.seen.append(pixels.clone())
        return 20 * super().forward(pixels)

    def classify_as_lime_wants(self, pictures):
        """(n, H, W, 3) -> probabilities (n, K)"""
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            return self(pixels).softmax(1).numpy()


@pytest.fixture
def theirs(monkeypatch):
    """lime itself, without its progress bar, on the draws that a seed gives."""
    monkeypatch.setattr("lime.lime_image.tqdm", iter)

    def run(scorer, pixels, segments, label, *, seed=0, samples=SAMPLES, **options):
        explainer = LimeImageExplainer(random_state=np.random.RandomState(seed))
        return explainer.explain_instance(
            pixels[0].permute(1, 2, 0).numpy(),
            scorer.classify_as_lime_wants,
            labels=(label,),
            top_labels=None,
            num_samples=samples,
            batch_size=hooks.chunk_size(pixels),
            segmentation_fn=lambda _picture: segments,
            random_seed=0,  # else lime spends a draw on it
            **options,
        )

    return run


def by_number(local_exp):
    """lime's pairs, by superpixel."""
    return np.array([weight for _, weight in sorted(local_exp)])


def difference(one, other):
    """max |one - other| / max |other|"""
    assert np.shape(one) == np.shape(other)
    return np.abs(np.subtract(one, other)).max() / np.abs(other).max()


@pytest.mark.parametrize("hide", [None, 0.3])
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_the_linear_model_is_lime_s(theirs, seed, hide):
    scorer, pixels = Watched(), a_face()
    found = lime(scorer, pixels, TARGETS, samples=SAMPLES, hide=hide, seed=seed)
    for target, details, values in zip(TARGETS, found.details, found.values, strict=True):
        segments = details["explanation"].segments
        expected = theirs(scorer, pixels, segments, target, seed=seed, hide_color=hide)
        coefficients = by_number(expected.local_exp[target])
        own = details["explanation"]
        assert difference(by_number(own.local_exp[target]), coefficients) < 1e-8
        assert difference(own.local_pred, expected.local_pred) < 1e-8
        assert own.score == details["r2"] == pytest.approx(expected.score, rel=1e-8)
        assert own.intercept[target] == pytest.approx(expected.intercept[target], rel=1e-8)
        assert details["intercept"] == own.intercept[target]
        assert details["segments"] == len(coefficients) >= 20
        assert difference(values.numpy(), coefficients[segments]) < 1e-6


@pytest.mark.parametrize("hide", [None, 0.3])
def test_the_covered_pictures_are_lime_s_to_the_last_bit(theirs, hide):
    scorer, pixels = Watched(), torch.cat([a_picture(s, 40)[:, :1] for s in range(3)], dim=1)
    sample = ImageLime(pixels, samples=20, hide=hide, seed=5)
    assert list(sample.score(scorer, TARGETS)) == [8, 16, 20]
    own, scorer.seen = torch.cat(scorer.seen), []
    theirs(scorer, pixels, sample.segments, 2, seed=5, samples=20, hide_color=hide)
    assert torch.equal(own, torch.cat(scorer.seen))
    assert torch.equal(own[:1], pixels)


@pytest.mark.parametrize(
    "shown",
    [
        {},
        {"positive_only": False, "num_features": 8},
        {"positive_only": False, "negative_only": True, "hide_rest": True},
        {"num_features": 3, "min_weight": 1e-3},
    ],
)
def test_image_and_mask_are_lime_s(theirs, shown):
    scorer, pixels = Watched(), a_face()
    (found,) = explain(scorer, pixels, [2], "lime", samples=SAMPLES, segmentation=CELLS)
    expected = theirs(scorer, pixels, CELLS, 2)
    own = found.details["explanation"]
    assert own is found.details["explanation"]
    assert own.top_labels == [2]
    image, mask = own.get_image_and_mask(2, **shown)
    expected_image, expected_mask = expected.get_image_and_mask(2, **shown)
    assert np.array_equal(mask, expected_mask)
    assert np.array_equal(image, expected_image)
    assert mask.any()


def test_a_further_target_costs_no_forward():
    scorer, pixels = Watched(), a_face()
    (found,) = explain(scorer, pixels, [3], "lime", samples=SAMPLES)
    assert len(scorer.seen) == SAMPLES / 8
    further = found.details["sample"].maps([2, 4])
    assert len(scorer.seen) == SAMPLES / 8
    expected = explain(scorer, pixels, [2, 4], "lime", samples=SAMPLES)
    for values, score, details, same in zip(*further, expected, strict=True):
        assert np.array_equal(values.numpy(), same.map)
        assert float(score) == same.score
        assert details["r2"] == same.details["r2"]
    with pytest.raises(ValueError, match="target 5"):
        found.details["sample"].maps([5])


def test_partial_maps_are_those_of_fewer_samples_and_end_at_the_final_ones():
    pixels, full = a_face(), lime(Watched(), a_face(), TARGETS, samples=SAMPLES)
    partial = list(ImageLime(pixels, samples=SAMPLES).stream(Watched(), TARGETS))
    assert len(partial) == SAMPLES / 8
    for index in (0, 4, 14):
        fewer = lime(Watched(), pixels, TARGETS, samples=8 * (index + 1))
        assert torch.equal(partial[index].values, fewer.values)
        assert partial[index].details[0]["r2"] == fewer.details[0]["r2"]
        assert torch.equal(partial[index].scores, full.scores)
    assert torch.equal(partial[-1].values, full.values)
    errors = [difference(maps.values.numpy(), full.values.numpy()) for maps in partial]
    assert np.mean(errors[10:]) < np.mean(errors[5:10]) < np.mean(errors[:5])
    early = partial[4].details[0]["explanation"].local_exp[3]
    assert difference(by_number(early)[pixels_of(full)], partial[4].values[0].numpy()) < 1e-6


def pixels_of(maps):
    """(H, W), the superpixel of each pixel."""
    return maps.details[0]["sample"].segments


def test_a_scorer_is_as_it_was_found_whenever_partial_maps_arrive():
    scorer = ConvScorer().train()
    with torch.inference_mode():
        for _ in ImageLime(a_face(), samples=20).stream(scorer, TARGETS):
            assert scorer.dropout.training
            assert torch.is_inference_mode_enabled()
    assert not torch.is_inference_mode_enabled()


class OneByOne(Watched):
    """Rounds alike whatever the batch, as convolutions do not."""

    def forward(self, pixels):
        return torch.cat([super(OneByOne, self).forward(each[None]) for each in pixels])


@pytest.mark.parametrize("size", [1, 7, 200])
def test_the_size_of_a_chunk_does_not_matter(monkeypatch, size):
    expected = lime(OneByOne(), a_face(), TARGETS, samples=SAMPLES)
    monkeypatch.setattr(hooks, "chunk_size", lambda _pixels: size)
    steps = []

    def note(*step):
        steps.append(step)

    found = lime(OneByOne(), a_face(), TARGETS, samples=SAMPLES, progress=note)
    assert steps == [(min(n, SAMPLES), SAMPLES) for n in range(size, SAMPLES + size, size)]
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.scores, expected.scores)


class BrightnessOf(torch.nn.Module):
    """Probabilities of brightness in one place and of darkness there, and a third of 1."""

    def __init__(self, place):
        super().__init__()
        self.place = torch.from_numpy(place)

    def forward(self, pixels):
        bright = pixels[:, :, self.place].mean((1, 2))
        return torch.stack([bright, 1 - bright, torch.ones_like(bright)], dim=1)

    def probabilities(self, scores):
        return scores


def test_the_superpixel_that_a_score_depends_on_gets_it_all():
    pixels = torch.full((1, 3, 48, 48), 0.8)
    found = explain(BrightnessOf(CELLS == 14), pixels, [0, 1], "lime", segmentation=CELLS, hide=0.0)
    for explanation, sign in zip(found, (1, -1), strict=True):
        inside, outside = explanation.map[CELLS == 14], explanation.map[CELLS != 14]
        # Uncovered it adds 0.8; the ridge of 1 takes about 1 / sum_z w(z) z (1 - z) of that.
        assert inside == pytest.approx(sign * 0.8, rel=0.02)
        assert np.abs(outside).max() < 0.01
        assert explanation.details["r2"] > 0.999
    assert found[0].details["explanation"].local_exp[0][0][0] == 14


def test_a_score_that_never_changes_has_no_evidence():
    (found,) = explain(BrightnessOf(CELLS == 14), a_face(), [2], "lime", samples=50)
    assert not found.map.any()
    assert not found.has_evidence
    assert found.details["r2"] == 1
    assert found.details["intercept"] == 1


def test_another_seed_draws_other_coverings():
    first, second = (lime(Watched(), a_face(), [2], samples=40, seed=s) for s in (0, 1))
    assert not np.allclose(first.values, second.values, rtol=1e-2)


def test_what_progress_raises_ends_it_and_leaves_nothing_behind():
    scorer, done = ConvScorer().train(), []

    def cancel(count, total):
        done.append((count, total))
        if count >= 16:
            raise Cancelled

    before = state(scorer)
    with pytest.raises(Cancelled):
        explain(scorer, a_face(), [2], "lime", samples=SAMPLES, progress=cancel)
    assert done == [(8, SAMPLES), (16, SAMPLES)]
    assert unchanged(before, state(scorer))


@pytest.mark.parametrize("side", [32, 48, 64, 224])
@pytest.mark.parametrize("grain", [0.0, 0.02, 0.3])
def test_pictures_small_and_large_get_a_sensible_number_of_superpixels(side, grain):
    picture = a_face(side, grain)[0].permute(1, 2, 0).numpy()
    segments = superpixels(picture)
    assert segments.shape == (side, side)
    assert segments.dtype == np.int64
    assert np.array_equal(np.unique(segments), np.arange(segments.max() + 1))
    assert 20 <= len(np.unique(segments)) <= 80


def test_a_flat_picture_and_one_that_is_not_square_get_superpixels_too():
    assert 20 <= superpixels(np.full((48, 48, 3), 0.5, np.float32)).max() <= 80
    assert 20 <= superpixels(a_face(96)[0].permute(1, 2, 0).numpy()[:48]).max() <= 80


@pytest.mark.parametrize("name", ["slic", "felzenszwalb", "quickshift"])
def test_every_segmentation_explains(name):
    pixels = a_face(96)
    (found,) = explain(Watched(), pixels, [2], "lime", samples=16, segmentation=name)
    assert found.options["segmentation"] == name
    count = found.details["segments"]
    assert count == len(np.unique(found.details["sample"].segments)) >= 2
    assert 1 < len(np.unique(found.map)) <= count


def test_quickshift_is_lime_s_own_default():
    picture = a_face(96)[0].permute(1, 2, 0).numpy()
    expected = quickshift(picture, kernel_size=4, max_dist=200, ratio=0.2)
    assert np.array_equal(superpixels(picture, "quickshift"), expected)


def test_segments_may_be_given_as_a_function_as_numbers_or_as_another_s():
    pixels = a_face()
    wanted = SegmentationAlgorithm("slic", n_segments=50, sigma=1, start_label=0)
    first = ImageLime(pixels)
    assert np.array_equal(ImageLime(pixels, segmentation=wanted).segments, first.segments)
    assert np.array_equal(ImageLime(pixels, segmentation=first.segments).segments, first.segments)
    gaps = (CELLS * 10 - 7).astype(np.int16)
    assert np.array_equal(ImageLime(pixels, segmentation=gaps).segments, CELLS)
    assert np.array_equal(ImageLime(pixels, segmentation=torch.from_numpy(gaps)).segments, CELLS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"samples": 1}, "samples is 1 and"),
        ({"samples": 2.5}, "samples is 2.5 and"),
        ({"hide": 255}, "hide is 255 and"),
        ({"hide": float("nan")}, "hide is nan and"),
        ({"segmentation": "grid"}, "'grid'; there are: auto, slic, felzenszwalb, quickshift"),
        ({"segmentation": CELLS[:40]}, r"\(48, 48\), not \(40, 48\)"),
        ({"segmentation": lambda _: CELLS[None]}, r"not \(1, 48, 48\)"),
        ({"segmentation": CELLS / 2}, "whole numbers, not float64"),
        ({"segmentation": CELLS * 0}, "needs 2 superpixels and this is 1: try slic"),
    ],
)
def test_what_will_not_do_is_named_before_any_forward(options, words):
    scorer = Watched()
    with pytest.raises(ValueError, match=words):
        explain(scorer, a_face(), [2], "lime", **options)
    assert scorer.seen == []


def test_a_target_out_of_range_is_named_after_the_first_chunk():
    scorer = Watched()
    with pytest.raises(ValueError, match="target 9"):
        explain(scorer, a_face(), [2, 9], "lime")
    assert len(scorer.seen) == 1


def test_before_anything_is_scored_there_is_nothing_to_map():
    with pytest.raises(ValueError, match="target 2 is none of the 0 scores"):
        ImageLime(a_face()).maps([2])


def test_details_hold_what_they_list():
    (found,) = explain(Watched(), a_face(), [2], "lime", samples=16)
    names = ["explanation", "r2", "intercept", "segments", "sample"]
    assert list(found.details) == names
    assert len(dict(found.details)) == len(found.details) == len(names)
    with pytest.raises(KeyError, match="colour"):
        found.details["colour"]
