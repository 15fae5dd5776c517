"""Who answers a question: a short list of rules, read from the question's words alone.

No model decides here. The first rule that fits the whole question is the one, and the page says
which it was; whatever no rule fits goes to the model that answers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vqa.engine import Engine
from vqa.preprocessing.question_text import tokenize
from vqa.tasks import TASKS

ANSWERER, CAPTIONER, GAZE, FEELINGS = TASKS  # by the keys of the tasks
_PICTURE = r"(?:(?:the|this) (?:picture|image|photo|photograph)|it|this)"
_SEEN = r"(?:the|this) (?:picture|image|photo|photograph)"
_PEOPLE = r"(?:people|a person|someone|somebody|anyone|humans|viewers|we|you|i)"


class Rule(NamedTuple):
    """Questions that one of the models answers best."""

    to: str
    because: str  # what such a question does, in words
    pattern: str  # of the question's words, in lower case, a space between


class Route(NamedTuple):
    """Who answers, and why, in words for the visitor."""

    to: str
    words: str  # empty if no rule fits


RULES = (
    Rule(CAPTIONER, "asks for a description", rf"(?:please )?(?:describe|caption) {_PICTURE}"),
    Rule(
        CAPTIONER,
        "asks for a description",
        rf"what (?:is|'s|do you see|can you see|can be seen|is shown|happens|is happening) "
        rf"(?:there )?(?:in|on) {_SEEN}",
    ),
    Rule(CAPTIONER, "asks for a description", rf"what (?:does {_SEEN} show|do you see)"),
    Rule(CAPTIONER, "asks for a description", rf"what is {_PICTURE} (?:about|of)"),
    Rule(CAPTIONER, "asks for a description", rf"tell me (?:something )?about {_PICTURE}"),
    Rule(
        GAZE,
        "asks where people would look",
        rf"(?:where|what) (?:would|do|will|might|does) (?:most )?{_PEOPLE} look(?: at)?(?: first)?"
        rf"(?: (?:in|on) {_SEEN})?",
    ),
    Rule(
        GAZE,
        "asks where people would look",
        r"what (?:catches|draws|attracts) (?:the|your|people 's) (?:eye|eyes|attention|gaze)"
        r"(?: first)?",
    ),
    Rule(
        FEELINGS,
        "asks how the picture feels",
        rf"how (?:does|do) (?:{_PICTURE}|you) (?:make (?:you|me|one|people) )?feel"
        rf"(?: about {_PICTURE})?",
    ),
    Rule(
        FEELINGS,
        "asks how the picture feels",
        rf"what (?:is|'s) the (?:mood|feeling|emotion|atmosphere)(?: (?:of|in) {_PICTURE})?",
    ),
)
_NEEDS = {
    CAPTIONER: "the captioner",
    GAZE: "the gaze model",
    FEELINGS: "the model of feelings, about the caption",
}


def route(question: str, loaded: frozenset[str]) -> Route:
    """Choose who answers a question.

    Args:
        question: as typed.
        loaded: which models there are, of CAPTIONER, GAZE and FEELINGS; the answerer always is.

    Returns:
        The model, and in words which rule chose it, or that the one it chose is not there.
    """
    words = " ".join(tokenize(question))
    rule = next((rule for rule in RULES if re.fullmatch(rule.pattern, words)), None)
    if rule is None:
        return Route(ANSWERER, "")
    if rule.to not in loaded:
        missing = f"The question {rule.because}, but {_NEEDS[rule.to].split(',')[0]} is not loaded"
        return Route(ANSWERER, f"{missing}: asked the answering model instead.")
    return Route(rule.to, f"Asked {_NEEDS[rule.to]}, because the question {rule.because}.")


def loaded(engine: Engine) -> frozenset[str]:
    """Which of the models that a rule can choose there are; feelings are of a caption."""
    found = {
        CAPTIONER: bool(engine.caption_pipelines),
        GAZE: engine.gaze_pipeline is not None,
        FEELINGS: engine.emoji_pipeline is not None and bool(engine.caption_pipelines),
    }
    return frozenset(name for name, there in found.items() if there)
