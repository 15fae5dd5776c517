"""The Models tab: what is loaded, how good it is, its card, and other models from the Hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from ui.components import widgets
from ui.components.events import PRIVATE
from ui.components.model_updates import Values
from ui.presenters import model_cards
from ui.presenters.answers import plain
from ui.server.background import news_of, when_over
from vqa.errors import BadCheckpoint
from vqa.serving.hot_swap import Loader

LOADS: dict[str, Any] = {"concurrency_id": "loads", "concurrency_limit": None}  # the loader has one
HOW = (
    "Other models of the Hugging Face Hub can be loaded here if the page is started with "
    '`--allow PATTERN`, such as `python app.py --allow "org/*"`.'
)
# The names may be anybody's, so a script puts them into the page, as text.
_LIST = '<ul class="parts" role="list"></ul>'
_SHOW = """
const make = (tag, name, text) => {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
};
const number = ({value, name}) => {
  const made = make('span', 'number', '');
  made.append(make('b', '', value), ' ', name);
  return made;
};
let chosen = 0;
const entry = (part, place) => {
  const button = make('button', '', ''), item = make('li', '', '');
  button.type = 'button';
  button.setAttribute('aria-pressed', place === chosen);
  button.append(make('span', 'does', part.does), make('strong', '', part.name));
  button.append(make('span', 'size', part.size));
  const numbers = make('span', 'numbers', '');
  numbers.append(...part.numbers.map(number));
  button.append(numbers, make('span', 'where', part.where));
  item.append(button);
  return item;
};
const list = () => {
  const at = element.contains(document.activeElement);
  element.querySelector('.parts').replaceChildren(...props.value.map(entry));
  if (at) element.querySelector('[aria-pressed=true]')?.focus({preventScroll: true});
};
const choose = (place) => {
  chosen = place;
  list();
  trigger('select', {index: place, value: ''});
};
element.addEventListener('click', (event) => {
  const item = event.target.closest('li');
  if (!item) return;
  choose([...item.parentNode.children].indexOf(item));
  if (window.innerWidth < 900)  // one column: the card is further down
    setTimeout(() => document.getElementById('models-cards').scrollIntoView(), 300);
});
watch('value', () => choose(chosen));  // its model may be another one
list();
const reach = () => {  // what scrolls must be reached by keyboard
  for (const part of document.querySelectorAll('#models-card :is(pre, table)')) part.tabIndex = 0;
};
const news = {childList: true, subtree: true};
new MutationObserver(reach).observe(element.closest('[role=tabpanel]'), news);
reach();
"""
_RUNS = """() => [
  {__type__: 'update', interactive: false}, {__type__: 'update', visible: true},
  {now: 'Asking the server', done: 0, total: 1, said: ''}, '',
]"""
# What ends while it was still going on was cancelled, or failed.
_RESTS = """(status) => [
  {__type__: 'update', interactive: true}, {__type__: 'update', visible: false},
  status.now === '' ? undefined : {now: '', done: 0, total: 0, said: 'Stopped.'},
]"""

States = AsyncGenerator[dict[Any, Any], None]


class Tab(NamedTuple):
    """The components that change with the choice of a model."""

    chosen: gr.State  # its place in the engine's parts
    card: gr.Markdown
    text: gr.Textbox  # of a card that somebody else wrote
    whom: gr.Markdown


class Loading(NamedTuple):
    """The components to load another model with."""

    name: gr.Textbox
    button: gr.Button
    cancel: gr.Button
    status: gr.HTML
    note: gr.Markdown


def build(loader: Loader) -> tuple[Values, Any]:
    """Add the tab to the page under construction.

    Returns:
        What follows the models, and the trigger that one was loaded.
    """
    markdown, plain_text = model_cards.card(loader.engine.parts[0])
    with gr.Row(equal_height=False, elem_id="models"):
        with gr.Column(scale=5, min_width=320):
            parts = gr.HTML(
                entries(loader),
                html_template=_LIST,
                js_on_load=_SHOW,
                apply_default_css=False,
                elem_id="models-parts",
            )
            whom, loading = _loading(loader)
        with gr.Column(scale=7, min_width=320, elem_id="models-cards"):
            card = gr.Markdown(
                markdown, visible=bool(markdown), elem_id="models-card", latex_delimiters=[]
            )
            text = gr.Textbox(
                plain_text,
                label="Its card, as its author wrote it",
                visible=bool(plain_text),
                interactive=False,
                lines=12,
                max_lines=40,
                elem_id="models-text",
            )
    tab = Tab(gr.State(0), card, text, whom)

    def choose(event: gr.SelectData) -> dict[Any, Any]:
        known = isinstance(event.index, int) and 0 <= event.index < len(loader.engine.parts)
        return shown(tab, loader, event.index if known else 0)

    parts.select(choose, None, list(tab), queue=False, show_progress="hidden", **PRIVATE)
    return lambda: {parts: entries(loader)}, _load_in_the_page(loader, tab, loading)


def _loading(loader: Loader) -> tuple[gr.Markdown, Loading]:
    allowed = bool(loader.allow)
    with gr.Column(elem_id="models-load"):
        gr.Markdown("### Load another")
        gr.Markdown(HOW, visible=not allowed, elem_id="models-how")
        with gr.Row(elem_id="models-row", visible=allowed):
            name = gr.Textbox(
                label="Hub id",
                placeholder="org/name",
                max_lines=1,
                scale=5,
                min_width=180,
                elem_id="models-name",
            )
            button = gr.Button(
                "Load", variant="primary", scale=1, min_width=84, elem_id="models-submit"
            )
        with gr.Row(elem_id="models-status-row", visible=allowed):
            status = widgets.progress("models-status")
            cancel = gr.Button("Cancel", visible=False, min_width=100, elem_id="models-cancel")
        note = gr.Markdown(visible=allowed, elem_id="models-note", latex_delimiters=[])
        whom = gr.Markdown(
            replaced(loader, 0), visible=allowed, elem_id="models-whom", latex_delimiters=[]
        )
    return whom, Loading(name, button, cancel, status, note)


def entries(loader: Loader) -> list[dict[str, Any]]:
    """The value of the list: all models."""
    return [model_cards.entry(part) for part in loader.engine.parts]


def shown(tab: Tab, loader: Loader, place: int) -> dict[Any, Any]:
    """New values: the card of the model in a place, and what would be replaced there."""
    card, text = model_cards.card(loader.engine.parts[place])
    return {
        tab.chosen: place,
        tab.card: gr.Markdown(card, visible=bool(card)),
        tab.text: gr.Textbox(text, visible=bool(text)),
        tab.whom: replaced(loader, place),
    }


def replaced(loader: Loader, place: int) -> str:
    """Whom another model would replace, and what is allowed, as Markdown."""
    part = loader.engine.parts[place]
    patterns = ", ".join(map(plain, loader.allow))
    lines = [
        f"What you load replaces **{plain(part.title)}**, which "
        f"{part.task.does.lower()}, for everybody who uses this page, "
        "until the server is started again.",
        f"Allowed here: {patterns}, {loader.most_mb:,} MB at most.",
    ]
    if (first := loader.first(place)) and first != part.title:
        lines.append(f"The model at the start was {plain(first)}; its name brings it back.")
    return "\n\n".join(lines)


def _load_in_the_page(loader: Loader, tab: Tab, loading: Loading) -> Any:
    async def load(place: int, name: str) -> States:
        """The states of loading a model, and at the end whether it is there, in words."""
        try:
            async with aclosing(news_of(partial(_load, loader, place, name))) as states:
                async for now in states:
                    yield {loading.status: now}
            note = f"{name.strip()} is loaded."
        except BadCheckpoint as error:
            note = f"Not loaded: {error}."
        yield {loading.status: widgets.note_update(""), loading.note: plain(note)}

    asks = [loading.button.click, loading.name.submit]
    running = [loading.button, loading.cancel, loading.status]
    gr.on(asks, None, None, [*running, loading.note], js=_RUNS, **PRIVATE)
    options = {"show_progress": "hidden", **LOADS, **PRIVATE}
    shown = [loading.status, loading.note]
    event = gr.on(asks, load, [tab.chosen, loading.name], shown, **options)
    when_over(event, _RESTS, [loading.status], running)
    loading.cancel.click(None, cancels=event, **PRIVATE)
    return event.success


def _load(loader: Loader, place: int, name: str, tell: Any) -> None:
    loader.load(place, name, lambda now, done, total: tell(widgets.at(done, total, now)))
