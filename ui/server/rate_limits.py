"""What one client may send, how much and how often, so that nobody takes the page from the others.

Clients are told apart by their address. This machine's own programs are trusted with any number of
requests: it is they who serve a school from one laptop, or measure the server. A proxy in front is
no client: uvicorn puts the address it forwards for in place of its own, if FORWARDED_ALLOW_IPS
names the proxy (the default is one on this machine).
"""

from __future__ import annotations

import time
from collections import OrderedDict
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 11 * 2**20  # of a request: a picture of 10 MB, and what is around it
BURST, PER_SECOND = 240, 8  # requests at once, and for good; each megabyte counts as one more
_READ_ON = 6 * MOST_BYTES  # of a body too large: a client that still sends hears no answer
_MOST_CLIENTS = 10_000
_CHEAP = ("/assets/", "/static/", "/svelte/", "/favicon.ico", "/theme.css")
CLIENT: ContextVar[str] = ContextVar("client", default="")  # whose request or call is at work
_PASSED_ON = "/gradio_api/mcp"  # gradio calls itself for its caller, with the caller's headers
TOO_MANY = "Too many requests from your address: wait {} seconds."
TOO_LARGE = f"Too large: a request may have {MOST_BYTES >> 20} MB at most, a picture 10 MB."


class Allowances:
    """What each client may still ask for; it fills up again with time.

    Args:
        burst: requests at once.
        per_second: requests for good.
    """

    def __init__(self, burst: float = BURST, per_second: float = PER_SECOND) -> None:
        self.burst, self.per_second = burst, per_second
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # the latest last

    def take(self, client: str, cost: float, now: float) -> None:
        """Charge a client, also for more than it has.

        Args:
            client: its name.
            cost: in requests.
            now: seconds of any clock.
        """
        self._left[client] = (self.left(client, now) - cost, now)
        self._left.move_to_end(client)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)

    def left(self, client: str, now: float) -> float:
        """How many requests a client has; below 0 after a large one."""
        had, then = self._left.get(client, (self.burst, now))
        return min(self.burst, had + (now - then) * self.per_second)

    def wait(self, client: str, now: float) -> int:
        """Seconds until a client may ask again; 0 if it may."""
        missing = 1 - self.left(client, now)
        return int(missing / self.per_second) + 1 if missing > 0 else 0


class Limits:
    """Middleware that refuses too large requests (413) and too many (429), in words."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self._allowances = app, Allowances()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        client, got = name(scope), 0
        CLIENT.set(client)
        if client and route_path(scope).startswith(_PASSED_ON):
            others = [each for each in scope["headers"] if each[0] != b"x-forwarded-for"]
            scope["headers"] = [*others, (b"x-forwarded-for", scope["client"][0].encode())]
        if route_path(scope).startswith(_CHEAP):
            await self.app(scope, receive, send)
            return
        if client and (refusal := self._refusal(scope, client)):
            await refusal(scope, receive, send)
            return

        async def counted() -> Message:
            """A part of the request, as long as all of them together are small enough."""
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got <= MOST_BYTES:
                return message
            while message.get("more_body") and got < _READ_ON:
                message = await receive()
                got += len(message.get("body", b""))
            raise HTTPException(413, TOO_LARGE)

        try:
            await self.app(scope, counted, send)
        finally:
            if client:
                self._allowances.take(client, got / 2**20, time.monotonic())

    def _refusal(self, scope: Scope, client: str) -> JSONResponse | None:
        now = time.monotonic()
        if wait := self._allowances.wait(client, now):
            headers = {"Retry-After": str(wait)}
            return JSONResponse({"detail": TOO_MANY.format(wait)}, 429, headers)
        self._allowances.take(client, 1, now)
        return None


def route_path(scope: Scope) -> str:
    """The path of a request below the page's own root, which GRADIO_ROOT_PATH or a mount sets.

    A proxy may send the root along or strip it; both come out alike.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if path == root or path.startswith(f"{root}/") else path


def name(scope: Scope) -> str:
    """Who sends a request: an address, of IPv6 the network of a household; "" of this machine."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:  # a socket that has none, or a proxy that calls it something else
        return str(host)[:64]
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    if address.is_loopback:
        return ""
    return str(ip_network((address, 64), strict=False) if address.version == 6 else address)
