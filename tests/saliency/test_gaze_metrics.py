"""The gaze metrics against oracles, their definitions, and answers that are known."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, pearsonr
from skimage.metrics import structural_similarity
from sklearn.metrics import roc_auc_score

from saliency import gaze_metrics as gaze

SHAPE = (15, 20)


def a_map(seed=0, shape=SHAPE):
    return np.random.RandomState(seed).rand(*shape)


def some_fixations(seed=0, count=12, shape=SHAPE):
    """Distinct pixels, True where someone looked."""
    chosen = np.random.RandomState(seed).permutation(shape[0] * shape[1])[:count]
    found = np.zeros(shape, dtype=bool)
    found.flat[chosen] = True
    return found


def counts(seed=0):
    """Some places were looked at more than once."""
    return some_fixations(seed) * (1 + np.random.RandomState(seed).randint(0, 3, SHAPE))


CALLS = {  # each metric with maps that suit it
    "auc_judd": (gaze.auc_judd, a_map(), some_fixations()),
    "auc_shuffled": (gaze.auc_shuffled, a_map(), some_fixations(), counts(1)),
    "nss": (gaze.nss, a_map(), some_fixations()),
    "cc": (gaze.cc, a_map(), a_map(1)),
    "sim": (gaze.sim, a_map(), a_map(1)),
    "kl": (gaze.kl, a_map(), a_map(1)),
    "information_gain": (gaze.information_gain, a_map(), some_fixations(), a_map(1)),
    "ssim": (gaze.ssim, a_map(), a_map(1)),
}
each_metric = pytest.mark.parametrize("name", CALLS)
DIFFERENTIABLE = ("nss", "cc", "sim", "kl", "information_gain", "ssim")


# Against other people's code.


def test_auc_judd_is_the_area_that_scikit_learn_finds():
    values = a_map().round(1)  # with many ties
    expected = roc_auc_score(some_fixations().ravel(), values.ravel())
    assert gaze.auc_judd(values, some_fixations()) == pytest.approx(expected, abs=1e-12)


def test_auc_judd_weighs_a_place_by_how_often_it_was_looked_at():
    weights = np.where(counts() > 0, counts(), 1).ravel()
    expected = roc_auc_score((counts() > 0).ravel(), a_map().ravel(), sample_weight=weights)
    assert gaze.auc_judd(a_map(), counts()) == pytest.approx(expected, abs=1e-12)
    assert gaze.auc_judd(a_map(), counts()) != gaze.auc_judd(a_map(), counts() > 0)


def test_shuffled_auc_is_the_area_that_scikit_learn_finds():
    here, there = some_fixations(), counts(1)
    values, others = a_map().round(1), there.ravel().repeat(there.ravel())
    ranked = np.concatenate([values[here], values.ravel().repeat(there.ravel())])
    labels = np.concatenate([np.ones(here.sum()), np.zeros(len(others))])
    expected = roc_auc_score(labels, ranked)
    assert gaze.auc_shuffled(values, here, there) == pytest.approx(expected, abs=1e-12)


def test_cc_is_scipy_s_correlation():
    expected = pearsonr(a_map().ravel(), a_map(1).ravel()).statistic
    assert gaze.cc(a_map(), a_map(1)) == pytest.approx(expected, abs=1e-12)


def test_kl_is_scipy_s_relative_entropy_of_the_truth_to_the_prediction():
    expected = entropy(a_map(1).ravel(), a_map().ravel())
    assert gaze.kl(a_map(), a_map(1)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("scale", "data_range"), [(1, 1.0), (255, 255.0)])
def test_ssim_is_scikit_image_s(scale, data_range):
    one = scale * a_map(0, (40, 33))
    other = 0.7 * one + 0.3 * scale * a_map(1, (40, 33))
    expected = structural_similarity(
        one, other, gaussian_weights=True, use_sample_covariance=False, data_range=data_range
    )
    assert 0.3 < expected < 0.99
    assert gaze.ssim(one, other, data_range=data_range) == pytest.approx(expected, abs=1e-12)


# Against the definitions, written out.


def judd_in_words(values, fixations):
    """AUC_Judd.m without jitter: the curve at the fixations' values, joined by straight lines."""
    at = np.sort(values[fixations])[::-1]
    free = values[~fixations]
    hits = np.concatenate([[0], np.arange(1, len(at) + 1) / len(at), [1]])
    alarms = np.concatenate([[0], [(free >= value).mean() for value in at], [1]])
    return float(((hits[1:] + hits[:-1]) / 2 * np.diff(alarms)).sum())


@pytest.mark.parametrize("seed", range(5))
def test_auc_judd_is_matlab_s_but_for_its_straight_lines(seed):
    values, fixations = a_map(seed), some_fixations(seed + 10)
    straight = judd_in_words(values, fixations)
    highest = (values[~fixations] >= values[fixations].min()).mean()  # where the curve ends
    assert gaze.auc_judd(values, fixations) == pytest.approx(straight - highest / 24, abs=1e-12)


def test_auc_judd_counts_pairs_and_half_of_the_ties():
    values, fixations = a_map().round(1), some_fixations()
    pairs = [(a > b) + (a == b) / 2 for a in values[fixations] for b in values[~fixations]]
    assert gaze.auc_judd(values, fixations) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_shuffled_auc_is_the_mean_of_seeded_draws():
    values, here, there = a_map(), some_fixations(), some_fixations(1, 60)
    draw = np.random.RandomState(0)
    drawn = [
        np.mean(values[here][:, None] > draw.permutation(values[there])[: here.sum()])
        for _ in range(400)
    ]
    error = np.std(drawn) / len(drawn) ** 0.5
    assert abs(gaze.auc_shuffled(values, here, there) - np.mean(drawn)) < 4 * error


def test_nss_is_the_mean_standardised_value():
    values = a_map()
    standard = (values - values.mean()) / values.std()
    assert gaze.nss(values, some_fixations()) == pytest.approx(standard[some_fixations()].mean())
    assert gaze.nss(values, counts()) == pytest.approx(np.average(standard, weights=counts()))


def test_sim_is_the_shared_mass():
    one, other = a_map() / a_map().sum(), a_map(1) / a_map(1).sum()
    assert gaze.sim(a_map(), a_map(1)) == pytest.approx(np.minimum(one, other).sum())


def test_kl_keeps_the_benchmark_s_eps_where_nothing_is_predicted():
    predicted, true = np.zeros(SHAPE), np.zeros(SHAPE)
    predicted[0, 0] = true[5, 5] = 3
    assert gaze.kl(predicted, true) == pytest.approx(-np.log(2.2204e-16), rel=1e-12)


def test_information_gain_is_in_bits():
    fixations, prediction = np.zeros(SHAPE, dtype=bool), np.full(SHAPE, 292 / 300 / 299)
    fixations[2, 3] = True
    prediction[2, 3] = 8 / 300  # 8 times its fair share
    gain = gaze.information_gain(prediction, fixations, np.ones(SHAPE))
    assert gain == pytest.approx(3, abs=1e-9)


# Answers that are known.


def test_a_map_and_itself():
    assert gaze.sim(a_map(), a_map()) == pytest.approx(1, abs=1e-12)
    assert gaze.cc(a_map(), a_map()) == pytest.approx(1, abs=1e-12)
    assert gaze.cc(a_map(), -a_map()) == pytest.approx(-1, abs=1e-12)
    assert gaze.kl(a_map(), a_map()) == pytest.approx(0, abs=1e-12)
    assert gaze.ssim(a_map(), a_map()) == pytest.approx(1, abs=1e-12)
    assert gaze.information_gain(a_map(), some_fixations(), a_map()) == 0


@pytest.mark.parametrize("level", [0.0, 0.1, 7.3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_constant_map_says_nothing(level, dtype):
    constant = np.full(SHAPE, level, dtype=dtype)
    for maps in (constant, torch.from_numpy(constant)):
        as_given = torch.from_numpy if isinstance(maps, torch.Tensor) else np.asarray
        here, there, other = map(as_given, (some_fixations(), counts(1), a_map()))
        assert gaze.auc_judd(maps, here) == 0.5
        assert gaze.auc_shuffled(maps, here, there) == 0.5
        assert gaze.nss(maps, here) == 0
        assert gaze.cc(maps, other) == gaze.cc(other, maps) == 0


def test_the_fixations_themselves_are_the_best_map_and_their_absence_the_worst():
    here = some_fixations()
    assert gaze.auc_judd(here, here) == 1
    assert gaze.auc_judd(~here, here) == 0
    assert gaze.auc_shuffled(here, here, some_fixations(1) & ~here) == 1
    assert gaze.nss(here, here) == pytest.approx(((300 - 12) / 12) ** 0.5)
    assert gaze.sim(here, ~here) == 0


def test_shuffled_auc_takes_the_middle_s_advantage_away():
    middle = np.exp(-(np.linspace(-2, 2, 15)[:, None] ** 2) - np.linspace(-2, 2, 20)[None] ** 2)
    draw = np.random.RandomState(0)
    here, others = (draw.multinomial(n, (middle / middle.sum()).ravel()) for n in (200, 5000))
    here, others = here.reshape(SHAPE), others.reshape(SHAPE)
    assert gaze.auc_judd(middle, here) > 0.7
    assert gaze.auc_shuffled(middle, here, others) == pytest.approx(0.5, abs=0.05)


@each_metric
def test_scale_does_not_matter(name):
    metric, prediction, *rest = CALLS[name]
    if name == "ssim":
        assert metric(prediction, *rest) != pytest.approx(metric(5 * prediction, *rest))
    else:
        assert metric(5 * prediction, *rest) == pytest.approx(metric(prediction, *rest), rel=1e-9)


def test_a_map_that_sums_to_1_over_a_large_picture_keeps_its_digits_in_float32():
    values, true = a_map(0, (200, 150)) * 1e-30, a_map(1, (200, 150))
    single = torch.from_numpy(values).float(), torch.from_numpy(true).float()
    assert float(gaze.cc(*single)) == pytest.approx(gaze.cc(values, true), rel=1e-3)


# Numpy and torch.


@each_metric
def test_arrays_give_a_float_and_tensors_the_same_as_a_tensor(name):
    metric, *maps = CALLS[name]
    value = metric(*maps)
    assert type(value) is float
    tensor = metric(*map(torch.from_numpy, maps))
    assert tensor.shape == ()
    assert tensor.dtype == torch.float64
    assert float(tensor) == pytest.approx(value, abs=1e-12)


@each_metric
def test_a_batch_gives_one_value_a_map(name):
    metric, *maps = CALLS[name]
    again = [maps[0][::-1].copy(), *maps[1:]]
    batch = [torch.from_numpy(np.stack(pair)).float() for pair in zip(maps, again, strict=True)]
    found = metric(*batch)
    assert found.shape == (2,)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([metric(*maps), metric(*again)], rel=1e-4, abs=1e-5)
    assert found[0] != found[1]


def test_one_baseline_serves_a_batch():
    prediction = torch.from_numpy(np.stack([a_map(0), a_map(1)]))
    fixations = torch.from_numpy(np.stack([some_fixations(0), some_fixations(1)]))
    gains = gaze.information_gain(prediction, fixations, torch.from_numpy(a_map(2)))
    expected = [gaze.information_gain(a_map(i), some_fixations(i), a_map(2)) for i in (0, 1)]
    assert gains.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_are_those_of_the_formula(name):
    metric, *maps = CALLS[name]
    shape = (12, 12) if name == "ssim" else (3, 4)
    cut = [m[: shape[0], : shape[1]] for m in maps]
    prediction, *rest = (torch.from_numpy(np.stack([m, m[::-1]])) for m in cut)
    rest = [other + (other.sum((1, 2), keepdim=True) == 0) for other in rest]  # somebody looked
    assert torch.autograd.gradcheck(lambda p: metric(p, *rest), prediction.requires_grad_())


def test_kl_with_cc_and_nss_trains_a_map():
    true = torch.from_numpy(np.stack([a_map(0), a_map(1)])).float() ** 4
    fixations = true > 0.8
    logits = torch.zeros(2, *SHAPE, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    losses = []
    for _ in range(100):
        maps = logits.flatten(1).softmax(1).view(2, *SHAPE)
        terms = gaze.kl(maps, true), -gaze.cc(maps, true), -gaze.nss(maps, fixations)
        losses.append(sum(terms).sum())
        optimizer.zero_grad()
        losses[-1].backward()
        assert logits.grad.isfinite().all()
        optimizer.step()
    assert losses[-1] < losses[0] - 1
    assert (gaze.cc(maps, true) > 0.7).all()


@pytest.mark.parametrize("name", ["cc", "nss"])
def test_a_constant_map_has_a_finite_gradient(name):
    metric, _, *rest = CALLS[name]
    constant = torch.full(SHAPE, 0.1, requires_grad=True)
    (gradient,) = torch.autograd.grad(metric(constant, *map(torch.from_numpy, rest)), constant)
    assert gradient.isfinite().all()


@each_metric
def test_what_is_given_stays_as_it_is_and_half_precision_is_enough(name):
    metric, *maps = CALLS[name]
    before = [given.copy() for given in maps]
    with torch.autocast("cpu", torch.bfloat16):
        found = metric(*(torch.from_numpy(given).to(torch.bfloat16) for given in maps))
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(metric(*maps), rel=0.05, abs=0.01)
    assert all(map(np.array_equal, maps, before))


# What is refused.


@each_metric
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:-1], "one size: prediction .14, 20., .*.15, 20."),
        (lambda m: m[:1], "one size"),
        (lambda m: m[0], "prediction must be an array .H, W., it is .20,."),
        (lambda m: m[None], "prediction must be an array .H, W."),
        (lambda m: m[:0], "prediction must be an array .H, W."),
        (lambda m: np.where(m == m.max(), np.nan, m), "prediction holds numbers that are not fin"),
        (lambda m: np.where(m == m.max(), np.inf, m), "prediction holds numbers that are not fin"),
    ],
)
def test_maps_that_do_not_fit_are_named(name, change, words):
    metric, prediction, *rest = CALLS[name]
    with pytest.raises(ValueError, match=words):
        metric(change(prediction), *rest)


def test_batches_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"one size: prediction \(2, 3, 4\), truth \(3, 3, 4\)"):
        gaze.cc(torch.ones(2, 3, 4), torch.ones(3, 3, 4))
    with pytest.raises(ValueError, match=r"prediction must be a tensor \(\.\.\., H, W\)"):
        gaze.cc(torch.ones(4), torch.ones(4))


@pytest.mark.parametrize("name", ["auc_judd", "auc_shuffled", "nss", "information_gain"])
def test_fixations_that_there_are_not_are_named(name):
    metric, prediction, fixations, *rest = CALLS[name]
    with pytest.raises(ValueError, match="fixations is 0 everywhere: nobody looked"):
        metric(prediction, 0 * fixations, *rest)
    with pytest.raises(ValueError, match=r"fixations has values below 0 \(the least is -1"):
        metric(prediction, -fixations.astype(int), *rest)


def test_areas_need_something_to_rank_against():
    with pytest.raises(ValueError, match="every pixel of fixations has one"):
        gaze.auc_judd(a_map(), np.ones(SHAPE))
    with pytest.raises(ValueError, match="others is 0 everywhere"):
        gaze.auc_shuffled(a_map(), some_fixations(), np.zeros(SHAPE))


@pytest.mark.parametrize("name", ["sim", "kl", "information_gain"])
def test_maps_that_are_no_densities_are_named(name):
    metric, prediction, *rest = CALLS[name]
    with pytest.raises(ValueError, match="prediction has values below 0"):
        metric(prediction - 0.5, *rest)
    with pytest.raises(ValueError, match="prediction is 0 everywhere"):
        metric(0 * prediction, *rest)
    with pytest.raises(ValueError, match="is 0 everywhere"):
        metric(prediction, *(0 * other for other in rest))


def test_ssim_refuses_what_it_cannot_measure():
    with pytest.raises(ValueError, match=r"\(10, 20\) is smaller than a window of 11"):
        gaze.ssim(a_map()[:10], a_map()[:10])
    with pytest.raises(ValueError, match="data_range is 0"):
        gaze.ssim(a_map(), a_map(), data_range=0)


@pytest.mark.parametrize("name", ["sim", "cc", "kl", "nss"])
@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_maps_whose_sum_overflows_are_measured_as_if_they_were_smaller(name, kind):
    chance = np.random.default_rng(0)
    small, truth = chance.uniform(0.1, 1, (2, 12, 16)).astype(kind)
    if name == "nss":
        truth = (truth > 0.9).astype(kind)
    large = torch.from_numpy(small * np.finfo(kind).max)
    measure = getattr(gaze, name)
    expected = measure(torch.from_numpy(small), torch.from_numpy(truth))
    found = measure(large, torch.from_numpy(truth))
    assert torch.isfinite(found)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_cc_of_large_maps_of_both_signs_is_finite():
    values = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4)
    assert float(gaze.cc(values * 1.7e308, values)) == pytest.approx(1)
    assert float(gaze.cc(values * 1.7e308, -values)) == pytest.approx(-1)
