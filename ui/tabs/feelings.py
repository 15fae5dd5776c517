"""The Feelings tab: a sentence, the emoji it is answered with, and the words that decided."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from saliency.tokens import TOKEN_METHODS
from ui.components import widgets
from ui.components.events import PRIVATE
from ui.components.model_updates import Values
from ui.presenters import feelings
from ui.presenters.answers import plain
from vqa.emoji_labels import emoji_of
from vqa.engine import Engine
from vqa.errors import BadText
from vqa.pipelines.nearest_texts import Neighbours

EXAMPLES = (
    "I am so happy today!",
    "I am not happy at all.",
    "Best pizza of my life in Rome",
    "Merry Christmas everyone",
    "I miss you so much",
    "They cancelled my flight again, I am furious",
)
FEELS: dict[str, Any] = {"concurrency_id": "feelings"}  # it waits for no slow picture
NO_SENTENCES = (
    "Start the page with `--sentences emoji=FOLDER` and the training sentences nearest to yours "
    "stand here."
)


class Tab(NamedTuple):
    """The components that change with a text."""

    note: gr.Markdown
    empty: gr.Markdown
    face: gr.Markdown
    bars: gr.Label
    words: gr.HighlightedText
    line: gr.Markdown
    near: gr.Markdown


def build(engine: Engine, neighbours: Neighbours | None) -> Values:
    """Add the tab to the page under construction; returns what follows the models.

    Args:
        engine: with a model of feelings.
        neighbours: sentences to show beside the visitor's; None for none.
    """
    heads = headed(engine)
    with gr.Row(equal_height=False, elem_id="emoji"):
        with gr.Column(scale=5, min_width=340):
            text = gr.Textbox(
                label="Sentence",
                placeholder="I am so happy today!",
                lines=3,
                max_lines=8,
                elem_id="feel-text",
            )
            examples = widgets.choices(
                "Example sentences", widgets.texts(EXAMPLES), "feel-examples"
            )
            head = gr.Radio(heads, value=heads[0][1], label="Answer with", elem_id="feel-head")
            methods = [(label, name) for name, (_, label) in TOKEN_METHODS.items()]
            method = gr.Radio(
                methods, value=methods[0][1], label="Words weighed by", elem_id="feel-method"
            )
            note = gr.Markdown(elem_id="feel-note", latex_delimiters=[])
            _switch()
        with gr.Column(scale=6, min_width=340, elem_id="feel-result"):
            tab = _showing(note, neighbours)
            with gr.Accordion("Which labels it takes for which", open=False, elem_id="feel-errors"):
                matrix = widgets.drawn("feel-matrix", "A row a right label, a column a given one")
                worst = gr.Markdown(elem_id="feel-worst", latex_delimiters=[])
            matrix.value, worst.value = feelings.confusions(engine, heads[0][1])
    head.change(
        lambda name: feelings.confusions(engine, name), head, [matrix, worst], **FEELS, **PRIVATE
    )
    _feel_in_the_page(engine, neighbours, tab, text, examples, head, method)

    def values() -> dict[Any, Any]:
        now = engine.snapshot()
        first = headed(now)[0][1]
        drawn, said = feelings.confusions(now, first)
        return {head: gr.update(choices=headed(now), value=first), matrix: drawn, worst: said}

    return values


def headed(engine: Engine) -> list[tuple[str, str]]:
    """The sets of labels of the model of feelings, as choices."""
    return [(feelings.HEADS.get(name, name), name) for name in engine.loaded_emoji_pipeline().heads]


def _switch() -> None:
    """Whether the other tabs react with emoji: the browser's own business."""
    switch = gr.Checkbox(
        value=True, label="React with emoji in the other tabs", elem_id="feel-switch"
    )
    hide = "(on) => { document.body.classList.toggle('no-reactions', !on); return []; }"
    switch.change(None, switch, None, js=hide, **PRIVATE)


def _showing(note: gr.Markdown, neighbours: Neighbours | None) -> Tab:
    empty = gr.Markdown(
        "**Type a sentence**\n\nThe emoji that fits, the words that decided and the labels it "
        "nearly got come here.",
        elem_id="feel-empty",
    )
    with gr.Row(elem_id="feel-answer", equal_height=True):
        face = gr.Markdown(elem_id="feel-face", latex_delimiters=[])
        bars = gr.Label(
            label="Likeliest labels", show_heading=False, visible=False, elem_id="feel-bars"
        )
    words = gr.HighlightedText(
        label="Words for and against", visible=False, combine_adjacent=False, elem_id="feel-words"
    )
    line = gr.Markdown(elem_id="feel-line", latex_delimiters=[])
    with gr.Accordion("Training sentences read most alike", open=False, elem_id="feel-context"):
        near = gr.Markdown(
            NO_SENTENCES if neighbours is None else "", elem_id="feel-near", latex_delimiters=[]
        )
    return Tab(note, empty, face, bars, words, line, near)


def _feel_in_the_page(
    engine: Engine, neighbours: Neighbours | None, tab: Tab, *asking: Any
) -> None:
    text, examples, head, method = asking

    def feel(written: str, name: str, how: str) -> dict[Any, Any]:
        """New values for a text, or in words why there are none."""
        now = engine.snapshot()
        if (
            name not in now.loaded_emoji_pipeline().heads
        ):  # another model was loaded, and the menu has not followed
            name = now.loaded_emoji_pipeline().heads[0]
        try:
            return shown(now, neighbours, tab, (written, name, how))
        except BadText as error:
            return cleared(tab, str(error) if written.strip() else "")

    def choose(event: gr.SelectData) -> str:
        return str(event.value)

    def weigh(written: str, name: str, how: str, event: gr.SelectData) -> dict[Any, Any]:
        """The words for and against another label."""
        now = engine.snapshot()
        labels = now.loaded_emoji_pipeline().model.labels.get(name, ())
        chosen = {feelings.labelled(label): label for label in labels}.get(event.value)
        if chosen is None:  # of a model that is no longer there
            return feel(written, name, how)
        try:
            return weighed(now, tab, (written, name, how), chosen)
        except BadText as error:  # the text was changed meanwhile
            return cleared(tab, str(error))

    waits = {"show_progress": "hidden", "trigger_mode": "always_last", **FEELS, **PRIVATE}
    asked = [text, head, method]
    # Not `text.input`, which misses what is pasted; an example changes the text too.
    gr.on([text.change, head.input, method.input], feel, asked, list(tab), **waits)
    examples.select(choose, None, text, **waits)
    tab.bars.select(weigh, asked, list(tab), **waits)


def cleared(tab: Tab, note: str = "") -> dict[Any, Any]:
    """New values: no feeling, and perhaps a note why."""
    return {
        tab.note: plain(note),
        tab.empty: gr.Markdown(visible=True),
        tab.face: "",
        tab.bars: gr.Label(None, visible=False),
        tab.words: gr.HighlightedText(None, visible=False),
        tab.line: "",
    }


def shown(
    engine: Engine, neighbours: Neighbours | None, tab: Tab, asked: tuple[str, str, str]
) -> dict[Any, Any]:
    """New values for a text, a head and a method.

    Raises:
        BadText: if there is no word in the text, or it is too long.
    """
    text, head, _ = asked
    found = engine.emoji(text, head)
    near = {} if neighbours is None else {tab.near: feelings.near(neighbours, text)}
    return {
        **weighed(engine, tab, asked, found.label),
        tab.bars: gr.Label(feelings.bars(found), visible=True),
        **near,
    }


def weighed(
    engine: Engine, tab: Tab, asked: tuple[str, str, str], label: str | None
) -> dict[Any, Any]:
    """New values of what depends on the label whose words are weighed.

    Raises:
        BadText: as of `shown`.
    """
    text, head, method = asked
    found = engine.emoji(text, head)
    label = label or found.label
    why = engine.explain_emoji(text, label, method, head=head)
    return {
        tab.note: "",
        tab.empty: gr.Markdown(visible=False),
        tab.face: plain(emoji_of(label)),
        tab.words: gr.HighlightedText(feelings.shades(text, found, why), visible=True),
        tab.line: feelings.summary_sentence(found, why, label),
    }
