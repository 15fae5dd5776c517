"""The Caption tab: a picture, a caption word by word, and where the model looked for each word."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from saliency import registry
from saliency.types import CannotExplain
from ui.components import maps, widgets
from ui.components.events import MODEL, PRIVATE
from ui.components.examples import EXAMPLES
from ui.components.model_updates import Values
from ui.presenters import answers, captions
from ui.presenters.answers import NO_PICTURE, plain
from ui.presenters.captions import LOOKS, CaptionRequest, CaptionResult
from ui.server.background import news_of, when_over
from vqa.engine import Engine
from vqa.errors import BadImage, BadText

BEAMS = (1, 3, 5)
FORGOTTEN = "The caption is no longer remembered: describe the picture again."
REPLACED = "Another model was loaded since: describe the picture again."

# While maps are made there is "Cancel", which has the focus if it was the menu's, and the old ones
# are not shown under the new name. What ends while that was still going on was stopped: the old
# method and its maps come back.
_RUNS = """(story) => {
  const update = (props) => ({__type__: 'update', ...props});
  const free = () => document.activeElement === document.body
    || document.activeElement?.closest('#caption-method');
  let tries = 0;  // the button takes its time to come and to be ready
  const focus = () => {
    if (!free() || tries++ > 40) return;
    document.querySelector('#caption-cancel')?.focus({preventScroll: true});
    setTimeout(focus, 50);
  };
  focus();
  return [
    update({interactive: false}), update({visible: true}),
    {now: 'Waits for its turn', done: 0, total: 1, said: ''}, {...story, waiting: true},
  ];
}"""
_RESTS = """(status, story) => {
  const update = (props) => ({__type__: 'update', ...props});
  const stopped = status.now !== '' && story;
  if (document.activeElement?.id === 'caption-cancel')
    setTimeout(() => {
      if ([document.body, document.querySelector('#caption-cancel')]
          .includes(document.activeElement))
        document.querySelector('#caption-method input')?.focus({preventScroll: true});
    }, 100);
  return [
    update({interactive: true, ...(stopped && story.method ? {value: story.method} : {})}),
    update({visible: false}),
    stopped ? {now: '', done: 0, total: 0, said: 'Stopped.'} : undefined,
    stopped ? {...story, waiting: false} : undefined,
  ];
}"""


class Tab(NamedTuple):
    """The components that change with a caption."""

    note: gr.Markdown
    story: gr.HTML
    tools: gr.HTML
    ask: gr.Row
    method: gr.Dropdown
    status: gr.HTML
    cancel: gr.Button
    others: gr.HTML
    reaction: gr.Markdown
    told: gr.State  # `CaptionResult`, None if nothing is


States = AsyncGenerator[dict[Any, Any], None]


class Asking(NamedTuple):
    """The components to ask with."""

    picture: gr.Image
    pictures: gr.HTML
    start: gr.Textbox
    button: gr.Button
    model: gr.Radio
    beam: gr.Radio


def build(engine: Engine) -> Values:
    """Add the tab to the page under construction; returns what follows the models."""
    with gr.Row(equal_height=False, elem_id="caption"):
        with gr.Column(scale=5, min_width=340):
            asking = _asking(captions.labels(engine))
            note = gr.Markdown(elem_id="caption-note", latex_delimiters=[])
        with gr.Column(scale=6, min_width=340, elem_id="caption-result"):
            tab = _telling(note)
    maps_come = _listen(engine, tab)
    _describe_in_the_page(engine, asking, tab, maps_come)
    return lambda: {asking.model: gr.update(choices=captions.labels(engine))}


def _asking(models: list[tuple[str, str]]) -> Asking:
    picture = widgets.picture("The picture to describe", "caption-picture")
    pictures = widgets.examples("caption-pictures")
    with gr.Row(elem_id="caption-start-row"):
        start = gr.Textbox(
            label="Start with",
            placeholder="a man",
            max_lines=3,
            scale=5,
            min_width=200,
            elem_id="caption-start",
        )
        button = gr.Button(
            "Describe", variant="primary", scale=1, min_width=110, elem_id="caption-submit"
        )
    with gr.Row(elem_id="caption-options"):
        model = gr.Radio(
            models,
            value=models[0][1],
            label="Model",
            visible=len(models) > 1,
            elem_id="caption-model",
        )
        beam = gr.Radio(BEAMS, value=3, label="Beam (captions followed)", elem_id="caption-beam")
    return Asking(picture, pictures, start, button, model, beam)


def _telling(note: gr.Markdown) -> Tab:
    reaction = widgets.reaction("caption-reaction")
    story, tools = maps.story("caption-story"), maps.tools("caption-tools", "the word")
    with gr.Row(visible=False, elem_id="caption-why") as ask:
        method = gr.Dropdown(
            list(registry.METHODS),
            value=LOOKS,
            label="Method",
            filterable=False,
            elem_id="caption-method",
        )
        status = widgets.progress("caption-status")
        cancel = gr.Button("Cancel", visible=False, min_width=100, elem_id="caption-cancel")
    others = maps.captions("caption-others")
    return Tab(note, story, tools, ask, method, status, cancel, others, reaction, gr.State())


def told_in(tab: Tab, engine: Engine, told: CaptionResult, method: str) -> dict[Any, Any]:
    """New values of the components: a caption, with a method's maps or waiting for them."""
    names = captions.methods(engine, told)
    method = method if method in names else names[0]
    if method != told.story["method"]:
        told = replace(told, story=told.story | {"waiting": True})
    menu = [(registry.find(name).label, name) for name in names]
    return cleared(tab) | {
        **_components(tab, captions.values(told)),
        tab.ask: gr.Row(visible=True),
        tab.method: gr.Dropdown(menu, value=method),
        tab.others: captions.ranked(told.caption),
        tab.reaction: plain(answers.reaction(engine, told.caption.text)),
    }


def cleared(tab: Tab, note: str = "") -> dict[Any, Any]:
    """New values of the components: no caption, and perhaps a note why."""
    return {
        **dict.fromkeys([tab.story, tab.tools, tab.others, tab.told]),
        tab.note: plain(note),
        tab.reaction: "",
        tab.ask: gr.Row(visible=False),
        tab.method: gr.skip(),
        tab.status: widgets.note_update(""),
    }


def kept(tab: Tab, told: CaptionResult, note: str) -> dict[Any, Any]:
    """New values of the components: the maps that were there come back, and a note says why."""
    method = told.story["method"]
    return {
        tab.note: plain(note),
        tab.status: widgets.note_update(""),
        tab.story: told.story | {"waiting": False},
        tab.method: method or gr.skip(),
    }


def _components(tab: Tab, named: dict[str, Any]) -> dict[Any, Any]:
    return {getattr(tab, name): value for name, value in named.items()}


def _listen(engine: Engine, tab: Tab) -> list[Any]:
    """Have maps made when they are asked for; returns the events that a new caption cancels."""

    async def make(told: CaptionResult | None, method: str) -> States:
        """The states of making a method's maps, or in words why there are none."""
        if told is None:  # a session that is long over
            yield cleared(tab, FORGOTTEN)
            return
        now = engine.snapshot()
        if told.by() is not now.caption_pipeline(told.model):
            yield kept(tab, told, REPLACED)
            return
        work = partial(captions.explain, now, told, method)
        try:
            async with aclosing(news_of(work)) as states:
                async for state in states:
                    yield {tab.note: ""} | _components(tab, state)
        except (BadImage, BadText, CannotExplain) as error:
            yield kept(tab, told, str(error))

    wants = [tab.method.select, tab.story.submit]  # `input` comes twice
    running = [tab.method, tab.cancel, tab.status, tab.story]
    gr.on(wants, None, tab.story, running, js=_RUNS, **PRIVATE)
    event = gr.on(
        wants,
        make,
        [tab.told, tab.method],
        [tab.note, tab.story, tab.tools, tab.ask, tab.method, tab.status, tab.others, tab.told],
        show_progress="hidden",
        trigger_mode="multiple",  # the browser may not have seen yet that the last one is over
        **MODEL,
        **PRIVATE,
    )
    when_over(event, _RESTS, [tab.status, tab.story], running)
    tab.cancel.click(None, cancels=event, **PRIVATE)
    return [event]


def _describe_in_the_page(engine: Engine, asking: Asking, tab: Tab, maps_come: list[Any]) -> None:
    shown = list(cleared(tab))

    def ask(method: str, *wish: Any) -> dict[Any, Any]:
        """New values of the tab for a `CaptionRequest`: its caption, or why there is none."""
        wished = CaptionRequest(*wish)
        if not wished.path:
            return cleared(tab, NO_PICTURE)
        try:
            now = engine.snapshot()
            return told_in(tab, now, captions.describe(now, wished), method)
        except (BadImage, BadText) as error:
            return cleared(tab, str(error))

    def ask_again(told: CaptionResult | None, *asked: Any) -> dict[Any, Any]:
        return {tab.note: gr.skip()} if told is None else ask(*asked)

    def choose_picture(
        method: str, start: str, model: str, beam: int, event: gr.SelectData
    ) -> dict[Any, Any]:
        path = str(EXAMPLES[event.index].path)
        return {asking.picture: path} | ask(method, path, start, model, beam)

    asks = [asking.button.click, asking.start.submit]
    changes = [asking.model.input, asking.beam.input]
    chooses, replaces = asking.pictures.select, [asking.picture.input, asking.picture.clear]
    # Before anything else that these do, or the caption would wait for the maps.
    gr.on([*asks, *changes, chooses, *replaces], None, cancels=maps_come, **PRIVATE)

    waiting = {"show_progress": "minimal", "show_progress_on": tab.story, **MODEL, **PRIVATE}
    options = [asking.start, asking.model, asking.beam]
    asked = [tab.method, asking.picture, *options]
    events = [
        gr.on(asks, ask, asked, shown, **waiting),
        gr.on(changes, ask_again, [tab.told, *asked], shown, **waiting),
        chooses(choose_picture, [tab.method, *options], [asking.picture, *shown], **waiting),
    ]
    gr.on(
        replaces,
        lambda: cleared(tab),
        None,
        shown,
        cancels=events,
        queue=False,
        show_progress="hidden",
        **PRIVATE,
    )
