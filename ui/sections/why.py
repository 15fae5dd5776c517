"""The section "Why?" under an answer: its components, and what its buttons do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from itertools import zip_longest
from typing import Any, NamedTuple

import gradio as gr

from saliency import registry
from saliency.types import CannotExplain
from ui.components import maps, widgets
from ui.components.events import MODEL, PRIVATE
from ui.presenters import explanations
from ui.presenters import why as why_presenter
from ui.presenters.answers import REPLACED, Asked, plain
from ui.presenters.why import NOTHING, Reasons
from ui.server.background import news_of, when_over
from vqa.engine import Engine
from vqa.errors import BadImage, BadText

FORGOTTEN = "The answer is no longer remembered: ask again."
States = AsyncGenerator[dict[Any, Any], None]

# While something runs there is "Cancel", and it has the focus. The focus only follows the button
# that vanishes: a visitor who has gone on to something else, an open list say, stays there.
# What ends while it was still going on was stopped: a row of maps that never came goes away, and
# of the cards those stay that are done.
_RUNS = """() => {
  const update = (props) => ({__type__: 'update', ...props});
  const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
  let tries = 0;  // the button takes its time to come and to be ready
  const focus = () => {
    const at = document.activeElement;
    const free = at === document.body || ['why-explain', 'why-compare'].includes(at?.id);
    if (!free || tries++ > 40) return;
    document.querySelector('#why-cancel')?.focus({preventScroll: true});
    setTimeout(focus, 50);
  };
  focus();
  const scroll = {behavior: calm ? 'auto' : 'smooth'};
  setTimeout(() => document.querySelector('#why').scrollIntoView(scroll), 100);
  return [
    update({interactive: false}), update({interactive: false}), update({visible: true}),
    {now: 'Waits for its turn', done: 0, total: 1, said: ''},
  ];
}"""
_RESTS = """(status, cards) => {
  const update = (props) => ({__type__: 'update', ...props});
  const stopped = status.now !== '';
  if (document.activeElement?.id === 'why-cancel')
    setTimeout(() => {
      if ([document.body, document.querySelector('#why-cancel')].includes(document.activeElement))
        document.querySelector('#why-explain')?.focus({preventScroll: true});
    }, 100);
  return [
    update({interactive: true}), update({interactive: true}), update({visible: false}),
    stopped ? {now: '', done: 0, total: 0, said: 'Stopped.'} : undefined,
    stopped ? update({visible: false}) : undefined,
    stopped ? cards.filter((card) => card.state !== 'waiting') : undefined,
  ];
}"""


class Why(NamedTuple):
    """The components of the section."""

    section: gr.Column
    heading: gr.Markdown
    method: gr.Dropdown
    explain: gr.Button
    compare: gr.Button
    cancel: gr.Button
    status: gr.HTML
    top: gr.Row
    titles: tuple[gr.Markdown, ...]
    figures: tuple[gr.HTML, ...]
    cards: gr.HTML
    tools: gr.HTML
    test: gr.Row
    covered: gr.HTML
    line: gr.Markdown

    @property
    def results(self) -> list[Any]:
        """All that changes with an explanation."""
        return list(show(self, NOTHING))


def build(engine: Engine) -> Why:
    """Add the section, hidden, to the page under construction."""
    names = why_presenter.methods(engine)
    with gr.Column(visible=False, elem_id="why") as section:
        heading = gr.Markdown(elem_id="why-heading", latex_delimiters=[])
        with gr.Row(elem_id="why-ask"):
            method = gr.Dropdown(
                labelled(names),
                value=names[0],
                label="Method",
                filterable=False,
                elem_id="why-method",
            )
            explain = gr.Button("Explain", variant="primary", min_width=100, elem_id="why-explain")
            compare = gr.Button("Compare all methods", min_width=100, elem_id="why-compare")
        with gr.Row(elem_id="why-status-row"):
            status = widgets.progress("why-status")
            cancel = gr.Button("Cancel", visible=False, min_width=100, elem_id="why-cancel")
        with gr.Row(visible=False, elem_id="why-top") as top:
            titles, figures = zip(*(_column() for _ in range(why_presenter.TOP)), strict=True)
        cards = maps.cards("why-cards")
        tools = maps.tools("why-tools")
        with gr.Row(visible=False, elem_id="why-test") as test:
            covered = maps.figure()
            line = gr.Markdown(elem_id="why-line", latex_delimiters=[])
    return Why(
        section=section,
        heading=heading,
        method=method,
        explain=explain,
        compare=compare,
        cancel=cancel,
        status=status,
        top=top,
        titles=titles,
        figures=figures,
        cards=cards,
        tools=tools,
        test=test,
        covered=covered,
        line=line,
    )


def _column() -> tuple[gr.Markdown, gr.HTML]:
    with gr.Column(min_width=160):
        return gr.Markdown(latex_delimiters=[], elem_classes="title"), maps.figure()


def labelled(names: Sequence[str]) -> list[tuple[str, str]]:
    """Methods as choices of a menu."""
    return [(registry.find(name).label, name) for name in names]


def menu(why: Why, engine: Engine, method: str) -> dict[Any, Any]:
    """New values: the methods that explain the engine's answers, with one of them chosen."""
    names = why_presenter.methods(engine)
    chosen = method if method in names else names[0]
    return {why.method: gr.update(choices=labelled(names), value=chosen)}


def show(why: Why, found: Reasons) -> dict[Any, Any]:
    """New values of all components that change with an explanation."""
    return {
        why.status: found.status,
        why.top: gr.Row(visible=bool(found.figures)),
        **{title: text or "" for title, text in zip_longest(why.titles, found.titles)},
        **dict(zip_longest(why.figures, found.figures)),
        why.cards: list(found.cards),
        why.tools: found.tools,
        why.test: gr.Row(visible=bool(found.line)),
        why.covered: found.covered,
        why.line: found.line,
    }


def cleared(why: Why, asked: Asked | None) -> dict[Any, Any]:
    """New values: no explanation, and the section only where there is an answer to explain."""
    heading = explanations.heading(asked.top[0][0]) if asked else ""
    shown = gr.Column(visible=asked is not None)
    return show(why, NOTHING) | {why.section: shown, why.heading: heading}


def listen(engine: Engine, why: Why, asked: gr.State) -> list[Any]:
    """Make the buttons work; returns the events that whoever asks again has to cancel."""

    async def explain(asked: Asked | None, method: str) -> States:
        async for state in _run(why, engine, asked, why_presenter.explain, method):
            yield state

    async def compare(asked: Asked | None) -> States:
        async for state in _run(why, engine, asked, why_presenter.compare):
            yield state

    buttons = [why.explain, why.compare, why.cancel, why.status]
    gr.on(
        [why.explain.click, why.compare.click],
        None,
        None,
        buttons,
        js=_RUNS,
        **PRIVATE,
    )
    slow = {"show_progress": "hidden", **MODEL, **PRIVATE}
    events: list[Any] = [
        why.explain.click(explain, [asked, why.method], why.results, **slow),
        why.compare.click(compare, asked, why.results, **slow),
    ]
    for event in events:
        when_over(event, _RESTS, [why.status, why.cards], [*buttons, why.top, why.cards])
    why.cancel.click(None, cancels=events, **PRIVATE)
    return events


async def _run(
    why: Why, engine: Engine, asked: Asked | None, work: Callable[..., None], *args: Any
) -> States:
    """The states of some work on what was asked, or in words why there is none."""
    now = engine.snapshot()
    if (
        asked is None or asked.by() is not now.answer_pipeline
    ):  # a session that is long over, or a model
        line = FORGOTTEN if asked is None else REPLACED
        yield show(why, Reasons(widgets.note_update(""), line=line))
        return
    try:
        news: AsyncGenerator[Any, None] = news_of(lambda tell: work(now, asked, *args, tell))
        async with aclosing(news) as states:
            async for state in states:
                yield show(why, state)
    except (BadImage, BadText, CannotExplain) as error:
        yield show(why, Reasons(widgets.note_update(""), line=plain(str(error))))
