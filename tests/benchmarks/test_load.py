"""The benchmark of the server under load, for moments, with tiny models."""

import argparse

import pytest
from helpers.tiny import tiny_rows

from benchmarks import load
from benchmarks.server import serving
from benchmarks.tables import load as table
from vqa.engine import Engine

QUESTIONS = [(row["image"]["bytes"], "what color is it?") for row in tiny_rows()]


@pytest.fixture(scope="module")
def server(tiny_checkpoint, tiny_captioner_checkpoint):
    with serving(
        "--vqa", str(tiny_checkpoint), "--captioner", str(tiny_captioner_checkpoint)
    ) as server:
        yield server


def test_each_number_of_clients_is_measured_and_the_memory(server, tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(load, "SETTLES", 0.1)
    args = argparse.Namespace(clients=[1, 3], seconds=0.5, requests=8)
    found = load.measure(server, Engine.load(tiny_checkpoint), QUESTIONS, args)
    assert found["clients"].keys() == {"1", "3"}
    for clients in found["clients"].values():
        assert clients["errors"] == 0
        assert 0 < clients["median"] <= clients["95th"] <= clients["oldest"]
    assert 0 < found["start"]["first byte"] <= found["start"]["page"] <= found["start"]["answer"]
    assert found["start"]["browser"] > 0
    assert found["overhead"]["engine"] < found["overhead"]["over HTTP"]
    assert found["memory"]["requests"] >= 8
    assert found["memory"]["at rest"] > 50


def test_a_soak_adds_up_and_compares_the_memory(server):
    found = load.soak(server, QUESTIONS, 1)
    assert found["requests"] >= 4 * load.CROWD
    assert found["errors"] == 0
    assert found["grew"] == found["memory"][-1] - found["memory"][0]


def test_what_the_server_refuses_is_counted_and_told(server):
    found = load.run(server, [(b"no picture", "what is it?")], 2, 0)
    assert found["errors"] == found["requests"] == 2
    assert "no known kind" in found["first_error"] or "text file" in found["first_error"]


def test_the_table_has_a_line_for_each_number_of_clients():
    found = {"per_second": 20.4, "median": 0.3, "95th": 0.9, "oldest": 1.21, "errors": 0}
    assert table({"8": found}).splitlines()[2:] == ["| 8 | 20.4 | 0.30 | 0.90 | 1.21 | 0 |"]
