"""What explanations say, in words and as values of the page's components."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from saliency.faithfulness import Counterfactual
from saliency.types import Explanation
from ui.presenters import answers, explanations

ANSWERS = ("dog", "grass", "*cat*")


def checked(**changes):
    fields = {
        "before": 0,
        "probability_before": 0.62,
        "after": 1,
        "probability_after": 0.2,
        "fraction": 0.102,
        "draws": 10,
        "draws_changed": 0,
        "probability_drawn": 0.6,
        "mask": np.zeros((8, 8), dtype=bool),
        "pixels": torch.zeros(1, 3, 8, 8),
        "label_before": "dog",
        "label_after": ANSWERS[changes.get("after", 1)],
    }
    return Counterfactual(**(fields | changes))


def explained(values, **changes):
    fields = {
        "method": "grad_cam",
        "target": 0,
        "map": np.asarray(values, dtype=np.float32),
        "signed": False,
        "score": 1.0,
        "seconds": 0.12,
        "options": {},
    }
    return Explanation(**(fields | changes))


def picture():
    return answers.shrink(Image.new("RGB", (80, 60), "white"))


def decode(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def alphas(figure):
    return np.asarray(decode(figure["heat"]))[..., 3]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (
            checked(),
            "Covering the marked 10% changes *dog* to *grass*; a random 10% does not (0 of 10).",
        ),
        (
            checked(draws_changed=3),
            "Covering the marked 10% changes *dog* to *grass*; a random 10% does so too in 3 of 10 "
            "tries.",
        ),
        (
            checked(draws_changed=10),
            "Covering the marked 10% changes *dog* to *grass*, but so does any random 10% (10 of "
            "10): that proves nothing.",
        ),
        (
            checked(after=0, probability_after=0.598),
            "Covering the marked 10% leaves the answer *dog* (62% → 60%); so does a random 10% "
            "(→ 60% on average).",
        ),
        (
            checked(after=0, draws_changed=4),
            "Covering the marked 10% leaves the answer *dog* (62% → 20%), though a random 10% "
            "changes it in 4 of 10 tries.",
        ),
        (
            checked(fraction=0.04),
            "Covering the marked 4% changes *dog* to *grass*; a random 4% does not (0 of 10).",
        ),
        (None, "No place speaks for *dog*, so there is nothing to cover."),
    ],
)
def test_the_line_says_what_covering_does_in_every_case(check, words):
    assert explanations.line(check, "dog") == words


def test_marks_in_an_answer_stay_letters():
    assert r"to *\*cat\**" in explanations.line(checked(after=2), "dog")
    assert explanations.title("a_b", 0.5) == r"**a\_b** 50%"
    assert explanations.heading("<b>") == r"## Why *\<b\>*?"


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (checked(draws_changed=2), "Covered: the answer changes (at random: 2 of 10)."),
        (checked(after=0), "Covered: the answer stays, 62% → 20% (at random: 60%)."),
        (None, "Nothing to cover."),
    ],
)
def test_a_card_says_the_same_in_few_words(check, words):
    assert explanations.verdict(check) == words


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (
            [checked(draws_changed=2), checked(after=0), None],
            "Covering the 10% that a method marks changes *dog* for 1 of the 3 methods; a random "
            "10% does so in 2 of 20 tries.",
        ),
        (
            [checked(after=0)] * 2,
            "Covering the 10% that a method marks changes *dog* for none of the 2 methods; a "
            "random 10% does so in 0 of 20 tries.",
        ),
        ([None, None], "No method finds a place that speaks for *dog*."),
    ],
)
def test_the_comparison_is_summed_up(checks, words):
    assert explanations.summary(checks, "dog") == words


@pytest.mark.parametrize(
    ("share", "words"),
    [(0, "0%"), (0.001, "<1%"), (0.005, "<1%"), (0.734, "73%"), (0.999, ">99%"), (1, "100%")],
)
def test_a_percentage_is_whole_and_never_claims_none_or_all(share, words):
    assert explanations.percent(share) == words


def test_maps_of_one_method_share_a_scale():
    strong, weak = (explained(np.full((4, 4), value)) for value in (1, 0.25))
    scale = explanations.scale([strong, weak])
    assert alphas(explanations.figure(picture(), strong, scale)).max() == 255
    assert alphas(explanations.figure(picture(), weak, scale)).max() == pytest.approx(128, abs=2)
    assert alphas(explanations.figure(picture(), weak)).max() == 255


def test_a_map_that_changes_from_pixel_to_pixel_is_drawn_as_means():
    chess = np.indices((224, 224)).sum(axis=0) % 2
    drawn = alphas(explanations.figure(picture(), explained(chess)))
    assert drawn.min() > 240
    signed = explained(2 * chess - 1, signed=True)
    assert alphas(explanations.figure(picture(), signed, 1.0)).max() < 60


def test_a_map_without_positive_evidence_is_said_and_not_drawn_blank():
    figure = explanations.figure(picture(), explained(np.zeros((4, 4))))
    assert figure["nothing"]
    assert figure["heat"] == ""
    assert figure["words"] == "No positive evidence."


def test_what_only_speaks_against_is_drawn_and_said():
    figure = explanations.figure(picture(), explained(-np.eye(4), signed=True))
    assert alphas(figure).max() == 255
    assert not figure["nothing"]
    assert figure["words"].startswith("No positive evidence; against it ")


def test_a_card_waits_and_is_then_filled():
    found = explained(np.eye(4))
    assert explanations.card(picture(), "Grad-CAM")["state"] == "waiting"
    card = explanations.card(picture(), "Grad-CAM", found, checked())
    assert (card["state"], card["seconds"]) == ("changed", "0.1 s")
    assert explanations.card(picture(), "Grad-CAM", found, checked(after=0))["state"] == "kept"


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({}, "IG took 0.1 s."),
        (
            {"completeness_error": 0.001},
            "IG took 0.1 s. Each map adds up to the score's rise from an empty picture within "
            "0.1%.",
        ),
        ({"r2": 0.512}, "IG took 0.1 s. Its linear model fits with R² 0.51 or better."),
    ],
)
def test_facts_of_a_method_are_told(details, words):
    assert explanations.facts("IG", [explained(np.eye(4), details=details)]) == words


def test_maps_that_are_all_alike_are_said_to_be():
    same = [explained(np.eye(4))] * 2
    assert explanations.facts("Attention", same).endswith(
        "It marks the same places for every answer."
    )
    other = [explained(np.eye(4)), explained(np.ones((4, 4)))]
    assert "same places" not in explanations.facts("Grad-CAM", other)


def test_the_legends_are_those_of_the_maps():
    plain, signed = explained(np.eye(4)), explained(np.eye(4), signed=True)
    assert explanations.tools([plain], "") == {"plain": True, "signed": False, "note": ""}
    assert explanations.tools([signed], "") == {"plain": False, "signed": True, "note": ""}
    assert explanations.tools([plain, signed], "") == {"plain": True, "signed": True, "note": ""}
