"""Questions that a picture invites, made from its caption by a few rules.

They ask only about what the caption names, so a wrong caption gives odd questions, but never one
that cannot be asked.
"""

from __future__ import annotations

from collections.abc import Iterator

from vqa.preprocessing.question_text import tokenize

MAX_QUESTIONS = 4


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


_PEOPLE = _words(
    """man woman boy girl child kid person baby lady guy toddler player skier surfer snowboarder
    skateboarder biker cyclist rider runner climber worker dancer singer"""
)
_CROWDS = _words(
    """men women boys girls children kids people persons babies players skiers surfers riders
    runners workers dancers soldiers"""
)
_ANIMALS = _words(
    """dog cat horse cow sheep bird bear elephant zebra giraffe puppy kitten duck goat lion tiger
    monkey rabbit fish"""
)
_HERDS = _words(
    """dogs cats horses cows birds bears elephants zebras giraffes puppies kittens ducks goats
    flowers boats cars buses"""
)
_THINGS = _words(
    """shirt jacket coat dress hat cap helmet suit uniform ball frisbee car truck bus train bike
    bicycle motorcycle boat plane airplane umbrella surfboard skateboard snowboard kite couch sofa
    chair table bench bed wall building house door flower plate bowl cup vase rope swing
    pool"""
)
_PLACES = _words(
    """beach street field water snow park road mountain hill forest ocean sea river lake grass sand
    room kitchen bathroom city sidewalk yard woods rock desert"""
)
_COLOURS = _words(
    "red blue green yellow black white brown orange pink purple grey gray gold silver"
)
_DRAWN = {"black and white"}  # of a photograph, not of a thing in it


def questions(caption: str) -> tuple[str, ...]:
    """Questions about what a caption names, at most `MAX_QUESTIONS`, the most telling first.

    Args:
        caption: a sentence of a captioner.

    Returns:
        Questions in English; none if the caption names nothing that the rules know.
    """
    line = " ".join(tokenize(caption))
    for phrase in _DRAWN:
        line = line.replace(phrase, "")
    return tuple(dict.fromkeys(_asked(line.split())))[:MAX_QUESTIONS]


def _asked(words: list[str]) -> Iterator[str]:
    """The rules, in their order."""
    someone = next((word for word in words if word in _PEOPLE | _ANIMALS), None)
    if someone:
        yield f"What is the {someone} doing?"
    for crowd in (word for word in words if word in _CROWDS | _HERDS):
        yield f"How many {crowd} are there?"
    person = next((word for word in words if word in _PEOPLE), None)
    if person:
        yield f"What is the {person} wearing?"
    for thing in (word for word in words if word in _ANIMALS | _THINGS):
        yield f"What color is the {thing}?"
    for colour in (word for word in words if word in _COLOURS):
        yield f"What is {colour}?"
    if any(word in _PLACES for word in words):
        yield "What is in the background?"
        yield "Is this outdoors?"
