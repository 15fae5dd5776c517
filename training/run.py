"""What every training script shares: its common settings, and how a run begins and ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor, nn

from training import card, processes
from training.loop import Batch, OtherSettings, Schedule, Task, TrainingDiverged, claim
from training.record import plain_paths, provenance, record
from vqa import checkpoints, publish
from vqa.encoders import Encoder
from vqa.memory import keep_freed
from vqa.rows import Row
from vqa.sources import BadData
from vqa.team import LOST_AFTER, LOST_HELP, Team


class BadSettings(ValueError):
    """Settings that do not go together; the message names them."""


# What ends a training with one line.
ERRORS = (
    BadData,
    BadSettings,
    checkpoints.BadCheckpoint,
    OtherSettings,
    TrainingDiverged,
    publish.NotPublished,
    OSError,
)
ELSEWHERE = (
    "output_dir",
    "cache_dir",
    "save_every",
    "lost_after",
    "push_to_hub",
)  # settings that change no result


def flag(default: Any, text: str) -> Any:
    """A field of a config, with the help of the flag that is made of it."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class LoopConfig:
    """Settings that every training has; each is a flag of its name."""

    data: str = field(metadata={"help": "folder or Hub id with the splits train and validation"})
    output_dir: str = field(metadata={"help": "where the checkpoint goes"})
    start: str = flag(
        "", "model of ours to go on from: its encoder, words and sizes stay; nothing for a new one"
    )
    batch_size: int = flag(64, "samples (pictures, texts) a step, over all processes")
    optimizer: str = flag("adamw", "adamw, or sgd with momentum")
    weight_decay: float = flag(1e-4, "of the optimizer")
    warmup: float = flag(0.05, "share of the steps in which the learning rate rises")
    clip: float = flag(1.0, "largest norm of the gradient")
    ema: float = flag(0.998, "decay of the averaged weights, which are kept; 0: the last ones are")
    patience: int = flag(6, "epochs without a better validation metric before stopping")
    save_every: int = flag(500, "steps between two states to resume from")
    lost_after: int = flag(LOST_AFTER, f"seconds {LOST_HELP}")
    bf16: bool = flag(False, "bfloat16 autocast")
    seed: int = flag(0, "of everything random")
    push_to_hub: str = flag("", "Hub id (org/name) to push the checkpoint to at the end")

    def schedule(self, epochs: int) -> Schedule:
        """How long and how hard one stage trains."""
        shared = {n: getattr(self, n) for n in Schedule.__dataclass_fields__ if n != "epochs"}
        return Schedule(epochs=epochs, **shared)


@dataclass(frozen=True)
class RunConfig(LoopConfig):
    """Those that every training of a model with an encoder has besides."""

    tune_fold: bool = flag(False, "choose on a fold kept of the training pictures, not validation")
    also: str = flag("", "further folders to learn from, a,b: their train split; a,b,b: b twice")
    encoder: str = flag("vqa", "CNN to start from: a model of ours, or a transformers folder or id")
    stride: int = flag(32, "which stage of the encoder is read: 16 or 32 pixels a cell")
    image_size: int = flag(224, "pictures are squashed to this square")
    tune_epochs: int = flag(8, "end to end")
    tune_lr: float = flag(2e-4, "of the head, end to end")
    encoder_lr: float = flag(5e-5, "of the encoder, end to end")
    freeze_through: int = flag(0, "stride up to which the encoder stays frozen, end to end")
    train_batch_norm: bool = flag(False, "unfold the encoder's BatchNorm and let it learn")

    def refuse_with_start(self, names: Sequence[str]) -> None:
        """Refuse settings that the model which `start` names has already.

        Raises:
            BadSettings: naming those that are given another value than the default.
        """
        defaults = {f.name: f.default for f in fields(self)}
        names = ["encoder", "stride", "image_size", *names]
        if given := [n for n in names if self.start and getattr(self, n) != defaults[n]]:
            raise BadSettings(f"with start, the model has its own {', '.join(given)}: leave it out")

    def reads(self) -> dict[str, Any]:
        """What the encoder reads of a picture: fields of its config."""
        return {"image_size": self.image_size, "stride": self.stride}


@dataclass(frozen=True)
class HeadFirstConfig(RunConfig):
    """The same for a model whose head first learns on the grids of the frozen encoder."""

    train_split: str = flag("train", "of `data`; of a Hub id also a slice, like validation[:90%%]")
    validation_split: str = flag("validation", "of `data`, likewise; `also` has none")
    head_epochs: int = flag(8, "with the encoder frozen, on cached grids")
    head_lr: float = flag(2e-3, "of the head while the encoder is frozen")
    cache_dir: str = flag("~/.cache/seewhy", "for the grids of the frozen encoder")


class Model(Protocol):
    """What a training needs of a model."""

    @property
    def encoder(self) -> Encoder:
        """Its first part."""

    def parameters(self) -> Any:
        """As of any `nn.Module`."""


@dataclass(frozen=True)
class Run:
    """A training under way."""

    accelerator: Accelerator
    work: Path  # its states, logs and best models so far
    config: LoopConfig
    team: Team

    @classmethod
    def begin(cls, config: LoopConfig, name: str) -> Run:
        """Claim the folder beside `output_dir` and note what began; or go on with what is there.

        Raises:
            OtherSettings: if states of a run with other settings are there.
            NotShared: if the folder is not the same on all machines.
        """
        output = Path(config.output_dir)
        work = output.with_name(output.name + ".state")
        if output.exists() and not output.is_dir():
            raise NotADirectoryError(f"{output} is a file: choose another output_dir")
        team = processes.begin_team(config.lost_after)
        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision="bf16" if config.bf16 else "no",
            log_with="tensorboard",
            project_dir=work / "logs",
            # One process may encode long while the others wait.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))],
        )
        settings = asdict(config)
        defaults = {f.name: f.default for f in fields(config) if f.default is not MISSING}
        kept, known = (
            {n: v for n, v in some.items() if n not in ELSEWHERE} for some in (settings, defaults)
        )
        claim(work, kept, accelerator, known)
        team.share(work)
        begun = work / "begun.json"  # the tree may change while this trains, or until it is resumed
        if accelerator.is_main_process and not begun.exists():
            record(begun, "training", provenance())
        accelerator.init_trackers(name, settings)
        return cls(accelerator, work, config, team)

    def prepare(self, read: Callable[[], Any], build: Callable[[Any], Any]) -> tuple[Any, Any]:
        """The data, and the model to begin with: the same on every process.

        Args:
            read: opens the data.
            build: makes the model for them.
        """
        with self.accelerator.main_process_first():
            data = read()
            set_seed(self.config.seed)
            model = build(data)
        set_seed(self.config.seed, device_specific=True)
        return data, model

    def end(self, model: checkpoints.Storable, cpu_seconds: float) -> Path:
        """Save the model with how it was made; returns `output_dir`."""
        output = Path(self.config.output_dir)
        if self.accelerator.is_main_process:
            for stale in card.STALE:  # they speak of the weights that were there
                (output / stale).unlink(missing_ok=True)
            checkpoints.save(model, output)
            cpu_hours = round(cpu_seconds * self.accelerator.num_processes / 3600, 2)
            recipe = {"cpu_hours": cpu_hours, "config": plain_paths(asdict(self.config))}
            made_by = json.loads((self.work / "begun.json").read_text(encoding="utf-8"))
            entry = made_by["training"] | recipe
            if self.config.start and (before := _training_of(self.config.start)):
                entry["started_from"] = before
            record(output / "metrics.json", "training", entry)
            if self.config.push_to_hub:
                card.write(output)
                self.accelerator.print(publish.push(output, self.config.push_to_hub))
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        self.team.leave()
        return output


def _training_of(name: str) -> dict[str, Any]:
    """How a model was made, where it tells."""
    file = checkpoints.find(name) / "metrics.json"
    made = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return dict(made.get("training", {}))


def check_splits(data: str, learnt: Sequence[Row], validation: Sequence[Row]) -> None:
    """Refuse to measure on what was learnt from.

    Raises:
        BadData: if both splits of the data are the same rows.
    """
    if len(learnt) == len(validation) and learnt[0] == validation[0]:
        raise BadData(f"{data}: has no splits of its own; put train and validation apart")


def go_on(kind: type[Any], config: Any, **changed: Any) -> Any:
    """The model of a kind that `config.start` names, with the dropout of this run.

    Args:
        kind: its class.
        config: the run's.
        changed: further fields of its config; what they add to it begins untrained.
    """
    before = checkpoints.load_as(kind, config.start)
    settings = {**asdict(before.config), "dropout": config.dropout, **changed}
    model = kind.from_parts(settings, before.vocabulary())
    model.load_state_dict(model.state_dict() | before.state_dict())
    return model


def command(config_class: type[Any], train: Callable[[Any], Path], **options: Any) -> None:
    """A training as a program: read its flags, train; what goes wrong ends it with one line.

    Args:
        config_class: whose fields are the flags.
        train: returns where the checkpoint is.
        options: of the reading of the flags, as of transformers' `HfArgumentParser`.
    """
    from transformers import HfArgumentParser

    keep_freed()
    try:
        (config,) = HfArgumentParser(config_class).parse_args_into_dataclasses(**options)
        print(f"saved to {train(config)}")
    except ERRORS as error:
        raise SystemExit(f"error: {error}") from error
    except RuntimeError as error:
        if not processes.is_lost(error):
            raise
        raise SystemExit(f"error: {processes.in_short(error)}; {processes.AGAIN}") from error


class OurTask(Task):
    """A model of ours as the loop sees it; a subclass says how to `validate`.

    Args:
        model: learns, and is averaged and kept.
        learner: batch -> summed loss; holds the model.
        train: what is learnt from.
        validation: what the averaged model is measured on.
        groups: as of `parameter_groups`.
        accelerator: the run's.
        best: folder for the best model so far.
    """

    def __init__(
        self,
        model: nn.Module,
        learner: nn.Module,
        *,
        train: Any,
        validation: Any,
        groups: list[dict[str, Any]],
        accelerator: Accelerator,
        best: Path,
    ) -> None:
        self.model, self.learner = model, learner
        self.train, self.validation = train, validation
        self.groups, self.accelerator, self.best = groups, accelerator, best

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As of `Task`."""
        return self.groups

    def num_samples(self) -> int:
        """Samples that something can be learnt from."""
        return len(self.train)

    def batch(self, samples: list[tuple[int, int]]) -> Batch:
        """As of `Task`."""
        return dict(self.train.batch(samples))

    def keep(self, model: nn.Module) -> None:
        """As of `Task`."""
        checkpoints.save(model, self.best)


def none_of(module: nn.Module) -> Tensor:
    """A loss of 0 that every parameter takes part in, so that processes with nothing to do agree
    with those that have."""
    return torch.stack([p.sum() * 0 for p in module.parameters() if p.requires_grad]).sum()
