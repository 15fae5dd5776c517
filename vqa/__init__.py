"""Ask a picture a question, get the answer, and see why.

from vqa import Engine

engine = Engine.load("vqa", ["captioner"], "gaze", "emoji")
engine.answer("photo.jpg", "what is the man holding?")
engine.explain("photo.jpg", "what is the man holding?", method="grad_cam")
engine.caption("photo.jpg", beam=3)
engine.explain_caption("photo.jpg", method="grad_cam")
engine.gaze("photo.jpg")
engine.feel("what a lovely day")
engine.explain_feeling("what a lovely day")
"""

from vqa.checkpoints import BadCheckpoint, load, save
from vqa.engine import Engine
from vqa.images import BadImage
from vqa.models import Answer, Answerer, AnswererConfig, Caption, Captioner, CaptionerConfig
from vqa.scorers import AnswerScorer, CaptionScorer, ClassScorer
from vqa.text import BadText, Vocab, normalize_answer

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
