"""Ask a picture a question, get the answer, and see why.

from vqa import Engine

engine = Engine.load("vqa", ["captioner"], "gaze", "emoji")
engine.answer("photo.jpg", "what is the man holding?")
engine.explain("photo.jpg", "what is the man holding?", method="grad_cam")
engine.caption("photo.jpg", beam=3)
engine.explain_caption("photo.jpg", method="grad_cam")
engine.gaze("photo.jpg")
engine.emoji("what a lovely day")
engine.explain_emoji("what a lovely day")
"""

from vqa.checkpoints.storage import load, save
from vqa.engine import Engine
from vqa.errors import BadCheckpoint, BadImage, BadText
from vqa.models import Answer, Answerer, AnswererConfig, Caption, Captioner, CaptionerConfig
from vqa.preprocessing.answer_normalization import normalize_answer
from vqa.preprocessing.vocabulary import Vocab
from vqa.scorers.native import AnswerScorer, CaptionScorer, ClassScorer

__all__ = [
    "Answer",
    "AnswerScorer",
    "Answerer",
    "AnswererConfig",
    "BadCheckpoint",
    "BadImage",
    "BadText",
    "Caption",
    "CaptionScorer",
    "Captioner",
    "CaptionerConfig",
    "ClassScorer",
    "Engine",
    "Vocab",
    "load",
    "normalize_answer",
    "save",
]
