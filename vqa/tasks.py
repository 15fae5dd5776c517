"""The tasks, one record each: what everything that serves all of them reads about each of them.

A further task is a record here, a pipeline in `vqa.pipelines` and a tab of the page.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vqa.models import Answerer, Captioner, EmojiModel, GazeModel, ObjectModel


@dataclass(frozen=True)
class Task:
    """What is known about a task before any model is loaded."""

    key: str  # name of its command, endpoint, bulk inference and scoring, and of its main result
    flag: str  # of app.py, and the name in a Space's models.json
    network: type[Answerer | Captioner | GazeModel | EmojiModel | ObjectModel]
    pipeline: str  # "module:class" of what runs the network; imported when a model is loaded
    folders: tuple[str, ...]  # the shipped models in model_cards; the first is the default
    metrics: Mapping[str, str]  # the main numbers of its result in metrics.json, with their names
    does: str  # in words for the page
    card: Mapping[str, Any]  # what the header of a model card says of every model of this task
    columns: tuple[str, ...]  # numbers of a result that a card shows as a table

    @property
    def model_type(self) -> str:
        """The `model_type` of its checkpoints."""
        return str(self.network.model_type)

    def run(self, network: nn.Module, **options: Any) -> Any:
        """Put a network behind its pipeline.

        Args:
            network: of the class that the record names; the pipeline puts it into eval mode.
            options: of the pipeline's constructor.
        """
        module, _, name = self.pipeline.partition(":")
        return getattr(importlib.import_module(module), name)(network, **options)


# In `card`, "task" is which configuration of the first data set is measured, and "metrics" are the
# Hub's names of the kinds of the main numbers.
ANSWER = Task(
    key="answer",
    flag="vqa",
    network=Answerer,
    pipeline="vqa.pipelines.answering:GridAnswerPipeline",
    folders=("vqa",),
    metrics={"all": "VQA accuracy, all", "not yes/no": "VQA accuracy, not yes/no"},
    does="Answers questions",
    card={
        "pipeline_tag": "visual-question-answering",
        "tags": ["explainability", "attention", "lstm"],
        "datasets": ["lmms-lab/VQAv2", "jxie/flickr8k"],
        "task": "default",
        "model_name": "SeeWhy answerer",
        "metrics": {"all": "vqa_accuracy", "not yes/no": "vqa_accuracy"},
    },
    columns=("all", "yes/no", "number", "other", "not yes/no", "calibration_error"),
)
CAPTION = Task(
    key="caption",
    flag="captioner",
    network=Captioner,
    pipeline="vqa.pipelines.captioning:CaptionPipeline",
    folders=("captioner", "captioner-bilstm"),
    metrics={"cider": "CIDEr x 100", "bleu4": "BLEU-4 x 100"},
    does="Describes pictures",
    card={
        "pipeline_tag": "image-to-text",
        "tags": ["explainability", "attention", "lstm", "image-captioning"],
        "datasets": ["jxie/flickr8k"],
        "task": "default",
        "model_name": "SeeWhy captioner",
        "metrics": {"cider": "cider", "bleu4": "bleu"},
    },
    columns=("cider", "bleu1", "bleu4", "rouge_l", "chair_i", "words", "most_frequent"),
)
GAZE = Task(
    key="gaze",
    flag="gaze",
    network=GazeModel,
    pipeline="vqa.pipelines.gaze:GazePipeline",
    folders=("gaze",),
    metrics={"cc": "CC", "nss": "NSS", "auc_judd": "AUC-Judd"},
    does="Says where people would look",
    card={  # its data are not on the Hub
        "pipeline_tag": "image-segmentation",  # the nearest there is
        "tags": ["saliency", "gaze", "eye-tracking", "explainability"],
        "model_name": "SeeWhy gaze model",
        "metrics": {"cc": "cc", "nss": "nss", "auc_judd": "auc"},
    },
    columns=("cc", "nss", "auc_judd", "sim", "kl", "auc_shuffled", "information_gain"),
)
EMOJI = Task(
    key="emoji",
    flag="emoji",
    network=EmojiModel,
    pipeline="vqa.pipelines.emoji:EmojiPipeline",
    folders=("emoji",),
    metrics={"macro_f1": "macro-F1, emoji", "accuracy": "accuracy"},
    does="Says how texts feel",
    card={
        "pipeline_tag": "text-classification",
        "tags": ["emoji", "emotion", "lstm", "explainability"],
        "datasets": ["cardiffnlp/tweet_eval", "google-research-datasets/go_emotions"],
        "task": "emoji",
        "model_name": "SeeWhy model of feelings",
        "metrics": {"macro_f1": "f1", "accuracy": "accuracy"},
    },
    columns=("macro_f1", "accuracy", "top5"),
)

# It finds and counts things for the others, and has no command or endpoint of its own.
OBJECTS = Task(
    key="objects",
    flag="objects",
    network=ObjectModel,
    pipeline="",
    folders=("objects",),
    metrics={"f1": "F1 against the teacher's boxes", "count": "right counts, %"},
    does="Finds and counts things",
    card={
        "pipeline_tag": "object-detection",
        "tags": ["object-detection", "counting", "explainability"],
        "model_name": "SeeWhy object model",
        "metrics": {"f1": "f1", "count": "accuracy"},
    },
    columns=("f1", "ap50", "count", "soft_count", "teacher_count", "always_2", "questions"),
)

TASKS = {task.key: task for task in (ANSWER, CAPTION, GAZE, EMOJI)}
BY_FLAG = {task.flag: task for task in TASKS.values()}
BY_MODEL_TYPE = {task.model_type: task for task in (*TASKS.values(), OBJECTS)}
EXPLAIN = "explain"  # the endpoint that explains an answer
ENDPOINTS = (*TASKS, EXPLAIN)  # what programs may call by its name
