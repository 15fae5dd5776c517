r"""Train the gaze model.

    python -m training.train_gaze --data ../shared/data/gaze \
        --train_splits osie-train,scene500-train --validation_split osie-validation \
        --output_dir runs/gaze

It learns end to end, from the first step on. `--recipe training/recipes/gaze-reference.txt` sets
the flags of the reference recipe: ResNet-50 at 512 x 512, batches of 4, SGD, binary cross-entropy,
and the checkpoint chosen by SSIM; flags given besides it count more.
Run the same command again to resume; on several processes run it under `torchrun --nproc_per_node N
-m training.train_gaze ...`. States and TensorBoard logs are in `<output_dir>.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.core.config import BadSettings, RunConfig, flag
from training.core.finetuning import parameter_groups, start_encoder, thaw
from training.core.loop import fit
from training.core.run import Run, check_splits, command, warm_start
from training.data.decoding import first_pixels
from training.data.fixation_set import GazeSet
from training.data.tune_fold import of_fold
from training.tasks.gaze import MEASURES, TERMS, GazeLoss, GazeTask
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord, chain_rows, open_rows
from vqa.models import GazeConfig, GazeModel

SIZES = ("channels", "finest", "output")


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Every setting of a training; each is a flag of the same name."""

    train_splits: str = flag("train", "of `data`, with commas between; `also` has none")
    validation_split: str = flag("validation", "of `data`")
    channels: int = flag(96, "of the decoder's maps")
    finest: int = flag(4, "stride of the finest map of the encoder that is used")
    output: str = flag("softmax", "softmax, or sigmoid for binary cross-entropy")
    dropout: float = flag(0.2, "of the decoder's channels")
    kl: float = flag(1.0, "weight of the divergence from the density")
    cc: float = flag(1.0, "weight of 1 - correlation with the density")
    nss: float = flag(0.1, "weight of -NSS at the fixations")
    bce: float = flag(0.0, "weight of the binary cross-entropy against the density over its peak")
    measure: str = flag("cc", f"what chooses the checkpoint: {', '.join(MEASURES)}")

    def __post_init__(self) -> None:
        self.refuse_with_start(SIZES)
        if self.measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise BadSettings(f"measure is {self.measure!r}; it can be {known}")
        if not any(getattr(self, term) for term in TERMS):
            raise BadSettings(f"one of {', '.join(TERMS)} must have a weight")


def build(config: TrainConfig) -> GazeModel:
    """The gaze model to go on from, or a fresh one on a pretrained encoder."""
    if config.start:
        model: GazeModel = warm_start(GazeModel, config)
        return model
    alone = {"width": 0, "finer": (), "beside": None}  # it reads the stages itself, of one network
    encoder = start_encoder(config.encoder, config.reads() | alone)
    sizes = {name: getattr(config, name) for name in (*SIZES, "dropout")}
    model = GazeModel(GazeConfig(encoder=encoder.config, **sizes))
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def train(config: TrainConfig) -> Path:
    """Train and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    run = Run.begin(config, "gaze")
    (learnt, validation), model = run.prepare(lambda: _read(config), lambda _: build(config))
    size = model.encoder.config.image_size
    thaw(model.encoder, config, first_pixels(learnt, size))
    task = GazeTask(
        model,
        GazeLoss(model, {term: getattr(config, term) for term in TERMS}),
        train=GazeSet(learnt, size, augment=True, seed=config.seed),
        validation=GazeSet(validation, size),
        groups=parameter_groups(model, config, config.tune_lr),
        accelerator=run.accelerator,
        best=run.work / "tune-best",
        measure=MEASURES[config.measure],
    )
    progress = fit(task, config.schedule(config.tune_epochs), run.accelerator, run.work / "tune")
    return run.end(checkpoints.load_as(GazeModel, task.best), progress.cpu_seconds)


def _read(config: TrainConfig) -> tuple[Sequence[ImageRecord], Sequence[ImageRecord]]:
    """Training and validation rows, read lazily."""
    splits = config.train_splits.split(",")
    learnt = [open_rows(config.data, split, required="fixations") for split in splits]
    learnt += [
        open_rows(folder, "train", required="fixations")
        for folder in filter(None, config.also.split(","))
    ]
    if config.tune_fold:
        held = chain_rows(of_fold(rows, True) for rows in learnt[: len(splits)])
        return chain_rows(of_fold(rows, False) for rows in learnt), held
    validation = open_rows(config.data, config.validation_split, required="fixations")
    check_splits(config.data, learnt[0], validation)
    return chain_rows(learnt), validation


if __name__ == "__main__":
    command(TrainConfig, train, args_file_flag="--recipe")
