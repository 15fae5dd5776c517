"""The Models tab in a real browser, with models from a small Hub."""

from __future__ import annotations

import re

import pytest
from helpers.hub_server import Fault
from helpers.tiny import tiny_captioner
from helpers.toy_transformers import ANSWERS, save
from playwright.sync_api import expect

from ui.presenters import why
from vqa import checkpoints

pytest_plugins = ["helpers.browser"]

CARD = "# ${alert(1)}\n\n<img src=x onerror=alert(1)> ![a](https://example.com/a.png) {{1}}\n"
PARTS = "#models-parts button"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    vilt = save("vilt", root / "vilt")
    (vilt / "README.md").write_text(CARD)
    captioners = [
        checkpoints.save(tiny_captioner(), root / "one"),
        checkpoints.save(tiny_captioner(1, decoder="bilstm"), root / "two"),
        checkpoints.save(tiny_captioner(2, decoder="bilstm"), root / "three"),
    ]
    return vilt, *captioners


@pytest.fixture
def address(serving, hub, folders, tiny_checkpoint):
    """A page on which models of "org" may be loaded, and the Hub that has some."""
    vilt, one, two, three = folders
    for name, folder in (("org/vilt", vilt), ("org/three", three)):
        hub.create(name).commit({file.name: file.read_bytes() for file in folder.iterdir()})
    with serving(tiny_checkpoint, [one, two], allow=["org/*"]) as url:
        yield url


def open_models(visit):
    visit.page.get_by_role("tab", name="Models").click()
    expect(visit[PARTS].first).to_be_visible()
    return visit


def load(visit, name):
    visit["#models-name input, #models-name textarea"].fill(name)
    visit["#models-submit"].click()


@pytest.mark.parametrize("width", [420, 1440])
def test_the_loaded_models_are_listed_and_their_cards_can_be_read(visit, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    open_models(visit)
    expect(visit[PARTS].first).to_contain_text("Answers questions")
    expect(visit[PARTS].first).to_have_attribute("aria-pressed", "true")
    expect(visit["#models-how"]).to_contain_text("--allow PATTERN")
    expect(visit["#models-name"]).to_have_count(0)
    last = visit[PARTS].last
    last.click()
    expect(last).to_have_attribute("aria-pressed", "true")
    expect(visit[f"{PARTS}[aria-pressed=true]"]).to_have_count(1)
    expect(visit["#models-card, #models-text textarea"].first).to_be_visible()
    room = "document.documentElement.scrollWidth - window.innerWidth"
    assert visit.page.evaluate(room) <= 0


def test_a_model_is_replaced_for_everybody_and_nobody_is_interrupted(
    open_page, address, monkeypatch
):
    monkeypatch.setattr(why, "LIVE", {"lime": {"samples": 32}})
    visitor, other = open_page(address), open_models(open_page(address))
    visitor.choose("Cat")
    before, heat = visitor["#answer h2"].inner_text(), visitor.heat()
    expect(visitor["#words"]).to_be_visible()
    load(other, "<b>${alert(1)}</b>")
    other.says("#models-note", "'<b>${alert(1)}</b>' may not be loaded here")
    load(other, "org/vilt")
    expect(other["#models-note"]).to_have_text("org/vilt is loaded.")
    expect(other[PARTS].first).to_contain_text(re.compile("ViLT.*org/vilt", re.DOTALL))
    expect(other["#models-text textarea"]).to_have_value(CARD)
    expect(other["#models-whom"]).to_contain_text("What you load replaces org/vilt, which answers")
    expect(other["#models img, #models a, #models b b"]).to_have_count(0)
    # What is there stays; it is not explained by the new model, which the next question goes to.
    assert (visitor["#answer h2"].inner_text(), visitor.heat()) == (before, heat)
    visitor["#why-explain"].click()
    visitor.says("#why-line", "Another model was loaded since: ask again.")
    visitor.ask("what color is it?")
    visitor.wait_for_another_map(heat)
    assert visitor["#answer h2"].inner_text() in ANSWERS
    expect(visitor["#words"]).to_be_hidden()
    visitor["#why-method input"].click()
    expect(visitor.page.get_by_role("option", name="Grad-CAM", exact=True)).to_be_visible()
    expect(visitor.page.get_by_role("option", name="Guided backprop")).to_have_count(0)
    visitor.page.keyboard.press("Escape")
    visitor["#why-explain"].click()
    expect(visitor["#why-top figure"]).to_have_count(3)
    expect(visitor["#why-status .said"]).to_contain_text("Grad-CAM took ")
    # Who comes later sees the same.
    later = open_models(open_page(address))
    expect(later[PARTS].first).to_contain_text("org/vilt")
    for visit in (visitor, other, later):
        assert visit.problems + visit.strangers() == []


def test_the_menu_of_captioners_follows(open_page, address):
    visit = open_models(open_page(address))
    visit[PARTS].nth(1).click()
    expect(visit["#models-whom"]).to_contain_text("which describes pictures, for everybody")
    load(visit, "org/three")
    expect(visit["#models-note"]).to_have_text("org/three is loaded.")
    expect(visit[f"{PARTS}[aria-pressed=true]"]).to_contain_text("org/three")
    visit.page.get_by_role("tab", name="Caption").click()
    names = ["BiLSTM, three", "BiLSTM, two"]
    expect(visit["#caption-model label"]).to_have_text([re.compile(name) for name in names])
    visit["#caption-pictures button"].first.click()
    expect(visit["#caption-story .words button"].first).to_be_visible()
    assert visit.problems == []


def test_one_model_is_loaded_at_a_time_and_can_be_cancelled(open_page, address, hub):
    fault = Fault("GET .*/model.safetensors", hold=True, times=1)
    hub.faults.append(fault)
    first, second = (open_models(open_page(address)) for _ in range(2))
    load(first, "org/vilt")
    assert fault.held.wait(60)
    load(second, "org/three")
    second.says("#models-note", "another model is being loaded")
    expect(first["#models-submit"]).to_be_disabled()
    expect(first["#models-cancel"]).to_be_visible()
    fault.released.set()
    expect(first["#models-note"]).to_have_text("org/vilt is loaded.")
    expect(first["#models-cancel"]).to_have_count(0)
    expect(first["#models-submit"]).to_be_enabled()
    slow = Fault("GET /api/models/org/three", hold=True, times=1)
    hub.faults.append(slow)
    load(first, "org/three")
    assert slow.held.wait(60)
    first["#models-cancel"].click()
    slow.released.set()
    expect(first["#models-status .said"]).to_have_text("Stopped.")
    expect(first[PARTS].first).to_contain_text("org/vilt")
    expect(first["#models-submit"]).to_be_enabled()
