"""A real browser on the page: fixtures for the tests that name this file among their plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import takewhile

import pytest
from playwright.sync_api import expect, sync_playwright

from app import create_demo
from benchmarks.server import CHROMIUM, free_port
from helpers.paths import ROOT
from ui.server import security
from vqa.engine import Engine
from vqa.pipelines.nearest_texts import Neighbours, open_sentences
from vqa.serving.hot_swap import Loader

FLAGS = """
--no-sandbox --disable-gpu --disable-background-networking --disable-component-update
--disable-sync --no-first-run --use-fake-ui-for-media-stream --use-fake-device-for-media-stream
"""
SLOWEST = 30_000  # milliseconds, where the machine has other work too


class Visit:
    """A browser window on the page, and what went on behind it."""

    def __init__(self, page, url):
        self.page, self.url, self.problems, self.requests = page, url, [], []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))
        with page.expect_response("**/run/predict*"):  # whether models were replaced
            page.goto(url)
        expect(self["#pictures button"].first).to_be_visible()

    def _console(self, message):
        if message.type == "error":
            self.problems.append(f"{message.text} ({message.location.get('url', 'no address')})")

    def __getitem__(self, selector):
        return self.page.locator(selector)

    def choose(self, example):
        """Press an example and wait for its answer."""
        before = self.heat() if self["#view .heat"].count() else ""
        self.page.get_by_role("button", name=example, exact=True).click()
        self.wait_for_another_map(before)

    def ask(self, question):
        self["#question textarea"].fill(question)
        self["#submit"].click()

    def invites(self):
        """Wait until it has looked at a new picture; until then it answers nothing else."""
        expect(self["#chat .option"].first).to_be_visible()

    def upload(self, name, content):
        """Give the page a file, and wait until it has it and has cleared the old answer."""
        sent = self.page.expect_response("**/upload?*")
        cleared = self.page.expect_response("**/run/predict*")  # a question before it is cancelled
        with sent, cleared:
            self["#picture input[type=file]"].set_input_files(
                {"name": name, "mimeType": "image/jpeg", "buffer": content}
            )
        expect(self["#picture img"]).to_be_attached()

    def heat(self):
        return self["#view .heat"].get_attribute("src") or ""

    def wait_for_another_map(self, before):
        self.page.wait_for_function(
            """before => {
                const map = document.querySelector('#view .heat');
                return map && map.src !== before;
            }""",
            arg=before,
        )

    def says(self, selector, words):
        """Wait for a note, and a second more: what followed on it must have left it there."""
        expect(self[selector]).to_contain_text(words)
        self.page.wait_for_timeout(1000)
        assert words in self[selector].inner_text()

    @contextmanager
    def late_ends(self):
        """Until this is left, the browser does not learn that what it cancelled is over."""
        held, address = [], "**/gradio_api/reset"

        def hold(route):
            held.append(route)

        self.page.route(address, hold)
        yield
        assert held
        for route in held:
            route.continue_()
        self.page.unroute(address)

    def asked(self):
        """How often it asked the server to do something."""
        return sum(request.endswith(("/queue/join?", "/run/predict")) for request in self.requests)

    def strangers(self):
        """Addresses outside the page's own that it asked for."""
        own = (self.url, "data:", "blob:" + self.url)
        return [address for address in self.requests if not address.startswith(own)]


@pytest.fixture(scope="session")
def url(tiny_checkpoint, tmp_path_factory):
    """The running page, with the shipped model if there is one."""
    shipped = (ROOT / "model_cards" / "vqa" / "config.json").exists()
    port = str(free_port())
    command = [sys.executable, "-u", "app.py", "--host", "127.0.0.1", "--port", port]
    command += ["--vqa", "vqa" if shipped else str(tiny_checkpoint)]
    uploads = {"GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("uploads"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | uploads, **pipes) as server:
        start = list(takewhile(lambda line: "Running on" not in line, server.stdout))
        if server.poll() is not None:
            pytest.fail("the page did not start:\n" + "".join(start))
        yield f"http://127.0.0.1:{port}/"
        server.terminate()
        log = server.stdout.read()
    assert "Traceback" not in log


@pytest.fixture(scope="module")
def context():
    """A browser with an empty profile; its tabs share a cache, as a person's do."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        context.set_default_timeout(SLOWEST)
        expect.set_options(timeout=SLOWEST)
        yield context
        browser.close()


@pytest.fixture(scope="module")
def serving():
    """A context manager that serves the page from this process, so that a test can interfere."""

    @contextmanager
    def serving(checkpoint, captioners=(), emoji=None, sentences=None, allow=(), **queue):
        engine = Engine.load(checkpoint, captioners, emoji=emoji)
        near = Neighbours(engine.emoji_pipeline, open_sentences(sentences)) if sentences else None
        demo = create_demo(engine, near, Loader(engine, allow, neighbours=near))
        if queue:
            demo.queue(**queue)
        where = {"server_name": "127.0.0.1", "server_port": free_port()}
        where |= {"prevent_thread_lock": True, "quiet": True}
        _, address, _ = demo.launch(**where, **security.launch_settings())
        try:
            yield address
        finally:
            demo.close()

    return serving


@pytest.fixture
def open_page(context):
    """A function that opens an address in a tab of its own, which ends with the test."""
    tabs = []

    def open_page(address):
        tabs.append(Visit(context.new_page(), address))
        return tabs[-1]

    yield open_page
    for tab in tabs:
        tab.page.close()


@pytest.fixture
def visit(open_page, url):
    """A fresh tab; nothing may go wrong behind it, and nobody else be asked."""
    visit = open_page(url)
    yield visit
    assert visit.problems == []
    assert visit.strangers() == []
