"""How the server starts and starts again: a state while it loads, nothing lost but a call."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import stat
import subprocess
import sys

import gradio
import httpx
import pytest
from helpers.paths import ROOT
from helpers.tiny import draw

from app import main
from benchmarks.server import Visitor, free_port, serving
from ui.server.loading_page import NoStubs, Starting
from ui.server.security import private_folder, sweep

HOSTS = {  # how each is named in a URL
    "127.0.0.1": "127.0.0.1",
    "0.0.0.0": "127.0.0.1",
    "localhost": "localhost",
    "::1": "[::1]",
    "[::1]": "[::1]",
    "::": "[::1]",
}


def lacks_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return False
    except OSError:
        return True


@pytest.mark.parametrize("host", HOSTS)
def test_whoever_comes_too_early_is_told_what_is_going_on(host):
    if ":" in host and lacks_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    url = f"http://{HOSTS[host]}:{port}/"
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


def test_any_free_port_is_taken_if_it_is_0():
    with Starting(port=0) as one, Starting(port=0) as other:
        assert 0 != one.port != other.port != 0


def ends_in_one_line(capsys, *arguments):
    """What the app prints instead of starting."""
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


def test_a_taken_port_ends_the_app_in_one_line(capsys):
    with Starting(port=free_port()) as taken:
        assert "cannot be served" in ends_in_one_line(capsys, "--port", str(taken.port))


@pytest.mark.parametrize("port", ["99999", "65536", "-1", "abc", "", "7860.5", "\u0667", "1e3"])
def test_what_is_no_port_ends_the_app_in_one_line(capsys, monkeypatch, port):
    assert "no port" in ends_in_one_line(capsys, f"--port={port}")
    if port:
        monkeypatch.setenv("GRADIO_SERVER_PORT", port)
        assert "GRADIO_SERVER_PORT" in ends_in_one_line(capsys)


@pytest.mark.parametrize("host", ["999.1.1.1", "203.0.113.1", "no such host", "1::2::3", "::x"])
def test_what_is_no_address_of_this_machine_ends_the_app_in_one_line(capsys, host):
    assert "cannot be served" in ends_in_one_line(capsys, "--host", host, "--port", "0")


@pytest.mark.parametrize("flags", [["--host", "::1"], ["--host", "::"], ["--host", "127.0.0.1"]])
def test_the_page_is_served_on_any_free_port_of_an_address(flags, tiny_checkpoint, tmp_path):
    if ":" in flags[1] and lacks_ipv6():
        pytest.skip("this machine has no IPv6")
    command = [sys.executable, "-u", "app.py", "--port", "0", "--vqa", str(tiny_checkpoint)]
    changed = os.environ | {"TMPDIR": str(tmp_path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*command, *flags], cwd=ROOT, env=changed, **pipes) as process:
        lines = iter(process.stdout.readline, "")
        url = next(filter(None, (re.search(r"URL:\s+(http://\S+)", line) for line in lines)))[1]
        reply = httpx.get(url)
        process.terminate()
    assert reply.status_code == 200
    assert "SeeWhy" in reply.text


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_command_prints_emoji_wherever_it_prints_to(encoding):
    command = [sys.executable, "-m", "vqa", "emoji", "what a lovely day"]
    changed = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=ROOT, env=changed, capture_output=True, check=True)
    line = done.stdout.decode(encoding)
    assert line.startswith("\\N{") if encoding != "utf-8" else line[0] > "\x7f"


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


def test_the_folder_of_uploads_is_the_user_s_alone(tmp_path):
    folder = tmp_path / "up"
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)  # as an earlier version made it
    private_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["link", "writable", "file", "theirs"])
def test_a_folder_that_somebody_else_prepared_is_refused(tmp_path, monkeypatch, kind):
    folder, precious = tmp_path / "up", tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    if kind == "link":
        folder.symlink_to(precious)
    elif kind == "file":
        folder.write_text("")
    else:
        folder.mkdir()
        folder.chmod(0o777 if kind == "writable" else 0o755)
        if kind == "theirs":
            own = os.getuid()
            monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(OSError, match=r"up.*GRADIO_TEMP_DIR|File exists"):
        private_folder(folder)
    assert (precious / "thesis.txt").read_text() == "years of work"
    assert stat.S_IMODE(precious.stat().st_mode) != 0o700


def test_what_another_user_put_there_is_not_swept(tmp_path, monkeypatch):
    old = tmp_path / "old.txt"
    old.write_text("theirs")
    os.utime(old, (0, 0))
    own = os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: own + 1)
        sweep(tmp_path, 3600)
    assert old.exists()
    sweep(tmp_path, 3600)
    assert not old.exists()
