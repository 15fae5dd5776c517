"""What strangers may not do to the running page, and what it tells them about itself."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from helpers.paths import ROOT
from helpers.serving import served
from helpers.tiny import draw, tiny_answerer, tiny_captioner
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.server import Refused, Visitor
from ui.components.examples import EXAMPLES
from ui.presenters import why
from ui.server import disk_quota, fair_queue, rate_limits, security, sessions
from vqa.engine import Engine
from vqa.preprocessing import images, question_text

SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
QUESTION = "what color is it?"
TOKEN = "hf_" + "s" * 34


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_answerer(), {"one": tiny_captioner()})


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """The folder of all pages here: gradio reads its name at each upload."""
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def demo(engine, uploads):
    """The page, served."""
    with served(engine, uploads, HF_TOKEN=TOKEN) as demo:
        yield demo


def client(demo, address=""):
    """A program on this machine, or behind a proxy on this machine."""
    return Visitor(demo.local_url, {"X-Forwarded-For": address} if address else None)


def test_a_client_that_asks_too_often_is_told_to_wait_and_the_others_are_served(demo):
    with client(demo, "203.0.113.7") as eager, client(demo, "203.0.113.8") as other:
        for _ in range(100 * rate_limits.BURST):
            reply = eager.http.get("app_id")
            if reply.status_code != 200:
                break
        assert reply.status_code == 429
        seconds = int(reply.headers["Retry-After"])
        assert reply.json()["detail"] == rate_limits.TOO_MANY.format(seconds)
        assert "Content-Security-Policy" in reply.headers
        assert other.http.get("app_id").status_code == 200
    with client(demo) as here:
        statuses = {here.http.get("app_id").status_code for _ in range(rate_limits.BURST + 20)}
    assert statuses == {200}


def test_an_allowance_fills_up_again_and_may_be_overdrawn():
    allowances = rate_limits.Allowances(burst=10, per_second=2)
    assert allowances.wait("a", 0) == 0
    allowances.take("a", 15, 0)
    assert allowances.left("a", 0) == -5
    assert allowances.wait("a", 0) == 4
    assert allowances.wait("a", 3) == 0
    assert allowances.left("a", 1000) == 10
    assert allowances.wait("b", 0) == 0


def test_no_more_clients_are_remembered_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(rate_limits, "_MOST_CLIENTS", 3)
    allowances = rate_limits.Allowances()
    for client in "abcd":
        allowances.take(client, 5, 0)
    assert list(allowances._left) == ["b", "c", "d"]


def test_megabytes_count_like_requests():
    async def read(request):
        await request.body()
        return PlainTextResponse("read")

    app = Starlette(
        routes=[Route("/", read, methods=["PUT"])], middleware=[Middleware(rate_limits.Limits)]
    )

    async def send_until_refused():
        transport = httpx.ASGITransport(app=app, client=("203.0.113.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as http:
            for sent in range(rate_limits.BURST):
                if (await http.put("/", content=bytes(10 * 2**20))).status_code == 429:
                    return sent
        return None

    assert rate_limits.BURST // 11 <= asyncio.run(send_until_refused()) < rate_limits.BURST // 5


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2::3", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("unknown", "unknown"),
        ("x" * 9999, "x" * 64),
    ],
)
def test_a_client_is_its_address_or_its_household(host, name):
    assert rate_limits.name({"client": (host, 1)}) == name
    assert rate_limits.name({"client": None}) == ""


CLOSED = """
file=https://huggingface.co/a.png FILE=http://127.0.0.1/a.png file/etc/passwd proxy=https://x.hf.space
deep_link?session_hash=x dev/reload runs run-history/buckets monitoring component_server
process_recording vibe-code vibe-edit custom_component/1/client/x/y stream/1/2/3/playlist.m3u8
"""


@pytest.mark.parametrize("door", CLOSED.split())
def test_a_door_that_the_page_does_not_use_is_closed(demo, door):
    with client(demo) as here:
        assert here.http.get(door).status_code == 404
        assert here.http.post(door, json={}).status_code == 404


@pytest.mark.parametrize("page", ["monitoring", "monitoring/summary", "openapi.json", "no/such"])
def test_a_page_that_is_none_of_ours_is_not_there(demo, page):
    assert httpx.get(demo.local_url + page).status_code == 404


@pytest.fixture(scope="module", params=["sends it along", "strips it"])
def below(request, engine, uploads):
    """The address of a page with a root path, as a proxy asks for it."""
    with served(engine, uploads, GRADIO_ROOT_PATH="/seewhy") as demo:
        address = f"http://127.0.0.1:{demo.server_port}/"
        yield address + ("seewhy/" if request.param == "sends it along" else "")


@pytest.mark.parametrize("door", CLOSED.split())
def test_a_root_path_opens_no_door(below, door):
    for reply in (httpx.get, httpx.post):
        assert reply(f"{below}gradio_api/{door}").status_code == 404


@pytest.mark.parametrize("page", ["monitoring", "monitoring/summary", "login", "logout"])
def test_a_root_path_opens_no_page(below, page):
    assert httpx.get(below + page).status_code == 404


def test_a_page_with_a_root_path_is_served(below):
    for page in ("", "config", "theme.css", "gradio_api/info"):
        assert httpx.get(below + page).status_code == 200


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/seewhy/config", "/seewhy", "/config"),
        ("/seewhy/config", "/seewhy/", "/config"),
        ("/config", "/seewhy", "/config"),
        ("/seewhy", "/seewhy", ""),
        ("/seewhyx/config", "/seewhy", "/seewhyx/config"),
        ("/config", "", "/config"),
    ],
)
def test_the_root_path_is_no_part_of_the_path(path, root, expected):
    assert rate_limits.route_path({"path": path, "root_path": root}) == expected


def test_only_uploads_and_examples_are_served_as_files(demo):
    with client(demo) as here:
        there = here.upload(draw("red", "square"))["path"]
        for path in (there, str(EXAMPLES[0].path)):
            assert here.http.get(f"file={path}").status_code == 200
        secrets = ["/etc/passwd", ROOT / "app.py", EXAMPLES[0].path.parent / "README.txt"]
        for path in (*secrets, f"{there}/../../../etc/passwd", Path(there).parent):
            assert here.http.get(f"file={path}").status_code in (403, 404)


def test_pages_and_errors_tell_no_secret_and_no_place(demo, engine, monkeypatch):
    def fall(*_args, **_options):
        raise RuntimeError(f"{TOKEN} in {ROOT}")

    told = [httpx.get(demo.local_url + page).text for page in ("", "config", "no/such/page")]
    with client(demo) as here:
        told += [here.http.get(name).text for name in ("info", "openapi.json", "app_id")]
        told += [here.http.post("run/predict", json={"data": [], "fn_index": 9999}).text]
        monkeypatch.setattr(engine, "answer", fall)
        with pytest.raises(Refused) as caught:
            here.call("answer", here.upload(draw("red", "square")), QUESTION)
    told.append(str(caught.value))
    assert "SeeWhy" in told[0]
    for words in told:
        assert not re.search(rf"{TOKEN}|{re.escape(str(ROOT))}|{Path.home()}/|Traceback", words)


def test_a_session_keeps_no_copy_of_the_page(demo):
    (answer,) = (fn for fn in demo.fns.values() if fn.api_name == "answer")
    with client(demo) as here:
        picture = here.upload(draw("red", "square"))
        here.call("answer", picture, QUESTION)
        body = {"data": [picture, QUESTION], "fn_index": answer._id, "session_hash": "visitor"}
        here.http.post("queue/join", json=body).raise_for_status()
        assert "process_completed" in here.http.get("queue/data?session_hash=visitor").text
    sessions = demo.app.state_holder.session_data
    assert "visitor" in sessions
    assert len(sessions) > 1
    assert all(session.config_values == {} for session in sessions.values())


def test_nothing_is_logged_and_no_cookie_is_set(demo, capfd):
    name = "a-name-that-nobody-else-has.jpg"
    with client(demo, "203.0.113.77") as visitor:
        reply = visitor.http.post("upload", files={"files": (name, draw("blue", "circle"))})
        asked = {"path": reply.json()[0], "meta": {"_type": "gradio.FileData"}}
        replies = [reply, httpx.get(demo.local_url), visitor.http.get("app_id")]
        replies += [visitor.http.get(f"file={asked['path']}")]
        assert visitor.call("answer", asked, "is anything written down?")
        with pytest.raises(Refused):
            visitor.call("answer", None, "is anything written down?")
    assert not any("set-cookie" in reply.headers for reply in replies)
    printed = "".join(capfd.readouterr())
    assert not re.search(rf"203\.0\.113\.77|{name}|written down", printed)


def test_the_tests_that_are_named_are_there():
    _, _, named = SECURITY.partition("\nTests: ")
    places = re.findall(r"`(.*?)`", named)
    assert places
    assert all((ROOT / place).exists() for place in places)


def test_the_limits_told_are_those_that_are_kept():
    told = [
        f"{images.MAX_BYTES >> 20} MB",
        f"{images.MAX_PIXELS // 10**6} megapixels",
        f"{question_text.MAX_CHARACTERS:,} characters",
        f"{rate_limits.MOST_BYTES >> 20} MB",
        f"{rate_limits.BURST} requests at once and {rate_limits.PER_SECOND} a second",
        f"{fair_queue.QUEUE_SIZE} calls wait",
        f"{fair_queue.MOST_WAITING} calls of one client may wait, {fair_queue.MOST_SLOW} slow",
        f"if nobody does for {fair_queue.LISTENS_WITHIN:.0f} seconds",
        f"{why.MOST_PASSES} at most",
        f"{disk_quota.OF_A_CLIENT >> 20} MB at most and those of all {disk_quota.IN_ALL >> 30} GB",
        f"{disk_quota.LEFT_FREE >> 20} MB of the disk stay free",
        f"{sessions.MOST_SESSIONS} sessions at most, {sessions.MOST_OF_A_CLIENT} of one client",
        f"{rate_limits._MOST_CLIENTS:,} clients",
    ]
    security_text = " ".join(SECURITY.split())
    for words in told:
        assert words in security_text, words
    assert security.SESSION_SECONDS == 3600 == disk_quota.LIFETIME / 2
    assert sessions.EMPTY_SECONDS == 60
    assert "an hour" in SECURITY
    assert "(SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
