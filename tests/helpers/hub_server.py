"""A small Hugging Face Hub on the loopback interface, for the real client to talk to over HTTP.

    with HubServer() as hub:
        repo = hub.create("org/model")
        commit = repo.commit({"config.json": b"{}"})
        hub.faults.append(Fault("GET /org/model/resolve", status=503))
        ...  # the client, with HF_ENDPOINT=hub.url

`ROUTES` leads a request to one function, which returns a `Reply` or raises `Refused`; tokens,
faults and sending are the handler's. What changes repositories is in `hub_writes`.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin")  # kept by git-lfs, as on the Hub


@dataclass
class Repo:
    """One repository: its commits, each with all its files, and the branches and tags on them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Replace all files; returns the commit's 40 hex digits."""
        content = repr((len(self.commits), sorted(files.items())))
        sha = hashlib.sha1(content.encode()).hexdigest()
        self.commits[sha] = dict(files)
        self.refs[branch] = sha
        return sha


@dataclass
class Fault:
    """What becomes, `times` times, of requests like `pattern` (a regex on "METHOD /path")."""

    pattern: str
    status: int | None = None  # answer with this error
    page: bytes | None = None  # answer 200 with this text
    short: bool = False  # send half of the content as if it were all
    cut: bool = False  # announce all of it, send half and hang up
    hold: bool = False  # stop half-way until `released`
    headers: dict[str, str] = field(default_factory=dict)  # answer with these besides
    times: int = 1000
    held: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@dataclass
class Reply:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: object) -> Reply:
        return cls(json.dumps(content).encode(), headers={"Content-Type": "application/json"})


class Refused(Exception):
    """An error answer, with the code by which the client tells one from another."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self.reply = Reply(json.dumps({"error": message}).encode(), status, headers)


class HubServer(ThreadingHTTPServer):
    """The server, running inside `with`; `requests` lists what was asked, as "METHOD /path"."""

    daemon_threads = True

    def __init__(self, token: str = "hf_good"):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.token = token
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.connections: set[socket.socket] = set()
        self.stored: dict[str, bytes] = {}  # of git-lfs, by sha256
        self._lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self) -> None:
        """Go off the network, with every open connection; may be called twice."""
        for fault in self.faults:
            fault.released.set()
        self.shutdown()
        self.server_close()
        for connection in tuple(self.connections):
            with suppress(OSError):  # the client may have closed it
                connection.shutdown(socket.SHUT_RDWR)

    def create(self, repo_id: str, **options: bool) -> Repo:
        """A model's repository, or with "spaces/" before its id a Space's."""
        return self.repos.setdefault(repo_id, Repo(**options))

    def note(self, request: str) -> Fault | None:
        """Log a request; returns the fault it meets."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None


def repo_info(
    hub: HubServer, request: Handler, repo_id: str, rev: str = "main", kind: str = "models"
) -> Reply:
    repo, sha = find(hub, request, repo_id if kind == "models" else f"{kind}/{repo_id}", rev)
    files: list[dict[str, object]] = [{"rfilename": path} for path in repo.commits[sha]]
    if "blobs=" in urlsplit(request.path).query:
        for file, data in zip(files, repo.commits[sha].values(), strict=True):
            file["size"] = len(data)
    gated = "manual" if repo.gated else False
    access = {"private": repo.private, "gated": gated}
    return Reply.of({"id": repo_id, "sha": sha, "tags": [], "siblings": files} | access)


def tree(hub: HubServer, request: Handler, repo_id: str, rev: str) -> Reply:
    repo, sha = find(hub, request, repo_id, rev)
    return Reply.of([tree_entry(path, data) for path, data in repo.commits[sha].items()])


def data_tree(hub: HubServer, request: Handler, repo_id: str, rev: str, folder: str = "") -> Reply:
    """What a folder of a dataset holds; all that is below it, too."""
    repo, sha = find(hub, request, f"datasets/{repo_id}", rev)
    under = f"{folder}/" if folder else ""
    files = {path: data for path, data in repo.commits[sha].items() if path.startswith(under)}
    if not files:
        raise Refused(404, "Entry not found", "EntryNotFound")
    folders = {path.rpartition("/")[0] for path in files} - {"", folder}
    entries = [{"type": "directory", "path": f, "oid": "0" * 40, "size": 0} for f in folders]
    return Reply.of(entries + [tree_entry(*file) for file in files.items()])


def resolve_other(hub: HubServer, request: Handler, kind: str, repo_id: str, **at: str) -> Reply:
    """A file of what is no model."""
    return resolve(hub, request, f"{kind}/{repo_id}", **at)


def resolve(hub: HubServer, request: Handler, repo_id: str, rev: str, path: str) -> Reply:
    repo, sha = find(hub, request, repo_id, rev)
    if repo.gated:  # the listing is open to all, the files are not
        status = 403 if request.token else 401
        raise Refused(status, f"Access to model {repo_id} is restricted.", "GatedRepo")
    data = repo.commits[sha].get(path)
    if data is None:
        raise Refused(404, "Entry not found", "EntryNotFound")
    etag = f'"{oid(path, data)}"'
    headers = {"X-Repo-Commit": sha, "ETag": etag, "Accept-Ranges": "bytes"}
    if path.endswith(LARGE):
        headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}
    if (asked := request.headers.get("Range")) is None:
        return Reply(data, 200, headers)
    first, last = asked.removeprefix("bytes=").split("-")
    part = data[int(first) : int(last or len(data)) + 1]
    headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
    return Reply(part, 206, headers)


def find(hub: HubServer, request: Handler, repo_id: str, rev: str) -> tuple[Repo, str]:
    """The repository and the commit that a request is about, if its sender may see them."""
    repo = hub.repos.get(repo_id)
    if repo is None or (repo.private and not request.token):
        if request.token:
            raise Refused(404, "Repository not found", "RepoNotFound")
        raise Refused(401, "Invalid username or password.", "RepoNotFound")
    sha = repo.refs.get(rev, rev)
    if sha not in repo.commits:
        raise Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
    return repo, sha


def tree_entry(path: str, data: bytes) -> dict[str, object]:
    entry = {"type": "file", "path": path, "size": len(data), "oid": oid(path, data)}
    lfs = {"lfs": {"oid": oid(path, data), "size": len(data), "pointerSize": 134}}
    return entry | (lfs if path.endswith(LARGE) else {})


def oid(path: str, data: bytes) -> str:
    if path.endswith(LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


ID, REV = r"(?P<repo_id>[\w.-]+/[\w.-]+)", r"(?P<rev>[^/]+)"
KIND = r"(?P<kind>models|spaces|datasets)"
Route = tuple[str, str, Callable[..., Reply]]
ROUTES: list[Route] = [
    ("GET", rf"/api/{KIND}/{ID}", repo_info),
    ("GET", rf"/api/{KIND}/{ID}/revision/{REV}", repo_info),
    ("GET", rf"/api/models/{ID}/tree/{REV}", tree),
    ("GET", rf"/api/datasets/{ID}/tree/{REV}(?:/(?P<folder>.+))?", data_tree),
    ("HEAD|GET", rf"/{KIND}/{ID}/resolve/{REV}/(?P<path>.+)", resolve_other),
    ("HEAD|GET", rf"/{ID}/resolve/{REV}/(?P<path>.+)", resolve),
]


class Handler(BaseHTTPRequestHandler):
    """One connection: finds the route, checks the token, plays the faults."""

    protocol_version = "HTTP/1.1"
    server: HubServer
    token: str | None  # of this request, if it is the right one
    body: bytes

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.body = self._read_body()
        fault = self.server.note(f"{self.command} {path}") or Fault("")
        try:
            reply = self._answer(path, fault)
        except Refused as refused:
            reply = refused.reply
        with suppress(ConnectionError):  # the client may be gone
            self._send(reply, fault)

    do_HEAD = do_POST = do_PUT = do_GET

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, path: str, fault: Fault) -> Reply:
        if fault.status is not None:
            raise Refused(fault.status, "out of order")
        if fault.page is not None:
            return Reply(fault.page)
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        if self.token not in (None, self.server.token):
            raise Refused(401, "Invalid credentials in Authorization header")
        for methods, pattern, answer in ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in methods.split("|"):
                given = {name: text for name, text in found.groupdict().items() if text}
                named = {name: unquote(text) for name, text in given.items()}
                return answer(self.server, self, **named)
        raise Refused(404, f"No such address: {self.command} {path}")

    def _send(self, reply: Reply, fault: Fault) -> None:
        body = reply.body[: len(reply.body) // 2] if fault.short else reply.body
        length = {"Content-Length": str(len(body))}
        self.send_response(reply.status)
        for name, value in (reply.headers | fault.headers | length).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(body) // 2 if fault.cut or fault.hold else len(body)
        self.wfile.write(body[:half])
        if fault.cut:
            self.close_connection = True
        elif fault.hold:
            fault.held.set()
            fault.released.wait(30)
            self.wfile.write(body[half:])

    def log_message(self, *_: object) -> None:
        """Keep quiet."""
