"""Ask a picture a question, get the answer, and see why.

from vqa import Engine

engine = Engine.load("vqa")
engine.answer("photo.jpg", "what is the man holding?")
engine.explain("photo.jpg", "what is the man holding?", method="grad_cam")
"""

from vqa.checkpoints import BadCheckpoint, load, save
from vqa.engine import Engine
from vqa.images import BadImage
from vqa.models import Answer, Answerer, AnswererConfig
from vqa.scorers import AnswerScorer, ClassScorer
from vqa.text import BadText, Vocab, normalize_answer

__all__ = [
    "Answer",
    "AnswerScorer",
    "Answerer",
    "AnswererConfig",
    "BadCheckpoint",
    "BadImage",
    "BadText",
    "ClassScorer",
    "Engine",
    "Vocab",
    "load",
    "normalize_answer",
    "save",
]
