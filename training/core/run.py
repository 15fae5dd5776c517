"""What every training script shares: its common settings, and how a run begins and ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, set_seed
from torch import Tensor, nn

from training import card
from training.core import distributed
from training.core.config import BadSettings, LoopConfig
from training.core.loop import Batch, OtherSettings, Task, TrainingDiverged, claim
from training.core.precision import SLOW_BFLOAT16, fast_bfloat16
from training.core.provenance import plain_paths, provenance, record
from vqa import checkpoints
from vqa.data.image_dataset import ImageRecord
from vqa.errors import BadCheckpoint, BadData, NotPublished
from vqa.hub import publish
from vqa.models.encoder import Encoder
from vqa.runtime.malloc import keep_freed
from vqa.runtime.process_group import Team

# What ends a training with one line.
ERRORS = (
    BadData,
    BadSettings,
    BadCheckpoint,
    OtherSettings,
    TrainingDiverged,
    NotPublished,
    OSError,
)
ELSEWHERE = (
    "output_dir",
    "cache_dir",
    "save_every",
    "lost_after",
    "push_to_hub",
)  # settings that change no result


Config = TypeVar("Config", bound=LoopConfig)


class Model(Protocol):
    """What a training needs of a model."""

    @property
    def encoder(self) -> Encoder:
        """Its first part."""

    def parameters(self) -> Any:
        """Its parameters; every `nn.Module` has them."""


@dataclass(frozen=True)
class Run(Generic[Config]):
    """A training under way."""

    accelerator: Accelerator
    work: Path  # its states, logs and best models so far
    config: Config
    team: Team

    @classmethod
    def begin(cls, config: Config, name: str) -> Run[Config]:
        """Claim the folder beside `output_dir` and note what began; or go on with what is there.

        Raises:
            OtherSettings: if states of a run with other settings are there.
            NotShared: if the folder is not the same on all machines.
        """
        output = Path(config.output_dir)
        work = output.with_name(output.name + ".state")
        if output.exists() and not output.is_dir():
            raise NotADirectoryError(f"{output} is a file: choose another output_dir")
        team = distributed.begin_team(config.lost_after)
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
        if config.bf16 and not fast_bfloat16(accelerator.device):
            accelerator.print(SLOW_BFLOAT16)
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


def check_splits(
    data: str, learnt: Sequence[ImageRecord], validation: Sequence[ImageRecord]
) -> None:
    """Refuse to measure on what was learnt from.

    Raises:
        BadData: if both splits of the data are the same rows.
    """
    if len(learnt) == len(validation) and learnt[0] == validation[0]:
        raise BadData(f"{data}: has no splits of its own; put train and validation apart")


def warm_start(kind: type[Any], config: Any, **changed: Any) -> Any:
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
        if not distributed.is_lost(error):
            raise
        raise SystemExit(f"error: {distributed.in_short(error)}; {distributed.AGAIN}") from error


class ModelTask(Task):
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
        """Groups for the optimiser, each with its own learning rate."""
        return self.groups

    def num_samples(self) -> int:
        """Samples that something can be learnt from."""
        return len(self.train)

    def batch(self, samples: list[tuple[int, int]]) -> Batch:
        """Tensors of the samples, each given as (epoch, index)."""
        return dict(self.train.batch(samples))

    def keep(self, model: Any) -> None:
        """Save the model as the best so far."""
        checkpoints.save(model, self.best)


def zero_loss(module: nn.Module) -> Tensor:
    """A loss of 0 that every parameter takes part in, so that processes with nothing to do agree
    with those that have."""
    return torch.stack([p.sum() * 0 for p in module.parameters() if p.requires_grad]).sum()
