"""Captions turned into questions, for training only: COCO-QA's idea (Ren et al. 2015) by patterns.

Nothing parses here. What is a noun is learnt from the captions themselves: words that often end
what follows an article. A question is asked only where the captions of a picture agree, and "no" is
the true answer only if none of them says, or might mean, the thing asked about. Nouns, activities
and colours are asked for with "no" as often as with "yes", and the same ones: the words of a
question do not give its answer away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from training.data.augmentation import NO_FLIP
from training.data.question_words import (
    ALIKE,
    ANIMATE_THINGS,
    ARTICLES,
    BACKGROUND,
    COLOURS,
    NO_ACTS,
    NOT_NOUNS,
    NUMBERS,
    PEOPLE,
    PLACES,
    PLURAL,
    STOPS,
    TAKES,
    TOO_VAGUE,
    UNCOUNTED,
)
from vqa.data.image_dataset import Question

SOURCE = "captions"  # marks such questions
Tokens = Sequence[str]

Asked = TypeVar("Asked")
Given = TypeVar("Given")


def caption_questions(pictures: Sequence[Sequence[Tokens]], seed: int = 0) -> list[list[Question]]:
    """Ask what captions answer.

    Args:
        pictures: the tokens of each caption, a list a picture, as `ptb_tokenize` gives them.
        seed: of what is drawn; a picture's questions depend on all others.

    Returns:
        Questions a picture, with `SOURCE` as their source.
    """
    nouns = find_nouns(pictures)
    read = [[_Reading(tokens, nouns) for tokens in captions] for captions in pictures]
    known = {
        kind: Counter(thing for some in read for thing in _said(some, kind))
        for kind in ("noun", "activity", "colour")
    }
    asked = []
    for place, (captions, some) in enumerate(zip(pictures, read, strict=True)):
        chance = np.random.default_rng((seed, place))
        pairs = [*_open(some), *_closed(some, known, chance), *_gaps(captions, nouns, chance)]
        asked.append(
            [
                Question("", index, text, answer, (), kind, SOURCE)
                for index, (text, answer, kind) in enumerate(dict.fromkeys(pairs))
            ]
        )
    return asked


def find_nouns(pictures: Sequence[Sequence[Tokens]], min_count: int = 10) -> frozenset[str]:
    """Words that end what follows an article in at least a third of the places they are in."""
    ends: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for tokens in (tokens for captions in pictures for tokens in captions):
        total.update(tokens)
        ends.update(tokens[end - 1] for _, end in _phrases(tokens))
    return frozenset(
        word
        for word, n in ends.items()
        if n >= min_count
        and 3 * n >= total[word]
        and word.isalpha()
        and word not in NOT_NOUNS | COLOURS
        and not (word.endswith("ing") or (word.endswith("ed") and len(word) > 4))
        and not 2 * max(total[form] for form in _ing_forms(word)) > total[word]  # a verb
    )


def _ing_forms(word: str) -> list[str]:
    """What the participle would be, if it were a verb: jumps, rides, runs, tries."""
    bases = {word, word.removesuffix("s"), word.removesuffix("es")}
    bases |= {f"{word[:-3]}y"} if word.endswith("ies") else set()
    return [f"{b}ing" for base in bases for b in (base, base.removesuffix("e"), base + base[-1:])]


def _phrases(tokens: Tokens) -> list[tuple[int, int]]:
    """Where what follows an article begins and ends."""
    found = []
    for place, token in enumerate(tokens):
        if token in ARTICLES:
            end = place + 1
            while (
                end < len(tokens) and tokens[end] not in STOPS and not tokens[end].endswith("ing")
            ):
                end += 1
            if end > place + 1:
                found.append((place + 1, end))
    return found


class _Reading:
    """What one caption says: things, their colours and numbers, and who does what."""

    def __init__(self, tokens: Tokens, nouns: frozenset[str]) -> None:
        self.words = frozenset(tokens)
        self.nouns = [t for t in tokens if t in nouns]
        self.colours: list[tuple[str, str]] = []  # noun, colour
        self.places: list[str] = []
        self.numbers: list[tuple[str, int]] = []  # noun, how many
        self.acts: list[tuple[str, str, str]] = []  # who, activity, with what ("" if nothing)
        for start, end in _phrases(tokens):
            head = tokens[end - 1]
            if head not in nouns:
                continue
            before = [t for t in tokens[start : end - 1] if t in COLOURS]
            if len(before) == 1:
                self.colours.append((head, before[0].replace("grey", "gray")))
            if head in PLACES and start > 1 and tokens[start - 2] in {"in", "on", "at"}:
                self.places.append(head)
        for one, other in pairwise(tokens):
            if one in NUMBERS and other not in STOPS and _plural(other):
                self.numbers.append((other, NUMBERS[one]))
        self._read_acts(tokens, nouns)

    def _read_acts(self, tokens: Tokens, nouns: frozenset[str]) -> None:
        for place, token in enumerate(tokens):
            if not token.endswith("ing") or len(token) < 6:
                continue
            who = place - 1
            if who >= 0 and tokens[who] in {"is", "are"}:
                who -= 1
            if who < 0 or tokens[who] not in PEOPLE | ANIMATE_THINGS:
                continue
            ends = dict(_phrases(tokens))
            end = ends.get(place + 2)
            thing = tokens[end - 1] if end and tokens[end - 1] in nouns else ""
            self.acts.append((tokens[who], token, thing))


def _said(some: Sequence[_Reading], kind: str) -> set[str]:
    match kind:
        case "noun":
            return {noun for one in some for noun in one.nouns} - BACKGROUND
        case "activity":
            return {act for one in some for _, act, _ in one.acts if _alone(act)}
    return {colour for one in some for _, colour in one.colours}


def _open(some: Sequence[_Reading]) -> list[tuple[str, str, str]]:
    """Questions whose answer is a thing, a colour, a number, a place or an activity."""
    found = []
    for noun, colour in _agreed([pair for one in some for pair in one.colours]):
        found.append((f"what color is the {noun}?", colour, "other"))
    for noun, number in _agreed([pair for one in some for pair in one.numbers]):
        found.append((f"how many {noun} are there?", str(number), "number"))
    doing = [(who, act) for one in some for who, act, _ in one.acts if _alone(act)]
    for who, act in _agreed(doing):
        found.append((f"what {_verb(who)} the {who} doing?", act, "other"))
    things = [((who, act), t) for one in some for who, act, t in one.acts if t and act in TAKES]
    for (who, act), thing in _agreed(things):
        found.append((f"what {_verb(who)} the {who} {act}?", thing, "other"))
    places = {place for one in some for place in one.places}
    if len(places) == 1:
        found.append(("where is this?", places.pop(), "other"))
    return found


def _agreed(pairs: Sequence[tuple[Asked, Given]]) -> list[tuple[Asked, Given]]:
    """Pairs of what is asked about and its answer, where nothing else is answered."""
    answers = defaultdict(set)
    for asked, answer in pairs:
        answers[asked].add(answer)
    return [(asked, found.pop()) for asked, found in answers.items() if len(found) == 1]


def _closed(
    some: Sequence[_Reading], known: dict[str, Counter[str]], chance: np.random.Generator
) -> list[tuple[str, str, str]]:
    """As many questions with "yes" as with "no"."""
    words = frozenset().union(*(one.words for one in some))
    found = []
    nouns = sorted(_said(some, "noun"))
    for noun in chance.permutation(nouns)[:2].tolist():
        found.append((f"is there {_article(noun)} {noun}?", "yes", "yes/no"))
        if other := _absent(words, known["noun"], chance):
            found.append((f"is there {_article(other)} {other}?", "no", "yes/no"))
    doing = sorted({(who, act) for one in some for who, act, _ in one.acts if _alone(act)})
    for who, act in chance.permutation(doing)[:1].tolist() if doing else ():
        found.append((f"{_verb(who)} the {who} {act}?", "yes", "yes/no"))
        if other := _absent(words, known["activity"], chance):
            found.append((f"{_verb(who)} the {who} {other}?", "no", "yes/no"))
    coloured = _agreed([pair for one in some for pair in one.colours])
    if coloured:
        noun, colour = coloured[int(chance.integers(len(coloured)))]
        found.append((f"is the {noun} {colour}?", "yes", "yes/no"))
        if other := _absent(words, known["colour"], chance):
            found.append((f"is the {noun} {other}?", "no", "yes/no"))
    return found


def _gaps(
    captions: Sequence[Tokens], nouns: frozenset[str], chance: np.random.Generator
) -> list[tuple[str, str, str]]:
    """Each caption with one of its words asked for: "a man riding a what on the beach?".

    Things, colours, numbers and activities are asked for equally often where a caption has them.
    """
    found = []
    for tokens in captions:
        gaps = defaultdict(list)
        for place, token in enumerate(tokens):
            if kind := _kind(token, nouns):
                gaps[kind].append(place)
        if gaps and not NO_FLIP.intersection(tokens):  # it may be asked of a mirrored picture
            kind = sorted(gaps)[int(chance.integers(len(gaps)))]
            place = gaps[kind][int(chance.integers(len(gaps[kind])))]
            text = " ".join([*tokens[:place], kind, *tokens[place + 1 :]])
            answer = str(NUMBERS.get(tokens[place], tokens[place])).replace("grey", "gray")
            found.append((f"{text}?", answer, "number" if kind == "how many" else "other"))
    return found


def _kind(token: str, nouns: frozenset[str]) -> str:
    """What asks for a word in its place; empty if nothing does."""
    if token in COLOURS:
        return "what color"
    if token in NUMBERS:
        return "how many"
    if token in nouns:
        return "" if token in BACKGROUND else "what"
    return "doing what" if token.endswith("ing") and len(token) >= 6 and _alone(token) else ""


def _absent(words: frozenset[str], known: Counter[str], chance: np.random.Generator) -> str:
    """Something that other pictures show, drawn as often as they do, and this one does not; or
    nothing, after a few attempts."""
    names = sorted(known)  # their order is that of sets, which differs from process to process
    weights = np.array([known[name] for name in names], float)
    for name in chance.choice(names, size=8, p=weights / weights.sum()).tolist() if names else ():
        near = {name, name.removesuffix("s"), f"{name}s", *_alike(name)}
        if not near & words:
            return str(name)
    return ""


def _alike(word: str) -> set[str]:
    return set().union(*(group for group in ALIKE if word in group))


def _alone(act: str) -> bool:
    """Whether it says something without what it acts on."""
    return act not in NO_ACTS | TOO_VAGUE


def _plural(noun: str) -> bool:
    return noun in PLURAL or (noun.isalpha() and noun.endswith("s"))


def _verb(who: str) -> str:
    return "are" if _plural(who) else "is"


def _article(noun: str) -> str:
    if noun.endswith("s") or noun in UNCOUNTED:
        return "any"
    return "an" if noun[0] in "aeiou" else "a"
