"""Nobody is shut out: axe-core finds nothing serious on any tab, light or dark, wide or narrow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytest_plugins = ["browser"]


def ask(visit):
    visit.choose("Cat")
    visit["#why-explain"].click()
    expect(visit["#why-line p"]).to_be_visible()


def caption(visit):
    visit["#caption-pictures button"].first.click()
    expect(visit["#caption-story .words button"].first).to_be_visible()


def gaze(visit):
    visit["#gaze-pictures button"].nth(1).click()
    expect(visit["#gaze-maps .heat"]).to_have_count(2)


def feelings(visit):
    visit["#feel-text textarea"].fill("I am so happy, what a lovely day!")
    expect(visit["#feel-line p"]).to_be_visible()


def models(visit):
    expect(visit["#models-cards h1"].first).to_be_visible()


TABS = {"Ask": ask, "Caption": caption, "Gaze": gaze, "Feelings": feelings, "Models": models}


def serious(visit):
    """What axe-core finds that shuts people out: rule, impact, and where."""
    visit.page.wait_for_timeout(200)  # what fades in has come
    found = Axe().run(visit.page).response["violations"]
    return [
        (each["id"], each["impact"], [node["target"] for node in each["nodes"]])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 420])
def test_no_tab_shuts_anybody_out(visit, scheme, width):
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    expect(visit["body.dark"]).to_have_count(int(scheme == "dark"))
    found = {}
    for name, fill in TABS.items():
        visit.page.get_by_role("tab", name=name).click()
        found[f"{name}, empty"] = serious(visit)
        fill(visit)
        found[name] = serious(visit)
    assert {name: each for name, each in found.items() if each} == {}
