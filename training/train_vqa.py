"""Train the answerer.

    python -m training.train_vqa --data ../shared/data/coco_vqa --output_dir runs/vqa

First, where captions are at hand, a detector learns which words fit a picture; then
the head learns on the grids of the frozen encoder, which are computed once and kept in
`cache_dir`; then all of it is fine-tuned end to end; then the head alone learns the data set's own
questions, without further ones. `--blind true` trains the question-only
ablation. Run the same command again to resume; on several processes run it under `torchrun
--nproc_per_node N -m training.train_vqa ...`. States and TensorBoard logs are in
`<output_dir>.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from training.core.config import BadSettings, HeadFirstConfig, flag
from training.core.encoder_init import side_by_side, standardise
from training.core.finetuning import parameter_groups, start_encoder
from training.core.run import Run, check_splits, command, warm_start
from training.core.stage import Stage, StageRun, run_stages
from training.data.concept_set import choose_concepts
from training.data.decoding import decode, first_pixels
from training.data.extra_annotations import MoreQuestions, PictureLabels, parse_weights
from training.data.feature_cache import encode_rows
from training.data.question_generation import SOURCE
from training.data.question_set import QuestionSet, build_vocabularies, survives_mirror
from training.data.tune_fold import of_fold
from training.tasks.answering import AnswerLoss, AnswerTask, fit_temperature
from training.tasks.concepts import learn_concepts
from training.tasks.object_loss import object_loss
from vqa import checkpoints
from vqa.data.image_dataset import ImageDataset, ImageRecord, open_rows
from vqa.errors import BadData
from vqa.models import Answerer, AnswererConfig, GazeModel, ObjectModel
from vqa.models.answerer import CONTROLS, FUSIONS
from vqa.models.encoder import Encoder
from vqa.preprocessing import images

OWN = "own"  # the stage that learns the data set's own questions alone
SIZES = ("word_dim", "hidden_dim", "attention_dim", "fused_dim", "glimpses", "blind")
READ = ("beside", "width", "finer")
GAZE = ("gaze", "gaze_size", "fusion", "wrong_gaze")
CONCEPTS = ("concept_epochs", "concept_dim", "concept_min_count", "objects")


@dataclass(frozen=True)
class TrainConfig(HeadFirstConfig):
    """Every setting of a training; each is a flag of the same name."""

    beside: str = flag("", "a second CNN, like encoder, whose cells are laid beside its cells")
    width: int = flag(0, "channels of the maps to read of both; 0: as before, or the last maps")
    finer: str = flag("", "strides of earlier stages to read of the first as well: 1,4,8,16")
    views: int = flag(1, "cached grids a picture; all but the first of it mirrored and cropped")
    blind: bool = flag(False, "question-only ablation: the picture is never looked at")
    word_dim: int = flag(300, "word embedding")
    hidden_dim: int = flag(512, "LSTM state")
    attention_dim: int = flag(512, "where question and grid cell meet")
    fused_dim: int = flag(1024, "where question and attended picture meet")
    glimpses: int = flag(2, "attention maps a question")
    dropout: float = flag(0.5, "everywhere in the head")
    gaze: str = flag("", "gaze model of ours that takes part: a name, folder or Hub id")
    gaze_size: int = flag(192, "side in pixels at which it looks")
    fusion: str = flag("none", f"how it takes part: {', '.join(FUSIONS)}")
    wrong_gaze: bool = flag(False, "control: each picture gets the gaze map of another one")
    concept_epochs: int = flag(0, "first, of a detector of what captions name; 0: without one")
    concept_dim: int = flag(128, "where grid cell and concept meet")
    concept_min_count: int = flag(15, "what captions of fewer pictures name is not detected")
    objects: str = flag("", "object model of ours on the encoder, whose head finds and counts")
    tune_gaze: bool = flag(False, "end to end, the gaze model learns too")
    own_epochs: int = flag(0, "at the end, with the encoder frozen, without further questions")
    own_lr: float = flag(1e-3, "of the head in these")
    more: str = flag("", "sources of further questions and their weights: pope=1,captions=0.25")
    captions: str = flag("", "further folders that have captions alone, with commas between")
    object_weight: float = flag(0.0, "of the objects' auxiliary loss, a picture")
    word_min_count: int = flag(2, "rarer question words are unknown, a source by its weight")
    answer_min_count: int = flag(2, "rarer answers are not learnt")

    def __post_init__(self) -> None:
        self.refuse_with_start(
            (*SIZES, *GAZE, *READ, *CONCEPTS, "word_min_count", "answer_min_count")
        )
        if bool(self.gaze) != (self.fusion != "none") and not self.start:
            raise BadSettings("gaze and a fusion other than none go together")
        weights = self.weights()
        if self.captions and not (SOURCE in weights or self.concept_epochs):
            raise BadSettings(f"captions need a weight: --more {SOURCE}=0.25")
        if self.blind and self.concept_epochs:
            raise BadSettings("a blind answerer has no use for concepts")

    def weights(self) -> dict[str, float]:
        """Of further questions, by their source.

        Raises:
            BadSettings: if `more` does not list sources and weights.
        """
        try:
            return parse_weights(self.more)
        except ValueError as error:
            raise BadSettings(f"more: {error}") from error


def _build_encoder(config: TrainConfig, rows: Sequence[ImageRecord]) -> Encoder:
    """One network or two, and what is read of them.

    Raises:
        BadSettings: if they cannot be read so.
    """
    reads = config.reads() | ({"width": config.width} if config.width else {})
    try:
        finer = tuple(int(stride) for stride in config.finer.split(",") if stride)
        encoder = start_encoder(config.encoder, reads | ({"finer": finer} if finer else {}))
        if config.beside:
            encoder = side_by_side(encoder, start_encoder(config.beside, reads))
    except ValueError as error:
        raise BadSettings(str(error)) from error
    standardise(encoder, first_pixels(rows, config.image_size))
    return encoder


def build(config: TrainConfig, rows: TrainingRows) -> Answerer:
    """The answerer to go on from, or a fresh one for the rows, on a pretrained encoder."""
    if config.start:
        answerer: Answerer = warm_start(Answerer, config)
        return answerer
    counts = (config.word_min_count, config.answer_min_count)
    words, answers = build_vocabularies(rows, *counts, config.weights())
    encoder = _build_encoder(config, rows)
    sizes: dict[str, Any] = {"num_words": len(words), "num_answers": len(answers)}
    kept = (*SIZES, "dropout", "fusion", "wrong_gaze")
    shared: dict[str, Any] = {name: getattr(config, name) for name in kept}
    gaze = checkpoints.load_as(GazeModel, config.gaze) if config.gaze else None
    if gaze is not None:
        seen = replace(gaze.config.encoder, image_size=config.gaze_size)
        shared["gaze"] = replace(gaze.config, encoder=seen)
    concepts: tuple[str, ...] = ()
    if config.concept_epochs:
        concepts = choose_concepts(rows.seen(), config.concept_min_count)
        shared |= {"num_concepts": len(concepts), "concept_dim": config.concept_dim}
    head = checkpoints.load_as(ObjectModel, config.objects) if config.objects else None
    if head is not None:
        if head.config.encoder.stride != encoder.config.stride:
            raise BadSettings(
                f"objects reads stride {head.config.encoder.stride}: set stride to it"
            )
        shared |= {"num_objects": len(head.names), "object_channels": head.config.channels}
        shared["object_stride"] = head.config.stride
    built = AnswererConfig(encoder=encoder.config, **sizes, **shared)
    model = Answerer(built, words, answers, concepts, head.names if head is not None else ())
    model.encoder.load_state_dict(encoder.state_dict())
    if head is not None and model.objects is not None:
        state = head.state_dict()
        model.objects.load_state_dict({name: state[name] for name in model.objects.state_dict()})
    if gaze is not None and model.gaze is not None:
        model.gaze.load_state_dict(gaze.state_dict())
    if config.wrong_gaze:
        _sample_control_maps(model, rows)
    return model


@torch.no_grad()
def _sample_control_maps(model: Answerer, rows: Sequence[ImageRecord]) -> None:
    """Keep the gaze on a few training pictures, the same for every seed, for all to be given."""
    drawn = np.random.default_rng(0).permutation(len(rows))[: 2 * CONTROLS]
    size = model.config.encoder.image_size
    pictures = (decode(rows[int(place)], size) for place in drawn)
    seen = [images.to_pixels(picture, size) for picture in pictures if picture is not None]
    if not seen:
        raise BadData("no picture decodes")
    pixels = torch.cat([seen[i % len(seen)] for i in range(CONTROLS)])
    right = [
        model.gaze_on_grid(part, model.encoder.grid_size, wrong=False)
        for part in torch.split(pixels, 16)
    ]
    model.controls.copy_(torch.cat(right))


def train(config: TrainConfig) -> Path:
    """Train the head, then all of it; calibrate and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    run = Run.begin(config, "answerer")
    rows, model = run.prepare(lambda: _read(config), lambda read: build(config, read[0]))
    stages = (
        Stage("head", config.head_epochs, config.head_lr),
        Stage("tune", 0 if config.blind else config.tune_epochs, config.tune_lr, frozen=False),
        Stage(OWN, config.own_epochs, config.own_lr),
    )
    concept_seconds = 0.0
    if config.concept_epochs:
        (cells,) = _encode(model, rows[:1], run, config.views)
        schedule: dict[str, Any] = {"epochs": config.concept_epochs, "lr": config.head_lr}
        concept_seconds = learn_concepts(model, rows[0], rows[0].seen(), cells, run, **schedule)
    model, cpu_seconds = run_stages(
        stages,
        model,
        run,
        rows[0],
        encode=partial(_encode_for, rows, run),
        make_task=partial(_task, rows, run),
    )
    checkpoints.to_storage_precision(model.to(run.accelerator.device))
    shown = QuestionSet(rows[1], model, unlearnable=True)
    model.temperature.fill_(fit_temperature(model, shown, run.accelerator))
    return run.end(model, concept_seconds + cpu_seconds)


class TrainingRows(ImageDataset):
    """Training rows of several folders, in one sequence.

    Args:
        parts: the rows of each folder, with what is known besides of their pictures.
    """

    def __init__(self, parts: Sequence[MoreQuestions]) -> None:
        self.parts = parts
        places = [(part, place) for part in parts for place in range(len(part))]
        super().__init__(places, lambda _, pair: pair[0][pair[1]])

    def objects(self) -> list[set[str] | None]:
        """What can be seen in each picture; None where nobody looked."""
        return [seen for part in self.parts for seen in part.objects()]

    def seen(self) -> list[PictureLabels]:
        """What captions and objects tell of each picture."""
        return [seen for part in self.parts for seen in part.seen()]


def _read(config: TrainConfig) -> tuple[TrainingRows, Sequence[ImageRecord]]:
    """Training and validation rows, read lazily."""
    weights = config.weights()
    fold = False if config.tune_fold else None
    parts = [
        MoreQuestions(
            of_fold(open_rows(folder, split, required=needs), fold), folder, weights, config.seed
        )
        for needs, split, folders in (
            ("question", config.train_split, config.data),
            ("question", "train", config.also),
            ("caption", "train", config.captions),
        )
        for folder in filter(None, folders.split(","))
    ]
    train_rows = TrainingRows(parts)
    measured = config.train_split if config.tune_fold else config.validation_split
    validation = of_fold(open_rows(config.data, measured), config.tune_fold or None)
    check_splits(config.data, parts[0].rows, validation)
    return train_rows, validation


class Encoded(NamedTuple):
    """What a stage reads of the encoder before it may learn."""

    train: list[np.ndarray]  # grids of the training pictures; none where the encoder learns
    validation: list[np.ndarray]
    gaze_shares: np.ndarray | None = None  # (P, h, w), where these do not learn while the rest does


def _encode_for(
    rows: tuple[TrainingRows, Sequence[ImageRecord]],
    run: Run[TrainConfig],
    stage: Stage,
    model: Answerer,
) -> Encoded:
    """The grids that a stage learns from; end to end, the gaze alone."""
    if stage.frozen:
        train, validation = _encode(model, rows, run, run.config.views)
        return Encoded(train, validation)
    keeps_gaze = model.gaze is not None and not run.config.tune_gaze
    return Encoded([], [], _gaze_shares(model, rows, run) if keeps_gaze else None)


def _task(
    rows: tuple[TrainingRows, Sequence[ImageRecord]], run: Run[TrainConfig], stage_run: StageRun
) -> AnswerTask:
    """What the loop trains in a stage."""
    stage, model, encoded = stage_run.stage, stage_run.model, stage_run.encoded
    config = run.config
    if model.gaze is not None:
        model.gaze.requires_grad_(not stage.frozen and config.tune_gaze)
    for part in (model.detector, model.objects):
        if part is not None:
            part.requires_grad_(False)
    train_set = QuestionSet(
        rows[0],
        model,
        weights={} if stage.name == OWN else config.weights(),
        objects=rows[0].objects(),
        augment=not stage.frozen,
        cells=encoded.train,
        looks=encoded.gaze_shares,
        seed=config.seed,
    )
    objects = object_loss(model.encoder.channels, train_set.objects, config.object_weight)
    return AnswerTask(
        model,
        AnswerLoss(model, objects),
        train=train_set,
        validation=QuestionSet(rows[1], model, cells=encoded.validation),
        groups=parameter_groups(model, config, stage.lr),
        accelerator=run.accelerator,
        best=stage_run.best,
    )


def _encode(
    model: Answerer, rows: tuple[Sequence[ImageRecord], ...], run: Run[TrainConfig], views: int
) -> list[list[np.ndarray]]:
    """The grids of all pictures, of the first rows so many views; a blind model's are all alike."""
    if model.config.blind:
        one = model.encode(model.temperature.new_zeros(1, 3, 1, 1)).cells.half().numpy()
        return [[np.broadcast_to(one, (len(part), *one.shape[1:]))] for part in rows]
    cache, (learnt, *others) = Path(run.config.cache_dir).expanduser(), rows
    mirrors = [all(map(survives_mirror, row.questions)) for row in learnt] if views > 1 else []
    further: dict[str, Any] = {"mirrors": mirrors, "views": views, "seed": run.config.seed}
    with run.accelerator.main_process_first(), run.accelerator.autocast():
        first = encode_rows(model, learnt, cache, **further)
        return [first, *(encode_rows(model, part, cache) for part in others)]


def _gaze_shares(
    model: Answerer, rows: tuple[Sequence[ImageRecord], ...], run: Run[TrainConfig]
) -> np.ndarray:
    """Where people look in the training pictures (P, h, w): the last entry of each cell."""
    shares = _encode(model, rows[:1], run, 1)[0][0][:, :, -1]
    return np.array(shares).reshape(len(shares), *model.encoder.grid_size)


if __name__ == "__main__":
    command(TrainConfig, train)
