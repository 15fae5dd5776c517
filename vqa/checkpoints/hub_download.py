"""Download a checkpoint from the Hugging Face Hub, where a repository is a checkpoint directory.

Private and gated models need a token: `hf auth login`, or HF_TOKEN in the environment.
HF_ENDPOINT, HF_HOME and HF_HUB_OFFLINE mean what they mean to every Hub program.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from vqa.checkpoints.files import PICKLES
from vqa.checkpoints.layout import HUB_FILES, WEIGHTS
from vqa.errors import BadCheckpoint, one_line

OF_TRANSFORMERS = (  # what a model of transformers has besides
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
)
WANTED = (*HUB_FILES, *OF_TRANSFORMERS)

Progress = Callable[[int, int], object]  # (bytes that came, all of them)

logger = logging.getLogger(__name__)


def pull(
    repo_id: str,
    *,
    revision: str | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Fetch a model repository into the Hub cache, or find it there if the Hub gives no answer.

    Args:
        repo_id: "org/name".
        revision: branch, tag or commit; None is the main branch.
        most: bytes that the files may have together; None for no limit.
        progress: called with (done, total) bytes; what it raises ends the download.

    Returns:
        The folder of that revision, with those of `WANTED` that the repository has. Other programs
        share the cache: never write to it.

    Raises:
        BadCheckpoint: if the id is malformed; the repository is unknown, private, gated, without
            model.safetensors or larger than `most`; the revision is unknown; the files cannot be
            stored; or the Hub gives no answer and the cache has no complete copy.
    """
    import httpx2
    from huggingface_hub.errors import HFValidationError

    try:
        return _download(repo_id, revision, most, progress)
    except (
        HFValidationError,
        OSError,  # the Hub's own errors, and the disk's
        RuntimeError,  # of hf_xet, which fetches large files
        httpx2.HTTPError,
        httpx2.InvalidURL,
        json.JSONDecodeError,
    ) as error:
        folder = _copy_or_reason(repo_id, revision, error)
    _check_size(repo_id, sum(file.stat().st_size for file in folder.iterdir()), most)
    return folder


def _download(
    repo_id: str, revision: str | None, most: int | None, progress: Progress | None
) -> Path:
    import httpx2
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import RevisionResolutionError

    api = HfApi()
    # Asked first, within a time limit: by itself snapshot_download waits without one, may retry for
    # 23 s, and takes a cached copy also when the Hub says that the model is not to be had.
    wait = constants.HF_HUB_ETAG_TIMEOUT
    info = api.model_info(repo_id, revision=revision, timeout=wait, files_metadata=True)
    files = info.siblings or ()
    _check_names(repo_id, sorted(file.rfilename for file in files))
    total = sum(file.size or 0 for file in files if file.rfilename in WANTED)
    _check_size(repo_id, total, most)
    options: dict[str, Any] = {"revision": info.sha, "allow_patterns": list(WANTED)}
    bar = None if progress is None else _bar(progress, total)
    folder = Path(snapshot_download(repo_id, tqdm_class=bar, **options))
    # The files came by commit; only now does the cache note which branch that is. So if a download
    # breaks off, the branch still leads to the last whole copy. Losing the note loses no file.
    with suppress(OSError, httpx2.HTTPError, RevisionResolutionError):
        api.resolve_revision(repo_id, revision=revision)
    return folder


def _check_names(repo_id: str, names: list[str]) -> None:
    if WEIGHTS in names:
        return
    suffixes = {name: PurePosixPath(name).suffix for name in names}
    pickles = [name for name in names if suffixes[name] in PICKLES]
    if pickles and ".safetensors" not in suffixes.values():
        raise BadCheckpoint(
            f"{repo_id!r} has only pickle weights ({_some(pickles)}): refused, because opening a "
            f"pickle can run any code; ask its author for {WEIGHTS}"
        )
    raise BadCheckpoint(f"{repo_id!r} has no {WEIGHTS}; it has {_some(names) or 'no files'}")


def _check_size(repo_id: str, found: int, most: int | None) -> None:
    if most is not None and found > most:
        sizes = f"its files have {found / 1e6:,.0f} MB and the limit is {most / 1e6:,.0f} MB"
        raise BadCheckpoint(f"{repo_id!r} is too large: {sizes}")


def _bar(progress: Progress, total: int) -> type[Any]:
    """A bar for the Hub's client that draws nothing, and tells of the bytes that came."""
    from tqdm.auto import tqdm

    came, lock = 0, threading.Lock()  # the files come in several threads

    class Bar(tqdm):  # type: ignore[misc]  # it has no types
        """One of the client's bars; that of the bytes on the disk says "Reconstructing"."""

        def __init__(self, *args: Any, **options: Any) -> None:
            self.counts = str(options.get("desc")).startswith("Reconstructing")
            super().__init__(*args, **options | {"disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            nonlocal came
            if self.counts:
                with lock:
                    came += int(n or 0)
                    progress(came, total)
            return None

    return Bar


def _copy_or_reason(repo_id: str, revision: str | None, error: Exception) -> Path:
    """The cached copy if the Hub gave no answer; else BadCheckpoint, in one line."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    cause = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    silence = _why_no_answer(cause or error)
    if silence is None:
        raise BadCheckpoint(f"{repo_id!r} {_refusal(cause or error, repo_id, revision)}") from error
    folder = _cached(repo_id, revision)
    if folder is None:
        raise BadCheckpoint(
            f"{repo_id!r}: {silence}, and the cache has no complete copy of revision "
            f"{revision or 'main'!r}; pull it when the Hub can be reached, or give a local folder"
        ) from error
    logger.warning("%s: %s; using commit %s from the cache", repo_id, silence, folder.name)
    return folder


def _cached(repo_id: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repo_id, revision=revision, allow_patterns=list(WANTED), local_files_only=True
            )
        )
    except OSError:  # not there, or known to be incomplete
        return None
    return folder if (folder / WEIGHTS).is_file() else None


def _why_no_answer(error: BaseException) -> str | None:
    """Why nothing was learnt about the model; None if the Hub did answer, or the disk failed."""
    import httpx2
    from huggingface_hub import constants, errors

    hub = f"the Hub ({constants.ENDPOINT})"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        return f"{hub} answered {status}" if status == 429 or status >= 500 else None
    if isinstance(error, (httpx2.HTTPError, httpx2.InvalidURL)):
        return f"{hub} cannot be reached ({one_line(error)})"
    if isinstance(error, RuntimeError):
        return f"the Hub's file store failed ({one_line(error)})"
    if isinstance(error, (errors.FileMetadataError, json.JSONDecodeError)):
        return f"{constants.ENDPOINT} does not answer as a Hub does (a proxy, a login page?)"
    return None


def _refusal(error: BaseException, repo_id: str, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    give_token = "give a token that may read it (`hf auth login`, or HF_TOKEN in the environment)"
    page = f"{constants.ENDPOINT}/{repo_id}"
    named: tuple[tuple[type[Exception], str], ...] = (
        (errors.HFValidationError, f"is not a Hub id: {one_line(error)}"),
        (errors.GatedRepoError, f"is gated: ask for access at {page}, and {give_token}"),
        (
            errors.RepositoryNotFoundError,
            f"is not on the Hub, or it is private: check the name, or {give_token}",
        ),
        (errors.RevisionNotFoundError, f"has no branch, tag or commit {revision!r}"),
    )
    for kind, text in named:
        if isinstance(error, kind):
            return text
    if isinstance(error, errors.HfHubHTTPError):
        said = error.server_message or one_line(error)
        hint = f"; {give_token}" if error.response.status_code in (401, 403) else ""
        return f"was refused by the Hub ({error.response.status_code}: {said}){hint}"
    return f"could not be downloaded to {constants.HF_HUB_CACHE}: {one_line(error)}"


def _some(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
