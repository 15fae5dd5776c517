"""The real server in a process of its own, and the calls that a program makes to it, as plain HTTP.

Three requests a call: the picture is uploaded, the question asked, and the answer waited for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

ROOT = Path(__file__).parents[1]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _BROWSERS)), None)  # None: playwright's own
_RESIDENT = re.compile(r"VmRSS:\s+(\d+) kB")


class Refused(RuntimeError):
    """The server said no, in words; `status` is that of HTTP, 200 if the call itself failed."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class Server:
    """A running server.

    Args:
        process: it.
        port: that it listens on.
        log: what it prints, a file.
    """

    first_byte = ready = 0.0  # seconds from its start until it said anything; until the page

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
        self.process, self.port, self._log = process, port, log
        self.url = f"http://127.0.0.1:{port}/"

    def log(self) -> str:
        """What it printed so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def resident(self) -> float:
        """Memory that it holds, in megabytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = _RESIDENT.search(status)
        return int(found[1]) / 1000 if found else 0.0

    def wait(self, since: float) -> None:
        """Wait until the page is there.

        Raises:
            RuntimeError: if it ended instead; with what it printed.
        """
        while True:
            try:
                status = httpx.get(self.url, timeout=60).status_code
            except httpx.TransportError:
                status = 0
            now = time.monotonic() - since
            self.first_byte = self.first_byte or (now if status else 0.0)
            if status == httpx.codes.OK:
                self.ready = now
                return
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended:\n{self.log()}")
            time.sleep(0.02)


@contextmanager
def serving(
    *flags: str, port: int | None = None, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    """Start `python app.py` with some flags, and stop it at the end.

    Args:
        flags: of app.py.
        port: to listen on; None for one that is free.
        environment: changes of the environment; uploads go to a new folder in any case.

    Raises:
        RuntimeError: if it does not start.
    """
    port = port or free_port()
    command = [sys.executable, "-u", "app.py", "--host", "127.0.0.1", "--port", str(port), *flags]
    with tempfile.TemporaryDirectory() as uploads, tempfile.TemporaryFile() as log:
        changed = os.environ | {"TMPDIR": uploads} | (environment or {})
        since = time.monotonic()
        pipes: dict[str, Any] = {"stdout": log, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=ROOT, env=changed, **pipes) as process:
            server = Server(process, port, log)
            try:
                server.wait(since)
                yield server
            finally:
                process.terminate()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Visitor:
    """A program that calls the server.

    Args:
        url: the server's address, with a slash at the end.
        headers: that it sends.
        timeout: seconds that it waits for anything.
    """

    def __init__(
        self, url: str, headers: dict[str, str] | None = None, timeout: float = 120
    ) -> None:
        # A connection a request: the server closes those that rest, perhaps when one is sent.
        options: Any = {"limits": httpx.Limits(max_keepalive_connections=0), "timeout": timeout}
        self.http = httpx.Client(base_url=f"{url}gradio_api/", headers=headers, **options)
        self._defaults: dict[str, list[Any]] = {}

    def __enter__(self) -> Visitor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.http.close()

    def defaults(self) -> dict[str, list[Any]]:
        """The endpoints that there are, each with the values of the arguments that have some."""
        if not self._defaults:
            for name, each in self.http.get("info").json()["named_endpoints"].items():
                found = [x for x in each["parameters"] if x["parameter_has_default"]]
                self._defaults[name[1:]] = [x["parameter_default"] for x in found]
        return self._defaults

    def upload(self, content: bytes, name: str = "photo.jpg") -> dict[str, Any]:
        """Upload a file; returns what stands for it in a call.

        Raises:
            Refused: if the server does not take it.
        """
        (path,) = _checked(self.http.post("upload", files={"files": (name, content)})).json()
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, name: str, *data: Any) -> list[Any]:
        """Call an endpoint.

        Args:
            name: of it.
            data: its arguments, all of them.

        Raises:
            Refused: with the message, if there is no result.
        """
        reply = _checked(self.http.post(f"call/{name}", json={"data": data}))
        return self.result(name, reply.json()["event_id"])

    def result(self, name: str, event: str) -> list[Any]:
        """Wait for the result of a call that was made; errors as of `call`."""
        with self.http.stream("GET", f"call/{name}/{event}") as stream:
            return _result(stream.iter_lines())


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_error:
        raise Refused(reply.status_code, reply.text)
    return reply


def _result(lines: Iterator[str]) -> list[Any]:
    """The data of the event that ends a call."""
    event = ""
    for line in lines:
        if line.startswith("event: "):
            event = line.removeprefix("event: ")
        elif line.startswith("data: ") and event in ("complete", "error"):
            data = json.loads(line.removeprefix("data: "))
            if event == "complete":
                return list(data)
            raise Refused(200, str(data["error"] if isinstance(data, dict) else data))
    raise Refused(200, "the connection ended without a result")
