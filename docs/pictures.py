"""Take the pictures of README from the real page, and a short tour of it.

    python -m docs.pictures

It starts the page on the shipped models, drives it in Chromium, and writes PNG files and
`tour.webp` beside this file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from app import create_demo, default_models
from benchmarks.server import CHROMIUM
from ui.server import security
from vqa.engine import Engine

HERE = Path(__file__).parent
SIZE = {"width": 1200, "height": 900}
TOUR_WIDTH, TOUR_QUALITY = 900, 60
LONG, SHORT = 2200, 900  # milliseconds that a step of the tour is shown
SLOWEST = 60_000  # milliseconds


def main() -> None:
    """Take all of them."""
    names = default_models()
    engine = Engine.load("vqa", names["captioner"], "gaze", "emoji")
    demo = create_demo(engine)
    _, url, _ = demo.launch(quiet=True, prevent_thread_lock=True, **security.launch_settings())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(SLOWEST)
        expect.set_options(timeout=SLOWEST)
        page.goto(url)
        page.locator("#pictures button").first.wait_for()
        tour(page)
        for name, take in (("caption", caption), ("gaze", gaze), ("feelings", feelings)):
            page.get_by_role("tab", name=name.capitalize()).click()
            take(page)
            shot(page, name)
        page.get_by_role("tab", name="Models").click()
        page.locator("#models-cards h1").first.wait_for()
        shot(page, "models")
        browser.close()
    demo.close()


def shot(page: Page, name: str) -> None:
    """What the window shows, as a file."""
    page.wait_for_timeout(1500)  # what fades in has come
    page.mouse.move(1, 1)
    page.screenshot(path=HERE / f"{name}.png")


def tour(page: Page) -> None:
    """The Ask tab: a conversation, why, and what if; with its own two pictures on the way."""
    frames: list[tuple[Image.Image, int]] = []

    def step(shown: int = LONG) -> None:
        page.wait_for_timeout(600)
        taken = Image.open(io.BytesIO(page.screenshot()))
        height = round(taken.height * TOUR_WIDTH / taken.width)
        frames.append((taken.convert("RGB").resize((TOUR_WIDTH, height)), shown))

    step()
    page.get_by_role("button", name="Temple", exact=True).click()
    answered(page, 1)
    step()
    ask(page, "Is there a tree?", lambda: step(SHORT))
    answered(page, 2)
    step()
    shot(page, "ask")
    ask(page, "Where would people look?", lambda: step(SHORT))
    answered(page, 3)
    step()
    page.locator("#chat .thumb").first.click()
    page.wait_for_timeout(800)
    page.locator("#why-explain").click()
    page.locator("#why-line p").wait_for()
    page.locator("#why").scroll_into_view_if_needed()
    step()
    shot(page, "why")
    board = page.locator("#whatif-board .board")
    board.scroll_into_view_if_needed()
    box = board.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.25)
    page.mouse.down()
    for row in range(25, 80, 10):
        page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * row / 100)
        page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * row / 100)
    page.mouse.up()
    step(SHORT)
    page.get_by_role("button", name="Hide this and ask again").click()
    page.locator("#whatif-line p").wait_for()
    step()
    page.evaluate("scrollTo(0, 0)")
    first, *others = [frame for frame, _ in frames]
    durations = [shown for _, shown in frames]
    settings = {"duration": durations, "loop": 0, "quality": TOUR_QUALITY, "method": 6}
    first.save(HERE / "tour.webp", save_all=True, append_images=others, **settings)


def ask(page: Page, question: str, typed: Callable[[], None]) -> None:
    """Type a question and send it."""
    page.locator("#question textarea").fill(question)
    typed()
    page.locator("#submit").click()


def answered(page: Page, answers: int) -> None:
    """Wait until there are so many answers."""
    expect(page.locator("#chat .thumb")).to_have_count(answers)
    expect(page.locator("#submit")).to_be_visible()


def caption(page: Page) -> None:
    """A caption with the maps of its words."""
    page.locator("#caption-pictures button").nth(5).click()
    page.locator("#caption-story .heat").wait_for()


def gaze(page: Page) -> None:
    """Where people would look, and where the model looked."""
    page.locator("#gaze-pictures button").nth(2).click()
    page.locator("#gaze-maps .heat").first.wait_for()


def feelings(page: Page) -> None:
    """A sentence and its words for and against."""
    page.locator("#feel-text textarea").fill("I miss my best friend, but what a lovely day it was!")
    page.locator("#feel-line p").wait_for()


if __name__ == "__main__":
    main()
