"""Read the files of a checkpoint that may come from a stranger, within bounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from vqa.checkpoints.layout import WEIGHTS
from vqa.errors import BadCheckpoint

MAX_JSON_BYTES = 20_000_000  # of one JSON file
MAX_WORDS = 300_000  # of one list of vocab.json
MAX_WORD_LENGTH = 300  # characters of one of its entries
PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")  # endings of pickled weights
SIGNATURES = {  # how a file begins that is called weights and is something else
    b"version https://git-lfs": "a Git LFS pointer, not the weights: run git lfs pull",
    b"PK\x03\x04": "a pickle in a zip file, which is refused: pickles run code when opened",
    b"\x80\x02": "a pickle, which is refused: pickles run code when opened",
    b"\x80\x03": "a pickle, which is refused: pickles run code when opened",
    b"\x80\x04": "a pickle, which is refused: pickles run code when opened",
    b"\x80\x05": "a pickle, which is refused: pickles run code when opened",
    b"<": "a web page, not weights: download the file itself",
}


def weights_of(directory: Path) -> Path:
    """The path of a directory's weights.

    Raises:
        BadCheckpoint: if it has none, pickles only, or weights in several files.
    """
    path = directory / WEIGHTS
    if path.is_file():
        return path
    if (directory / f"{WEIGHTS}.index.json").is_file():
        raise BadCheckpoint(
            f"{directory}: its weights are in several files ({WEIGHTS}.index.json); "
            f"save them as one {WEIGHTS}"
        )
    pickles = sorted(file.name for file in directory.glob("*") if file.suffix in PICKLES)
    why = f"; {', '.join(pickles)} is refused: pickles run code when opened" if pickles else ""
    raise BadCheckpoint(f"{directory}: no {WEIGHTS}{why}")


def read_weights(directory: Path) -> dict[str, Tensor]:
    """Every tensor of a directory's weights by its name.

    Raises:
        BadCheckpoint: if there are none, the file is damaged or something else, or a tensor holds
            complex numbers, NaN or infinity.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = weights_of(directory)
    with path.open("rb") as file:
        beginning = file.read(64)
    # A safetensors file begins with the length of its header, whose bytes can be any of those.
    is_safetensors = beginning[8:9] == b"{"
    for signature, meaning in () if is_safetensors else SIGNATURES.items():
        if beginning.lstrip().startswith(signature):
            raise BadCheckpoint(f"{path} is {meaning}")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BadCheckpoint(f"{path}: truncated or damaged ({error})") from error
    for name, tensor in tensors.items():
        if tensor.is_complex():
            raise BadCheckpoint(f"{path}: tensor {name} holds complex numbers")
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise BadCheckpoint(f"{path}: tensor {name} holds NaN or infinity")
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        BadCheckpoint: if it is missing, too large, nested too deeply, holds NaN or infinity, begins
            with a byte order mark, or is no JSON object.
    """
    try:
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise BadCheckpoint(
                f"{path}: {size / 1e6:,.0f} MB, and the limit is {MAX_JSON_BYTES / 1e6:.0f} MB"
            )
        text = path.read_text(encoding="utf-8")
        if text.startswith("\ufeff"):
            raise BadCheckpoint(
                f"{path}: begins with a byte order mark; save it as UTF-8 without one"
            )
        content = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise BadCheckpoint(f"{path}: nested too deeply") from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{path}: cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise BadCheckpoint(f"{path}: not a JSON object")
    return content


def read_vocabulary(directory: Path) -> dict[str, list[str]]:
    """The word lists of vocab.json.

    Raises:
        BadCheckpoint: if a list is none, too long, or holds anything but different words.
    """
    path = directory / "vocab.json"
    content = read_json(path)
    for name, words in content.items():
        if not isinstance(words, list):
            raise BadCheckpoint(f"{path}: {name} is no list of words")
        if len(words) > MAX_WORDS:
            raise BadCheckpoint(
                f"{path}: {name} has {len(words):,} words, and the limit is {MAX_WORDS:,}"
            )
        earlier = set[str]()
        for word in words:
            if not isinstance(word, str):
                raise BadCheckpoint(f"{path}: {name} holds {word!r}, which is no word")
            if not 0 < len(word) <= MAX_WORD_LENGTH:
                raise BadCheckpoint(
                    f"{path}: {name} holds a word of {len(word):,} characters; "
                    f"it can have 1 to {MAX_WORD_LENGTH}"
                )
            if word in earlier:
                raise BadCheckpoint(f"{path}: {name} holds {word!r} more than once")
            earlier.add(word)
    return content


def _is_finite(tensor: Tensor) -> bool:
    """Whether no entry is NaN or infinite: the extremes tell, quicker than a mask of all."""
    return not tensor.numel() or all(bool(bound.isfinite()) for bound in torch.aminmax(tensor))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
