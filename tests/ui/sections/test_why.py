"""The section "Why?" without a browser."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import io
import json
import re
import threading

import gradio as gr
import pytest
import torch
from PIL import Image

from saliency import registry
from saliency.types import Cancelled, Maps, MethodSpec
from ui.components import examples
from ui.presenters import answers, conversation, explanations
from ui.presenters import why as why_presenter
from ui.sections import why
from ui.server import background
from vqa.engine import Engine
from vqa.errors import BadImage
from vqa.scorers.native import AnswerScorer

CAT = str(examples.EXAMPLES[0].path)


@pytest.fixture(scope="module")
def engine(tiny_checkpoint):
    return Engine.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def asked(engine):
    return conversation.reply(engine, CAT, "what color is it?").grounds.asked


@pytest.fixture(scope="module")
def section(engine):
    return built(engine)


def built(engine):
    async def build():  # without a running event loop, gradio makes some and leaves them open
        with gr.Blocks():
            return why.build(engine)

    return asyncio.run(build())


def decode(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def told(work, *arguments):
    """All that some work tells."""
    states = []
    work(*arguments, states.append)
    return states


def one(value=1.0):
    """A method that finds the same everywhere."""

    def run(_scorer, pixels, targets):
        shape = (len(targets), *pixels.shape[2:])
        return Maps(torch.full(shape, value), torch.zeros(len(targets)))

    return MethodSpec(run, "One", signed=False, cost="none")


def test_the_menu_follows_the_methods(engine, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "one", one())
    menu = built(engine).method.choices
    assert menu == [(spec.label, name) for name, spec in registry.METHODS.items()]
    assert ("One", "one") in menu


def test_a_method_that_lacks_something_is_not_offered(engine, monkeypatch):
    monkeypatch.delattr(AnswerScorer, "attention")
    assert why_presenter.methods(engine) == [
        name for name in registry.METHODS if name != "attention"
    ]


def test_an_explanation_is_told_step_by_step(engine, asked):
    states = told(why_presenter.explain, engine, asked, "smoothgrad")
    assert [len(state.figures) for state in states] == [3] * len(states)
    assert not any(figure["heat"] for figure in states[0].figures)
    assert states[1].status["now"] == "SmoothGrad: 8 of 25"
    last = states[-1]
    assert all(figure["heat"] for figure in last.figures)
    assert last.titles[0] == explanations.title(*asked.top[0])
    assert last.status["said"].startswith("SmoothGrad took ")
    assert "random" in last.line
    assert decode(last.covered["picture"]).size == (320, 213)


def test_a_comparison_fills_a_card_after_the_other(engine, asked, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "one", one())
    states = told(why_presenter.compare, engine, asked)
    waiting = [sum(card["state"] == "waiting" for card in state.cards) for state in states]
    assert waiting == sorted(waiting, reverse=True)
    assert (waiting[0], waiting[-1]) == (len(registry.METHODS), 0)
    labels = [spec.label for spec in registry.METHODS.values()]
    assert all([card["label"] for card in state.cards] == labels for state in states)
    bar = [state.status["done"] for state in states[:-1]]
    assert bar == sorted(bar)
    assert bar[-1] == len(labels)
    assert states[-1].tools["plain"]
    assert states[-1].tools["signed"]


def test_a_method_that_finds_nothing_has_nothing_covered(engine, asked, monkeypatch):
    monkeypatch.setitem(registry.METHODS, "one", one(value=0.0))
    last = told(why_presenter.explain, engine, asked, "one")[-1]
    assert last.covered is None
    assert last.line == explanations.line(None, asked.top[0][0])
    assert [figure["nothing"] for figure in last.figures] == [True] * 3
    card = told(why_presenter.compare, engine, asked)[-1].cards[-1]
    assert (card["verdict"], card["words"]) == ("Nothing to cover.", "No positive evidence.")


def test_a_model_with_two_answers_has_two_maps(engine, asked, section):
    few = asked._replace(top=asked.top[:2])
    last = told(why_presenter.explain, engine, few, "grad_cam")[-1]
    assert len(last.figures) == len(last.titles) == 2
    values = why.show(section, last)
    assert values[section.figures[2]] is None
    assert values[section.titles[2]] == ""


def test_nothing_that_the_user_or_the_model_said_goes_into_html(tiny_checkpoint):
    engine = Engine.load(tiny_checkpoint)
    odd = tuple(f"${{alert({place})}} <img src=zqx>" for place in range(8))
    engine.answerer.answers = odd
    asked = conversation.reply(engine, CAT, "zqx: what color is it?").grounds.asked
    section = built(engine)
    states = [why.cleared(section, asked)]
    for work in (
        told(why_presenter.explain, engine, asked, "occlusion"),
        told(why_presenter.compare, engine, asked),
    ):
        states += [why.show(section, state) for state in work]
    seen = 0
    for component, value in (item for state in states for item in state.items()):
        if isinstance(component, gr.HTML):
            words = re.sub(r"data:image/(jpeg|png);base64,[A-Za-z0-9+/=]+", "", json.dumps(value))
            assert not re.search(r"zqx|\$|<|alert|base64", words)
        elif isinstance(component, gr.Markdown) and "zqx" in value:
            assert "<img" not in value.replace(r"\<img", "")
            seen += 1
    assert seen > 3


def test_every_value_of_a_state_has_a_component(section, asked):
    fields = {field.name for field in dataclasses.fields(why_presenter.Reasons)}
    assert fields - set(section._fields) == set()
    assert section.results == list(why.show(section, why_presenter.NOTHING))
    assert why.cleared(section, asked)[section.section].visible
    assert not why.cleared(section, None)[section.section].visible
    assert why.cleared(section, asked)[section.heading] == explanations.heading(asked.top[0][0])


def test_a_picture_that_is_gone_and_a_session_that_is_over_are_told(engine, section, asked):
    async def last(asked):
        async for state in why._run(section, engine, asked, why_presenter.explain, "grad_cam"):
            value = state[section.line]
        return value

    gone = asked._replace(path=asked.path + ".gone")
    with pytest.raises(BadImage) as problem:
        engine.answer(gone.path, "what is it?")
    assert asyncio.run(last(gone)) == answers.plain(str(problem.value))
    assert asyncio.run(last(None)) == why.FORGOTTEN


def test_the_newest_news_come_out_of_a_thread_at_its_pace(monkeypatch):
    def work(tell):
        assert threading.current_thread() is not threading.main_thread()
        for step in range(1000):
            tell(step)

    async def all_news():
        return [state async for state in background.news_of(work)]

    monkeypatch.setattr(background, "PACE", 600)  # seconds: all but the first come at the end
    news = asyncio.run(all_news())
    assert len(news) <= 2
    assert news[-1] == 999


def test_what_the_work_raises_comes_out_of_its_thread():
    def work(tell):
        tell(1)
        raise BadImage("gone")

    async def all_news():
        return [state async for state in background.news_of(work)]

    with pytest.raises(BadImage, match="gone"):
        asyncio.run(all_news())


@pytest.mark.parametrize("way", ["cancel", "close"])
def test_who_leaves_stops_the_thread_before_going_on(engine, asked, way):
    ends = []

    def work(tell):
        try:
            for step in range(10**9):
                engine.explain(asked.path, asked.question, progress=None)
                tell(step)
        except Cancelled as end:
            ends.append(end)

    async def leave():
        news = background.news_of(work)
        await anext(news)
        if way == "close":
            await news.aclose()
        else:
            rest = asyncio.ensure_future(anext_forever(news))
            await asyncio.sleep(0)
            rest.cancel()
            await asyncio.wait([rest])
        assert len(ends) == 1

    async def anext_forever(news):
        async for _ in news:
            pass

    asyncio.run(leave())
    assert engine.answer(asked.path, asked.question).text  # and the model is free again
