r"""Train the model that finds and counts things, and with it an encoder that knows things.

    python -m training.train_objects --data ../shared/data/coco_vqa --also ../shared/data/flickr8k \
        --boxes runs/boxes --encoder ../shared/weights/efficientnet_lite2 --output_dir runs/objects

It learns end to end from the boxes of `training.pseudo_boxes`, and beside them from the words of
captions. It is measured on the fold of the training pictures that `training.data.tune_fold` keeps
for choosing. Run the same command again to resume; on several processes run it under `torchrun
--nproc_per_node N -m training.train_objects ...`. States and TensorBoard logs are in
`<output_dir>.state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from training.core.config import RunConfig, flag
from training.core.finetuning import parameter_groups, start_encoder
from training.core.loop import fit
from training.core.run import Run, command
from training.data.concept_set import choose_concepts
from training.data.extra_annotations import MoreQuestions
from training.evaluation.objects import fit_thresholds
from training.pseudo_boxes import OBJECTS, read_boxes
from training.tasks.objects import ObjectLoss, ObjectSet, ObjectTask, compare, find_boxes
from training.train_vqa import TrainingRows
from vqa import checkpoints
from vqa.data.image_dataset import open_rows
from vqa.models import ObjectConfig, ObjectModel
from vqa.models.concept_detector import ConceptDetector
from vqa.models.fused import fuse
from vqa.preprocessing.vocabulary import Vocab

SIZES = ("width", "channels", "finest")
FITTED_ON = 8  # one in so many training pictures fits the thresholds


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Every setting of a training; each is a flag of the same name."""

    boxes: str = flag("", "folder that training.pseudo_boxes wrote")
    width: int = flag(0, "channels of the coarsest maps to read; 0: the last maps")
    channels: int = flag(128, "of the head's maps")
    finest: int = flag(8, "stride of the finest map of the encoder that is used")
    centres: float = flag(1.0, "weight of the focal loss of the heat-maps")
    sides: float = flag(3.0, "weight of 1 - GIoU of the boxes")
    concepts: float = flag(0.2, "weight of the auxiliary loss of the words of captions")
    concept_dim: int = flag(256, "where grid cell and concept meet, in the auxiliary loss")
    concept_min_count: int = flag(15, "what captions of fewer pictures name is no target")

    def __post_init__(self) -> None:
        self.refuse_with_start(SIZES)


def build(config: TrainConfig) -> ObjectModel:
    """The model to go on from, or a fresh one on a pretrained encoder."""
    if config.start:
        return checkpoints.load_as(ObjectModel, config.start)
    alone = {"width": config.width, "finer": (), "beside": None}
    encoder = start_encoder(config.encoder, config.reads() | alone)
    sizes: dict[str, Any] = {"channels": config.channels, "stride": config.finest}
    built = ObjectConfig(encoder=encoder.config, num_objects=len(OBJECTS), **sizes)
    model = ObjectModel(built, OBJECTS)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def train(config: TrainConfig) -> Path:
    """Train and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data or the boxes cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    run = Run.begin(config, "objects")
    rows, model = run.prepare(lambda: _read(config), lambda _: build(config))
    seen, listed, boxes = rows.seen(), rows.objects(), read_boxes(config.boxes)
    concepts = choose_concepts(seen, config.concept_min_count)
    known = (rows, model, boxes, listed, seen)
    learnt, held = (
        ObjectSet(*known, concepts=concepts, held=out, augment=not out, seed=config.seed)
        for out in (False, True)
    )
    fuse(model.encoder)
    model.encoder.freeze(config.freeze_through)
    model.encoder.to(memory_format=torch.channels_last)
    words, channels = Vocab(Vocab.SPECIAL), model.encoder.widths[0]
    detector = ConceptDetector(channels, config.concept_dim, words, concepts, 0.1)
    weights = {name: getattr(config, name) for name in ("centres", "sides", "concepts")}
    learner = ObjectLoss(model, detector, weights)
    task = ObjectTask(
        model,
        learner,
        train=learnt,
        validation=held,
        groups=parameter_groups(learner, config, config.tune_lr),
        accelerator=run.accelerator,
        best=run.work / "tune-best",
    )
    progress = fit(task, config.schedule(config.tune_epochs), run.accelerator, run.work / "tune")
    best = checkpoints.load_as(ObjectModel, task.best).to(run.accelerator.device)
    learnt.samples = learnt.samples[::FITTED_ON]
    thresholds = fit_thresholds(compare(find_boxes(best, learnt, run.accelerator), learnt))
    best.thresholds.copy_(torch.from_numpy(thresholds))
    return run.end(best, progress.cpu_seconds)


def _read(config: TrainConfig) -> TrainingRows:
    """Training rows, read lazily."""
    folders = [config.data, *filter(None, config.also.split(","))]
    opened: Any = ((open_rows(folder, "train", required="image"), folder) for folder in folders)
    parts: Any = [MoreQuestions(rows, folder, {}) for rows, folder in opened]
    return TrainingRows(parts)


if __name__ == "__main__":
    command(TrainConfig, train)
