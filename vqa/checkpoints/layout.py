"""The files of a checkpoint directory, which is also the layout of a Hub repository."""

from __future__ import annotations

from pathlib import Path

FORMAT_VERSION = 1
_HERE = Path(__file__).resolve().parents[1]  # the package vqa
_FOLDERS = (_HERE / "model_cards", _HERE.parent / "model_cards")  # installed, or the repository's
SHIPPED = next(filter(Path.is_dir, _FOLDERS), _FOLDERS[0])
WEIGHTS = "model.safetensors"
CHECKPOINT_FILES = ("config.json", "vocab.json", WEIGHTS)  # what a model is made of

CARD = "README.md"
HUB_FILES = (
    "config.json",
    WEIGHTS,
    "vocab.json",
    "metrics.json",
    CARD,
)  # what a repository of ours has
