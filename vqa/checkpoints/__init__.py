"""Checkpoints: the one directory layout that a folder and a Hub repository share."""

from __future__ import annotations

from vqa.checkpoints.files import weights_of
from vqa.checkpoints.layout import CARD, CHECKPOINT_FILES, HUB_FILES, SHIPPED, WEIGHTS
from vqa.checkpoints.storage import (
    Storable,
    find,
    load,
    load_as,
    read_metrics,
    save,
    to_storage_precision,
    type_of,
)
from vqa.errors import BadCheckpoint

__all__ = [
    "CARD",
    "CHECKPOINT_FILES",
    "HUB_FILES",
    "SHIPPED",
    "WEIGHTS",
    "BadCheckpoint",
    "Storable",
    "find",
    "load",
    "load_as",
    "read_metrics",
    "save",
    "to_storage_precision",
    "type_of",
    "weights_of",
]
