"""Nobody is shut out: axe-core finds nothing serious on any tab, light or dark, wide or narrow."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

pytest_plugins = ["helpers.browser"]


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


def serious(visit, schemes):
    """What axe-core finds that shuts people out, in these schemes: rule, impact, and where."""
    found = []
    for scheme in schemes:
        visit.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        expect(visit["body.dark"]).to_have_count(int(scheme == "dark"))
        visit.page.wait_for_timeout(200)  # colours of gradio's own fade
        for each in Axe().run(visit.page).response["violations"]:
            if each["impact"] in ("serious", "critical"):
                where = [node["target"] for node in each["nodes"]]
                found.append((scheme, each["id"], each["impact"], where))
    return found


@pytest.mark.parametrize(
    ("width", "schemes"), [(1440, ("light", "dark")), (420, ("light",))], ids=["1440", "420"]
)
def test_no_tab_shuts_anybody_out(visit, width, schemes):
    visit.page.set_viewport_size({"width": width, "height": 900})
    found = {}
    for name, fill in TABS.items():
        visit.page.get_by_role("tab", name=name).click()
        found[f"{name}, empty"] = serious(visit, schemes)
        fill(visit)
        found[name] = serious(visit, schemes)
    assert {name: each for name, each in found.items() if each} == {}
