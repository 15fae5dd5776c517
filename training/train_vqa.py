"""Train the answerer.

    python -m training.train_vqa --data ../shared/data/coco_vqa --output_dir runs/vqa

First the head learns on the grids of the frozen encoder, which are computed once and kept in
`cache_dir`; then all of it is fine-tuned end to end. `--blind true` trains the question-only
ablation. Run the same command again to resume; on several processes run it under `torchrun
--nproc_per_node N -m training.train_vqa ...`. States and TensorBoard logs are in
`<output_dir>.state`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch.utils.data import ConcatDataset

from training.answer_task import AnswerTask, fit_temperature
from training.data import QuestionSet, build_vocabularies, decode, encode_rows
from training.loop import OtherSettings, Progress, Schedule, TrainingDiverged, claim, fit
from training.record import plain_paths, provenance, record
from vqa import checkpoints, images
from vqa.encoders import Encoder, pretrained, unfold_batch_norm
from vqa.models import Answerer, AnswererConfig
from vqa.rows import BadData, Row, open_rows

ELSEWHERE = ("output_dir", "cache_dir", "save_every")  # settings that change no result
SHARED = ("word_dim", "hidden_dim", "attention_dim", "fused_dim", "glimpses", "dropout", "blind")


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """Every setting of a training; each is a flag of the same name."""

    data: str = field(metadata={"help": "folder or Hub id with the splits train and validation"})
    output_dir: str = field(metadata={"help": "where the checkpoint goes"})
    also: str = _flag("", "further folders whose train split is added, with commas between")
    encoder: str = _flag(
        "vqa", "CNN to start from: a model of ours, or a transformers folder or id"
    )
    stride: int = _flag(32, "which stage of the encoder is read: 16 or 32 pixels a cell")
    image_size: int = _flag(224, "pictures are squashed to this square")
    blind: bool = _flag(False, "question-only ablation: the picture is never looked at")
    word_dim: int = _flag(300, "word embedding")
    hidden_dim: int = _flag(512, "LSTM state")
    attention_dim: int = _flag(512, "where question and grid cell meet")
    fused_dim: int = _flag(1024, "where question and attended picture meet")
    glimpses: int = _flag(2, "attention maps a question")
    dropout: float = _flag(0.5, "everywhere in the head")
    word_min_count: int = _flag(2, "rarer question words are unknown")
    answer_min_count: int = _flag(2, "rarer answers are not learnt")
    head_epochs: int = _flag(8, "with the encoder frozen, on cached grids")
    head_lr: float = _flag(2e-3, "of the head while the encoder is frozen")
    tune_epochs: int = _flag(8, "end to end")
    tune_lr: float = _flag(2e-4, "of the head, end to end")
    encoder_lr: float = _flag(5e-5, "of the encoder, end to end")
    freeze_through: int = _flag(0, "stride up to which the encoder stays frozen, end to end")
    train_batch_norm: bool = _flag(False, "unfold the encoder's BatchNorm and let it learn")
    batch_size: int = _flag(64, "pictures a step, over all processes")
    weight_decay: float = _flag(1e-4, "AdamW's")
    warmup: float = _flag(0.05, "share of the steps in which the learning rate rises")
    clip: float = _flag(1.0, "largest norm of the gradient")
    ema: float = _flag(0.998, "decay of the averaged weights")
    patience: int = _flag(6, "epochs without a better validation accuracy before stopping")
    save_every: int = _flag(500, "steps between two states to resume from")
    bf16: bool = _flag(False, "bfloat16 autocast")
    seed: int = _flag(0, "of everything random")
    cache_dir: str = _flag("~/.cache/seewhy", "for the grids of the frozen encoder")


def build(config: TrainConfig, rows: Sequence[Row]) -> Answerer:
    """A fresh answerer for the training rows, on a pretrained encoder."""
    words, answers = build_vocabularies(rows, config.word_min_count, config.answer_min_count)
    encoder = _start(config)
    sizes = {"num_words": len(words), "num_answers": len(answers)}
    shared = {name: getattr(config, name) for name in SHARED}
    model = Answerer(AnswererConfig(encoder=encoder.config, **sizes, **shared), words, answers)
    model.encoder.load_state_dict(encoder.state_dict())
    return model


def _start(config: TrainConfig) -> Encoder:
    """The encoder to start from: that of a model of ours, or pretrained weights of transformers."""
    size = {"image_size": config.image_size, "stride": config.stride}
    ours = (checkpoints.SHIPPED / config.encoder, Path(config.encoder))
    if not any((folder / "vocab.json").is_file() for folder in ours):
        return pretrained(config.encoder, **size)
    trained = _load(checkpoints.find(config.encoder)).encoder
    encoder = Encoder(replace(trained.config, **size))
    encoder.load_state_dict(trained.state_dict())
    return encoder


def train(config: TrainConfig) -> Path:
    """Train the head, then all of it; calibrate and save.

    Returns:
        The checkpoint's directory, `config.output_dir`.

    Raises:
        BadData: if the data cannot be read.
        TrainingDiverged: if the loss becomes NaN or infinite.
        OtherSettings: if states of a run with other settings are there.
    """
    output = Path(config.output_dir)
    work = output.with_name(output.name + ".state")
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"{output} is a file: choose another output_dir")
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision="bf16" if config.bf16 else "no",
        log_with="tensorboard",
        project_dir=work / "logs",
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],  # one may encode long
    )
    settings = asdict(config)
    claim(work, {n: v for n, v in settings.items() if n not in ELSEWHERE}, accelerator)
    begun = work / "begun.json"  # the tree may change while this trains, or until it is resumed
    if accelerator.is_main_process and not begun.exists():
        record(begun, "training", provenance())
    accelerator.init_trackers("answerer", settings)
    with accelerator.main_process_first():
        rows = _read(config)
        set_seed(config.seed)
        model = build(config, rows[0])
    set_seed(config.seed, device_specific=True)
    stages = {"head": config.head_epochs, "tune": 0 if config.blind else config.tune_epochs}
    cpu_seconds = 0.0
    for stage, epochs in stages.items():
        if epochs:
            model, progress = _run_stage(
                stage, epochs, model, rows=rows, config=config, accelerator=accelerator, work=work
            )
            cpu_seconds += progress.cpu_seconds
    checkpoints.to_storage_precision(model.to(accelerator.device))
    model.temperature.fill_(fit_temperature(model, QuestionSet(rows[1], model), accelerator))
    if accelerator.is_main_process:
        for stale in ("README.md", "metrics.json"):  # they speak of the weights that were there
            (output / stale).unlink(missing_ok=True)
        checkpoints.save(model, output)
        cpu_hours = round(cpu_seconds * accelerator.num_processes / 3600, 2)
        recipe = {"cpu_hours": cpu_hours, "config": plain_paths(settings)}
        made_by = json.loads(begun.read_text(encoding="utf-8"))["training"]
        record(output / "metrics.json", "training", made_by | recipe)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return output


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
    *,
    rows: tuple[Sequence[Row], Sequence[Row]],
    config: TrainConfig,
    accelerator: Accelerator,
    work: Path,
) -> tuple[Answerer, Progress]:
    """One stage, from the model it is given to the best model it saw."""
    frozen = stage == "head"
    model.encoder.freeze(config.stride if frozen else config.freeze_through)
    if not frozen and config.train_batch_norm:
        _unfold(model, rows[0])
    cells: list[np.ndarray | None] = [None, None]
    if frozen:
        cache = Path(config.cache_dir).expanduser()
        with accelerator.main_process_first(), accelerator.autocast():
            cells = [encode_rows(model, part, cache) for part in rows]
    train_set = QuestionSet(rows[0], model, augment=not frozen, cells=cells[0], seed=config.seed)
    validation = QuestionSet(rows[1], model, cells=cells[1])
    best = work / f"{stage}-best"
    groups = _parameter_groups(model, config, frozen=frozen)
    task = AnswerTask(
        model,
        train=train_set,
        validation=validation,
        groups=groups,
        accelerator=accelerator,
        best=best,
    )
    shared = {n: getattr(config, n) for n in Schedule.__dataclass_fields__ if n != "epochs"}
    progress = fit(task, Schedule(epochs=epochs, **shared), accelerator, work / stage)
    return _load(best), progress


def _load(directory: Path) -> Answerer:
    model = checkpoints.load(directory)
    if not isinstance(model, Answerer):
        raise checkpoints.BadCheckpoint(f"{directory} holds no answerer")
    return model


def _parameter_groups(
    model: Answerer, config: TrainConfig, *, frozen: bool
) -> list[dict[str, Any]]:
    """Head and encoder, each with its learning rate; without what is frozen."""
    encoder = list(model.encoder.parameters())
    inside = set(map(id, encoder))
    head = [p for p in model.parameters() if id(p) not in inside]
    lr = config.head_lr if frozen else config.tune_lr
    groups = [{"params": head, "lr": lr, "weight_decay": config.weight_decay}]
    if tuned := [p for p in encoder if p.requires_grad]:
        groups.append({"params": tuned, "lr": config.encoder_lr, "weight_decay": 0.0})
    return groups


def _unfold(model: Answerer, rows: Sequence[Row]) -> None:
    """Give BatchNorm the statistics of the first few hundred pictures, and let it learn."""
    size = model.config.encoder.image_size
    first = (decode(rows[place], size) for place in range(min(256, len(rows))))
    pixels = [images.to_pixels(picture, size) for picture in first if picture is not None]
    unfold_batch_norm(model.encoder, torch.cat(pixels).split(32))
    model.encoder.train_batch_norm = True


def main() -> None:
    """Read the flags and train."""
    from transformers import HfArgumentParser

    (config,) = HfArgumentParser(TrainConfig).parse_args_into_dataclasses()
    try:
        print(f"saved to {train(config)}")
    except (BadData, OtherSettings, TrainingDiverged, OSError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
