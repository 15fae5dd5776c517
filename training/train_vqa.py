"""Train the answerer.

    python -m training.train_vqa --data ../shared/data/coco_vqa --output_dir runs/vqa

First the head learns on the grids of the frozen encoder, which are computed once and kept in
`cache_dir`; then all of it is fine-tuned end to end. `--blind true` trains the question-only
ablation. Run the same command again to resume; on several processes run it under `torchrun
--nproc_per_node N -m training.train_vqa ...`. States and TensorBoard logs are in
`<output_dir>.state`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import ConcatDataset

from training.answer_task import AnswerLoss, AnswerTask, fit_temperature
from training.data import QuestionSet, build_vocabularies
from training.loop import Progress, fit
from training.pictures import encode_rows, first_pixels
from training.run import (
    ERRORS,
    HeadFirstConfig,
    Run,
    flag,
    go_on,
    parameter_groups,
    start_encoder,
    thaw,
)
from vqa import checkpoints
from vqa.models import Answerer, AnswererConfig
from vqa.rows import BadData, Row, open_rows

SIZES = ("word_dim", "hidden_dim", "attention_dim", "fused_dim", "glimpses", "blind")


@dataclass(frozen=True)
class TrainConfig(HeadFirstConfig):
    """Every setting of a training; each is a flag of the same name."""

    blind: bool = flag(False, "question-only ablation: the picture is never looked at")
    word_dim: int = flag(300, "word embedding")
    hidden_dim: int = flag(512, "LSTM state")
    attention_dim: int = flag(512, "where question and grid cell meet")
    fused_dim: int = flag(1024, "where question and attended picture meet")
    glimpses: int = flag(2, "attention maps a question")
    dropout: float = flag(0.5, "everywhere in the head")
    word_min_count: int = flag(2, "rarer question words are unknown")
    answer_min_count: int = flag(2, "rarer answers are not learnt")

    def __post_init__(self) -> None:
        self.refuse_with_start((*SIZES, "word_min_count", "answer_min_count"))


def build(config: TrainConfig, rows: Sequence[Row]) -> Answerer:
    """The answerer to go on from, or a fresh one for the rows, on a pretrained encoder."""
    if config.start:
        return go_on(Answerer, config)
    words, answers = build_vocabularies(rows, config.word_min_count, config.answer_min_count)
    encoder = start_encoder(config)
    sizes = {"num_words": len(words), "num_answers": len(answers)}
    shared = {name: getattr(config, name) for name in (*SIZES, "dropout")}
    model = Answerer(AnswererConfig(encoder=encoder.config, **sizes, **shared), words, answers)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


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
    stages = {"head": config.head_epochs, "tune": 0 if config.blind else config.tune_epochs}
    cpu_seconds = 0.0
    for stage, epochs in stages.items():
        if epochs:
            model, progress = _run_stage(stage, epochs, model, rows, run)
            cpu_seconds += progress.cpu_seconds
    checkpoints.to_storage_precision(model.to(run.accelerator.device))
    model.temperature.fill_(fit_temperature(model, QuestionSet(rows[1], model), run.accelerator))
    return run.end(model, cpu_seconds)


def _read(config: TrainConfig) -> tuple[Sequence[Row], Sequence[Row]]:
    """Training and validation rows, read lazily."""
    folders = [config.data, *filter(None, config.also.split(","))]
    train_rows = ConcatDataset([open_rows(folder, "train") for folder in folders])
    validation = open_rows(config.data, "validation")
    if len(validation) == len(train_rows) and validation[0] == train_rows[0]:
        raise BadData(f"{config.data}: has no splits of its own; put train and validation apart")
    return train_rows, validation


def _run_stage(
    stage: str,
    epochs: int,
    model: Answerer,
    rows: tuple[Sequence[Row], Sequence[Row]],
    run: Run,
) -> tuple[Answerer, Progress]:
    """One stage, from the model it is given to the best model it saw."""
    config, accelerator = run.config, run.accelerator
    frozen = stage == "head"
    cells: list[list[np.ndarray]] = [[], []]
    if frozen:
        model.encoder.freeze(model.encoder.config.stride)
        cells = _encode(model, rows, run)
    else:
        thaw(model.encoder, config, first_pixels(rows[0], model.encoder.config.image_size))
    task = AnswerTask(
        model,
        AnswerLoss(model),
        train=QuestionSet(rows[0], model, augment=not frozen, cells=cells[0], seed=config.seed),
        validation=QuestionSet(rows[1], model, cells=cells[1]),
        groups=parameter_groups(model, config, config.head_lr if frozen else config.tune_lr),
        accelerator=accelerator,
        best=run.work / f"{stage}-best",
    )
    progress = fit(task, config.schedule(epochs), accelerator, run.work / stage)
    return checkpoints.load_as(Answerer, task.best), progress


def _encode(
    model: Answerer, rows: tuple[Sequence[Row], Sequence[Row]], run: Run
) -> list[np.ndarray | None]:
    """The grids of all pictures; a blind model's are all the same."""
    if model.config.blind:
        one = model.encode(model.temperature.new_zeros(1, 3, 1, 1)).cells.half().numpy()
        return [[np.broadcast_to(one, (len(part), *one.shape[1:]))] for part in rows]
    cache = Path(run.config.cache_dir).expanduser()
    with run.accelerator.main_process_first(), run.accelerator.autocast():
        return [encode_rows(model, part, cache) for part in rows]


def main() -> None:
    """Read the flags and train."""
    from transformers import HfArgumentParser

    try:
        (config,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses()
        print(f"saved to {train(config)}")
    except ERRORS as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
