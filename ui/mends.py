"""What gradio does that cannot be left so: three of its functions, replaced in the whole process.

Components are made anew when they change, so that methods of theirs would not stay replaced.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
from anyio.to_thread import run_sync
from gradio import processing_utils, utils
from gradio.mcp import GradioMCPServer

NO_ADDRESS = "No address is fetched from here: upload the picture itself."
_UPLOADED = "/gradio_api/file="
_save = processing_utils.save_base64_to_cache
_sent: set[str] = set()


def mend(demo: gr.Blocks) -> None:
    """Replace the functions; files sent to this page as text are deleted like its uploads."""
    demo.temp_file_sets.append(_sent)
    processing_utils.async_ssrf_protected_download = _find_upload
    processing_utils.save_base64_to_cache = _save_and_note
    GradioMCPServer._execute_tool_without_progress = _outputs


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


async def _outputs(_server: GradioMCPServer, job: Any) -> list[Any]:
    """What an MCP tool found; gradio would take several outputs for one, a picture for text."""
    found = await run_sync(job.result)
    return list(found) if isinstance(found, tuple) else [found]
