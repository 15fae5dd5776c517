"""Ask a picture a question, get the answer, and see why.

from vqa import Engine

engine = Engine.load("vqa")
engine.answer("photo.jpg", "what is the man holding?")
"""

from vqa.checkpoints import BadCheckpoint, load, save
from vqa.engine import Engine
from vqa.images import BadImage
from vqa.models import Answer, Answerer, AnswererConfig
from vqa.text import BadText, Vocab, normalize_answer

__all__ = [
    "Answer",
    "Answerer",
    "AnswererConfig",
    "BadCheckpoint",
    "BadImage",
    "BadText",
    "Engine",
    "Vocab",
    "load",
    "normalize_answer",
    "save",
]
