"""What a config.json may ask for, checked before anything is built from it.

A config comes from a stranger where models are pulled from the Hub. Building a network by it could
take all memory or have transformers fetch another repository, so types and sizes are checked first,
and the tensors that it asks for are compared with those of the weights on torch's meta device,
where they take no memory.
"""

from __future__ import annotations

import math
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqa.errors import BadCheckpoint

# Those that our encoders start from. None of them has a field that names another repository, as
# `backbone` of detection models does.
ENCODER_TYPES = ("convnext", "efficientnet", "mobilenet_v1", "mobilenet_v2", "regnet", "resnet")
MAX_SIZE = 500_000  # of a field that is a whole number: widths, numbers of words
MAX_WIDTH = 16_384  # of one in an encoder's architecture, and of hidden sizes there
MAX_DEPTH = 100  # layers of one stage of an encoder
MAX_STAGES = 64  # entries of a list in an encoder's architecture
MAX_IMAGE_SIZE = 2048  # pixels a side
MAX_TEXT = 300  # characters of a field that is a text
DEPTH_FIELDS = ("depth", "repeat", "layers")  # parts of the names of fields that count layers


def check_config(path: Path, config_class: type, config: dict[str, Any]) -> None:
    """Refuse a config whose fields are unknown, missing, of another type or out of range.

    Args:
        path: of config.json, for the message.
        config_class: the dataclass that the config is for.
        config: the contents of the file, without model_type and format_version.

    Raises:
        BadCheckpoint: naming the field.
    """
    _check_fields(str(path), config_class, config)


def check_tensors(path: Path, expected: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Refuse weights that are not those of the model.

    Args:
        path: of the weights, for the message.
        expected: the model's tensors; they may be on the meta device.
        tensors: those of the file.

    Raises:
        BadCheckpoint: naming up to five tensors that are missing, extra, or of another shape or
            kind of number.
    """
    problems = [f"missing tensor {name}" for name in expected if name not in tensors]
    problems += [f"extra tensor {name}" for name in tensors if name not in expected]
    for name, tensor in expected.items():
        given = tensors.get(name)
        if given is None:
            continue
        if given.shape != tensor.shape:
            shapes = f"{tuple(given.shape)}, expected {tuple(tensor.shape)}"
            problems.append(f"tensor {name} is {shapes}")
        elif given.is_floating_point() != tensor.is_floating_point():
            problems.append(f"tensor {name} holds {given.dtype}, expected {tensor.dtype}")
    if problems:
        raise BadCheckpoint(f"{path}: " + "; ".join(problems[:5]))


def expected_tensors(model_class: Any, config: dict[str, Any], vocab: dict[str, list[str]]) -> Any:
    """The tensors of the model that a config asks for, on the meta device."""
    with torch.device("meta"):
        return model_class.from_parts(config, vocab).state_dict()


def _check_fields(where: str, config_class: type, config: Any) -> None:
    if not isinstance(config, dict):
        raise BadCheckpoint(f"{where}: {config!r} is no object with fields")
    known = {field.name: field for field in fields(config_class)}
    if unknown := sorted(map(str, set(config) - set(known))):
        raise BadCheckpoint(f"{where}: unknown field {', '.join(unknown)}")
    required = {
        name
        for name, field in known.items()
        if field.default is MISSING and field.default_factory is MISSING
    }
    if missing := sorted(required - set(config)):
        raise BadCheckpoint(f"{where}: missing field {', '.join(missing)}")
    hints = typing.get_type_hints(config_class)
    for name, value in config.items():
        if name == "architecture":
            _check_architecture(f"{where}: {name}", value)
        else:
            _check_value(f"{where}: {name}", hints[name], value)
    side = config.get("image_size", 1)
    if not 1 <= side <= MAX_IMAGE_SIZE:
        raise BadCheckpoint(f"{where}: image_size is {side}; it can be 1 to {MAX_IMAGE_SIZE}")


def _check_value(where: str, hint: Any, value: Any) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:  # X | None
        if value is not None:
            _check_value(where, arguments[0], value)
    elif is_dataclass(hint):
        _check_fields(where, typing.cast(type, hint), value)
    elif origin is tuple:
        if not isinstance(value, list) or (
            Ellipsis not in arguments and len(value) != len(arguments)
        ):
            raise BadCheckpoint(f"{where} is {_short(value)}, and must be a list of {_named(hint)}")
        for entry in value:
            _check_value(where, arguments[0], entry)
    elif origin is dict:
        if not isinstance(value, dict):
            raise BadCheckpoint(f"{where} is {_short(value)}, and must be an object")
        for entry in value.values():
            _check_value(where, arguments[1], entry)
    else:
        _check_scalar(where, hint, value)


def _check_scalar(where: str, hint: Any, value: Any) -> None:
    """A number, truth value or text of a field."""
    wanted = (int, float) if hint is float else hint
    if not isinstance(value, wanted) or (isinstance(value, bool) and hint is not bool):
        raise BadCheckpoint(f"{where} is {_short(value)}, and must be {_named(hint)}")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise BadCheckpoint(f"{where} has {len(value):,} characters; the limit is {MAX_TEXT}")
    elif not isinstance(value, bool) and not 0 <= value <= MAX_SIZE:  # NaN fails too
        raise BadCheckpoint(f"{where} is {_short(value)}; it can be 0 to {MAX_SIZE:,}")


def _check_architecture(where: str, architecture: Any) -> None:
    """The transformers config of an encoder: of a known type, plain and of a bearable size."""
    if not isinstance(architecture, dict):
        raise BadCheckpoint(f"{where} is {_short(architecture)}, and must be an object")
    model_type = architecture.get("model_type")
    if model_type not in ENCODER_TYPES:
        raise BadCheckpoint(
            f"{where}: model_type {_short(model_type)} is none of {', '.join(ENCODER_TYPES)}"
        )
    for name, value in architecture.items():
        entries = value if isinstance(value, list) else [value]
        if len(entries) > MAX_STAGES:
            raise BadCheckpoint(
                f"{where}: {name} has {len(entries):,} entries; at most {MAX_STAGES}"
            )
        for entry in entries:
            _check_entry(f"{where}: {name}", name, entry)


def _check_entry(where: str, name: str, entry: Any) -> None:
    """One value of an architecture, or one entry of a list there."""
    if entry is None or isinstance(entry, bool):
        return
    if isinstance(entry, str):
        if len(entry) > MAX_TEXT:
            raise BadCheckpoint(f"{where} has {len(entry):,} characters; the limit is {MAX_TEXT}")
        return
    if not isinstance(entry, int | float):
        raise BadCheckpoint(f"{where} holds {_short(entry)}, which is no plain value")
    largest = MAX_DEPTH if any(part in name for part in DEPTH_FIELDS) else MAX_WIDTH
    if not (math.isfinite(entry) and -1 <= entry <= largest):
        raise BadCheckpoint(f"{where} is {_short(entry)}; it can be at most {largest:,}")


def _short(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _named(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if hint in names:
        return names[hint]
    arguments = typing.get_args(hint)
    count = "" if Ellipsis in arguments else f"{len(arguments)} "
    return f"{count}{'whole numbers' if arguments[0] is int else 'numbers'}"
