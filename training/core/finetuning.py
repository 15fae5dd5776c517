"""The encoder in a training: where it starts from, what of it learns, and how fast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.core.config import RunConfig
from training.core.encoder_init import depthwise_padding, pretrained, unfold_batch_norm
from training.core.run import Model
from vqa import checkpoints
from vqa.models.encoder import Encoder, EncoderConfig


def start_encoder(name: str, reads: dict[str, Any]) -> Encoder:
    """The encoder to start from.

    Args:
        name: of a model of ours, or of pretrained weights of transformers.
        reads: fields of its config that are to differ; `finer` in its first network alone.
    """
    ours = (checkpoints.SHIPPED / name, Path(name))
    if any((folder / "vocab.json").is_file() for folder in ours):
        trained = checkpoints.load(name).encoder
        if not isinstance(trained, Encoder):
            raise checkpoints.BadCheckpoint(f"{name} has no encoder to start from")
    else:
        trained = pretrained(name, **{n: reads[n] for n in ("image_size", "stride")})
    encoder = Encoder(_reading(trained.config, reads))
    state, before = encoder.state_dict(), trained.state_dict()
    # All but the statistics of what it is to read for the first time.
    kept = {n: before[n] for n, t in state.items() if n in before and before[n].shape == t.shape}
    encoder.load_state_dict(state | kept)
    return encoder


def _reading(config: EncoderConfig, reads: dict[str, Any]) -> EncoderConfig:
    if reads["stride"] != config.stride:
        reads = {"width": 0} | reads  # its width was that of another stage
    padding = depthwise_padding(config.architecture, reads["image_size"])
    reads = {"architecture": config.architecture | padding} | reads
    others = {n: value for n, value in reads.items() if n not in ("finer", "architecture")}
    changed: dict[str, Any] = {"beside": config.beside and _reading(config.beside, others)}
    return replace(config, **(changed | reads))


def parameter_groups(model: Model, config: RunConfig, lr: float) -> list[dict[str, Any]]:
    """Head and encoder, each with its learning rate; without what is frozen.

    Args:
        model: whose.
        config: the run's.
        lr: of the head.
    """
    encoder = list(model.encoder.parameters())
    inside = set(map(id, encoder))
    head = [p for p in model.parameters() if id(p) not in inside and p.requires_grad]
    groups = [{"params": head, "lr": lr, "weight_decay": config.weight_decay}]
    if tuned := [p for p in encoder if p.requires_grad]:
        groups.append({"params": tuned, "lr": config.encoder_lr, "weight_decay": 0.0})
    return groups


def thaw(encoder: Encoder, config: RunConfig, pixels: list[Tensor]) -> None:
    """Let the encoder learn from `freeze_through` on, and its BatchNorm where that is asked for.

    Args:
        encoder: changed in place.
        config: the run's.
        pixels: pictures (1, 3, S, S) for the statistics of BatchNorm.
    """
    encoder.freeze(config.freeze_through)
    channels_last: dict[str, Any] = {"memory_format": torch.channels_last}
    encoder.to(**channels_last)  # what convolutions like best
    if config.train_batch_norm:
        unfold_batch_norm(encoder, torch.split(torch.cat(pixels), 32))
        encoder.train_batch_norm = True
