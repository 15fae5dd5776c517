"""The stages of a training: the head on a frozen encoder, then all of it, and so on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from training.core.finetuning import thaw
from training.core.loop import fit
from training.core.run import ModelTask, Run
from training.data.decoding import first_pixels
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord


@dataclass(frozen=True)
class Stage:
    """One stage: which part of the model learns, how fast and for how long."""

    name: str  # of the folders of its states and of its best model
    epochs: int
    lr: float  # learning rate of everything but the encoder
    frozen: bool = True  # the encoder is, and its grids are computed once; False: end to end


class StageRun(NamedTuple):
    """What a stage's task is made of, beside the data."""

    stage: Stage
    model: Any  # learns; its encoder is frozen or not already
    encoded: Any  # what `encode` returned
    best: Path  # folder for the best model


def run_stages(
    stages: Sequence[Stage],
    model: Any,
    run: Run[Any],
    rows: Sequence[ImageRecord],
    *,
    encode: Callable[[Stage, Any], Any],
    make_task: Callable[[StageRun], ModelTask],
) -> tuple[Any, float]:
    """Train a model in stages, each from the best model of the one before.

    Args:
        stages: in their order; those of no epochs are left out.
        model: to begin with; has an `encoder`.
        run: the training under way.
        rows: training pictures, for the statistics of an encoder whose BatchNorm learns.
        encode: (stage, model) -> what the stage reads of the encoder before it may learn, such as
            cached grids.
        make_task: what the loop trains in a stage.

    Returns:
        The best model of the last stage, and the CPU seconds of all.
    """
    cpu_seconds = 0.0
    for stage in stages:
        if not stage.epochs:
            continue
        encoded = encode(stage, model)
        if stage.frozen:
            model.encoder.freeze(model.encoder.config.stride)
        else:
            thaw(model.encoder, run.config, first_pixels(rows, model.encoder.config.image_size))
        task = make_task(StageRun(stage, model, encoded, run.work / f"{stage.name}-best"))
        schedule = run.config.schedule(stage.epochs)
        progress = fit(task, schedule, run.accelerator, run.work / stage.name)
        model = checkpoints.load_as(type(model), task.best)
        cpu_seconds += progress.cpu_seconds
    return model, cpu_seconds
