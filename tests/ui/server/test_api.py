"""What programs may call: the page's endpoints and MCP tools, on a server with every model."""

from __future__ import annotations

import ast
import asyncio
import base64
import io
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from gradio.route_utils import delete_files_created_by_app
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from helpers.docs import API
from helpers.emoji_data import tiny_emoji
from helpers.paths import ROOT
from helpers.serving import served
from helpers.tiny import draw, tiny_answerer, tiny_captioner, tiny_gaze
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from PIL import Image

from saliency import METHODS, registry
from ui.presenters import why
from ui.server import gradio_patches
from ui.server.fair_queue import SLOW_METHODS
from vqa.engine import Engine
from vqa.tasks import ENDPOINTS

EXAMPLES = re.findall(r"```python\n(.*?)```", API, re.S)
NAMES = ["answer", "explain", "caption", "gaze", "emoji"]
QUESTION = "what color is it?"
PICTURE = draw("red", "square", 1200)
NO_ADDRESS = re.escape(gradio_patches.NO_ADDRESS)


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_answerer(), {"one": tiny_captioner()}, tiny_gaze(), tiny_emoji())


@pytest.fixture(scope="module")
def demo(engine, tmp_path_factory):
    """The page with every model, served."""
    with served(engine, tmp_path_factory.mktemp("uploads")) as demo:
        yield demo


@pytest.fixture(scope="module")
def client(demo):
    client = Client(demo.local_url, verbose=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "photo.png"
    path.write_bytes(PICTURE)
    return path


@pytest.fixture
def photo(path):
    return handle_file(path)


@pytest.fixture
def elsewhere():
    """The address of another server, and the requests that it got."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(PICTURE)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/a.png", asked
        server.shutdown()


def api(demo, path):
    return f"{demo.local_url}gradio_api/{path}"


def example(word, demo):
    """The one example of docs/api.md with that word in it, on this server."""
    (found,) = (code for code in EXAMPLES if word in code)
    return found.replace("http://127.0.0.1:7860/", demo.local_url).replace(
        "http://127.0.0.1:7860", demo.local_url.rstrip("/")
    )


def by_number(demo, fn, values):
    """Call an endpoint as the page does; the message of its end."""
    body = {"data": values, "fn_index": fn._id, "session_hash": "visitor"}
    httpx.post(api(demo, "queue/join"), json=body).raise_for_status()
    with httpx.stream("GET", api(demo, "queue/data?session_hash=visitor"), timeout=60) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ") or "{}")
            if message.get("msg") == "process_completed":
                return message
    return None


def with_tools(demo, work):
    """Have a real MCP client do some work; returns what that returns."""

    async def session():
        url = api(demo, "mcp/")
        async with (
            streamable_http_client(url) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await work(session)

    return asyncio.run(session())


def call(demo, name, **arguments):
    return with_tools(demo, lambda session: session.call_tool(name, arguments))


def as_text():
    return "data:image/png;base64," + base64.b64encode(PICTURE).decode()


def test_exactly_five_endpoints_are_public_and_documented(demo):
    info = httpx.get(api(demo, "info")).json()
    assert list(info["named_endpoints"]) == [f"/{name}" for name in NAMES]
    assert info["unnamed_endpoints"] == {}
    assert sorted(NAMES) == sorted(ENDPOINTS)
    for endpoint in info["named_endpoints"].values():
        assert endpoint["description"].endswith(".")
        assert all(parameter["type"]["type"] for parameter in endpoint["parameters"])
    (method,) = (
        parameter
        for parameter in info["named_endpoints"]["/explain"]["parameters"]
        if parameter["parameter_name"] == "method"
    )
    assert method["type"]["enum"] == list(METHODS)


def test_no_private_endpoint_can_be_called_by_its_name(demo, client):
    private = [fn for fn in demo.fns.values() if fn.api_visibility != "public"]
    assert len(private) > 20
    with httpx.Client() as http:  # to make one takes longer than what it asks
        for fn in private:
            for way in ("call", "call/v2", "run", "api"):
                reply = http.post(api(demo, f"{way}/{fn.api_name}"), json={"data": []})
                assert reply.status_code == 404, (way, fn.api_name)
    with pytest.raises(ValueError, match="Cannot find a function"):
        client.predict(api_name=f"/{private[0].api_name}")


def test_a_public_endpoint_does_not_get_around_the_queue(demo):
    for name in NAMES:
        for way in ("run", "api"):
            assert httpx.post(api(demo, f"{way}/{name}"), json={"data": []}).status_code == 404
    public = [fn for fn in demo.fns.values() if fn.api_visibility == "public"]
    assert [fn.concurrency_id for fn in public] == ["model"] * 5
    assert all(fn.queue for fn in public)


def test_the_examples_of_the_readme_run(demo, path, tmp_path, monkeypatch):
    Image.open(path).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example("gradio_client", demo), names)
    names["client"].close()
    assert (
        names["why"]["label"]
        in names["client"].predict(handle_file("photo.jpg"), "is it raining?", api_name="/answer")[
            "answer"
        ]
    )
    assert np.sum(names["gaze"]["map"]) == pytest.approx(1, abs=1e-2)
    Image.open(names["drawn"]).verify()


def test_the_tools_of_the_readme_run(demo, path, tmp_path, monkeypatch):
    Image.open(path).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(example("ClientSession", demo), names)
    assert ast.literal_eval(names["text"].text)["method"] == "grad_cam"
    picture = Image.open(io.BytesIO(base64.b64decode(names["drawn"].data)))
    assert picture.size == (960, 960)
    assert names["address"].text.startswith(f"Image URL: {demo.local_url}")


def test_programs_are_told_what_the_engine_says(engine, client, photo, path):
    found = client.predict(photo, QUESTION, api_name="/answer")
    assert found["answer"] == engine.answer(path, QUESTION).text
    assert np.sum(found["attention"]) == pytest.approx(1, abs=1e-5)
    caption = client.predict(photo, start="there is", beam=2, api_name="/caption")
    assert caption["caption"] == engine.caption(path, start="there is", beam=2).text
    assert len(caption["alternatives"]) == 2
    feeling = client.predict("I am happy", head="mood", api_name="/emoji")
    assert feeling["label"] == engine.emoji("I am happy", "mood").label
    pushes = engine.explain_emoji("I am happy", head="mood").pushes
    assert [push for _, push in feeling["words"]] == pytest.approx(pushes.tolist())


@pytest.mark.parametrize("method", ["grad_cam", "occlusion"])
def test_an_explanation_is_a_grid_and_a_drawn_picture(engine, client, photo, path, method):
    found, drawn = client.predict(
        photo, QUESTION, method=method, answer="Blue", api_name="/explain"
    )
    (why,) = engine.explain(path, QUESTION, "blue", method)
    assert (found["label"], found["method"]) == ("blue", method)
    assert found["signed"] is (method == "occlusion")
    cells = np.array(found["map"])
    assert cells.shape == (14, 14)
    assert cells.mean() == pytest.approx(why.map.mean(), rel=0.1, abs=1e-3)
    with Image.open(drawn) as picture:
        assert (picture.format, picture.size) == ("JPEG", (960, 960))
        plain = Image.open(path).convert("RGB").resize(picture.size)
        assert np.abs(np.subtract(picture, plain, dtype=float)).mean() > 2


def test_gaze_is_a_grid_of_shares_and_a_drawn_picture(client, photo):
    found, drawn = client.predict(photo, api_name="/gaze")
    assert np.shape(found["map"]) == (14, 14)
    assert np.sum(found["map"]) == pytest.approx(1, abs=1e-2)
    assert "of the mass" in found["looked"]
    Image.open(drawn).verify()


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("answer", ("",), "The question is empty"),
        ("answer", ("a" * 100_000,), "100,000 characters and the limit is 1,000"),
        ("explain", ("a" * 100_000,), "100,000 characters and the limit is 1,000"),
        ("explain", (QUESTION, "grad_cam", "zebra"), '"zebra" is none of the 8 answers'),
        ("explain", (QUESTION, "sunshine"), "not in the list of choices"),
        ("caption", ("a " * 100_000,), "limit|too long|words"),
        ("caption", ("zebra",), "zebra"),
        ("caption", ("a", 21), "21"),
    ],
)
def test_what_is_wrong_with_the_input_is_told(client, photo, name, arguments, said):
    with pytest.raises(AppError, match=said):
        client.predict(photo, *arguments, api_name=f"/{name}")


@pytest.mark.parametrize("name", ["answer", "explain", "caption", "gaze"])
def test_a_missing_picture_and_a_bad_one_are_told(client, tmp_path, name):
    question = [QUESTION] * (name in ("answer", "explain"))
    with pytest.raises(AppError, match="There is no picture"):
        client.predict(None, *question, api_name=f"/{name}")
    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(AppError, match="The file is"):
        client.predict(handle_file(tmp_path / "a.jpg"), *question, api_name=f"/{name}")


@pytest.mark.parametrize(
    ("text", "said"), [("", "no word"), ("a" * 100_000, "100,000 characters and the limit")]
)
def test_a_text_that_cannot_be_felt_is_told(client, text, said):
    with pytest.raises(AppError, match=said):
        client.predict(text, api_name="/emoji")


def test_no_address_is_fetched_for_a_program(client, elsewhere):
    address, asked = elsewhere
    for url in (address, "https://huggingface.co/a.png"):
        with pytest.raises(AppError, match=NO_ADDRESS):
            client.predict(handle_file(url), QUESTION, api_name="/answer")
    assert asked == []


def test_no_address_is_fetched_for_a_caller_of_a_private_endpoint(demo):
    private = [fn for fn in demo.fns.values() if fn.api_visibility != "public" and fn.queue]
    file = handle_file("https://huggingface.co/a.png")
    tried = 0
    for fn in private:
        given = [block for block in fn.inputs if not isinstance(block, gr.State)]
        if fn.fn is not None and given and not fn.cancels:
            message = by_number(demo, fn, [file] * len(fn.inputs))
            assert (message["success"], message["output"]["error"]) == (
                False,
                gradio_patches.NO_ADDRESS,
            )
            tried += 1
    assert tried > 5


def test_the_address_of_an_upload_is_known_and_no_other_file_s(demo, client, path):
    (there,) = httpx.post(
        api(demo, "upload"), files={"files": ("a b.png", path.read_bytes())}
    ).json()
    address = str(httpx.URL(api(demo, f"file={there}")))
    found = client.predict(handle_file(address), QUESTION, api_name="/answer")
    assert found == client.predict(handle_file(path), QUESTION, api_name="/answer")
    for other in (str(path), "/etc/passwd", there + "/../../x", there + ".gone", ""):
        with pytest.raises(AppError, match=NO_ADDRESS):
            client.predict(handle_file(api(demo, f"file={other}")), QUESTION, api_name="/answer")


def test_the_tools_are_exactly_the_five_endpoints_and_documented(demo):
    tools = with_tools(demo, lambda session: session.list_tools()).tools
    assert [tool.name for tool in tools] == NAMES
    for tool in tools:
        assert "Returns: " in tool.description
        properties = tool.inputSchema["properties"]
        assert all(each["description"] and each["type"] for each in properties.values())
        assert set(tool.inputSchema["required"]) <= {"picture", "question", "text"}


def test_a_tool_says_what_the_endpoint_says(demo, client, photo):
    reply = call(demo, "answer", picture=as_text(), question=QUESTION)
    assert not reply.isError
    (text,) = reply.content
    assert ast.literal_eval(text.text) == client.predict(photo, QUESTION, api_name="/answer")
    felt = call(demo, "emoji", text="so happy")
    assert ast.literal_eval(felt.content[0].text)["emoji"] in ("😀", "😢")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("answer", {"picture": as_text(), "question": ""}, "The question is empty"),
        ("answer", {"picture": "https://huggingface.co/a.png", "question": "?"}, NO_ADDRESS),
        ("answer", {"question": QUESTION}, "'picture' is a required property"),
        ("explain", {"picture": as_text(), "question": "?", "method": "zap"}, "'zap' is not one"),
        ("ask", {}, "Unknown tool"),
    ],
)
def test_a_tool_says_what_is_wrong(demo, name, arguments, said):
    reply = call(demo, name, **arguments)
    assert reply.isError
    assert re.search(said, reply.content[0].text)


def test_no_tool_opens_a_file_of_the_server_s(demo, path):
    file = {"path": str(path), "meta": {"_type": "gradio.FileData"}}
    for arguments in (
        {"picture": file, "question": QUESTION},
        {"picture": as_text(), "question": file},
        {"picture": str(path), "question": QUESTION},
    ):
        reply = call(demo, "answer", **arguments)
        assert reply.isError
        assert re.search("not of type 'string'|Invalid file data", reply.content[0].text)


def test_what_a_tool_was_sent_is_deleted_like_an_upload(demo):
    call(demo, "answer", picture=as_text(), question=QUESTION)
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert any(file.read_bytes() == PICTURE for file in folder.rglob("*.png"))
    delete_files_created_by_app(demo, None)
    assert not [file for file in folder.rglob("*") if file.is_file()]


@pytest.mark.parametrize("method", sorted(SLOW_METHODS))
def test_what_an_explanation_may_cost_is_not_the_caller_s_choice(demo, engine, method):
    """The method is all that a program chooses; how often the picture is passed through is ours."""
    names = demo.get_api_info()["named_endpoints"]["/explain"]["parameters"]
    assert [each["parameter_name"] for each in names] == ["picture", "question", "method", "answer"]
    scorer, passes = engine.scorer("what color is it?"), []
    pixels = engine.answer_pipeline.pixels(draw("red", "square"))
    count = scorer.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    registry.explain(scorer, pixels, [0], method, **why.LIVE.get(method, {}))
    count.remove()
    assert 20 < sum(passes) <= why.MOST_PASSES
    assert f"{why.MOST_PASSES} at most" in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
