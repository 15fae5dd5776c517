"""Who answers a question, and which questions a caption invites: tables of both."""

from __future__ import annotations

import pytest

from ui.components.examples import ANY_PICTURE, EXAMPLES
from ui.presenters import router, suggestions
from ui.presenters.router import ANSWERER, CAPTIONER, FEELINGS, GAZE
from vqa.preprocessing import question_text

ALL = frozenset({CAPTIONER, GAZE, FEELINGS})


@pytest.mark.parametrize(
    ("question", "to"),
    [
        ("What is in the picture?", CAPTIONER),
        ("what's in this image", CAPTIONER),
        ("Describe it!", CAPTIONER),
        ("Please describe the photo.", CAPTIONER),
        ("What do you see?", CAPTIONER),
        ("What does the picture show?", CAPTIONER),
        ("Tell me about this picture", CAPTIONER),
        ("What is happening in the picture?", CAPTIONER),
        ("Where would people look?", GAZE),
        ("where do people look first?", GAZE),
        ("What would you look at first?", GAZE),
        ("What catches the eye?", GAZE),
        ("How does it feel?", FEELINGS),
        ("How does this picture make you feel?", FEELINGS),
        ("What is the mood of the picture?", FEELINGS),
        # Near misses: these ask about something in the picture.
        ("What animal is in the picture?", ANSWERER),
        ("What color is the car in the picture?", ANSWERER),
        ("What is in the cup?", ANSWERER),
        ("What is this?", ANSWERER),
        ("Is it in the picture?", ANSWERER),
        ("Where is the man looking?", ANSWERER),
        ("Where are the people?", ANSWERER),
        ("How does the man feel?", ANSWERER),
        ("Describe the dog", ANSWERER),
        ("What is the mood of the woman?", ANSWERER),
        ("?", ANSWERER),
        ("", ANSWERER),
    ],
)
def test_the_words_of_a_question_choose_who_answers(question, to):
    assert router.route(question, ALL).to == to


def test_the_rule_is_told_and_an_ordinary_question_needs_none():
    words = router.route("Describe it", ALL).words
    assert words == "Asked the captioner, because the question asks for a description."
    assert router.route("What is this?", ALL).words == ""


@pytest.mark.parametrize(
    ("question", "missing"),
    [
        ("Describe it", "the captioner is not loaded"),
        ("Where would people look?", "the gaze model is not loaded"),
        ("How does it feel?", "the model of feelings is not loaded"),
    ],
)
def test_a_model_that_is_not_there_is_named_and_the_answerer_asked(question, missing):
    found = router.route(question, frozenset())
    assert found.to == ANSWERER
    assert missing in found.words
    assert found.words.endswith("asked the answering model instead.")


def test_questions_of_the_longest_length_are_read_quickly():
    assert router.route("what is in " * 90, ALL).to == ANSWERER


@pytest.mark.parametrize(
    ("caption", "first", "also"),
    [
        ("a dog runs through the snow", "What is the dog doing?", "Is this outdoors?"),
        ("a man in a red shirt", "What is the man doing?", "What color is the shirt?"),
        ("a man in red on a hill", "What is the man doing?", "What is red?"),
        ("two men play on the beach", "How many men are there?", "What is in the background?"),
        ("a woman is sitting", "What is the woman doing?", "What is the woman wearing?"),
    ],
)
def test_a_caption_invites_questions_about_what_it_names(caption, first, also):
    found = suggestions.questions(caption)
    assert found[0] == first
    assert also in found
    assert 1 < len(found) <= suggestions.MAX_QUESTIONS
    assert len(set(found)) == len(found)


def test_a_black_and_white_photo_is_not_asked_for_its_colours():
    assert suggestions.questions("a black and white photo of a dog") == (
        "What is the dog doing?",
        "What color is the dog?",
    )


def test_a_caption_that_names_nothing_known_invites_nothing():
    assert suggestions.questions("something on something") == ()
    assert suggestions.questions("") == ()


@pytest.mark.parametrize("caption", ["a boy and a dog in the water with a red ball", "two cars"])
def test_what_is_suggested_can_be_asked(caption):
    for question in suggestions.questions(caption):
        assert question_text.clean_question(question) == question
        assert router.route(question, ALL).to == ANSWERER


def test_what_examples_suggest_goes_to_the_answerer_but_for_the_first_of_any_picture():
    asked = [question for example in EXAMPLES for question in example.questions]
    assert {router.route(question, ALL).to for question in asked} == {ANSWERER}
    first, *rest = ANY_PICTURE
    assert router.route(first, ALL).to == CAPTIONER
    assert {router.route(question, ALL).to for question in rest} == {ANSWERER}
