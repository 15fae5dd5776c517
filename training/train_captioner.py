r"""Train the captioner.

    python -m training.train_captioner --data ../shared/data/flickr8k \
        --also ../shared/data/coco_vqa --output_dir runs/captioner

First the decoder learns on the grids of the frozen encoder, which are computed once and kept in
`cache_dir`; then all of it is fine-tuned end to end; then it learns from CIDEr itself, on the grids
of its own encoder (self-critical training), whose document frequencies are those of all captions.
Run the same command again to resume; on several processes run it under `torchrun --nproc_per_node N
-m training.train_captioner ...`. States and TensorBoard logs are in `<output_dir>.state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from training.core.config import BadSettings, HeadFirstConfig, flag
from training.core.finetuning import parameter_groups, start_encoder
from training.core.run import Run, check_splits, command, warm_start
from training.core.stage import Stage, StageRun, run_stages
from training.data.caption_set import CaptionSet, Corpus, build_vocabulary, read_corpus
from training.data.feature_cache import encode_rows
from training.tasks.caption_doubt import fit_doubt
from training.tasks.captioning import CaptionLoss, CaptionTask, SelfCritical, reward_index
from training.tasks.object_loss import object_loss
from vqa.models import Captioner, CaptionerConfig

CRITICAL = "critical"  # the stage that learns from CIDEr itself
SIZES = (
    "decoder",
    "attention",
    "word_dim",
    "hidden_dim",
    "backward_dim",
    "attention_dim",
    "tied",
    "max_words",
    "length_power",
)


@dataclass(frozen=True)
class TrainConfig(HeadFirstConfig):
    """Every setting of a training; each is a flag of the same name."""

    also_share: float = flag(1.0, "share of the pictures of `also` that is used")
    attention: str = flag("adaptive", "none, soft or adaptive")
    decoder: str = flag("lstm", "lstm, or bilstm: forward and backward in time")
    word_dim: int = flag(384, "word embedding")
    hidden_dim: int = flag(512, "LSTM state")
    backward_dim: int = flag(0, "that of the LSTM backward in time; 0: the same")
    attention_dim: int = flag(512, "where state and grid cell meet")
    only_backward: bool = flag(False, "the LSTM backward in time learns alone")
    tied: bool = flag(True, "read and say words with the same embedding")
    dropout: float = flag(0.5, "everywhere in the decoder")
    max_words: int = flag(20, "longer captions are left out")
    length_power: float = flag(1.0, "captions are ranked by log p / length ** length_power")
    word_min_count: int = flag(5, "rarer words are not learnt")
    smoothing: float = flag(0.1, "label smoothing")
    views: int = flag(1, "cached grids a picture; all but the first of it mirrored and cropped")
    object_weight: float = flag(0.0, "of the objects' auxiliary loss, a picture")
    critical_epochs: int = flag(0, "self-critical, on the grids of the tuned encoder")
    critical_lr: float = flag(5e-5, "of the decoder, self-critical")
    critical_samples: int = flag(5, "captions drawn a picture, self-critical")
    critical_temperature: float = flag(0.5, "at which they are drawn")
    critical_weight: float = flag(0.9, "of the reward; the rest is cross-entropy")

    def __post_init__(self) -> None:
        added = ("decoder", "backward_dim")  # what a model to start from may get
        self.refuse_with_start((*(n for n in SIZES if n not in added), "word_min_count"))
        if self.only_backward and (self.decoder != "bilstm" or self.critical_epochs):
            raise BadSettings("only_backward needs decoder bilstm and no critical_epochs")
        if self.critical_samples < 2:
            raise BadSettings("critical_samples must be 2 or more: each is measured by the others")


def build(config: TrainConfig, corpus: Corpus) -> Captioner:
    """The captioner to go on from, or a fresh one for the captions, on a pretrained encoder."""
    if config.start:
        # One that had one LSTM may get the other; it keeps both if it had both.
        added = {"decoder": config.decoder, "backward_dim": config.backward_dim}
        captioner: Captioner = warm_start(
            Captioner, config, **(added if config.decoder == "bilstm" else {})
        )
        return captioner
    words = build_vocabulary(corpus, config.word_min_count)
    encoder = start_encoder(config.encoder, config.reads())
    shared = {name: getattr(config, name) for name in (*SIZES, "dropout")}
    model = Captioner(
        CaptionerConfig(encoder=encoder.config, num_words=len(words), **shared), words
    )
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def train(config: TrainConfig) -> Path:
    """Train in three stages and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    run = Run.begin(config, "captioner")
    corpora, model = run.prepare(lambda: _read(config), lambda read: build(config, read[0]))
    stages = (
        Stage("head", config.head_epochs, config.head_lr),
        Stage("tune", config.tune_epochs, config.tune_lr, frozen=False),
        Stage(CRITICAL, config.critical_epochs, config.critical_lr),
    )
    model, cpu_seconds = run_stages(
        stages,
        model,
        run,
        corpora[0].rows,
        encode=partial(_encode, corpora, run),
        make_task=partial(_task, corpora, run),
    )
    fit_doubt(model, corpora[1])
    return run.end(model, cpu_seconds)


def _read(config: TrainConfig) -> tuple[Corpus, Corpus]:
    """Training and validation captions; pictures are read lazily."""
    corpus = read_corpus(config.data, config.train_split, fold=_left_out(config))
    measured = config.train_split if config.tune_fold else config.validation_split
    validation = read_corpus(config.data, measured, fold=config.tune_fold or None)
    check_splits(config.data, corpus.rows, validation.rows)
    for folder in filter(None, config.also.split(",")):
        some: dict[str, Any] = {"share": config.also_share, "seed": config.seed}
        corpus += read_corpus(folder, "train", **some, fold=_left_out(config))
    return corpus, validation


def _left_out(config: TrainConfig) -> bool | None:
    return False if config.tune_fold else None


def _encode(
    corpora: tuple[Corpus, Corpus], run: Run[TrainConfig], stage: Stage, model: Captioner
) -> list[list[np.ndarray]]:
    """The grids of the training and the validation pictures; none where the encoder learns."""
    if not stage.frozen:
        return [[], []]
    cache = Path(run.config.cache_dir).expanduser()
    further: dict[str, Any] = {
        "mirrors": corpora[0].mirrors(),
        "views": run.config.views,
        "seed": run.config.seed,
    }
    with run.accelerator.main_process_first(), run.accelerator.autocast():
        return [
            encode_rows(model, corpora[0].rows, cache, **further),
            encode_rows(model, corpora[1].rows, cache),
        ]


def _task(
    corpora: tuple[Corpus, Corpus], run: Run[TrainConfig], stage_run: StageRun
) -> CaptionTask:
    """What the loop trains in a stage."""
    stage, model, config = stage_run.stage, stage_run.model, run.config
    if config.only_backward:
        model.requires_grad_(False)
        model.decoders[1].requires_grad_(True)
    train_set, validation = (
        CaptionSet(corpus, model, augment=not stage.frozen, cells=grids, seed=config.seed)
        for corpus, grids in zip(corpora, stage_run.encoded, strict=True)
    )
    return CaptionTask(
        model,
        _learner(stage, model, train_set, config),
        train=train_set,
        validation=validation,
        groups=parameter_groups(model, config, stage.lr),
        accelerator=run.accelerator,
        best=stage_run.best,
    )


def _learner(
    stage: Stage, model: Captioner, train_set: CaptionSet, config: TrainConfig
) -> nn.Module:
    if stage.name != CRITICAL:
        objects = object_loss(model.encoder.channels, train_set.objects, config.object_weight)
        return CaptionLoss(model, config.smoothing, objects)
    return SelfCritical(
        CaptionLoss(model, config.smoothing),
        reward_index(train_set),
        count=config.critical_samples,
        weight=config.critical_weight,
        temperature=config.critical_temperature,
    )


if __name__ == "__main__":
    command(TrainConfig, train)
