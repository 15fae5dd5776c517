"""What gradio does that cannot be left so: some of its functions, replaced in the whole process.

Components are made anew when they change, so that methods of theirs would not stay replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import gradio as gr
from anyio import get_cancelled_exc_class
from anyio.to_thread import run_sync
from gradio import processing_utils, utils
from gradio.mcp import GradioMCPServer
from gradio.server_messages import ProcessCompletedMessage
from gradio.state_holder import SessionState, StateHolder

from ui.server import sessions
from ui.server.disk_quota import counted
from ui.server.fair_queue import FairQueue
from ui.server.rate_limits import CLIENT, name

NO_ADDRESS = "No address is fetched from here: upload the picture itself."
_UPLOADED = "/gradio_api/file="
_save = counted(processing_utils.save_base64_to_cache)
_SAVING = ("save_pil_to_cache", "save_bytes_to_cache", "save_file_to_cache")
_begin_session = SessionState.__init__
_complete = ProcessCompletedMessage.__init__
_follow = GradioMCPServer._execute_tool_with_progress
_prepare = GradioMCPServer._prepare_tool_call_args
_sent: set[str] = set()
_counted = {each: counted(getattr(processing_utils, each)) for each in _SAVING}


def apply_patches(demo: gr.Blocks) -> None:
    """Replace the functions; files sent to this page as text are deleted like its uploads."""
    demo.temp_file_sets.append(_sent)
    patches: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (processing_utils, "async_ssrf_protected_download", _find_upload),
        (processing_utils, "save_base64_to_cache", _save_and_note),
        (GradioMCPServer, "_execute_tool_without_progress", _outputs),
        (GradioMCPServer, "_execute_tool_with_progress", _outputs_with_progress),
        (GradioMCPServer, "_prepare_tool_call_args", _prepare_as_caller),
        (SessionState, "__init__", _begin_lean_session),
        (ProcessCompletedMessage, "__init__", _complete_with_data),
        (StateHolder, "update", sessions.make_room),
        (SessionState, "_update_config", _keep_nothing),
        (SessionState, "_update_value_in_config", _keep_nothing),
        *((processing_utils, each, function) for each, function in _counted.items()),
    )
    for owner, attribute, function in patches:
        setattr(owner, attribute, function)


async def _find_upload(url: str, cache_dir: str) -> str:
    """The file that was uploaded here and has this address; no other address is fetched.

    Gradio would fetch any, of any size, given to any component, also of a private endpoint.
    """
    path = unquote(url.partition(_UPLOADED)[2])
    if not (path and utils.is_in_or_equal(path, cache_dir) and Path(path).is_file()):
        raise gr.Error(NO_ADDRESS, print_exception=False)
    return path


def _save_and_note(text: str, cache_dir: str, file_name: str | None = None) -> str:
    """Save a data: address of an MCP client; gradio would never delete the file."""
    path = _save(text, cache_dir, file_name)
    _sent.add(path)
    return path


async def _outputs(server: GradioMCPServer, job: Any) -> list[Any]:
    """What an MCP tool found; gradio would take several outputs for one, a picture for text."""
    with _abandoning(server, job):
        found = await run_sync(job.result, abandon_on_cancel=True)
    return list(found) if isinstance(found, tuple) else [found]


async def _outputs_with_progress(server: GradioMCPServer, job: Any, token: str | int) -> Any:
    """What an MCP tool found, with news on the way; stopped if its caller hangs up."""
    with _abandoning(server, job):
        return await _follow(server, job, token)


@contextmanager
def _abandoning(server: GradioMCPServer, job: Any) -> Iterator[None]:
    """Stop a tool's call if its caller hangs up, on which this task is cancelled.

    Gradio's own client, which listens for the result, would do so to the end.
    """
    try:
        yield
    except get_cancelled_exc_class():
        queue = server.blocks._queue
        if job.communicator is not None and isinstance(queue, FairQueue):
            queue.abandon(job.communicator.event_id)
        raise


def _prepare_as_caller(server: GradioMCPServer, *args: Any) -> Any:
    """Prepare a tool's call in the name of whoever sent it, whose the files in it are."""
    request = server.mcp_server.request_context.request
    if request is not None:
        CLIENT.set(name(request.scope))
    return _prepare(server, *args)


def _begin_lean_session(session: SessionState, blocks: gr.Blocks) -> None:
    """Begin a session without a copy of all components and, later on, of all that they show.

    They are for links to a page as it is, which are closed here (`guards`). They would take 12 ms
    and 280 kB of every session, thousands of which are a single request of a program's.
    """
    nothing_to_copy: Any = SimpleNamespace(default_config=blocks.default_config, blocks=())
    _begin_session(session, nothing_to_copy)
    sessions.begin(session)


def _complete_with_data(message: ProcessCompletedMessage, **fields: Any) -> None:
    """Tell the browser that an event is over, in a way that it understands if it was cancelled.

    Gradio would send a success without data, on which its script fails: the browser would take a
    cancelled event for a failed one, and when it has forgotten it, for another failed one.
    """
    _complete(message, **fields)
    if message.success and not message.output:
        message.output = {"data": []}


def _keep_nothing(_session: SessionState, *_: Any) -> None:
    """In place of keeping what a component shows."""
