"""One picture or one sentence:

    python -m vqa answer photo.jpg "what is he holding?" --why why.jpg
    python -m vqa caption photo.jpg --why words.jpg
    python -m vqa gaze photo.jpg --why people.jpg
    python -m vqa emoji "what a lovely day"

Each prints one line, or JSON with --json. Where the library is installed, `seewhy` is the same.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vqa.engine import Engine

METHOD = "grad_cam"
ENDINGS = (".jpg", ".jpeg", ".png")


class Found(NamedTuple):
    """What a command says."""

    line: str
    data: dict[str, Any]  # the same and more, for JSON


def answer(engine: Engine, options: argparse.Namespace) -> Found:
    """Answer a question; --why draws the places that speak for the answer."""
    from vqa.serving import serialize

    found = engine.answer(options.picture, options.question)
    line, data = f"{found.text} ({found.probability:.0%})", serialize.answer(found)
    if found.unknown:
        line += f"; words that it does not know: {', '.join(found.unknown)}"
    if options.why:
        (why,) = engine.explain(options.picture, options.question, method=_method(options))
        data["why"] = serialize.explanation(why)
        line += f"; why: {data['why']['marks']}"
        engine.draw(options.picture, [why]).save(options.why)
    return Found(line, data)


def caption(engine: Engine, options: argparse.Namespace) -> Found:
    """Describe a picture; --why draws the places that speak for each word."""
    from vqa.serving import serialize

    found = engine.caption(options.picture)
    data = serialize.caption(found)
    if options.why:
        whys = engine.explain_caption(options.picture, found.words, _method(options))
        data["why"] = [serialize.explanation(why) for why in whys]
        engine.draw(options.picture, whys).save(options.why)
    return Found(found.statement, data)


def gaze(engine: Engine, options: argparse.Namespace) -> Found:
    """Say where people would look; --why draws it."""
    from vqa.serving import serialize

    people = engine.gaze(options.picture)
    data = serialize.gaze(people)
    if options.why:
        engine.draw(options.picture, people).save(options.why)
    return Found(data["looked"], data)


def emoji(engine: Engine, options: argparse.Namespace) -> Found:
    """Say how a sentence feels."""
    from vqa.errors import BadText
    from vqa.serving import serialize

    heads = engine.emoji_pipeline.heads if engine.emoji_pipeline else ()
    if options.head not in (None, *heads):
        raise BadText(f"there is no head {options.head!r}; there are: {', '.join(heads)}")
    why = engine.explain_emoji(options.text, head=options.head)
    found = engine.emoji(options.text, options.head)
    label = "" if found.label == found.emoji else f" {found.label}"
    return Found(f"{found.emoji}{label} ({found.probability:.0%})", serialize.feeling(found, why))


Command = Callable[["Engine", argparse.Namespace], Found]
COMMANDS: dict[str, Command] = {run.__name__: run for run in (answer, caption, gaze, emoji)}


def _method(options: argparse.Namespace) -> str:
    return options.method or METHOD


def _drawing(text: str) -> Path:
    if Path(text).suffix.lower() not in ENDINGS:
        raise argparse.ArgumentTypeError(f"{text} does not end in {', '.join(ENDINGS)}")
    return Path(text)


def _parser() -> argparse.ArgumentParser:
    from vqa.engine import METHODS
    from vqa.tasks import TASKS

    parser = argparse.ArgumentParser(prog="seewhy", description="Ask a picture, and see why.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in COMMANDS.items():
        about = (run.__doc__ or "").partition(";")[0].rstrip(".")
        command = commands.add_parser(name, help=about, description=run.__doc__)
        if name == "emoji":
            command.add_argument("text", help="in English")
            command.add_argument("--head", help="which set of labels (default: the first)")
        else:
            command.add_argument("picture", help="its file")
            command.add_argument("--why", type=_drawing, metavar="FILE", help="picture to write")
        if name == "answer":
            command.add_argument("question", help="in English")
        if name in ("answer", "caption"):
            command.add_argument("--method", choices=METHODS, help=f"of --why (default: {METHOD})")
        command.add_argument(
            "--model", default=TASKS[name].folders[0], help="shipped name, folder or Hub id"
        )
        command.add_argument("--json", action="store_true", help="print all that was found")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what is wrong with its input ends it with one line and exit status 1."""
    from vqa.engine import CannotExplain, Engine
    from vqa.errors import BadCheckpoint, BadImage, BadText, one_line
    from vqa.pipelines.model_set import load
    from vqa.tasks import TASKS

    if isinstance(sys.stdout, io.TextIOWrapper):  # it may know no emoji: a redirect on Windows
        sys.stdout.reconfigure(errors="namereplace")
    parser = _parser()
    options = parser.parse_args(arguments)
    if getattr(options, "method", None) and not options.why:
        parser.error("--method is of --why FILE: name the picture to write")
    try:
        engine = Engine.of([load(TASKS[options.command], options.model)])
        found = COMMANDS[options.command](engine, options)
    except (BadCheckpoint, BadImage, BadText, CannotExplain, OSError) as error:
        raise SystemExit(f"error: {one_line(error)}") from error
    print(json.dumps(found.data) if options.json else found.line)


if __name__ == "__main__":
    main()
