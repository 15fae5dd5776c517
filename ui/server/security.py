"""What stands between the page and the world: limits, headers, uploads opened by our loader."""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.components import theme
from ui.components.examples import EXAMPLES
from ui.server.disk_quota import LEDGER, Quota
from ui.server.fair_queue import FairQueue, Listening
from ui.server.rate_limits import Limits, route_path
from ui.server.same_site import FRAME_ANCESTORS, SameSite
from ui.server.sessions import MOST_SESSIONS
from vqa.tasks import ENDPOINTS

# The page fetches nothing from elsewhere, whatever a question, an answer or a library says. Gradio
# itself needs inline scripts and compiles its templates.
POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
SESSION_SECONDS = 3600  # uploads and results older than this are deleted
_NAMED = re.compile(r"/gradio_api/(run|api|call/v2|call)/+([^/]*)")
# The paths that the page and its clients use; every other one is closed. Gradio would also fetch
# addresses for strangers, keep copies of pages on the disk, and give films to ffmpeg.
_OPEN = re.compile(
    r"/?|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"
    r"|/(assets|static|svelte)/.+"
    r"|/gradio_api/(app_id|call|cancel|heartbeat|info|mcp|openapi\.json|queue|reset|run"
    r"|startup-events|upload|upload_progress)(/.*)?"
    r"|/gradio_api/file=(?!\s*(?i:https?):).*",
    re.DOTALL,
)


class ContentPolicy:
    """Middleware that sends `POLICY` with every answer.

    Args:
        app: what comes next.
        frame_ancestors: sites that may show the page in a frame, as of that directive.
    """

    def __init__(self, app: ASGIApp, frame_ancestors: str = FRAME_ANCESTORS) -> None:
        self.app, self.policy = app, f"{POLICY}; frame-ancestors {frame_ancestors}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and add the header on the way back."""

        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self.policy
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        await self.app(scope, receive, send_with_policy)


class PublicNames:
    """Middleware that knows no endpoint by name but the public ones, and no door that is not used.

    Gradio leaves the others out of its lists, but would serve whoever guesses their names. The page
    itself calls by number: /queue/join, and /run/predict.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 404."""
        path = route_path(scope) if scope["type"] == "http" else ""
        named = _NAMED.search(path)
        if named and named[2] not in ENDPOINTS and named.groups() != ("run", "predict"):
            refusal = PlainTextResponse(f"There is no endpoint /{named[2]}.", 404)
            await refusal(scope, receive, send)
        elif not _OPEN.fullmatch(path):
            await PlainTextResponse("Nothing is here.", 404)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def queue(demo: gr.Blocks) -> gr.Blocks:
    """Make every call wait its turn: few enough wait, one runs, and none gets around the queue."""
    demo.queue(api_open=False)
    demo._queue = FairQueue(demo)
    return demo


def launch_settings(
    names: Sequence[str] = (), frame_ancestors: str = FRAME_ANCESTORS
) -> dict[str, Any]:
    """Arguments for `launch()`, all but the address: the look, small uploads, quiet errors.

    Args:
        names: that the server answers to, as of `SameSite`.
        frame_ancestors: sites that may show the page in a frame.
    """
    middleware = [  # outermost first
        Middleware(ContentPolicy, frame_ancestors),
        Middleware(SameSite, names),
        Middleware(Limits),
        Middleware(PublicNames),
        Middleware(Quota),
        Middleware(Listening),
    ]
    return {
        "theme": theme.theme(),
        "css_paths": theme.STYLE,
        "css": theme.emoji_font(),
        "allowed_paths": [str(example.path) for example in EXAMPLES],
        "app_kwargs": {"middleware": middleware},
        "footer_links": [],
        "mcp_server": True,  # the public endpoints are its tools
        "max_file_size": "10mb",
        "enable_monitoring": False,
        "run_history": False,
        "show_error": False,
        "ssr_mode": False,  # a second server in front would send pages without our header
        "state_session_capacity": MOST_SESSIONS,
    }


def private_folder(folder: Path) -> None:
    """Make a folder that this user alone can open, or take the one that is there.

    Its name can be guessed, so that another user of this machine may have put something there.

    Raises:
        PermissionError: if it is a link, no folder, another user's, or others may write to it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = folder.lstat()
    ours = not hasattr(os, "getuid") or state.st_uid == os.getuid()
    if not stat.S_ISDIR(state.st_mode) or not ours or state.st_mode & 0o022:
        raise PermissionError(
            f"{folder} is a link, somebody else's folder, or others may write to it: remove it, or "
            "name another one in GRADIO_TEMP_DIR"
        )
    folder.chmod(0o700)


def keep_clean(folder: Path) -> None:
    """Delete what is too old in a folder of our own, now and for ever after, in a thread.

    Gradio deletes the uploads that it has heard of, not what an upload that broke off or a server
    that was killed left behind. What is there already counts as nobody's in the quota of all.
    """
    LEDGER.note("an earlier run", folder.rglob("*"))

    def work() -> None:
        while True:
            sweep(folder, SESSION_SECONDS)
            time.sleep(SESSION_SECONDS / 4)

    threading.Thread(target=work, daemon=True).start()


def sweep(folder: Path, age: float) -> None:
    """Delete the files and the empty folders in a folder that are older than so many seconds.

    What another user put there stays.
    """
    own = os.getuid() if hasattr(os, "getuid") else 0
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before it
        with suppress(OSError):  # it is gone, not empty or somebody else's
            state = path.lstat()
            if state.st_uid == own and state.st_mtime < time.time() - age:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
