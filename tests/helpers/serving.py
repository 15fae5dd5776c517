"""The page, served by the tests' own process."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager

import gradio.mcp
import pytest

from app import create_demo
from benchmarks.server import free_port
from ui.server import security


@contextmanager
def served(engine, uploads, **environment):
    """A page around an engine.

    Args:
        engine: its models.
        uploads: folder for what it is sent.
        environment: variables that it sees.
    """
    where = {"server_name": "127.0.0.1", "server_port": free_port()}

    async def serve():
        demo = create_demo(engine)
        demo.launch(prevent_thread_lock=True, quiet=True, **where, **security.launch_settings())
        return demo

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"GRADIO_TEMP_DIR": str(uploads), **environment}.items():
            patch.setenv(name, value)
        patch.setattr(gradio.mcp, "DEFAULT_TEMP_DIR", str(uploads))  # read when it was imported
        demo = asyncio.run(serve())  # without a running loop, gradio leaves some open
        yield demo
        demo.close()
