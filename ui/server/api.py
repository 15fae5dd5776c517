"""What programs may ask: the public endpoints, which are the MCP server's tools too.

Their docstrings are the documentation that programs get, and what a language model chooses by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from PIL import Image

from saliency.types import Cancelled, CannotExplain
from ui.components.events import MODEL, as_uploaded
from ui.presenters import captions, why
from ui.server.fair_queue import stop_if_nobody_waits
from vqa.engine import Engine
from vqa.errors import BadImage, BadText
from vqa.pipelines.captioning import MAX_BEAM
from vqa.preprocessing import images
from vqa.serving import serialize

NO_PICTURE = "There is no picture: upload one."
NOBODY_WAITS = "The caller hung up."
MAX_DRAWN_SIDE = 960  # pixels of a drawn picture's longer side, at most


def build(engine: Engine) -> None:
    """Add an endpoint for each thing that the engine has a model for."""
    with gr.Row(visible=False):
        picture = as_uploaded(gr.Image(type="filepath", image_mode=None, label="Picture"))
        question = gr.Textbox(label="Question")
        found, drawn = gr.JSON(label="Found"), gr.Image(format="jpeg", label="Map")
        _answer(engine, [picture, question], found)
        _explain(engine, [picture, question], [found, drawn])
        if engine.caption_pipelines:
            _caption(engine, picture, found)
        if engine.gaze_pipeline is not None:
            _gaze(engine, picture, [found, drawn])
        if engine.emoji_pipeline is not None:
            _emoji(engine, found)


@contextmanager
def _refusing() -> Iterator[None]:
    """Have the caller told in words what is wrong with the input."""
    try:
        yield
    except (BadImage, BadText, CannotExplain) as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Cancelled as error:
        raise gr.Error(NOBODY_WAITS, print_exception=False) from error


def _needed(picture: str | None) -> str:
    if picture is None:
        raise gr.Error(NO_PICTURE, print_exception=False)
    return picture


def _answer(engine: Engine, inputs: list[Any], found: gr.JSON) -> None:
    def answer(picture: str | None, question: str) -> dict[str, Any]:
        """Answer a question about a picture, with the five likeliest answers.

        Args:
            picture: a file of up to 10 MB; the address of a file uploaded here will do, others not.
            question: in English, up to 1,000 characters.

        Returns:
            answer and calibrated probability
            top: the five likeliest answers
            looked: where the model looked, in words; attention: the same as a grid
            word_weights: how much each word of the question counted
            unknown: words that the model does not know
            word_fits: how much better than in most pictures each word fits, in deviations
        """
        with _refusing():
            return serialize.answer(engine.answer(_needed(picture), question))

    gr.on([], answer, inputs, found, api_name="answer", **MODEL)


def _explain(engine: Engine, inputs: list[Any], outputs: list[Any]) -> None:
    def explain(
        picture: str | None, question: str, method: str, answer: str
    ) -> tuple[dict[str, Any], Image.Image]:
        """Show which places of a picture speak for an answer to a question about it.

        Args:
            picture: a file of up to 10 MB; the address of a file uploaded here will do, others not.
            question: in English, up to 1,000 characters.
            method: how the map is made.
            answer: the answer to explain, one that the model knows; empty for its own.

        Returns:
            marks: the places, in words; map: the same as a grid of 14 x 14 cells
            signed: below 0 a place speaks against the answer
            a picture: the map drawn over the given one
        """
        options = why.LIVE.get(method, {})
        with _refusing():
            asked = _needed(picture), question, answer or None, method
            (explanation,) = engine.explain(*asked, progress=stop_if_nobody_waits, **options)
            drawn = engine.draw(_small(asked[0]), [explanation])
            return serialize.explanation(explanation), drawn

    methods = why.methods(engine)
    method = gr.Dropdown(methods, value=methods[0], label="Method")
    wanted = gr.Textbox("", label="Answer")
    gr.on([], explain, [*inputs, method, wanted], outputs, api_name="explain", **MODEL)


def _caption(engine: Engine, picture: gr.Image, found: gr.JSON) -> None:
    names = dict(captions.labels(engine))

    def caption(picture: str | None, start: str, beam: int, model: str) -> dict[str, Any]:
        """Describe a picture in one sentence.

        Args:
            picture: a file of up to 10 MB; the address of a file uploaded here will do, others not.
            start: what the sentence begins with, such as "a man"; may be empty.
            beam: how many captions are followed at a time; 1 is quickest.
            model: which of the describing models.

        Returns:
            caption and log_prob
            unsure: whether its words are so improbable that it is likely to be wrong
            words: each with its probability
            alternatives: all captions found, best first
        """
        options: dict[str, Any] = {"beam": beam, "start": start, "model": names[model]}
        with _refusing():
            return serialize.caption(engine.caption(_needed(picture), **options))

    start = gr.Textbox("", label="Start with")
    beam = gr.Slider(1, MAX_BEAM, 3, step=1, precision=0, label="Beam")
    model = gr.Dropdown(list(names), value=next(iter(names)), label="Model")
    gr.on([], caption, [picture, start, beam, model], found, api_name="caption", **MODEL)


def _gaze(engine: Engine, picture: gr.Image, outputs: list[Any]) -> None:
    def gaze(picture: str | None) -> tuple[dict[str, Any], Image.Image]:
        """Say where people would look in a picture, whatever they are asked.

        Args:
            picture: a file of up to 10 MB; the address of a file uploaded here will do, others not.

        Returns:
            looked: the places, in words; map: the share of each of 14 x 14 cells
            a picture: the map drawn over the given one
        """
        with _refusing():
            path = _needed(picture)
            people = engine.gaze(path)
            return serialize.gaze(people), engine.draw(_small(path), people)

    gr.on([], gaze, picture, outputs, api_name="gaze", **MODEL)


def _emoji(engine: Engine, found: gr.JSON) -> None:
    def emoji(text: str, head: str) -> dict[str, Any]:
        """Say how a short text feels, with the emoji that fits.

        Args:
            text: in English, up to 10,000 characters.
            head: which set of labels to choose from.

        Returns:
            emoji, label and calibrated probability
            top: the likeliest labels
            words: how far each speaks for the label, below 0 against it
        """
        with _refusing():
            why = engine.explain_emoji(text, head=head)
            return serialize.feeling(engine.emoji(text, head), why)

    heads = list(engine.loaded_emoji_pipeline().heads)
    text, head = gr.Textbox(label="Text"), gr.Dropdown(heads, value=heads[0], label="Labels")
    gr.on([], emoji, [text, head], found, api_name="emoji", **MODEL)


def _small(path: str) -> Image.Image:
    picture = images.load(path, min_side=MAX_DRAWN_SIDE)
    picture.thumbnail((MAX_DRAWN_SIDE, MAX_DRAWN_SIDE))
    return picture
