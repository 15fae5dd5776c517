"""What the tests of the server share."""

from __future__ import annotations

import pytest
from helpers.serving import served
from helpers.tiny import tiny_answerer

from vqa.engine import Engine


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The page with a tiny answerer, served."""
    with served(Engine(tiny_answerer()), tmp_path_factory.mktemp("uploads")) as demo:
        yield demo
