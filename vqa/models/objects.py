"""Where things are and how many: centres of objects as heat-maps, and a box at each centre.

After Zhou et al., "Objects as Points" (CenterNet, 2019), on a feature pyramid (Lin et al. 2017):
each finer map of the encoder is added to what is known from the coarser ones. A class has one map
of its objects' centres; a peak of it is an object, and the four distances from there to the sides
of its box are read at the same cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.models.boxes import Boxes, ObjectMaps, suppress
from vqa.models.encoder import Encoder, EncoderConfig

NAMES = "objects"  # key of the classes in vocab.json
RARE = 0.01  # score everywhere before anything is learnt
UNIT = 0.1  # distances are multiples of this share of the picture
MIN_SCORE = 0.05  # lower peaks are no objects: a thousand of them would add up to some
MAX_OBJECTS = 100  # objects that are read from a picture


@dataclass(frozen=True)
class ObjectConfig:
    """Everything that rebuilds an object model without its weights."""

    encoder: EncoderConfig
    num_objects: int  # classes
    channels: int = 128  # of the pyramid's maps
    stride: int = 8  # pixels a cell of the heat-maps

    @classmethod
    def from_plain(cls, config: dict[str, Any]) -> ObjectConfig:
        """Build from the plain contents of config.json."""
        return cls(**{**config, "encoder": EncoderConfig.from_plain(config["encoder"])})


class ObjectHead(nn.Module):
    """Reads objects from an encoder's feature pyramid.

    Args:
        widths: channels of the pyramid's maps, finest first.
        names: of the classes, in the order of the maps.
        channels: of the maps inside.
    """

    thresholds: Tensor

    def __init__(self, widths: Sequence[int], names: Sequence[str], channels: int) -> None:
        super().__init__()
        self.names, self.channels = tuple(names), channels
        self.enter = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in widths)
        self.refine = nn.ModuleList(_Refine(channels) for _ in widths)
        rare = float(np.log(RARE / (1 - RARE)))
        self.see_centres = nn.Sequential(_Refine(channels), _last(channels, len(names), rare))
        self.see_sides = nn.Sequential(_Refine(channels), _last(channels, 4, 0.0))
        # From which score on an object counts, a class; fitted after the training.
        self.register_buffer("thresholds", torch.full((len(names),), 0.3))

    def head(self, finest_first: Sequence[Tensor]) -> ObjectMaps:
        """The maps of what the encoder sees.

        Args:
            finest_first: the encoder's maps (B, C, h, w), as `Encoder.pyramid` returns them.
        """
        coarsest = finest_first[-1]
        seen = coarsest.new_zeros(len(coarsest), self.channels, 1, 1)
        layers = zip(finest_first, self.enter, self.refine, strict=True)
        for features, enter, refine in reversed(list(layers)):
            seen = F.interpolate(seen, size=features.shape[-2:], mode="nearest")
            seen = refine(seen + enter(features))
        raw = self.see_sides(seen).float().clamp(-6.0, 2.5)
        return ObjectMaps(self.see_centres(seen).float(), UNIT * raw.exp())

    def per_cell(self, maps: ObjectMaps, grid_size: tuple[int, int]) -> Tensor:
        """What lies in each cell of a coarser grid.

        Args:
            maps: of this head.
            grid_size: height and width in cells; a cell is a square of cells of the maps.

        Returns:
            (B, N, 2 K): for each class the expected number of objects whose centre is in the cell,
            which is the sum of their scores; then the number of those above the thresholds.
        """
        scores = peaks(maps.logits)
        above = (scores >= self.thresholds.view(-1, 1, 1)).to(scores.dtype)
        numbers = torch.cat([scores * (scores >= MIN_SCORE), above], dim=1)
        (rows, columns), (height, width) = grid_size, numbers.shape[-2:]
        side = -(-max(height, width) // max(rows, columns))
        numbers = F.pad(numbers, (0, columns * side - width, 0, rows * side - height))
        return side**2 * F.avg_pool2d(numbers, side).flatten(2).transpose(1, 2)


class ObjectModel(ObjectHead):
    """Finds and counts things in a picture; see `ObjectConfig`.

    Args:
        config: the sizes.
        names: of the classes, in the order of the maps.

    Raises:
        ValueError: if the names are not as many as the classes.
    """

    Config = ObjectConfig
    model_type = "objects"

    def __init__(self, config: ObjectConfig, names: Sequence[str]) -> None:
        if len(names) != config.num_objects:
            raise ValueError(f"{len(names)} names for {config.num_objects} classes of objects")
        encoder = Encoder(config.encoder)
        strides = pyramid_strides(config.stride, config.encoder.stride)
        super().__init__(encoder.pyramid_widths(strides), names, config.channels)
        self.config, self.encoder, self.strides = config, encoder, strides

    @classmethod
    def from_parts(cls, config: dict[str, Any], vocab: dict[str, list[str]]) -> ObjectModel:
        """Build from the plain contents of config.json and vocab.json."""
        if set(vocab) != {NAMES}:
            raise ValueError(f"vocab.json must hold {NAMES!r}, it holds {sorted(vocab)}")
        return cls(ObjectConfig.from_plain(config), vocab[NAMES])

    def vocabulary(self) -> dict[str, list[str]]:
        """The contents of vocab.json: the names of the classes."""
        return {NAMES: list(self.names)}

    def forward(self, pixels: Tensor) -> ObjectMaps:
        """Pixels (B, 3, H, W) in [0, 1] -> maps of the centres, and of the boxes' sides."""
        return self.head(self.encoder.pyramid(pixels, self.strides))

    @torch.no_grad()
    def find(self, pixels: Tensor, min_score: float = 0.1) -> list[Boxes]:
        """Pixels (B, 3, H, W) in [0, 1] -> the objects in each picture, best first."""
        return decode(self(pixels), min_score)


def peaks(logits: Tensor) -> Tensor:
    """Log-odds (B, K, h, w) -> scores in 0..1 where a cell exceeds its eight neighbours, else 0."""
    scores = logits.sigmoid()
    return scores * (scores == F.max_pool2d(scores, 3, stride=1, padding=1))


def decode(maps: ObjectMaps, min_score: float = 0.1) -> list[Boxes]:
    """Read the boxes at the peaks.

    Args:
        maps: of a head.
        min_score: of a peak.

    Returns:
        The boxes of each picture, best first, `MAX_OBJECTS` at most; of one class no two are the
        same.
    """
    scores = peaks(maps.logits)
    height, width = scores.shape[-2:]
    best, index = scores.flatten(1).topk(min(MAX_OBJECTS, scores[0].numel()), dim=1)
    labels, cells = index // (height * width), index % (height * width)
    x, y = (cells % width + 0.5) / width, (cells // width + 0.5) / height
    sides = maps.distances.flatten(2).gather(2, cells.unsqueeze(1).expand(-1, 4, -1))
    left, top, right, bottom = sides.unbind(1)
    corners = torch.stack([x - left, y - top, x + right, y + bottom], dim=2).clamp(0, 1)
    parts = (part.detach().cpu().numpy() for part in (corners, labels, best))
    found = [Boxes(*one) for one in zip(*parts, strict=True)]
    return [suppress(boxes.keep(boxes.scores >= min_score), 0.6) for boxes in found]


def count(boxes: Boxes, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """How many objects of each class there are.

    Args:
        boxes: of one picture, with low scores as well.
        thresholds: (K,), from which score on an object counts.

    Returns:
        Whole numbers (K,) of those from the thresholds on, and the sum (K,) of all scores, which
        is the expected number if scores are probabilities.
    """
    labels = torch.from_numpy(np.asarray(boxes.labels, np.int64))
    scores = torch.from_numpy(np.asarray(boxes.scores, np.float32))
    zeros = thresholds.new_zeros(len(thresholds))
    counted = (scores >= thresholds[labels]).to(zeros.dtype)
    return zeros.index_add(0, labels, counted), zeros.index_add(0, labels, scores)


class _Refine(nn.Module):
    """Look at the neighbours, a channel at a time, then mix the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.rectify = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return torch.as_tensor(features + self.mix(self.rectify(self.near(features))))


def _last(channels: int, outputs: int, start: float) -> nn.Conv2d:
    """A layer that at first says much the same everywhere."""
    layer = nn.Conv2d(channels, outputs, 1)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(cast(Tensor, layer.bias), start)
    return layer


def pyramid_strides(finest: int, coarsest: int) -> list[int]:
    """The strides from the finest to the coarsest, each the double of the one before.

    Raises:
        ValueError: if no doubling of the finest gives the coarsest.
    """
    strides = [finest]
    while strides[-1] < coarsest:
        strides.append(2 * strides[-1])
    if strides[-1] != coarsest:
        raise ValueError(f"stride is {finest}, and no doubling of it gives the stride {coarsest}")
    return strides
