"""What visitors see while the models load: how far that is, on the address of the page itself.

Importing the libraries and loading the models takes seconds. Nobody shall meet a closed door for so
long, least of all after the server was killed and started again. No library is needed for this.
"""

from __future__ import annotations

import html
import os
import socket
import sys
import threading
from argparse import ArgumentTypeError
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from socketserver import ThreadingTCPServer
from types import ModuleType, TracebackType

FIRST_PORT, PORTS, MAX_PORT = 7860, 100, 65535
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>SeeWhy is starting</title>
<style>
:root { color-scheme: light dark; }
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 20vh auto; padding: 1rem; }
</style>
<h1>SeeWhy</h1>
<p>The page opens by itself in a few seconds.</p>
<p role="status" id="now">STATE</p>
<script>
const look = async () => {
  try {
    const reply = await fetch('?starting', {cache: 'no-store'});
    const state = reply.headers.get('X-State');
    if (reply.ok && !state) return location.reload();
    if (state) document.getElementById('now').textContent = state;
  } catch {}  // the page is about to take over
  setTimeout(look, 300);
};
setTimeout(look, 300);
</script>
"""


class Starting:
    """Answers every request with the state, until the page takes over the address.

    Args:
        host: name or address to listen on, of IPv6 with or without brackets; None for gradio's
            default, this machine alone.
        port: to listen on, 0 for any that is free; None for 7860, or the next that is free.

    Raises:
        OSError: if the port is taken, or there is no such address here.
        ArgumentTypeError: if GRADIO_SERVER_PORT is no port.
    """

    def __init__(self, host: str | None = None, port: int | None = None) -> None:
        self.state = "Starting"
        name = (host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip("[]")
        self.host = f"[{name}]" if ":" in name else name  # as it stands in a URL
        first = port_number(os.environ.get("GRADIO_SERVER_PORT") or str(FIRST_PORT))
        ports = range(first, first + PORTS) if port is None else range(port, port + 1)
        self._server = _listen(name, ports)
        self._server.starting = self
        self.port = int(self._server.server_address[1])

    def tell(self, state: str) -> None:
        """Say what is going on now."""
        self.state = state

    def __enter__(self) -> Starting:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class NoStubs(MetaPathFinder):
    """Keeps gradio from comparing its components' sources with their stubs when it is imported.

    That takes two fifths of the import, and helps only those who write components.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the one module whose stub writer is to be left out; see
        `importlib.abc.MetaPathFinder`.
        """
        if name != "gradio.component_meta":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        run = spec.loader.exec_module

        def without_stubs(module: ModuleType) -> None:
            run(module)
            if hasattr(module, "create_or_modify_pyi"):
                vars(module)["create_or_modify_pyi"] = lambda *_: None

        vars(spec.loader)["exec_module"] = without_stubs
        return spec


def port_number(text: str) -> int:
    """A port as it is written on a command line or in the environment.

    Raises:
        ArgumentTypeError: if it is none.
    """
    if not (text.isascii() and text.isdecimal() and int(text) <= MAX_PORT):
        raise ArgumentTypeError(
            f"{text!r} is no port: --port and GRADIO_SERVER_PORT take a number from 0 to {MAX_PORT}"
        )
    return int(text)


class _Server(ThreadingTCPServer):  # an HTTPServer would ask for its own name, which may take long
    allow_reuse_address = True
    daemon_threads = True  # a client that says nothing keeps nobody waiting
    block_on_close = False
    starting: Starting

    def __init__(self, host: str, port: int) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        """Say how far it is; to programs 503, which would be an error in the page's console."""
        state = self.server.starting.state
        page = _PAGE.replace("STATE", html.escape(state)).encode()
        self.send_response(200 if self.path.endswith("?starting") else 503)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("Retry-After", "2")
        self.send_header("X-State", state)
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        """Nothing: who came too early is of no interest."""


def _listen(host: str, ports: range) -> _Server:
    for port in ports:
        try:
            return _Server(host, port)
        except OSError:
            if port in (ports[-1], MAX_PORT):
                raise
    raise ValueError("there are no ports")
