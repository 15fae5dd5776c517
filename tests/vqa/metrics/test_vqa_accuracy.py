"""The official accuracy, the calibration error, and the metric around them."""

import random
import socket
import subprocess
import sys

import numpy as np
import pytest

from vqa.metrics.functional.answers import accuracy, expected_calibration_error
from vqa.metrics.vqa_accuracy import VqaAccuracy
from vqa.preprocessing.answer_normalization import normalize_answer


def said(matches: int, people: int = 10) -> list[str]:
    return ["red"] * matches + [f"other{i}" for i in range(people - matches)]


@pytest.fixture
def metric(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("the metric went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return VqaAccuracy(cache_dir=str(tmp_path))


# --- accuracy ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matches", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)]
)
def test_ten_people_give_the_official_scores(matches, expected):
    assert accuracy("red", said(matches)) == pytest.approx(expected)


def test_the_short_formula_equals_leaving_each_person_out():
    rng = random.Random(0)
    for _ in range(200):
        answers = [rng.choice("rgby") for _ in range(10)]
        each = [
            min(1, (answers[:i] + answers[i + 1 :]).count("r") / 3) for i in range(len(answers))
        ]
        assert accuracy("r", answers) == pytest.approx(sum(each) / 10)


def test_both_sides_are_normalised():
    assert accuracy("The T-shirt.", ["t shirt"] * 5 + ["a t-shirt"] * 5) == 1
    assert accuracy("2", ["two"] * 10) == 1


def test_with_fewer_than_ten_people_the_first_answer_counts_alone():
    assert accuracy("Book", ["book"]) == 1
    assert accuracy("pen", ["book"]) == 0
    assert accuracy("book", ["book", "lamp", "paper"]) == 1
    assert accuracy("lamp", ["book", "lamp", "paper"]) == 0


@pytest.mark.parametrize(
    ("prediction", "answers", "ours", "official"),
    [
        ("Yes", ["yes"] * 10, 1, 0),  # all agree: nothing is normalised
        ("two", ["two"] * 10, 1, 1),
        ("2", ["two"] * 10, 1, 0),
        ("2", ["two"] * 9 + ["three"], 1, 1),  # one dissents: everything is
        ("a dog\n", ["a dog"] * 10, 1, 1),  # ends and line breaks are trimmed all the same
        ("dog", ["a dog"] * 10, 1, 0),
        ("Book", ["book"], 1, 0),
    ],
)
def test_the_official_script_to_the_letter_leaves_answers_raw_where_all_agree(
    prediction, answers, ours, official
):
    assert accuracy(prediction, answers) == ours
    assert accuracy(prediction, answers, strict_official=True) == official


def test_the_metric_prints_what_the_official_script_does(metric):
    metric.add_batch(predictions=["red"] * 3, references=[said(1), said(1), said(4)])
    result = metric.compute(answer_types=["other"] * 3, strict_official=True)
    assert result == {"accuracy": 0.5333, "per_answer_type": {"other": 0.5333}}


def test_only_the_first_periods_go_as_in_the_official_script():
    assert normalize_answer("." * 40) == "." * 8


@pytest.mark.parametrize("answers", [[], (), "yes"])
def test_an_answer_without_a_list_to_compare_with_is_refused(answers):
    with pytest.raises(ValueError, match="Give a list of ten answers"):
        accuracy("yes", answers)


# --- calibration -------------------------------------------------------------------------------


def test_probabilities_that_come_true_have_no_calibration_error():
    assert expected_calibration_error([0.25] * 4, [1, 0, 0, 0]) == pytest.approx(0)
    assert expected_calibration_error([0.0, 1.0], [0, 1]) == 0


def test_sure_and_wrong_is_the_greatest_calibration_error():
    assert expected_calibration_error([1.0, 1.0, 0.0], [0, 0, 1]) == 1


def test_the_calibration_error_equals_the_textbook_sum_over_bins():
    rng = np.random.default_rng(0)
    shown, right = rng.random(500), rng.choice([0, 0.3, 0.6, 0.9, 1], 500)
    total = 0.0
    for low in np.arange(15) / 15:
        inside = (shown > low) & (shown <= low + 1 / 15)
        if inside.any():
            total += inside.mean() * abs(shown[inside].mean() - right[inside].mean())
    assert expected_calibration_error(shown, right) == pytest.approx(total)


def test_graded_accuracies_and_a_single_bin_work():
    assert expected_calibration_error([0.2, 0.8], [0.3, 0.9], bins=1) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("shown", "right", "bins", "problem"),
    [
        ([], [], 15, "as many"),
        ([0.5], [1, 0], 15, "as many"),
        ([1.5], [1], 15, r"probability is in \[0, 1\], and this is not: 1.5"),
        ([float("nan")], [1], 15, "nan"),
        ([0.5], [-1], 15, "accuracy is in"),
        ([0.5], [1], 0, "at least one bin"),
    ],
)
def test_numbers_that_make_no_sense_are_named(shown, right, bins, problem):
    with pytest.raises(ValueError, match=problem):
        expected_calibration_error(shown, right, bins=bins)


# --- the metric --------------------------------------------------------------------------------


def test_the_metric_collects_batches_offline_and_gives_each_type(metric):
    metric.add_batch(predictions=["red", "Yes."], references=[said(1), ["yes"] * 10])
    metric.add_batch(predictions=["2"], references=[["two"]])
    metric.add(prediction="blue", reference=said(10))
    result = metric.compute(answer_types=["other", "yes/no", "number", "other"])
    assert result["accuracy"] == pytest.approx((0.3 + 1 + 1 + 0) / 4)
    assert result["per_answer_type"] == pytest.approx({"number": 1, "other": 0.15, "yes/no": 1})


def test_the_metric_starts_afresh_after_compute_and_needs_no_types(metric):
    assert metric.compute(predictions=["a dog"], references=[["dog"]]) == {"accuracy": 1.0}
    assert metric.compute(predictions=["a cat"], references=[["dog"]]) == {"accuracy": 0.0}


def test_the_metric_says_what_it_is(metric):
    assert metric.name == "vqa_accuracy"
    assert "2015" in metric.citation
    assert set(metric.features) == {"predictions", "references"}


def test_too_few_types_are_refused(metric):
    with pytest.raises(ValueError, match="each of the 2 answers a type, not 1"):
        metric.compute(predictions=["a", "b"], references=[["a"], ["b"]], answer_types=["other"])


def test_nothing_to_score_is_refused(metric):
    with pytest.raises(ValueError, match="no answer to score"):
        metric.compute(predictions=[], references=[])


def test_importing_the_package_and_the_text_module_loads_no_evaluate():
    code = "import sys, vqa.metrics, vqa.preprocessing; sys.exit('evaluate' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
