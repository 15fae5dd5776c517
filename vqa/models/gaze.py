"""Where people look: a CNN's feature maps, decoded from the coarsest to the finest.

The decoder is a feature pyramid (Lin et al. 2017): each finer map of the encoder is added to what
is known from the coarser ones. People look at the middle of any picture, so a learned prior is
added at the end, as in ML-Net (Cornia et al. 2016). The map is a softmax over the pixels (Kummerer
et al., DeepGaze, 2015), or, for training by binary cross-entropy, a sigmoid divided by its sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.models.encoder import Encoder, EncoderConfig

OUTPUTS = ("softmax", "sigmoid")
PRIOR = 16  # the centre prior's grid has so many cells a side


@dataclass(frozen=True)
class GazeConfig:
    """Everything that rebuilds a gaze model without its weights."""

    encoder: EncoderConfig
    channels: int = 96  # of the decoder's maps
    finest: int = 4  # stride of the finest map of the encoder that is used
    output: str = "softmax"  # softmax | sigmoid
    dropout: float = 0.2  # of the decoder's channels

    @classmethod
    def from_plain(cls, config: dict[str, Any]) -> GazeConfig:
        """Build from the plain contents of config.json."""
        return cls(**{**config, "encoder": EncoderConfig.from_plain(config["encoder"])})

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise ValueError(f"output is {self.output!r}; it can be {', '.join(OUTPUTS)}")


class GazeModel(nn.Module):
    """Says where people look in a picture; see `GazeConfig`."""

    Config = GazeConfig
    model_type = "gaze"

    def __init__(self, config: GazeConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.strides = _strides(config.finest, config.encoder.stride)
        with torch.no_grad():
            size = config.encoder.image_size
            maps = self.encoder.pyramid(torch.zeros(1, 3, size, size), self.strides)
        width = config.channels
        self.enter = nn.ModuleList(nn.Conv2d(m.shape[1], width, 1) for m in maps)
        self.refine = nn.ModuleList(_Refine(width) for _ in maps)
        self.dropout = nn.Dropout2d(config.dropout)
        self.say = nn.Conv2d(width, 1, 1)
        self.prior = nn.Parameter(torch.zeros(1, 1, PRIOR, PRIOR))

    @classmethod
    def from_parts(cls, config: dict[str, Any], vocab: dict[str, list[str]]) -> GazeModel:
        """Build from the plain contents of config.json; vocab.json is empty."""
        if vocab:
            raise ValueError("a gaze model has no vocabulary, but vocab.json is not empty")
        return cls(GazeConfig.from_plain(config))

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json: nothing."""
        return {}

    def logits(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] -> how much each pixel draws the eye, (B, H, W), any
        number."""
        finest_first = self.encoder.pyramid(pixels, self.strides)
        coarsest = finest_first[-1]
        seen = coarsest.new_zeros(len(pixels), self.config.channels, *coarsest.shape[-2:])
        layers = zip(finest_first, self.enter, self.refine, strict=True)
        for features, enter, refine in reversed(list(layers)):
            seen = refine(_resize(seen, features.shape[-2:]) + enter(features))
        said = self.say(self.dropout(seen))
        said = said + _resize(self.prior, said.shape[-2:])
        return _resize(said, pixels.shape[-2:]).squeeze(1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, H, W) in [0, 1] -> where people look, (B, H, W): each map sums to 1."""
        return self.spread(self.logits(pixels))

    def spread(self, logits: Tensor) -> Tensor:
        """Logits (B, H, W) -> maps (B, H, W) that sum to 1."""
        flat = logits.flatten(1)
        if self.config.output == "softmax":
            return flat.softmax(dim=1).view_as(logits)
        drawn = flat.sigmoid()
        return (drawn / drawn.sum(dim=1, keepdim=True)).view_as(logits)


class _Refine(nn.Module):
    """Look at the neighbours, a channel at a time, then mix the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.rectify = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return torch.as_tensor(features + self.mix(self.rectify(self.near(features))))


def _strides(finest: int, coarsest: int) -> list[int]:
    strides = [finest]
    while strides[-1] < coarsest:
        strides.append(2 * strides[-1])
    if strides[-1] != coarsest:
        raise ValueError(f"finest is {finest}, and no doubling of it gives the stride {coarsest}")
    return strides


def _resize(maps: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    if maps.shape[-2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
