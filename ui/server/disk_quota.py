"""How much disk one client and all together may fill with uploads and with what is drawn for them.

Files are deleted by age (ui/server/security.py); until then each counts as its first owner's.
"""

from __future__ import annotations

import errno
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ui.server.rate_limits import CLIENT, MOST_BYTES, route_path

OF_A_CLIENT, IN_ALL, LEFT_FREE = 500 * 2**20, 4 * 2**30, 100 * 2**20
LIFETIME = 7200.0  # seconds after which what an upload that broke off left behind is deleted
_LOOK_SOON, _LOOK_LATE = 5.0, 600.0  # seconds between two looks for files that were deleted
CLIENT_FULL = (
    f"Your files here take {OF_A_CLIENT >> 20} MB already; each is deleted an hour or two after "
    "it came."
)
ALL_FULL = "The space for files is used up here; the oldest are deleted within an hour or two."
NO_SPACE = "The disk of the server is full: nothing can be saved now."


class Ledger:
    """Who filled how much.

    Args:
        of_a_client: bytes that one client may fill.
        in_all: bytes that all together may.
    """

    def __init__(self, of_a_client: int = OF_A_CLIENT, in_all: int = IN_ALL) -> None:
        self.of_a_client, self.in_all = of_a_client, in_all
        self._entries: dict[Path | float, tuple[str, int]] = {}  # files, and uploads by their time
        self._used = Counter[str]()  # bytes, by client
        self._lock, self._looked = threading.Lock(), float("-inf")

    def refusal(self, client: str, more: int = 0) -> str | None:
        """In words why a client may not fill so many bytes more; None if it may."""
        if _free() - more < LEFT_FREE:
            return NO_SPACE
        with self._lock:
            words = self._refusal(client, more)
            if time.monotonic() > self._looked + (_LOOK_SOON if words else _LOOK_LATE):
                self._forget_deleted()
                words = self._refusal(client, more)
            return words

    def begin(self, client: str, size: int) -> float:
        """Count an upload that begins; returns what `end` wants. One that breaks off counts on."""
        with self._lock:
            key = time.monotonic()
            while key in self._entries:
                key += 1e-6
            self._add(key, client, size)
            return key

    def end(self, upload: float, paths: Iterable[str]) -> None:
        """Count the files of an upload that is complete in place of the upload."""
        with self._lock:
            client, size = self._entries.pop(upload)
            self._used[client] -= size
        self.note(client, paths)

    def note(self, client: str, paths: Iterable[str | Path]) -> None:
        """Count files as a client's, those that are nobody's yet."""
        with self._lock:
            for path in map(Path, paths):
                if path.is_file() and path not in self._entries:
                    self._add(path, client, path.stat().st_size)

    def _add(self, key: Path | float, client: str, size: int) -> None:
        self._entries[key] = client, size
        self._used[client] += size

    def _refusal(self, client: str, more: int) -> str | None:
        if more + self._used.total() > self.in_all:
            return ALL_FULL
        return CLIENT_FULL if more + self._used[client] > self.of_a_client else None

    def _forget_deleted(self) -> None:
        self._looked = now = time.monotonic()
        kept = {
            key: entry
            for key, entry in self._entries.items()
            if (key.is_file() if isinstance(key, Path) else key > now - LIFETIME)
        }
        self._entries, self._used = {}, Counter()
        for key, (client, size) in kept.items():
            self._add(key, client, size)


LEDGER = Ledger()


class Quota:
    """Middleware that refuses uploads for which there is no room (507), in words."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or not route_path(scope).startswith("/gradio_api/upload"):
            await self.app(scope, receive, send)
            return
        if scope["method"] != "POST":  # asks how far an upload is
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        size = int(length) if length.isdecimal() else MOST_BYTES
        # Gradio's own client copies what a tool was sent, whose first copy is its caller's.
        client = CLIENT.get() or headers.get("x-gradio-user", "")
        status, reply = 0, b""
        if words := LEDGER.refusal(client, size):
            await PlainTextResponse(words, 507)(scope, receive, send)
            return
        upload = LEDGER.begin(client, size)

        async def read(message: Message) -> None:
            nonlocal status, reply
            status = message.get("status", status)
            reply += message.get("body", b"")
            await send(message)

        await self.app(scope, receive, read)
        if status == 200:
            LEDGER.end(upload, json.loads(reply))


def counted(save: Callable[..., str]) -> Callable[..., str]:
    """A function of gradio's that saves a file, within the quota of whose call is at work."""

    @wraps(save)
    def save_within_quota(*args: Any, **options: Any) -> str:
        """Save as `save` does, or refuse in words where there is no room."""
        client = CLIENT.get()
        if words := LEDGER.refusal(client):
            raise gr.Error(words, print_exception=False)
        try:
            path = save(*args, **options)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise gr.Error(NO_SPACE, print_exception=False) from error
        LEDGER.note(client, [path])
        return path

    return save_within_quota


def _free() -> int:
    """Bytes that are free where uploads go."""
    folder = Path(get_upload_folder()).absolute()
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    return shutil.disk_usage(there).free
