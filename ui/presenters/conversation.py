"""The turns of a conversation about pictures: what was said, by whom, and the map beside it."""

from __future__ import annotations

import base64
import io
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from saliency import overlay
from ui.components.examples import ANY_PICTURE, EXAMPLES, data_uri
from ui.presenters import answers, router, suggestions
from ui.presenters import gaze as gaze_presenter
from ui.presenters.answers import Asked, picture_of, reaction
from ui.presenters.explanations import percent
from vqa.engine import Engine
from vqa.models import Caption
from vqa.pipelines.gaze import GazePipeline

MAX_TURNS = 30  # turns that are kept, some 20 kB each
PICTURE = "picture"  # the kind of a turn that shows a picture; the others are the router's
THUMB_SIDE = 240  # pixels of a thumbnail's longer side
OPACITY = 0.6  # of the map in a thumbnail
_CELLS = 56  # a side of a map of people's gaze, as it is kept
_EXTRAS = {  # what else can be asked of any picture, by who answers it
    router.CAPTIONER: "What is in the picture?",
    router.GAZE: "Where would people look?",
    router.FEELINGS: "How does it feel?",
}
READY = "Ask about it, or take one of these questions."


class HumanGaze(NamedTuple):
    """Where people would look in a picture."""

    map: np.ndarray  # (_CELLS, _CELLS) float32, sums to 1
    by: weakref.ref[GazePipeline]  # by whom; it goes when another takes its place


@dataclass(frozen=True)
class Evidence:
    """What speaks for something that was said, for the panel beside the conversation."""

    map: np.ndarray  # (h, w) float32, at least 0
    title: str  # what the map shows, in our own words
    trust: str = ""  # in the question's gaze, in our own words
    top: tuple[tuple[str, float], ...] = ()  # the likeliest, best first
    heading: str = ""  # of these
    shades: tuple[tuple[str, float], ...] = ()  # words, each with its shade
    line: str = ""  # Markdown: against people's gaze
    asked: Asked | None = None  # what can be explained further

    @property
    def words(self) -> str:
        """The map, for those who cannot see it."""
        return f"{self.title}: {overlay.describe(self.map)}."


@dataclass(frozen=True)
class Turn:
    """A question and its answer; or a picture and how it was received."""

    kind: str  # PICTURE, or who answered: one of the router's
    path: str  # of the picture
    question: str  # of a picture, its label
    said: str
    sure: str = ""  # the probability in words; empty if there is none
    notes: tuple[str, ...] = ()  # small words: the router's rule, unknown words
    reaction: str = ""  # an emoji in words
    thumb: str = ""  # JPEG data URI
    grounds: Evidence | None = None  # None of a picture
    people: HumanGaze | None = None  # of the picture, for all turns about it

    @property
    def alt(self) -> str:
        """What the thumbnail shows, in our own words."""
        return self.grounds.words if self.grounds else "The picture."


class Pending(NamedTuple):
    """What is being asked."""

    path: str
    question: str  # empty if a picture is only shown


@dataclass(frozen=True)
class Conversation:
    """A conversation; it is never changed, only followed by another."""

    turns: tuple[Turn, ...] = ()
    chosen: int = -1  # whose grounds are shown
    pending: Pending | None = None
    invited: tuple[str, ...] = ()  # questions that the newest picture invites
    dropped: int = 0  # turns that were too many

    def add(self, turn: Turn) -> Conversation:
        """The talk with a new turn, which is chosen; the oldest goes if they become too many."""
        turns = (*self.turns, turn)
        dropped = self.dropped + max(0, len(turns) - MAX_TURNS)
        turns = turns[-MAX_TURNS:]
        return replace(self, turns=turns, chosen=len(turns) - 1, dropped=dropped)

    def until(self, place: int, pending: Pending | None = None) -> Conversation:
        """The talk before a turn, perhaps with something to ask there."""
        turns = self.turns[: max(place, 0)]
        invited = self.invited if turns and turns[-1].path == self.path else ()
        return replace(self, turns=turns, chosen=len(turns) - 1, pending=pending, invited=invited)

    @property
    def path(self) -> str | None:
        """The picture that the newest turn is about; None before the first."""
        return self.turns[-1].path if self.turns else None

    @property
    def turn(self) -> Turn | None:
        """The chosen turn."""
        return self.turns[self.chosen] if 0 <= self.chosen < len(self.turns) else None

    @property
    def open(self) -> tuple[str, ...]:
        """Questions that the newest picture invites and nobody has asked about it yet."""
        asked = {turn.question.lower() for turn in self.turns if turn.path == self.path}
        return tuple(question for question in self.invited if question.lower() not in asked)


def continue_conversation(engine: Engine, talk: Conversation) -> Conversation:
    """The talk after what is pending: a picture that is new to it, then the answer.

    Raises:
        BadImage: if the picture cannot be read.
        BadText: if the question cannot be asked.
    """
    if talk.pending is None:
        return talk
    path, question = talk.pending
    if talk.path != path or not talk.invited:
        turn, invited = shown(engine, path)
        if talk.path != path:
            talk = talk.add(turn)
        talk = replace(talk, invited=invited)
    if question:
        talk = talk.add(reply(engine, path, question, talk.turns[-1].people))
    return replace(talk, pending=None)


def shown(engine: Engine, path: str) -> tuple[Turn, tuple[str, ...]]:
    """The turn that a new picture is, and questions that it invites."""
    example = next((each for each in EXAMPLES if str(each.path) == path), None)
    thumb = picture_of(path, THUMB_SIDE).uri
    if example:
        return Turn(PICTURE, path, example.label, READY, thumb=thumb), _invited(
            engine, example.questions
        )
    said = READY
    asked: tuple[str, ...] = ANY_PICTURE[1:]
    if engine.caption_pipelines:
        caption = engine.caption(path)
        said = (
            f"{_sentence(caption.statement if caption.unsure else f'I see {caption.text}')} {READY}"
        )
        asked = (*suggestions.questions(caption.text), *asked)[: suggestions.MAX_QUESTIONS]
    return Turn(PICTURE, path, "My picture", said, thumb=thumb), _invited(engine, asked)


def _invited(engine: Engine, questions: tuple[str, ...]) -> tuple[str, ...]:
    extras = [asked for to, asked in _EXTRAS.items() if to in router.loaded(engine)]
    return (*questions[:2], *extras[:2], *questions[2:], *extras[2:])


def reply(engine: Engine, path: str, question: str, people: HumanGaze | None = None) -> Turn:
    """The answer to a question, by whom the router chooses.

    Args:
        engine: the loaded models.
        path: of the picture.
        question: as `vqa.preprocessing.question_text.check` returns it.
        people: where people would look in it, if that is known.

    Raises:
        BadImage: if the picture cannot be read.
        BadText: if the question cannot be asked.
    """
    to, rule = router.route(question, router.loaded(engine))
    if engine.gaze_pipeline is None:
        people = None
    elif people is None or people.by() is not engine.gaze_pipeline:
        people = HumanGaze(_smaller(engine.gaze(path)), weakref.ref(engine.gaze_pipeline))
    turn, grounds = _REPLIES[to](engine, Turn(to, path, question, "", people=people))
    return replace(
        turn,
        grounds=grounds,
        notes=tuple(filter(None, (*turn.notes, rule))),
        reaction=reaction(engine, question),
        thumb=_thumb(path, grounds.map),
    )


Reply = tuple[Turn, Evidence]  # an answered turn, still without its evidence, and that evidence


def _answer(engine: Engine, turn: Turn) -> Reply:
    found = engine.answer(turn.path, turn.question)
    line = gaze_presenter.compared(turn.people.map, found) if turn.people else ""
    grounds = Evidence(
        found.attention,
        "Where the model looked",
        trust=answers.trusts(found.gaze_trust),
        top=found.top,
        heading="Five best guesses",
        shades=tuple(answers.shades(found)),
        line=line,
        asked=Asked(turn.path, turn.question, found.top, weakref.ref(engine.answer_pipeline)),
    )
    sure, unknown = f"{percent(found.probability)} sure", answers.unknown_words(found)
    notes = (unknown, answers.fits(found))
    return replace(turn, said=found.text, sure=sure, notes=notes), grounds


def _caption(engine: Engine, turn: Turn) -> Reply:
    caption = engine.caption(turn.path)
    return replace(turn, said=_sentence(caption.statement)), _looked(caption)


def _gaze(engine: Engine, turn: Turn) -> Reply:
    people = turn.people.map if turn.people else _smaller(engine.gaze(turn.path))
    grounds = Evidence(people, "Where people would look")
    said = overlay.describe(people).partition(",")[0]
    return replace(turn, said=_sentence(said)), grounds


def _feeling(engine: Engine, turn: Turn) -> Reply:
    caption = engine.caption(turn.path)
    found = engine.emoji(caption.text)
    heaviest = max(weight for _, weight in found.word_weights) or 1
    shades = [(word, answers.DARKEST * w / heaviest) for word, w in found.word_weights]
    grounds = replace(
        _looked(caption), top=found.top, heading="Likeliest feelings", shades=tuple(shades)
    )
    said = found.emoji if found.emoji == found.label else f"{found.emoji} {found.label}"
    notes = (f'The caption: "{caption.text}"',)
    sure = f"{percent(found.probability)} sure"
    return replace(turn, said=said, sure=sure, notes=notes), grounds


_REPLIES: dict[str, Callable[[Engine, Turn], Reply]] = {
    router.ANSWERER: _answer,
    router.CAPTIONER: _caption,
    router.GAZE: _gaze,
    router.FEELINGS: _feeling,
}


def _looked(caption: Caption) -> Evidence:
    """Where a captioner looked in all; over the whole picture alike if it has no attention."""
    if caption.attention is None:
        return Evidence(np.ones((1, 1), np.float32), "The captioner has no map of its own")
    looks = np.asarray(caption.attention.mean(axis=0), np.float32)
    return Evidence(looks, "Where the captioner looked, over all its words")


def _sentence(words: str) -> str:
    return f"{words[:1].upper()}{words[1:]}."


def _smaller(people: np.ndarray) -> np.ndarray:
    """(S, S), which sums to 1 -> (_CELLS, _CELLS), which does so too."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(people)[None], _CELLS)[0]
    return (pooled / pooled.sum()).numpy()


def _thumb(path: str, values: np.ndarray) -> str:
    """The picture, small, with a map over it."""
    _, _, encoded = picture_of(path, THUMB_SIDE).uri.partition(",")
    small = Image.open(io.BytesIO(base64.b64decode(encoded)))
    return data_uri(overlay.blend(small, values, OPACITY), "JPEG", quality=75)
