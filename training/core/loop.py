"""The one training loop: any task, one process or many, resumable to the bit.

A task knows its model and its data; the loop knows schedule, clipping, averaging, early stop and
state. The batch of a step is a function of (seed, epoch, step), whatever the number of processes,
and a loss is a sum over the samples of the whole batch divided by their number; so several
processes learn what one does, and a run that was interrupted goes on as if it had not been.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from training.core.distributed import in_short, is_lost
from vqa.runtime.process_group import Lost

Batch = dict[str, Tensor]


class TrainingDiverged(RuntimeError):
    """The loss is no number any more; the message says at which step."""


class OtherSettings(ValueError):
    """The state to resume from was made by a run with other settings."""


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train."""

    epochs: int
    batch_size: int  # over all processes
    clip: float  # largest norm of the gradient; 0 for no clipping
    warmup: float  # share of the steps in which the learning rate rises; then it falls as a cosine
    ema: float  # decay of the averaged weights, which are what is validated and kept
    patience: int  # epochs without a better validation metric before stopping
    save_every: int  # steps between two states to resume from; each epoch's end is one besides
    seed: int
    optimizer: str = "adamw"  # adamw | sgd, with momentum .9


class Task(Protocol):
    """What the loop needs to know of a model and its data."""

    model: nn.Module  # what is averaged and kept
    learner: nn.Module  # batch -> summed loss, a scalar; holds the model

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser, each with its own `lr`."""

    def num_samples(self) -> int:
        """How many samples an epoch has."""

    def batch(self, samples: list[tuple[int, int]]) -> Batch:
        """Collate (epoch, index) pairs; its scalar `count` is the number of terms of the loss."""

    def validate(self, model: nn.Module) -> float:
        """The metric on validation, larger is better; equal on every process."""

    def keep(self, model: nn.Module) -> None:
        """Save the best model so far; called on the main process only."""


@dataclass
class Progress:
    """Where a run is."""

    epoch: int = 0
    step_in_epoch: int = 0
    step: int = 0
    best: float = -math.inf
    best_epoch: int = -1
    cpu_seconds: float = 0.0  # of this process, also before an interruption
    done: bool = False

    def state_dict(self) -> dict[str, Any]:
        """For Accelerate's checkpoints."""
        return dataclasses.asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For Accelerate's checkpoints."""
        for name, value in state.items():
            setattr(self, name, value)


def fit(task: Task, schedule: Schedule, accelerator: Accelerator, folder: Path) -> Progress:
    """Train until the schedule ends or validation stops improving; resume if the folder holds a
    state.

    Args:
        task: the model and its data.
        schedule: how long and how hard.
        accelerator: processes, precision and trackers.
        folder: where the states go.

    Returns:
        Where the run ended; the best model has been given to `task.keep`.

    Raises:
        TrainingDiverged: if the loss or its gradient becomes NaN or infinite.
        Lost: if another process is gone; the message says where this one was.
    """
    task.model.to(accelerator.device)
    # The average is a copy: it starts from the same weights on every process.
    averaged = AveragedModel(task.model, avg_fn=_average_with_warm_up(schedule.ema))
    optimizer = _optimizer(schedule.optimizer, task.parameter_groups())
    base_lrs = [group["lr"] for group in optimizer.param_groups]
    learner, optimizer = accelerator.prepare(task.learner, optimizer)
    progress = Progress()
    accelerator.register_for_checkpointing(averaged, progress)
    if accelerator.is_main_process and not (folder / "state").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.old").is_dir():  # killed between two renames
            (folder / "state.old").rename(folder / "state")
    accelerator.wait_for_everyone()
    if (folder / "state").is_dir():
        accelerator.load_state(str(folder / "state"))
    run = _Run(
        task, schedule, accelerator, folder, learner, averaged, optimizer, base_lrs, progress
    )
    try:
        while not progress.done:
            run.epoch()
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise Lost(f"{in_short(error)} {run.where()}") from error
    # Accelerate has no public way to forget them, and the next stage registers its own.
    accelerator._custom_objects.clear()
    accelerator.free_memory()
    return progress


def _optimizer(name: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
        case "sgd":
            return torch.optim.SGD(groups, momentum=0.9)
    raise ValueError(f"optimizer is {name!r}; it can be adamw or sgd")


@dataclass
class _Run:
    task: Task
    schedule: Schedule
    accelerator: Accelerator
    folder: Path
    learner: nn.Module
    averaged: AveragedModel
    optimizer: Any
    base_lrs: list[float]
    progress: Progress

    def __post_init__(self) -> None:
        self.steps = max(1, self.task.num_samples() // self.schedule.batch_size)
        self.started = time.process_time() - self.progress.cpu_seconds
        self.kept = self.progress.step  # of the last state

    def where(self) -> str:
        """Which step of how many was being taken, and from which a new run goes on."""
        total = self.steps * self.schedule.epochs
        return f"at step {self.progress.step} of {total} ({self.folder} goes on at {self.kept})"

    def epoch(self) -> None:
        """The rest of the current epoch, its validation, and the verdict whether to go on."""
        progress, schedule = self.progress, self.schedule
        self.learner.train()
        for batch in self._batches():
            self._step(batch)
            if progress.step % schedule.save_every == 0 and progress.step_in_epoch < self.steps:
                self._save()
        metric = self.task.validate(self.averaged.module)
        self.accelerator.log({"validation": metric}, step=progress.step)
        self.accelerator.print(f"epoch {progress.epoch}: validation {metric:.4f}")
        if metric > progress.best:
            progress.best, progress.best_epoch = metric, progress.epoch
            if self.accelerator.is_main_process:
                self.task.keep(self.averaged.module)
        progress.epoch, progress.step_in_epoch = progress.epoch + 1, 0
        waited = progress.epoch - 1 - progress.best_epoch
        progress.done = progress.epoch >= schedule.epochs or waited >= schedule.patience
        self._save()

    def _batches(self) -> Iterator[Batch]:
        """This process's share of each batch that the epoch still has."""
        epoch, size = self.progress.epoch, self.schedule.batch_size
        generator = torch.Generator().manual_seed(self.schedule.seed * 1_000_003 + epoch)
        order = torch.randperm(self.task.num_samples(), generator=generator).tolist()
        todo = range(self.progress.step_in_epoch, self.steps)
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        quiet = not self.accelerator.is_main_process
        for step in tqdm(todo, desc=f"epoch {epoch}", disable=quiet, mininterval=5.0):
            mine = order[step * size : (step + 1) * size][rank::world]
            yield self.task.batch([(epoch, index) for index in mine])

    def _step(self, batch: Batch) -> None:
        progress, accelerator = self.progress, self.accelerator
        self._set_learning_rates()
        batch = {name: tensor.to(accelerator.device) for name, tensor in batch.items()}
        count = accelerator.reduce(batch["count"].float(), "sum").clamp(min=1)
        summed = self.learner(batch)
        # Gradients are averaged over processes; the factor makes them the gradient of the batch's
        # mean.
        loss = summed * accelerator.num_processes / count
        accelerator.backward(loss)
        mean = accelerator.reduce(loss.detach(), "mean").item()
        limit = self.schedule.clip or math.inf
        norm = float(accelerator.clip_grad_norm_(self.learner.parameters(), limit))
        if not math.isfinite(mean + norm):
            state = self.folder / "state"
            kept = f"{state} keeps the last good state" if state.is_dir() else "no state was saved"
            raise TrainingDiverged(
                f"the loss is {mean} and its gradient's norm {norm} at step {progress.step} "
                f"(epoch {progress.epoch}); {kept}; lower the learning rate"
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.averaged.update_parameters(self.task.model)
        progress.step += 1
        progress.step_in_epoch += 1
        if progress.step % 20 == 0:
            accelerator.log(
                {"loss": mean, "lr": self.optimizer.param_groups[0]["lr"]}, progress.step
            )

    def _set_learning_rates(self) -> None:
        total = self.steps * self.schedule.epochs
        rise = max(1, round(self.schedule.warmup * total))
        step = self.progress.step
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))
        scale = min(1.0, (step + 1) / rise) * fall
        for group, base in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = base * scale

    def _save(self) -> None:
        """Write, then rename: a state that is there is whole."""
        fresh, state, old = (self.folder / name for name in ("state.new", "state", "state.old"))
        accelerator = self.accelerator
        self.progress.cpu_seconds = time.process_time() - self.started
        if accelerator.is_main_process:
            shutil.rmtree(fresh, ignore_errors=True)
        accelerator.wait_for_everyone()
        accelerator.save_state(str(fresh))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            shutil.rmtree(old, ignore_errors=True)
            if state.exists():
                state.rename(old)
            fresh.rename(state)
            self.kept = self.progress.step  # others may be lost from here on
            shutil.rmtree(old, ignore_errors=True)
        accelerator.wait_for_everyone()
        self.kept = self.progress.step


def claim(
    folder: Path,
    settings: Mapping[str, Any],
    accelerator: Accelerator,
    defaults: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Take a folder for a run with these settings, or refuse if it holds the states of another.

    Args:
        folder: for its states.
        settings: of the run.
        accelerator: the run's.
        defaults: of the settings: one that there was not yet when the run began had its default.

    Raises:
        OtherSettings: naming the settings that differ.
    """
    file = folder / "settings.json"
    if file.exists():
        found = {**defaults, **json.loads(file.read_text(encoding="utf-8"))}
        changed = sorted(n for n in {*found, *settings} if found.get(n) != settings.get(n))
        if changed:
            raise OtherSettings(
                f"{folder} holds the states of a run with another {', '.join(changed)}: "
                "remove it, or choose another output_dir"
            )
    accelerator.wait_for_everyone()  # nobody looks after the main process has written
    if accelerator.is_main_process and not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder / "settings.new"
        fresh.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        fresh.replace(file)
    accelerator.wait_for_everyone()


def _average_with_warm_up(decay: float) -> Any:
    """An exponential average that forgets faster at first: the random start means nothing."""

    def average(averaged: Tensor, current: Tensor, number: Tensor | int) -> Tensor:
        now = min(decay, (1 + float(number)) / (10 + float(number)))
        return averaged.lerp(current.to(averaged.dtype), 1 - now)

    return average
