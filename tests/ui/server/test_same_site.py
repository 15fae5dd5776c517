"""Which names the server answers to, and what other sites may do with it."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest
from helpers.tiny import draw
from starlette.responses import PlainTextResponse

from app import parse
from benchmarks.server import Refused, Visitor
from ui.server.same_site import FRAME_ANCESTORS, SameSite, own_names
from ui.server.security import ContentPolicy


def reply(headers, names=(), method="GET", wrap=SameSite):
    """What a request with some headers gets from a server that has some names."""

    async def ask():
        transport = httpx.ASGITransport(wrap(PlainTextResponse("here"), names))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            return await http.request(method, "/", headers=headers)

    return asyncio.run(ask())


LOCAL = ["localhost", "localhost:7860", "LOCALHOST.", "a.localhost", "127.0.0.1:1", "[::1]:7860"]


@pytest.mark.parametrize("host", [*LOCAL, "192.168.1.5:7860", "[fe80::1]"])
def test_the_server_answers_to_its_addresses_and_to_localhost(host):
    assert reply({"Host": host}).status_code == 200


OTHER_NAMES = """
evil.example:7860 localhost.evil.example 127.0.0.1.evil.example 127.0.0.1@evil evil notlocalhost
1.2.3 [::1 [ evil.hf.space
"""


@pytest.mark.parametrize("host", OTHER_NAMES.split())
def test_a_name_that_is_none_of_the_server_s_is_refused(host):
    refused = reply({"Host": host}, ["see.example.org"])
    assert refused.status_code == 421
    assert "--name" in refused.text


@pytest.mark.parametrize(
    ("host", "name"),
    [("See.example.org", "see.example.org"), ("a.b.org:80", "*.b.org"), ("evil.example", "*")],
)
def test_a_name_that_was_told_is_the_server_s(host, name):
    assert reply({"Host": host}, parse(["--name", "x", "--name", name]).name).status_code == 200


def test_the_names_of_this_machine_and_of_a_space_are_known(monkeypatch):
    machine = socket.gethostname()
    names = own_names("see.local", ["told"])
    assert names == ["told", "see.local", machine, f"{machine}.local"]
    monkeypatch.setenv("SPACE_ID", "who/what")
    monkeypatch.setenv("SPACE_HOST", "own.example.org")
    for host in ("own.example.org", "who-what.hf.space"):
        assert reply({"Host": host}, own_names("0.0.0.0")).status_code == 200


OTHERS = [
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:81"},
    {"Origin": "null"},
    {"Origin": ""},
]


@pytest.mark.parametrize("headers", OTHERS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_another_site_sends_is_refused(headers, method):
    assert reply(headers, method=method).status_code == 403
    assert reply(headers).status_code == 200  # a link to the page


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost"},
    ],
)
def test_what_the_page_or_a_program_sends_is_taken(headers):
    assert reply(headers, method="POST").status_code == 200


def test_a_served_page_refuses_other_names_and_other_sites(demo):
    with Visitor(demo.local_url) as program:
        assert program.upload(draw("red", "square"))
    for path in ("", "config", "gradio_api/info", "gradio_api/app_id"):
        refused = httpx.get(demo.local_url + path, headers={"Host": "evil.example"})
        assert refused.status_code == 421
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        with Visitor(demo.local_url, headers) as form, pytest.raises(Refused) as refused:
            form.upload(draw("red", "square"))
        assert refused.value.status == 403


def test_hugging_face_may_show_the_page_in_a_frame_and_nobody_else_may(demo):
    policy = httpx.get(demo.local_url).headers["Content-Security-Policy"]
    assert f"frame-ancestors {FRAME_ANCESTORS}" in policy.split("; ")
    assert "X-Frame-Options" not in httpx.get(demo.local_url).headers
    assert all(
        each.removeprefix("https://").removeprefix("*.") in ("huggingface.co", "hf.space")
        for each in FRAME_ANCESTORS.split()
    )


def test_the_sites_that_may_show_the_page_can_be_chosen(capsys):
    sites = parse(["--frame_ancestors", "https://school.example.org 'self'"]).frame_ancestors
    policy = reply({}, sites, wrap=ContentPolicy).headers["Content-Security-Policy"]
    assert policy.endswith("; frame-ancestors https://school.example.org 'self'")
    for wrong in ("x; script-src *", "a,b", "a\r\nb"):
        with pytest.raises(SystemExit):
            parse(["--frame_ancestors", wrong])
        assert "list of sites" in capsys.readouterr().err
