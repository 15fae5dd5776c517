"""How the server starts and starts again: a state while it loads, nothing lost but a call."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys

import gradio
import httpx
import pytest
from helpers.tiny import draw

from app import main
from benchmarks.server import Visitor, free_port, serving
from ui.server.loading_page import NoStubs, Starting
from ui.server.security import sweep


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_whoever_comes_too_early_is_told_what_is_going_on(host):
    port = free_port()
    url = f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}/"
    with Starting(host, port) as starting:
        starting.tell("Loading <the> models")
        for reply in (httpx.get(url), httpx.post(f"{url}gradio_api/call/answer", json={})):
            assert reply.status_code == 503
            assert reply.headers["Retry-After"]
            assert reply.headers["X-State"] == "Loading <the> models"
            assert "Loading &lt;the&gt; models" in reply.text
            assert "http" not in reply.headers["Content-Security-Policy"]
        own = httpx.get(f"{url}?starting")  # the starting page's look at the state
        assert (own.status_code, own.headers["X-State"]) == (200, starting.state)
    with socket.create_server(("127.0.0.1", port)):
        pass  # nobody is there any more


def test_a_client_that_says_nothing_keeps_nobody_waiting():
    starting = Starting(port=free_port())
    with socket.create_connection(("127.0.0.1", starting.port)), starting:
        assert httpx.get(f"http://127.0.0.1:{starting.port}/").status_code == 503


def test_without_a_wish_the_next_free_port_is_taken(monkeypatch):
    taken = Starting(port=free_port())
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken.port))
    with taken, Starting() as other:
        assert taken.port < other.port < taken.port + 100


def test_a_taken_port_ends_the_app_in_one_line():
    with Starting(port=free_port()) as taken, pytest.raises(SystemExit) as stop:
        main(["--port", str(taken.port)])
    assert "cannot be served" in str(stop.value)


def test_a_killed_server_loses_the_call_that_was_running_and_nothing_else(tiny_checkpoint):
    port, question = free_port(), "what color is it?"
    flags = ("--vqa", str(tiny_checkpoint))
    content = draw("red", "square")
    with serving(*flags, port=port) as server, Visitor(server.url) as visitor:
        picture = visitor.upload(content)
        before = visitor.call("answer", picture, question)
        body = {"data": [picture, question, "lime", ""]}
        event = visitor.http.post("call/explain", json=body).json()["event_id"]
        server.process.kill()
        with pytest.raises(httpx.TransportError):
            visitor.result("explain", event)
    with serving(*flags, port=port) as server, Visitor(server.url) as visitor:
        assert visitor.call("answer", visitor.upload(content), question) == before
        assert "Traceback" not in server.log()


def test_gradio_is_imported_without_a_look_at_its_stubs(monkeypatch):
    finder, name = NoStubs(), "gradio.component_meta"
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    spec = finder.find_spec(name, gradio.__path__)
    assert finder not in sys.meta_path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.create_or_modify_pyi(None, "", []) is None
    assert module.ComponentMeta.__module__ == name


def test_what_is_old_is_swept_and_what_is_young_stays(tmp_path):
    old, young = tmp_path / "a" / "old.jpg", tmp_path / "b" / "young.jpg"
    outside = tmp_path.parent / "outside.txt"
    for file in (old, young, outside):
        file.parent.mkdir(exist_ok=True)
        file.write_text("x")
    (tmp_path / "link").symlink_to(tmp_path.parent)
    for path in (old, old.parent, outside):
        os.utime(path, (0, 0))
    sweep(tmp_path, 3600)
    assert not old.exists()
    assert young.exists()
    assert outside.exists()
    os.utime(old.parent, (0, 0))
    sweep(tmp_path, 3600)
    assert not old.parent.exists()
    sweep(tmp_path / "nowhere", 3600)
