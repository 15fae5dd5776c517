"""The settings that training scripts share; each field is a command-line flag of its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from training.core.loop import Schedule
from vqa.runtime.process_group import LOST_AFTER, LOST_HELP


class BadSettings(ValueError):
    """Settings that do not go together; the message names them."""


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
    """Settings of a model whose head first learns on the grids of the frozen encoder."""

    train_split: str = flag("train", "of `data`; of a Hub id also a slice, like validation[:90%%]")
    validation_split: str = flag("validation", "of `data`, likewise; `also` has none")
    head_epochs: int = flag(8, "with the encoder frozen, on cached grids")
    head_lr: float = flag(2e-3, "of the head while the encoder is frozen")
    cache_dir: str = flag("~/.cache/seewhy", "for the grids of the frozen encoder")
