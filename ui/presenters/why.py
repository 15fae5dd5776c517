"""The work behind "Why?": explanations of an answer, told step by step as what the page shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from saliency import registry
from saliency.faithfulness import Counterfactual
from saliency.types import Explanation, NoEvidence, Progress
from ui.components import widgets
from ui.presenters import explanations
from ui.presenters.answers import Asked, picture_of
from vqa.engine import Engine

TOP = 3  # answers to explain side by side
MAP_SIDE = 560  # pixels of a picture's longer side, under a map
MOST_PASSES = 300  # of a picture through a model, for an explanation
# Where the defaults take more.
LIVE: dict[str, dict[str, Any]] = {"lime": {"samples": MOST_PASSES}}
HINT = (
    "See which places speak for the three likeliest answers, and whether the answer holds when "
    "they are covered."
)


@dataclass(frozen=True)
class Reasons:
    """All that the section shows, as values of its components."""

    status: dict[str, Any]  # of `widgets.progress`
    titles: tuple[str, ...] = ()  # Markdown, one a figure
    figures: tuple[dict[str, Any], ...] = ()  # of `maps.figure`, at most TOP
    cards: tuple[dict[str, Any], ...] = ()  # of `maps.cards`
    tools: dict[str, Any] | None = None  # of `maps.tools`
    covered: dict[str, Any] | None = None  # of `maps.figure`
    line: str = ""  # Markdown


NOTHING = Reasons(widgets.note_update(HINT))
Tell = Callable[[Reasons], None]


def methods(engine: Engine) -> list[str]:
    """Those that can explain the engine's answers, in the order of `registry.METHODS`."""
    scorer = engine.scorer("What is this?")
    return [method for method in registry.METHODS if registry.explains(scorer, method)]


def explain(engine: Engine, asked: Asked, method: str, tell: Tell) -> None:
    """Maps of the likeliest answers by one method, and the test of the first.

    Args:
        engine: the loaded model.
        asked: what was asked.
        method: one of `methods`.
        tell: called with what there is so far, after every chunk of the work; what it raises ends
            the work.

    Raises:
        BadImage: if the picture is gone.
    """
    picture, label = picture_of(asked.path, MAP_SIDE), registry.find(method).label
    answers = asked.top[:TOP]
    blank = (explanations.figure(picture),) * len(
        answers
    )  # so that nothing moves when the maps come
    titles = tuple(explanations.title(*answer) for answer in answers)
    shown = Reasons(widgets.at(0, 1, label), titles, blank)
    tell(shown)
    found = _explain(engine, asked, method, len(answers), _progress(tell, shown, label))
    scale = explanations.scale(found)
    shown = replace(
        shown,
        figures=tuple(explanations.figure(picture, each, scale) for each in found),
        tools=explanations.tools(found, "The maps share one scale."),
    )
    check = _check(engine, asked, found[0], _checking(tell, shown, "Covering what is marked"))
    tell(
        replace(
            shown,
            status=widgets.note_update(explanations.facts(label, found)),
            covered=explanations.covered(picture, check) if check else None,
            line=explanations.line(check, answers[0][0]),
        )
    )


def compare(engine: Engine, asked: Asked, tell: Tell) -> None:
    """A map of the likeliest answer and its test, by every method; arguments as in `explain`."""
    picture, names = picture_of(asked.path, MAP_SIDE), methods(engine)
    labels = [registry.find(name).label for name in names]
    cards = [explanations.card(picture, label) for label in labels]
    shown = Reasons(widgets.at(0, 1, "Starting"), cards=tuple(cards))
    tell(shown)
    checks: list[Counterfactual | None] = []
    done: list[Explanation] = []
    for place, (name, label) in enumerate(zip(names, labels, strict=True)):
        what, part = f"Method {place + 1} of {len(names)}, {label}", (place, len(names))
        done += _explain(engine, asked, name, 1, _progress(tell, shown, what, part))
        what += ": covering what it marks"
        checks.append(_check(engine, asked, done[-1], _checking(tell, shown, what, part)))
        cards[place] = explanations.card(picture, label, done[-1], checks[-1])
        tools = explanations.tools(done, "Each map has its own scale.")
        shown = replace(shown, cards=tuple(cards), tools=tools)
    status = widgets.note_update(f"{len(names)} methods compared.")
    tell(replace(shown, status=status, line=explanations.summary(checks, asked.top[0][0])))


def _progress(tell: Tell, shown: Reasons, what: str, part: tuple[int, int] = (0, 1)) -> Progress:
    """Tell of every chunk; `part` says how many of how many parts were done before this one."""
    before, parts = part

    def progress(done: int, total: int) -> None:
        now = f"{what}: {done} of {total}"
        tell(replace(shown, status=widgets.at(before + done / total, parts, now)))

    return progress


def _checking(tell: Tell, shown: Reasons, what: str, part: tuple[int, int] = (0, 1)) -> Progress:
    """States of the quick test that follows a part, with the bar where that part has left it."""
    status = widgets.at(part[0] + 1, part[1], what)
    return lambda _done, _total: tell(replace(shown, status=status))


def _explain(
    engine: Engine, asked: Asked, method: str, k: int, progress: Progress
) -> tuple[Explanation, ...]:
    options = LIVE.get(method, {})
    return engine.explain(
        asked.path, asked.question, method=method, k=k, progress=progress, **options
    )


def _check(
    engine: Engine, asked: Asked, found: Explanation, progress: Progress
) -> Counterfactual | None:
    """What covering the marked places does; None if the map marks none."""
    try:
        return engine.counterfactual(asked.path, asked.question, found, progress=progress)
    except NoEvidence:
        return None
