"""One picture or one sentence:

    python -m vqa answer photo.jpg "what is he holding?" --why why.jpg
    python -m vqa caption photo.jpg --why words.jpg
    python -m vqa gaze photo.jpg --why people.jpg
    python -m vqa feel "what a lovely day"

Each prints one line, or JSON with --json. Where the library is installed, `seewhy` is the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

METHOD = "grad_cam"
ENDINGS = (".jpg", ".jpeg", ".png")


class Found(NamedTuple):
    """What a command says."""

    line: str
    data: dict[str, Any]  # the same and more, for JSON


def answer(options: argparse.Namespace) -> Found:
    """Answer a question; --why draws the places that speak for the answer."""
    from vqa import as_data, checkpoints, images
    from vqa.engine import Engine
    from vqa.models import Answerer

    engine = Engine(checkpoints.load_as(Answerer, options.model))
    found = engine.answer(options.picture, options.question)
    line, data = f"{found.text} ({found.probability:.0%})", as_data.answer(found)
    if found.unknown:
        line += f"; words that it does not know: {', '.join(found.unknown)}"
    if options.why:
        (why,) = engine.explain(options.picture, options.question, method=_method(options))
        data["why"] = as_data.explanation(why)
        line += f"; why: {data['why']['marks']}"
        why.overlay(images.load(options.picture)).save(options.why)
    return Found(line, data)


def caption(options: argparse.Namespace) -> Found:
    """Describe a picture; --why draws the places that speak for each word."""
    from saliency import panels, registry
    from vqa import as_data, checkpoints, images
    from vqa.describer import Describer
    from vqa.models import Captioner

    describer = Describer(checkpoints.load_as(Captioner, options.model))
    found = describer.caption(options.picture)
    data = as_data.caption(found)
    if options.why:
        scorer, pixels = describer.scorer(found.words), describer.pixels(options.picture)
        places = range(len(found.words))
        whys = registry.explain(scorer, pixels, list(places), _method(options))
        whys = tuple(replace(why, label=found.words[why.target]) for why in whys)
        data["why"] = [as_data.explanation(why) for why in whys]
        maps, signed = [as_data.drawable(why) for why in whys], whys[0].signed
        picture = images.load(options.picture)
        panels.top_panel(picture, maps, found.words, signed=signed).save(options.why)
    return Found(found.text, data)


def gaze(options: argparse.Namespace) -> Found:
    """Say where people would look; --why draws it."""
    from saliency import overlay
    from vqa import as_data, checkpoints, images
    from vqa.gazer import Gazer
    from vqa.models import GazeModel

    gazer = Gazer(checkpoints.load_as(GazeModel, options.model))
    people = gazer.maps([options.picture])[0]
    data = as_data.gaze(people)
    if options.why:
        overlay.blend(images.load(options.picture), people, as_data.OPACITY).save(options.why)
    return Found(data["looked"], data)


def feel(options: argparse.Namespace) -> Found:
    """Say how a sentence feels."""
    from saliency import tokens
    from vqa import as_data, checkpoints
    from vqa.feeler import Feeler
    from vqa.models import EmojiModel
    from vqa.text import BadText

    feeler = Feeler(checkpoints.load_as(EmojiModel, options.model))
    if options.head not in (None, *feeler.heads):
        raise BadText(f"there is no head {options.head!r}; there are: {', '.join(feeler.heads)}")
    scorer, vectors, target = feeler.to_explain(options.text, options.head, None)
    (why,) = tokens.explain_tokens(scorer, vectors, [target])
    found = feeler.feel(options.text, options.head)
    label = "" if found.label == found.emoji else f" {found.label}"
    return Found(f"{found.emoji}{label} ({found.probability:.0%})", as_data.feeling(found, why))


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], Found], str]] = {  # and their models
    "answer": (answer, "vqa"),
    "caption": (caption, "captioner"),
    "gaze": (gaze, "gaze"),
    "feel": (feel, "emoji"),
}


def _method(options: argparse.Namespace) -> str:
    return options.method or METHOD


def _drawing(text: str) -> Path:
    if Path(text).suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text} does not end in {', '.join(ENDINGS)}")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    from saliency.registry import METHODS

    parser = argparse.ArgumentParser(prog="seewhy", description="Ask a picture, and see why.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (run, model) in COMMANDS.items():
        about = (run.__doc__ or "").partition(";")[0].rstrip(".")
        command = commands.add_parser(name, help=about, description=run.__doc__)
        if name == "feel":
            command.add_argument("text", help="in English")
            command.add_argument("--head", help="which set of labels (default: the first)")
        else:
            command.add_argument("picture", help="its file")
            command.add_argument("--why", type=_drawing, metavar="FILE", help="picture to write")
        if name == "answer":
            command.add_argument("question", help="in English")
        if name in ("answer", "caption"):
            command.add_argument("--method", choices=METHODS, help=f"of --why (default: {METHOD})")
        command.add_argument("--model", default=model, help="shipped name, folder or Hub id")
        command.add_argument("--json", action="store_true", help="print all that was found")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what is wrong with its input ends it with one line and exit status 1."""
    from saliency.types import CannotExplain
    from vqa.checkpoints import BadCheckpoint
    from vqa.images import BadImage
    from vqa.sources import one_line
    from vqa.text import BadText

    parser = _parser()
    options = parser.parse_args(arguments)
    if getattr(options, "method", None) and not options.why:
        parser.error("--method is of --why FILE: name the picture to write")
    run, _ = COMMANDS[options.command]
    try:
        found = run(options)
    except (BadCheckpoint, BadImage, BadText, CannotExplain, OSError) as error:
        raise SystemExit(f"error: {one_line(error)}") from error
    print(json.dumps(found.data) if options.json else found.line)


if __name__ == "__main__":
    main()
