"""The work behind the Caption tab: captions and maps of their words, as what the page shows."""

from __future__ import annotations

import itertools
import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from saliency import registry
from saliency.types import Explanation
from ui.components import widgets
from ui.presenters import explanations
from ui.presenters.answers import Shown, picture_of
from ui.presenters.model_cards import architecture
from ui.presenters.why import LIVE
from vqa.engine import Engine
from vqa.models import Caption
from vqa.models.captioner import UNSURE
from vqa.pipelines.captioning import CaptionPipeline
from vqa.tasks import CAPTION

PICTURE_SIDE = 720  # pixels of a picture's longer side, as shown
LOOKS = "attention"  # the method whose maps come with a caption
_NUMBERS = itertools.count()

Tell = Callable[[dict[str, Any]], None]


class CaptionRequest(NamedTuple):
    """What is to be described, and how."""

    path: str  # of the picture; empty if there is none yet
    start: str | None  # what the caption begins with
    model: str  # its key in the engine
    beam: int


@dataclass(frozen=True)
class CaptionResult:
    """What was told about a picture, and the maps made so far."""

    path: str
    model: str  # its key in the engine
    by: weakref.ref[CaptionPipeline]  # itself; it goes when another takes its place
    caption: Caption
    story: dict[str, Any]  # of `maps.story`, with the maps that are shown
    made: dict[str, list[dict[str, Any]]]  # "maps" of a story, by method


def labels(engine: Engine) -> list[tuple[str, str]]:
    """The engine's captioners as the page calls them, by name only where it takes one; and keys."""
    captioners = [part for part in engine.parts if part.task is CAPTION]
    kinds = [architecture(part) for part in captioners]
    return [
        (kind if kinds.count(kind) == 1 else f"{kind}, {Path(part.title).name}", part.key)
        for kind, part in zip(kinds, captioners, strict=True)
    ]


def describe(engine: Engine, wish: CaptionRequest) -> CaptionResult:
    """Have a picture described.

    Raises:
        BadImage: if it cannot be read.
        BadText: if the start is too long or has a word that the model does not know.
    """
    caption_pipeline, start = engine.caption_pipeline(wish.model), wish.start or ""
    caption = caption_pipeline.caption(wish.path, beam=wish.beam, start=start)
    captioner = caption_pipeline.captioner
    given = len(captioner.start_ids(start))
    picture = picture_of(wish.path, PICTURE_SIDE)
    story = telling(next(_NUMBERS), picture, caption, given)
    told = CaptionResult(wish.path, wish.model, weakref.ref(caption_pipeline), caption, story, {})
    if caption.attention is None:
        return told
    # Only with adaptive attention can a word look more than another.
    label = "" if captioner.config.attention == "adaptive" else registry.find(LOOKS).label
    return _with_maps(told, LOOKS, drawn(picture, caption, attention_maps(caption), label))


def methods(engine: Engine, told: CaptionResult) -> list[str]:
    """Those that can explain a caption, in the order of `registry.METHODS`."""
    scorer = engine.caption_pipeline(told.model).scorer(told.caption.words)
    return [method for method in registry.METHODS if registry.explains(scorer, method)]


def explain(engine: Engine, told: CaptionResult, method: str, tell: Tell) -> None:
    """Maps of all words of a caption, made by a method or remembered.

    Args:
        engine: the loaded models.
        told: what was told about the picture.
        method: one of `methods`.
        tell: called with new values by the names in `describe.Tab`, after every chunk of the work;
            what it raises ends the work.

    Raises:
        BadImage: if the picture is gone.
        CannotExplain: if the model lacks what the method needs.
    """
    label, said = registry.find(method).label, ""
    if method not in told.made:

        def progress(done: int, total: int) -> None:
            tell({"status": widgets.at(done, total, f"{label}: {done} of {total}")})

        tell({"status": widgets.at(0, 1, label)})
        given: dict[str, Any] = {"method": method, "model": told.model, "progress": progress}
        given |= LIVE.get(method, {})
        found = engine.explain_caption(told.path, told.caption.words, **given)
        made = drawn(picture_of(told.path, PICTURE_SIDE), told.caption, found, label)
        told = replace(told, made=told.made | {method: made})
        said = f"{label} took {explanations.seconds(found[0].seconds)}."
    told = _with_maps(told, method, told.made[method])
    tell({"status": widgets.note_update(said), **values(told)})


def values(told: CaptionResult) -> dict[str, Any]:
    """What changes with the maps, by the names in `describe.Tab`."""
    signed = registry.find(told.story["method"] or LOOKS).signed
    return {
        "story": told.story,
        "tools": {"plain": not signed, "signed": signed, "note": ""},
        "told": told,
    }


def _with_maps(told: CaptionResult, method: str, made: list[dict[str, Any]]) -> CaptionResult:
    story = told.story | {"maps": made, "method": method, "waiting": False}
    return replace(told, story=story, made=told.made | {method: made})


def telling(number: int, picture: Shown, caption: Caption, given: int) -> dict[str, Any]:
    """A value of `maps.story`, without maps.

    Args:
        number: another one a caption, so that the same words about another picture are news.
        picture: as the page shows it.
        caption: what is told about it.
        given: how many of its words were not the model's own choice.
    """
    pairs = zip(caption.words, caption.word_probs, strict=True)
    return {
        "number": number,
        "picture": picture.uri,
        "statement": caption.statement,  # read aloud at once, and the words not
        "doubt": UNSURE if caption.unsure else "",  # stands before the words
        "words": [_word(text, p, place < given) for place, (text, p) in enumerate(pairs)],
        "first": looked_most(caption),
        "maps": [],
        "method": "",  # whose maps these are
        "waiting": True,  # for maps, so that those that are there are not to be shown
    }


def _word(text: str, probability: float, given: bool) -> dict[str, Any]:
    percent = explanations.percent(probability)
    likely = f"given, {percent} likely" if given else f"{percent} likely"
    return {
        "text": text,
        "probability": round(probability, 4),
        "title": likely,
        "said": f"{text}, {likely}",
        "line": _line(text, probability),
        "given": given,
    }


def _line(word: str, probability: float) -> str:
    return f'"{word}" {explanations.percent(probability)}'


def looked_most(caption: Caption) -> int:
    """The place of the word that looked the most at the picture; of equals, the most sharply.

    It is 0 if the model has no attention.
    """
    if caption.attention is None:
        return 0
    peaks = [
        (round(float(attention.sum()), 2), float(attention.max()))
        for attention in caption.attention
    ]
    return peaks.index(max(peaks))


def attention_maps(caption: Caption) -> tuple[Explanation, ...]:
    """A caption's attention as explanations of its words; none if it has none."""
    if caption.attention is None:
        return ()
    return tuple(
        Explanation("attention", place, look, False, math.log(p) if p else -math.inf, 0.0, {}, word)
        for place, (word, p, look) in enumerate(
            zip(caption.words, caption.word_probs, caption.attention, strict=True)
        )
    )


def drawn(
    picture: Shown, caption: Caption, found: Sequence[Explanation], label: str = ""
) -> list[dict[str, Any]]:
    """The "maps" of a `telling`, on one scale.

    Args:
        picture: as the page shows it.
        caption: whose words are explained.
        found: the explanations of all of them, in their order, by one method.
        label: the method's, as menus show it; none for looks whose sums tell how much a word
            looked at all.
    """
    scale = explanations.scale(found)
    drawn = []
    for word, p, each in zip(caption.words, caption.word_probs, found, strict=True):
        figure = explanations.figure(picture, each, scale)
        looked = label or f"looked {explanations.percent(float(each.map.sum()))} at the picture"
        line = f"{_line(word, p)}: {looked}"
        drawn.append({key: figure[key] for key in ("heat", "words", "nothing")} | {"line": line})
    return drawn


def ranked(caption: Caption) -> list[dict[str, Any]]:
    """A value of `maps.captions`: all captions found, and the share of their probability."""
    best = max(log_prob for _, log_prob in caption.alternatives)
    weights = [math.exp(log_prob - best) for _, log_prob in caption.alternatives]
    shares = [weight / sum(weights) for weight in weights]
    return [
        {"text": text, "share": round(share, 4), "percent": explanations.percent(share)}
        for (text, _), share in zip(caption.alternatives, shares, strict=True)
    ]
