"""The models of an engine, each with where it came from; any can be replaced while it is in use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from torch import nn

from vqa import checkpoints
from vqa.models import TRANSFORMERS, Answerer, Captioner, EmojiModel, GazeModel
from vqa.pipelines.answering import AnswerPipeline, GridAnswerPipeline
from vqa.pipelines.captioning import CaptionPipeline
from vqa.pipelines.emoji import EmojiPipeline
from vqa.pipelines.feature_cache import CACHE_BYTES
from vqa.pipelines.gaze import GazePipeline
from vqa.pipelines.transformers_answering import TransformersAnswerPipeline
from vqa.tasks import ANSWER, CAPTION, EMOJI, GAZE, Task

L = TypeVar("L", bound="ModelSet")


class LoadedModel(NamedTuple):
    """One of the models."""

    task: Task
    key: str  # a captioner's name at the start, else the task's key
    name: str  # as it was asked for: a shipped name, a folder or a Hub id
    model: AnswerPipeline | CaptionPipeline | GazePipeline | EmojiPipeline  # behind plain calls
    network: nn.Module
    folder: Path | None = None  # that it was loaded from; None if it was handed over

    @property
    def title(self) -> str:
        """Its name for strangers: of a folder the last part, as the rest is nobody's business."""
        local = self.folder and Path(self.name) == self.folder
        return Path(self.name).name if local else self.name


class ModelSet:
    """Models that answer, describe, say where people would look, and how texts feel.

    Args:
        answerer: the model that answers; it is put into eval mode, and learns no more.
        captioners: models that describe, by name; the first is the one asked if none is named.
        gaze: model of where people look; None for the answerer's own, if it has one.
        emoji: model of how texts feel; None for none.
        cache_bytes: memory for the grids of the pictures seen last, a model.
    """

    parts: tuple[LoadedModel, ...]
    changes = 0  # how often one was replaced

    def __init__(
        self,
        answerer: Answerer | AnswerPipeline,
        captioners: Mapping[str, Captioner] = MappingProxyType({}),
        gaze: GazeModel | None = None,
        emoji: EmojiModel | None = None,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        if isinstance(answerer, Answerer):
            answerer = GridAnswerPipeline(answerer, cache_bytes=cache_bytes)
        parts = [LoadedModel(ANSWER, "answer", "vqa", answerer, answerer.network)]
        for name, network in captioners.items():
            caption_pipeline = CaptionPipeline(network, cache_bytes=cache_bytes)
            parts.append(LoadedModel(CAPTION, name, name, caption_pipeline, network))
        if gaze is not None:
            parts.append(LoadedModel(GAZE, "gaze", "gaze", GazePipeline(gaze), gaze))
        if emoji is not None:
            parts.append(LoadedModel(EMOJI, "emoji", "emoji", EmojiPipeline(emoji), emoji))
        self.parts = tuple(parts)

    @classmethod
    def of(cls: type[L], parts: Iterable[LoadedModel]) -> L:
        """A set of models that are loaded already; it can do what these can."""
        lineup = cls.__new__(cls)
        lineup.parts = tuple(parts)
        return lineup

    @classmethod
    def load(
        cls: type[L],
        vqa: str | Path = "vqa",
        captioners: Sequence[str | Path] = (),
        gaze: str | Path | None = None,
        emoji: str | Path | None = None,
        *,
        revision: str | None = None,
    ) -> L:
        """Load models, each a shipped one by name, a local directory, or a Hub id.

        Args:
            vqa: the model that answers: ours, or a ViLT or BLIP of transformers.
            captioners: the models that describe; none are needed.
            gaze: the model of where people look; None for the answerer's own, if it has one.
            emoji: the model of how texts feel; None for none.
            revision: of `vqa`, if it is a Hub id: branch, tag or commit.

        Raises:
            BadCheckpoint: naming what is wrong with one of them.
        """
        parts = [load(ANSWER, vqa, revision=revision)]
        parts += [load(CAPTION, name) for name in captioners]
        parts += [
            load(task, name) for task, name in ((GAZE, gaze), (EMOJI, emoji)) if name is not None
        ]
        return cls.of(parts)

    def snapshot(self: L) -> L:
        """A set that keeps the models of this moment, for several calls about one picture."""
        return self.of(self.parts)

    def replace(self, place: int, part: LoadedModel) -> None:
        """Replace a model while it is in use: calls that have begun end with the old one.

        Args:
            place: in `parts`.
            part: another one of its kind; it takes over the key.

        Raises:
            ValueError: if it is of another kind.
        """
        parts = list(self.parts)
        if part.task is not parts[place].task:
            raise ValueError(
                f"a model for {part.task.key!r} cannot replace one for {parts[place].task.key!r}"
            )
        parts[place] = part._replace(key=parts[place].key)
        self.parts = tuple(parts)  # in one step: no thread sees half of it
        self.changes += 1

    @property
    def answer_pipeline(self) -> AnswerPipeline:
        """The model that answers.

        Raises:
            ValueError: if there is none.
        """
        for part in self.parts:
            if isinstance(part.model, AnswerPipeline):
                return part.model
        raise ValueError("there is no model that answers: load the engine with one")

    @property
    def answerer(self) -> Any:
        """Its network: an `Answerer`, or one of transformers."""
        return self.answer_pipeline.network

    @property
    def caption_pipelines(self) -> dict[str, CaptionPipeline]:
        """The models that describe, by their keys."""
        return {
            part.key: part.model for part in self.parts if isinstance(part.model, CaptionPipeline)
        }

    @property
    def gaze_pipeline(self) -> GazePipeline | None:
        """The model of where people look, if there is one: the answerer's own if no other."""
        models = [part.model for part in self.parts]
        own = [model for model in models if isinstance(model, GazePipeline)]
        return next(
            iter(own + [m.gaze_pipeline for m in models if isinstance(m, AnswerPipeline)]), None
        )

    @property
    def emoji_pipeline(self) -> EmojiPipeline | None:
        """The model of how texts feel, if there is one."""
        return next(
            (part.model for part in self.parts if isinstance(part.model, EmojiPipeline)), None
        )


def load(task: Task, name: str | Path, *, revision: str | None = None) -> LoadedModel:
    """Load a model.

    Args:
        task: what it is for.
        name: a shipped model, a directory, or a Hub id.
        revision: of a Hub id: branch, tag or commit.

    Raises:
        BadCheckpoint: naming what is wrong with it.
    """
    return load_folder(task, str(name), checkpoints.find(name, revision=revision))


def load_folder(task: Task, name: str, folder: Path) -> LoadedModel:
    """Load a model that is on this machine.

    Args:
        task: what it is for.
        name: by which it was asked for.
        folder: of its checkpoint.

    Raises:
        BadCheckpoint: naming what is wrong with it.
    """
    key = name if task is CAPTION else task.key
    if task is ANSWER and checkpoints.type_of(folder) in TRANSFORMERS:
        answerer = TransformersAnswerPipeline.load(folder)
        return LoadedModel(task, key, name, answerer, answerer.network, folder)
    network = checkpoints.load_as(task.network, folder)
    return LoadedModel(task, key, name, task.run(network), network, folder)
