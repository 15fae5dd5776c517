"""What a push asks of the small Hub of `hub_server`: create, preupload, LFS, commit, branch.

Importing this adds the routes. Nothing of a commit can be seen before all of it is there.
"""

from __future__ import annotations

import base64
import json

from helpers.hub_server import ID, KIND, LARGE, REV, ROUTES, Handler, HubServer, Refused, Reply, oid


def writable(request: Handler) -> None:
    if not request.token:
        raise Refused(401, "Invalid username or password.")


def name_of(kind: str, repo_id: str) -> str:
    return repo_id if kind == "models" else f"{kind}/{repo_id}"


def create(hub: HubServer, request: Handler) -> Reply:
    writable(request)
    asked = json.loads(request.body)
    repo_id = "/".join(filter(None, (asked.get("organization"), asked["name"])))
    name = f"spaces/{repo_id}" if asked.get("type") == "space" else repo_id
    if asked.get("organization") == "strangers":
        raise Refused(403, "You don't have the rights to create a model under this namespace")
    url = Reply.of({"url": f"{hub.url}/{name}"})
    if name in hub.repos:
        return Reply(url.body, 409, url.headers)
    repo = hub.create(name, private=asked.get("visibility") == "private")
    repo.commit({".gitattributes": b"*.safetensors filter=lfs"})
    return url


def repo_of(hub: HubServer, request: Handler, kind: str, repo_id: str):
    writable(request)
    repo = hub.repos.get(name_of(kind, repo_id))
    if repo is None:
        raise Refused(404, "Repository not found", "RepoNotFound")
    return repo


def preupload(hub: HubServer, request: Handler, kind: str, repo_id: str, rev: str) -> Reply:
    repo = repo_of(hub, request, kind, repo_id)
    if rev not in repo.refs:
        raise Refused(404, f"Invalid rev id: {rev}", "RevisionNotFound")
    there = repo.commits[repo.refs[rev]]
    files = []
    for asked in json.loads(request.body)["files"]:
        path = asked["path"]
        mode = "lfs" if path.endswith(LARGE) else "regular"
        known = {"oid": oid(path, there[path])} if path in there else {}
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False} | known)
    return Reply.of({"files": files})


def batch(hub: HubServer, request: Handler, repo_id: str) -> Reply:
    writable(request)
    objects = []
    for asked in json.loads(request.body)["objects"]:
        at = f"{hub.url}/lfs/{asked['oid']}"
        actions = {"upload": {"href": at}, "verify": {"href": f"{at}/verify"}}
        objects.append(asked if asked["oid"] in hub.stored else asked | {"actions": actions})
    return Reply.of({"transfer": "basic", "objects": objects})


def store(hub: HubServer, request: Handler, sha: str) -> Reply:
    if oid("x.safetensors", request.body) != sha:
        raise Refused(400, "the content is not what was announced")
    hub.stored[sha] = request.body
    return Reply()


def verify(hub: HubServer, request: Handler, sha: str) -> Reply:
    if len(hub.stored.get(sha, b"")) != json.loads(request.body)["size"]:
        raise Refused(404, "not stored")
    return Reply()


def commit(hub: HubServer, request: Handler, kind: str, repo_id: str, rev: str) -> Reply:
    repo = repo_of(hub, request, kind, repo_id)
    files = dict(repo.commits[repo.refs[rev]])
    for line in map(json.loads, request.body.splitlines()):
        value = line["value"]
        match line["key"]:
            case "file":
                files[value["path"]] = base64.b64decode(value["content"])
            case "lfsFile":
                if value["oid"] not in hub.stored:
                    raise Refused(422, f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = hub.stored[value["oid"]]
            case "deletedFile":
                del files[value["path"]]
    pull_request = "create_pr=1" in request.path
    number = sum(name.startswith("refs/pr/") for name in repo.refs) + 1
    sha = repo.commit(files, f"refs/pr/{number}" if pull_request else rev)
    address = f"{hub.url}/{name_of(kind, repo_id)}"
    made = {"success": True, "commitOid": sha, "commitUrl": f"{address}/commit/{sha}"}
    return Reply.of(
        made | ({"pullRequestUrl": f"{address}/discussions/{number}"} if pull_request else {})
    )


def branch(hub: HubServer, request: Handler, kind: str, repo_id: str, rev: str) -> Reply:
    repo = repo_of(hub, request, kind, repo_id)
    if rev in repo.refs:
        raise Refused(409, "Reference already exists")
    repo.refs[rev] = repo.refs["main"]
    return Reply.of({})


def check_card(hub: HubServer, request: Handler) -> Reply:
    return Reply.of({"errors": [], "warnings": []})


ROUTES += [
    ("POST", r"/api/repos/create", create),
    ("POST", r"/api/validate-yaml", check_card),
    ("POST", rf"/api/{KIND}/{ID}/preupload/{REV}", preupload),
    ("POST", rf"/(?:spaces/)?{ID}\.git/info/lfs/objects/batch", batch),
    ("PUT", r"/lfs/(?P<sha>\w+)", store),
    ("POST", r"/lfs/(?P<sha>\w+)/verify", verify),
    ("POST", rf"/api/{KIND}/{ID}/commit/{REV}", commit),
    ("POST", rf"/api/{KIND}/{ID}/branch/{REV}", branch),
]
