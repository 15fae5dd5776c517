"""What explanations say, as words and as values of the page's components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from saliency import overlay
from saliency.faithfulness import Counterfactual
from saliency.types import Explanation
from ui.components.examples import data_uri
from ui.presenters.answers import HEAT_SIDE, Shown, plain, scaled

_CELLS = 40  # of a side of a map as it is drawn
_COVERED_SIDE = 320  # pixels of the longer side, twice what the page shows


def figure(
    picture: Shown, found: Explanation | None = None, scale: float | None = None
) -> dict[str, Any]:
    """A value of `maps.figure`.

    Args:
        picture: as the page shows it.
        found: its explanation; None while there is none yet.
        scale: of all maps that are to be compared; None for the map's own.
    """
    value: dict[str, Any] = {"picture": picture.uri, "alt": "", "heat": "", "words": ""}
    if found is None:
        return value | {"nothing": False}
    drawn = found.signed or found.has_evidence
    return value | {
        "heat": _heat(found, scaled(picture.size, HEAT_SIDE), scale) if drawn else "",
        "words": _sentence(overlay.describe(found.map, signed=found.signed)),
        "nothing": not drawn,
    }


def card(
    picture: Shown,
    label: str,
    found: Explanation | None = None,
    check: Counterfactual | None = None,
) -> dict[str, Any]:
    """One of the values of `maps.cards`; without an explanation, one that waits for it."""
    value = figure(picture, found) | {"label": label, "seconds": "", "verdict": ""}
    if found is None:
        return value | {"state": "waiting", "verdict": "Waits for its turn."}
    state = "changed" if check and check.changed else "kept"
    return value | {"seconds": seconds(found.seconds), "verdict": verdict(check), "state": state}


def scale(found: Sequence[Explanation]) -> float:
    """One scale for maps of one method, as they are drawn."""
    return overlay.shared_scale([_drawn(each) for each in found], signed=found[0].signed)


def tools(found: Sequence[Explanation], note: str) -> dict[str, Any]:
    """A value of `maps.tools`: the legends of these maps, and a note."""
    signs = [each.signed for each in found]
    return {"plain": not all(signs), "signed": any(signs), "note": note}


def heading(label: str) -> str:
    """What the section asks, as Markdown."""
    return f"## Why *{plain(label)}*?"


def title(label: str, probability: float) -> str:
    """An answer and its probability, as Markdown."""
    return f"**{plain(label)}** {percent(probability)}"


def seconds(value: float) -> str:
    """A time as people say it."""
    return f"{value:.1f} s" if value >= 0.05 else "under 0.1 s"


def percent(share: float) -> str:
    """A share of 1 as a whole percentage; what is not quite none or all does not become it."""
    rounded = round(100 * share)
    if rounded == 0 and share > 0:
        return "<1%"
    if rounded == 100 and share < 1:
        return ">99%"
    return f"{rounded}%"


def facts(label: str, found: Sequence[Explanation]) -> str:
    """What is worth knowing about how maps of one call came about."""
    told = [f"{label} took {seconds(found[0].seconds)}."]
    if len(found) > 1 and all(np.array_equal(found[0].map, each.map) for each in found[1:]):
        told.append("It marks the same places for every answer.")
    details = [each.details for each in found]
    if "completeness_error" in details[0]:
        error = max(each["completeness_error"] for each in details)
        rise = "the score's rise from an empty picture"
        told.append(f"Each map adds up to {rise} within {error:.1%}.")
    if "r2" in details[0]:
        fit = min(each["r2"] for each in details)
        told.append(f"Its linear model fits with R² {fit:.2f} or better.")
    return " ".join(told)


def line(check: Counterfactual | None, label: str) -> str:
    """The test of a map in words, as Markdown.

    Args:
        check: what became of the answer when the marked places were covered; None if the map marks
            nothing.
        label: the answer that the map explains.
    """
    if check is None:
        return f"No place speaks for *{plain(label)}*, so there is nothing to cover."
    before, after = (f"*{plain(name)}*" for name in (check.label_before, check.label_after))
    share, drawn, draws = percent(check.fraction), check.draws_changed, check.draws
    if not check.changed:
        old, new, chance = map(
            percent, (check.probability_before, check.probability_after, check.probability_drawn)
        )
        kept = f"Covering the marked {share} leaves the answer {before} ({old} → {new})"
        if not drawn:
            return f"{kept}; so does a random {share} (→ {chance} on average)."
        return f"{kept}, though a random {share} changes it in {drawn} of {draws} tries."
    changed = f"Covering the marked {share} changes {before} to {after}"
    if not drawn:
        return f"{changed}; a random {share} does not (0 of {draws})."
    if drawn < draws:
        return f"{changed}; a random {share} does so too in {drawn} of {draws} tries."
    return f"{changed}, but so does any random {share} ({drawn} of {draws}): that proves nothing."


def verdict(check: Counterfactual | None) -> str:
    """Say in a few words whether the answer held, without naming the answers."""
    if check is None:
        return "Nothing to cover."
    if check.changed:
        random = f"at random: {check.draws_changed} of {check.draws}"
        return f"Covered: the answer changes ({random})."
    before, after, drawn = map(
        percent, (check.probability_before, check.probability_after, check.probability_drawn)
    )
    return f"Covered: the answer stays, {before} → {after} (at random: {drawn})."


def summary(checks: Sequence[Counterfactual | None], label: str) -> str:
    """What all methods together found about an answer, as Markdown."""
    done = [check for check in checks if check is not None]
    if not done:
        return f"No method finds a place that speaks for *{plain(label)}*."
    changed, share = sum(check.changed for check in done), percent(done[0].fraction)
    of = {0: "none", len(checks): "all"}.get(changed, str(changed))
    drawn, tries = sum(check.draws_changed for check in done), sum(check.draws for check in done)
    return (
        f"Covering the {share} that a method marks changes *{plain(label)}* for {of} of the "
        f"{len(checks)} methods; a random {share} does so in {drawn} of {tries} tries."
    )


def covered(picture: Shown, check: Counterfactual) -> dict[str, Any]:
    """The covered picture as the model saw it, in its own shape: a value of `maps.figure`."""
    pixels = (check.pixels[0].permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()
    size = scaled(picture.size, _COVERED_SIDE)
    uri = data_uri(Image.fromarray(pixels).resize(size), "JPEG", quality=85)
    return figure(Shown(uri, size)) | {"alt": "The picture with the marked places covered"}


def _heat(found: Explanation, size: tuple[int, int], scale: float | None) -> str:
    layer = overlay.heat(_drawn(found), size, signed=found.signed, scale=scale)
    return data_uri(layer, "PNG", compress_level=1)


def _drawn(found: Explanation) -> NDArray[np.float32]:
    """A map as means of small cells: of one that changes from pixel to pixel, nothing was seen."""
    values = torch.from_numpy(found.drawable)[None]
    height, width = found.map.shape
    cells = min(height, _CELLS), min(width, _CELLS)
    return torch.nn.functional.adaptive_avg_pool2d(values, cells)[0].numpy()


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
