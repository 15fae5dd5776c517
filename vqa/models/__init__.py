"""The models: one class a file, each with its config. A checkpoint finds its class in `MODELS`."""

from __future__ import annotations

from vqa.models.answer import Answer
from vqa.models.answerer import Answerer, AnswererConfig
from vqa.models.captioner import Caption, Captioner, CaptionerConfig
from vqa.models.emoji import EmojiConfig, EmojiModel, Feeling
from vqa.models.gaze import GazeConfig, GazeModel
from vqa.models.objects import ObjectConfig, ObjectModel

MODELS = {
    model.model_type: model for model in (Answerer, Captioner, GazeModel, EmojiModel, ObjectModel)
}
TRANSFORMERS = ("blip", "vilt")  # answerers of transformers, which `transformers_answerer` runs

__all__ = [
    "MODELS",
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
