"""How much disk a client may fill, with uploads and with what is drawn for it."""

from __future__ import annotations

import asyncio
import base64
import errno
import socket
import time
from pathlib import Path

import httpx
import pytest
from gradio.exceptions import Error
from helpers.tiny import draw
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from benchmarks.server import Refused, Visitor
from ui.server import disk_quota
from ui.server.disk_quota import ALL_FULL, CLIENT_FULL, NO_SPACE, Ledger, counted

QUESTION = "what color is it?"
ADDRESSES = ["", "203.0.113.1"]  # this machine has no more room than others


@pytest.fixture
def ledger(monkeypatch):
    """Of this test alone."""
    ledger = Ledger()
    monkeypatch.setattr(disk_quota, "LEDGER", ledger)
    return ledger


def client(demo, address=""):
    """A program on this machine, or behind a proxy on this machine."""
    return Visitor(demo.local_url, {"X-Forwarded-For": address} if address else None)


def photo(size, name=b"a"):
    """What looks like a picture of so many bytes."""
    content = draw("red", "square")
    return content + name * (size - len(content))


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_client_that_filled_its_share_is_told_so_and_others_are_not(demo, ledger, address):
    ledger.of_a_client = 150_000
    with client(demo, address) as one, client(demo, "203.0.113.2") as other:
        for _ in range(5):  # the same file is there once
            one.upload(photo(60_000))
        with pytest.raises(Refused, match=CLIENT_FULL) as refused:
            one.upload(photo(100_000, b"b"))
        assert refused.value.status == 507
        assert other.upload(photo(100_000, b"b"))
        ledger.of_a_client = 200_000
        assert one.upload(photo(60_000, b"c"))


def test_all_together_have_so_much(demo, ledger):
    ledger.in_all = 100_000
    with client(demo, "203.0.113.3") as one, client(demo, "203.0.113.4") as other:
        one.upload(photo(60_000, b"d"))
        with pytest.raises(Refused, match=ALL_FULL) as refused:
            other.upload(photo(60_000, b"e"))
    assert refused.value.status == 507


def test_what_was_deleted_counts_no_more(demo, ledger, monkeypatch):
    monkeypatch.setattr(disk_quota, "_LOOK_SOON", 0.0)
    ledger.of_a_client = 100_000
    with client(demo) as one:
        Path(one.upload(photo(60_000, b"f"))["path"]).unlink()
        assert one.upload(photo(60_000, b"g"))


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_drawn_for_a_client_counts_as_its_own(demo, ledger, address):
    with client(demo, address) as one, client(demo, "203.0.113.5") as other:
        asked = one.upload(draw("red", "square")), QUESTION, "grad_cam", ""
        one.call("explain", *asked)
        uploaded = Path(asked[0]["path"]).stat().st_size
        assert ledger._used[address] > uploaded
        ledger.of_a_client = 1
        with pytest.raises(Refused, match=CLIENT_FULL):
            one.call("explain", *asked)
        assert one.call("answer", *asked[:2])
        ledger.of_a_client = 10**6
        assert other.call("explain", *asked)


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_a_tool_is_sent_and_draws_counts_as_its_caller_s(demo, ledger, address):
    async def explain():
        headers = {"X-Forwarded-For": address} if address else {}
        async with (
            httpx.AsyncClient(headers=headers, timeout=120) as http,
            streamable_http_client(f"{demo.local_url}gradio_api/mcp/", http_client=http) as streams,
            ClientSession(*streams[:2]) as session,
        ):
            await session.initialize()
            picture = base64.b64encode(draw("green", "circle")).decode()
            sent = {"picture": f"data:image/png;base64,{picture}", "question": QUESTION}
            return await session.call_tool("explain", sent)

    assert not asyncio.run(explain()).isError
    assert set(ledger._used) == {address, "mcp"}
    assert len(ledger._entries) == 3


def test_an_upload_that_breaks_off_counts(demo, ledger):
    head = "POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n"
    kind = "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: "
    part = 'form-data; name="files"; filename="a.jpg"\r\n\r\nabc'
    with socket.create_connection(("127.0.0.1", demo.server_port)) as connection:
        connection.sendall((head + kind + part).encode())
        while not ledger._used.total():
            time.sleep(0.01)
    with client(demo) as one:
        one.upload(draw("red", "square"))  # the server has noticed by now
    assert ledger._used[""] > 5_000_000


def test_a_full_disk_is_told_in_words(demo, ledger, monkeypatch):
    with client(demo) as one:
        asked = one.upload(draw("red", "square")), QUESTION, "grad_cam", ""
        monkeypatch.setattr(disk_quota, "LEFT_FREE", 2**62)
        with pytest.raises(Refused, match=NO_SPACE) as refused:
            one.upload(draw("blue", "square"))
        assert refused.value.status == 507
        with pytest.raises(Refused, match=NO_SPACE):
            one.call("explain", *asked)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_is_full_while_something_is_written(ledger, number):
    def save():
        raise OSError(number, "no")

    with pytest.raises(OSError if number == errno.EACCES else Error, match=r"no$|disk"):
        counted(save)()


def test_what_broke_off_counts_until_it_is_deleted(ledger, monkeypatch):
    ledger.of_a_client = 10
    ledger.begin("a", 10)
    assert ledger.refusal("a", 1) == CLIENT_FULL
    monkeypatch.setattr(disk_quota, "LIFETIME", 0.0)
    monkeypatch.setattr(disk_quota, "_LOOK_SOON", 0.0)
    assert ledger.refusal("a", 1) is None
