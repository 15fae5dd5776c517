"""Save and strictly load the one directory layout that a checkpoint and a Hub repository share.

config.json         model_type, format_version, every constructor field
model.safetensors   matrices in fp16; biases, running statistics and other vectors in fp32
vocab.json          the model's word lists
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from vqa.checkpoints.files import read_json, read_vocabulary, read_weights
from vqa.checkpoints.layout import CHECKPOINT_FILES, FORMAT_VERSION, SHIPPED, WEIGHTS
from vqa.checkpoints.limits import check_config, check_tensors, expected_tensors
from vqa.errors import BadCheckpoint

M = TypeVar("M", bound=nn.Module)


def to_storage_precision(model: nn.Module) -> None:
    """Round matrices to what fp16 can hold, in place, so that saving them loses nothing more."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(_stored(tensor))


class Storable(Protocol):
    """What a model needs to be saved; `vqa.tasks` lists those that can be loaded."""

    model_type: str
    config: Any  # a dataclass of plain values: every constructor field

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json."""

    def state_dict(self) -> dict[str, Tensor]:
        """Every tensor of the model by its name; every `nn.Module` has it."""


def save(model: Storable, directory: str | Path) -> Path:
    """Write a model to a directory, all of it or nothing; its card and its numbers stay.

    Args:
        model: of one of the tasks.
        directory: created or replaced. If the write fails (a full disk, say), the old one stays
            whole.

    Raises:
        OSError: if the folder cannot be written, or is a file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(directory).resolve()
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file, not a folder for a checkpoint")
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for other in target.iterdir() if target.is_dir() else ():
            if other.is_file() and other.name not in CHECKPOINT_FILES:
                shutil.copy2(other, fresh)
        config = {"model_type": model.model_type, "format_version": FORMAT_VERSION}
        _write_json(fresh / "config.json", {**config, **asdict(model.config)})
        _write_json(fresh / "vocab.json", model.vocabulary())
        tensors = {name: _stored(t).contiguous() for name, t in model.state_dict().items()}
        try:
            save_file(tensors, fresh / WEIGHTS, metadata={"format": "pt"})
        except SafetensorError as error:  # how it reports a full disk
            raise OSError(f"{target / WEIGHTS} cannot be written: {error}") from error
        (fresh / WEIGHTS).chmod(0o644)
        fresh.chmod(0o755)
        _replace(target, fresh)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target


def load(name: str | Path, *, revision: str | None = None) -> nn.Module:
    """Load a model, strictly, in eval mode and fp32.

    Args:
        name: a shipped model ("vqa"), a directory ("./runs/vqa"), or a Hub id ("org/name").
        revision: of a Hub id: branch, tag or commit.

    Raises:
        BadCheckpoint: naming the missing file, the unknown field, the missing, extra or misshaped
            tensor, the wrong vocabulary size, or why the Hub did not give the files.
    """
    return _load_directory(find(name, revision=revision))


def load_as(kind: type[M], name: str | Path, *, revision: str | None = None) -> M:
    """`load` a model of one class.

    Raises:
        BadCheckpoint: as of `load`, and if it holds another class.
    """
    model = load(name, revision=revision)
    if not isinstance(model, kind):
        wanted = kind.__name__.lower()
        raise BadCheckpoint(f"{name} holds a {type(model).__name__}, no {wanted}")
    return model


def find(name: str | Path, *, revision: str | None = None) -> Path:
    """The local directory of a shipped name, a directory or a Hub id.

    Raises:
        BadCheckpoint: if there is none.
    """
    if str(name) in {folder.name for folder in SHIPPED.glob("*") if folder.is_dir()}:
        return SHIPPED / name
    if Path(name).is_dir():
        return Path(name)
    text = str(name)
    if text.startswith((".", "/", "~")) or text.count("/") != 1:
        have = sorted(p.name for p in SHIPPED.glob("*") if (p / WEIGHTS).exists())
        raise BadCheckpoint(
            f"{text!r} is no folder, no shipped model ({', '.join(have)}) and no Hub id (org/name)"
        )
    from vqa.checkpoints.hub_download import pull

    return pull(text, revision=revision)


def type_of(directory: Path) -> object:
    """What kind of model a directory says it holds: the `model_type` of its config.json.

    Raises:
        BadCheckpoint: if it has no readable config.json.
    """
    return read_json(directory / "config.json").get("model_type")


def read_metrics(name: str | Path) -> dict[str, Any]:
    """What was measured of a model: the `results` of its metrics.json, or nothing.

    Raises:
        BadCheckpoint: if there is no such model, or its file is no JSON.
    """
    file = find(name) / "metrics.json"
    results = read_json(file).get("results", {}) if file.is_file() else {}
    if not isinstance(results, dict):
        raise BadCheckpoint(f"{file}: results is no object with fields")
    return results


def _load_directory(directory: Path) -> nn.Module:
    from vqa.models import TRANSFORMERS
    from vqa.tasks import BY_MODEL_TYPE

    tensors = read_weights(directory)
    path = directory / "config.json"
    config = read_json(path)
    model_type, version = config.pop("model_type", None), config.pop("format_version", None)
    if model_type in TRANSFORMERS:
        raise BadCheckpoint(f"{directory} holds a {model_type} of transformers, which only answers")
    if model_type not in BY_MODEL_TYPE:
        known = sorted((*BY_MODEL_TYPE, *TRANSFORMERS))
        raise BadCheckpoint(f"{directory}: model_type {model_type!r} is none of {known}")
    vocab = read_vocabulary(directory)
    if version != FORMAT_VERSION:
        raise BadCheckpoint(f"{directory}: format {version!r}, this version reads {FORMAT_VERSION}")
    model_class: Any = BY_MODEL_TYPE[model_type].network
    check_config(path, model_class.Config, config)
    try:
        if directory.parent != SHIPPED:  # ours are known to fit
            expected = expected_tensors(model_class, config, vocab)
            check_tensors(directory / WEIGHTS, expected, tensors)
        model: nn.Module = model_class.from_parts(config, vocab)
    except BadCheckpoint:
        raise
    except Exception as error:  # transformers raises errors of many kinds on a bad architecture
        raise BadCheckpoint(f"{directory}: {type(error).__name__}: {error}") from error
    check_tensors(directory / WEIGHTS, model.state_dict(), tensors)
    model.load_state_dict(tensors)
    return model.eval()


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _stored(tensor: Tensor) -> Tensor:
    """Vectors stay fp32: rounding statistics and biases costs accuracy and saves nothing."""
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor


def _replace(target: Path, fresh: Path) -> None:
    """Swap a finished directory in; the old one is whole until the new one is."""
    if not target.exists():
        fresh.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(old / "it")
    try:
        fresh.rename(target)
    finally:
        if not target.exists():  # it failed, or was interrupted: the old one comes back
            (old / "it").rename(target)
        shutil.rmtree(old, ignore_errors=True)
