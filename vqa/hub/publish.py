"""Publish a checkpoint, or the page itself, on the Hugging Face Hub.

A push is one commit: until it is whole, the last one stays what everybody gets. What the Hub has
already is not sent again. Where the Hub is busy or the connection breaks, it is tried again, ever
more slowly.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from vqa import checkpoints
from vqa.checkpoints.layout import CARD, HUB_FILES
from vqa.errors import NotPublished, one_line
from vqa.tasks import BY_FLAG

EXAMPLE = "example.jpg"
PICTURES = (EXAMPLE, "confusion.png")  # that a card may show
EVALUATED = ".eval_results"  # folder of what the Hub ranks
ATTEMPTS = 5
FIRST_WAIT = 1.0  # seconds before the second attempt; each further one waits twice as long
BUSY = {429, 500, 502, 503, 504}
SPACE = ("app.py", "requirements.txt", "LICENSE", "ui", "vqa", "saliency")  # what a Space runs
MODELS = "models.json"  # which models of the Hub a Space loads

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    pr: bool = False,
    wait: float = FIRST_WAIT,
) -> str:
    """Put a checkpoint with its card and its numbers on the Hub, byte by byte as they are here.

    Pictures and `.eval_results` of an older push that are not here any more go; other files stay.

    Args:
        folder: of a checkpoint that can be loaded, with a card.
        repo_id: "org/name"; made if it is not there.
        private: for a repository that is made.
        revision: branch, made if it is not there; None for main.
        pr: open a pull request instead of changing the branch.
        wait: seconds before the second attempt.

    Returns:
        The address of the commit, or of the pull request; without any change, of the last commit.

    Raises:
        BadCheckpoint: if the folder cannot be loaded; nothing was sent.
        NotPublished: if there is no card, or the Hub does not take it.
    """
    folder = Path(folder)
    checkpoints.load(folder)
    if not (folder / CARD).is_file():
        raise NotPublished(f"{folder} has no card: python -m training.card {folder} writes it")
    names = [
        *HUB_FILES,
        *PICTURES,
        *(f"{EVALUATED}/{f.name}" for f in folder.glob(f"{EVALUATED}/*")),
    ]
    files = {name: folder / name for name in names if (folder / name).is_file()}
    where: dict[str, Any] = {"revision": revision, "pr": pr}
    return _publish("model", repo_id, files, private=private, wait=wait, **where)


def push_space(
    root: str | Path,
    repo_id: str,
    *,
    models: Mapping[str, str] | None = None,
    private: bool = False,
    wait: float = FIRST_WAIT,
) -> str:
    """Put the page on the Hub as a Space.

    Args:
        root: of this repository.
        repo_id: "org/name"; made if it is not there.
        models: Hub ids by the tasks' flags: the Space loads these, and its builder fetches them
            before it starts; the shipped weights for these tasks stay here.
        private: for a Space that is made.
        wait: seconds before the second attempt.

    Returns:
        The address of the commit; without any change, of the last one.

    Raises:
        NotPublished: if the Hub does not take it, or there is no such kind of model.
    """
    root, models = Path(root), dict(models or {})
    if strangers := sorted(set(models) - set(BY_FLAG)):
        raise NotPublished(f"no model is a {', '.join(strangers)}; there are: {', '.join(BY_FLAG)}")
    files: dict[str, Path | bytes] = {}
    for name in (*SPACE, "model_cards"):
        for path in [root / name] if (root / name).is_file() else sorted((root / name).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[path.relative_to(root).as_posix()] = path
    for flag in models:
        shipped = tuple(f"model_cards/{folder}/" for folder in BY_FLAG[flag].folders)
        files = {name: file for name, file in files.items() if not name.startswith(shipped)}
    files[CARD] = _space_card((root / CARD).read_text(encoding="utf-8"), models).encode()
    files[MODELS] = (json.dumps(models, indent=1) + "\n").encode()
    return _publish("space", repo_id, files, private=private, wait=wait)


def push_metric(
    root: str | Path, metric: str, repo_id: str, *, private: bool = False, wait: float = FIRST_WAIT
) -> str:
    """Put a metric on the Hub as a Space, for `evaluate.load(repo_id)`.

    Args:
        root: of this repository.
        metric: one of `vqa.hub.metric_space.METRICS`.
        repo_id: "org/name"; made if it is not there.
        private: for a Space that is made.
        wait: seconds before the second attempt.

    Returns:
        The address of the commit; without any change, of the last one.

    Raises:
        NotPublished: if the Hub does not take it, or there is no such metric.
    """
    from vqa.hub import metric_space

    if metric not in metric_space.METRICS:
        there = ", ".join(metric_space.METRICS)
        raise NotPublished(f"no metric is called {metric}; there are: {there}")
    files = metric_space.files(Path(root), metric, repo_id)
    return _publish("space", repo_id, files, private=private, wait=wait)


def _space_card(text: str, models: Mapping[str, str]) -> str:
    """README with what a Space must know of its models."""
    from huggingface_hub import RepoCard

    card = RepoCard(text)
    if models:
        fetched = ",".join(HUB_FILES)
        card.data["models"] = sorted(models.values())
        card.data["preload_from_hub"] = [f"{one} {fetched}" for one in sorted(models.values())]
    return str(card)


def _publish(
    kind: str,
    repo_id: str,
    files: Mapping[str, Path | bytes],
    *,
    private: bool,
    wait: float,
    revision: str | None = None,
    pr: bool = False,
) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi()
    sdk: dict[str, Any] = {"space_sdk": "gradio"} if kind == "space" else {}
    made: dict[str, Any] = {"repo_type": kind, "exist_ok": True}

    def commit() -> str:
        """One attempt, from the start: what is there already is only looked at."""
        api.create_repo(repo_id, private=private or None, **made, **sdk)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, **made)
        there = api.list_repo_files(repo_id, revision=revision) if kind == "model" else []
        gone = [name for name in there if _tells_of_weights(name) and name not in files]
        found = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *map(CommitOperationDelete, gone),
            ],
            commit_message=f"Push {len(files)} files",
            repo_type=kind,
            revision=revision,
            create_pr=pr,
        )
        return str(found.pr_url or found.commit_url)

    return _patiently(commit, repo_id, wait)


def _tells_of_weights(name: str) -> bool:
    """Whether a file says what a model does or how well: no longer true of other weights."""
    return name in PICTURES or name.startswith(f"{EVALUATED}/")


def _patiently(attempt: Callable[[], Result], repo_id: str, wait: float) -> Result:
    """Try again while the Hub is only busy or out of reach."""
    for count in range(1, ATTEMPTS + 1):
        try:
            return attempt()
        except Exception as error:  # the client's errors share no base class
            cause = _cause(error)
            if count == ATTEMPTS or not _may_pass(cause):
                tried = f" after {count} attempts" if count > 1 else ""
                why = _reason(cause)
                raise NotPublished(f"{repo_id!r} was not published{tried}: {why}") from error
            logger.warning("%s: %s; again in %.0f s", repo_id, _reason(cause), wait)
            time.sleep(wait)
            wait *= 2
    raise AssertionError("unreachable")


def _cause(error: BaseException) -> BaseException:
    """What was behind a failed upload."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _may_pass(error: BaseException) -> bool:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in BUSY
    return isinstance(error, httpx2.TransportError)


def _reason(error: BaseException) -> str:
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    token = "give a token that may write (`hf auth login`, or HF_TOKEN in the environment)"
    if isinstance(error, HFValidationError):
        return f"not a Hub id: {one_line(error)}"
    if isinstance(error, LocalTokenNotFoundError):
        return token
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = error.server_message or one_line(error)
        return f"the Hub answered {status}: {said}" + (f"; {token}" if status in (401, 403) else "")
    return f"{type(error).__name__}: {one_line(error)}"
