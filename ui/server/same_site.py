"""Which names the server answers to; which sites may send it something or show it in a frame."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL = ("localhost", "*.localhost")
# The sites of Hugging Face, which shows a Space in a frame.
FRAME_ANCESTORS = "https://huggingface.co https://*.huggingface.co https://*.hf.space"
OTHER_NAME = (
    "This server does not answer to the name {!r}. If that is its name, have it started with "
    "--name {}."
)
OTHER_SITE = "Another site sent this request: only the page itself and programs may."
_READS = ("GET", "HEAD", "OPTIONS")


class SameSite:
    """Middleware that knows the server's names (else 421), and refuses what other sites send (403).

    A site whose name leads to this machine all of a sudden (DNS rebinding) is another name's; one
    with a form that is sent to this server is another site. Addresses in numbers are no names.

    Args:
        app: what comes next.
        names: patterns of names, such as "*.example.org".
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self.app, self.names = app, [name.lower() for name in (*LOCAL, *names)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if host and not self._knows(_name(f"//{host}")):
            return PlainTextResponse(OTHER_NAME.format(host, _name(f"//{host}") or "NAME"), 421)
        if scope["method"] not in _READS and _from_another_site(headers):
            return PlainTextResponse(OTHER_SITE, 403)
        return None

    def _knows(self, name: str) -> bool:
        try:
            return bool(ip_address(name))
        except ValueError:
            return any(fnmatchcase(name, pattern) for pattern in self.names)


def own_names(host: str, names: Sequence[str] = ()) -> list[str]:
    """The names that the server has: those it was told, and those that can be known.

    Args:
        host: that it listens on.
        names: that it was told.
    """
    machine = socket.gethostname()
    space = os.environ.get("SPACE_HOST", ""), "*.hf.space" if "SPACE_ID" in os.environ else ""
    return [each for each in (*names, host, machine, f"{machine}.local", *space) if each]


def _name(url: str) -> str:
    """The name or address in a URL, without brackets; "" if it has none."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _from_another_site(headers: Headers) -> bool:
    """Whether a browser sends a request for another site's page; programs send no such header."""
    if site := headers.get("sec-fetch-site"):
        return site not in ("same-origin", "none")
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "").lower()
