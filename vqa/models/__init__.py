"""The models: one class a file, each with its config."""

from __future__ import annotations

from vqa.models.answerer import Answerer, AnswererConfig
from vqa.models.captioner import Caption, Captioner, CaptionerConfig
from vqa.models.emoji import EmojiConfig, EmojiModel, Feeling
from vqa.models.gaze import GazeConfig, GazeModel
from vqa.models.objects import ObjectConfig, ObjectModel
from vqa.models.outputs import Answer

TRANSFORMERS = ("blip", "vilt")  # answerers of transformers, which `transformers_answerer` runs

__all__ = [
    "TRANSFORMERS",
    "Answer",
    "Answerer",
    "AnswererConfig",
    "Caption",
    "Captioner",
    "CaptionerConfig",
    "EmojiConfig",
    "EmojiModel",
    "Feeling",
    "GazeConfig",
    "GazeModel",
    "ObjectConfig",
    "ObjectModel",
]
