"""CNN encoders: pixels in [0, 1] -> a grid of feature vectors, by any convolutional network of
transformers.

The network is built from its config alone (`AutoModel.from_config`), so a checkpoint of ours needs
no second download; pretrained weights are read once, when a training starts
(`training.core.encoder_init`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqa.models.boxes import ObjectMaps

CELL_LENGTH = 16.0  # unit cells learn slowly: their entries are about 1/36 where a layer expects 1


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that rebuilds an encoder without its weights."""

    architecture: dict[str, Any]  # a transformers config as a dict, "model_type" included
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels in [0, 1], a channel
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_size: int = 224  # pictures are squashed to this square
    stride: int = 32  # pixels a grid cell: which stage of the network is read
    name: str = ""  # where the pretrained weights came from, for the card
    width: int = 0  # channels of the maps that are read, where a stage has several; 0: the last
    finer: tuple[int, ...] = ()  # strides of earlier stages that are read too; 1: the pixels
    beside: EncoderConfig | None = None  # a second network, whose cells are laid beside these

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)) or min(self.std) <= 0:
            raise ValueError(f"mean is {self.mean} and std {self.std}; std must be above 0")

    @classmethod
    def from_plain(cls, config: dict[str, Any]) -> EncoderConfig:
        """Build from the plain contents of config.json."""
        lists = {n: tuple(v) for n, v in config.items() if n in ("mean", "std", "finer")}
        beside = config.get("beside")
        return cls(**{**config, **lists, "beside": beside and cls.from_plain(beside)})


class Grid(NamedTuple):
    """Feature vectors on a grid, row by row from the top left."""

    cells: Tensor  # (B, height * width, C)
    height: int
    width: int
    objects: ObjectMaps | None = None  # of an object head on the same encoder

    def normalised(self, widths: Sequence[int]) -> Grid:
        """The grid with every cell scaled to length `CELL_LENGTH`; directions stay.

        Args:
            widths: channels of each part of a cell: each part gets that length.
        """
        parts = torch.split(self.cells, list(widths), dim=-1)
        directions = torch.cat([F.normalize(part, dim=-1) for part in parts], dim=-1)
        return self._replace(cells=CELL_LENGTH * directions)


class Encoder(nn.Module):
    """A convolutional network that turns pixels into a feature grid.

    Raises:
        ValueError: if the network has no stage of the wanted stride, or returns no feature maps.
    """

    mean: Tensor
    std: Tensor
    finer_mean: Tensor
    finer_std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        from transformers import AutoConfig, AutoModel

        self.config = config
        architecture = AutoConfig.for_model(**config.architecture)
        known = set(type(architecture)().to_dict())  # transformers takes unknown fields silently
        if unknown := sorted(set(config.architecture) - known):
            raise ValueError(f"unknown field {', '.join(unknown)} in the encoder's architecture")
        self.network: nn.Module = AutoModel.from_config(architecture, dtype=torch.float32)
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.beside = None if config.beside is None else Encoder(config.beside)
        self.features = nn.Identity()  # what the grid is made of passes here, for Grad-CAM to read
        self.train_batch_norm = False  # statistics stay as they are, unless a training asks for it
        self.eval()
        pixels = torch.zeros(1, 3, config.image_size, config.image_size)
        with torch.no_grad():  # the networks tell their own width better than any config field
            if config.finer:
                count = self.finer(self.maps(pixels), pixels, (1, 1)).shape[1]
                self.register_buffer("finer_mean", torch.zeros(count))  # see `standardise`
                self.register_buffer("finer_std", torch.ones(count))
            parts = self._read(self.maps(pixels), pixels)
        if len({part.shape[-2:] for part in parts}) > 1:
            raise ValueError("networks side by side need grids of one size")
        self.widths = tuple(int(part.shape[1]) for part in parts)
        self.channels = sum(self.widths)
        self.grid_size = (parts[0].shape[-2], parts[0].shape[-1])

    def forward(self, pixels: Tensor) -> Grid:
        """Encode pictures.

        Args:
            pixels: (B, 3, S, S) in [0, 1].

        Returns:
            The grid; cells are (B, h * w, C), unnormalised activations.
        """
        return self.with_pyramid(pixels, ())[0]

    def with_pyramid(self, pixels: Tensor, strides: Sequence[int]) -> tuple[Grid, list[Tensor]]:
        """The grid and the feature maps of `pyramid`, by one pass through the network."""
        maps = self.maps(pixels)
        features = self.features(torch.cat(self._read(maps, pixels), dim=1))
        height, width = features.shape[-2:]
        grid = Grid(features.flatten(2).transpose(1, 2), height, width)
        return grid, self._pyramid(maps, pixels, strides)

    def pyramid(self, pixels: Tensor, strides: Sequence[int]) -> list[Tensor]:
        """Pixels (B, 3, H, W) in [0, 1] -> the last feature maps (B, C, h, w) of each stride.

        At the stride of the config they are those of its width.

        Raises:
            ValueError: if the network has no stage of a stride.
        """
        return self._pyramid(self.maps(pixels), pixels, strides)

    def pyramid_widths(self, strides: Sequence[int]) -> list[int]:
        """How many channels the maps of `pyramid` have."""
        size = self.config.image_size
        with torch.no_grad():
            maps = self.pyramid(torch.zeros(1, 3, size, size), strides)
        return [int(features.shape[1]) for features in maps]

    def _pyramid(self, maps: list[Tensor], pixels: Tensor, strides: Sequence[int]) -> list[Tensor]:
        own = {self.config.stride: self._of_width(maps)}
        return [self._of_stride(own.get(stride, maps), pixels, stride) for stride in strides]

    def _read(self, maps: list[Tensor], pixels: Tensor) -> list[Tensor]:
        """The network's maps of pixels (B, 3, S, S) -> the parts of the grid, (B, C, h, w) each."""
        parts = [self._of_stride(self._of_width(maps), pixels, self.config.stride)]
        if self.config.finer:
            height, width = parts[0].shape[-2:]
            found = self.finer(maps, pixels, (height, width))
            mean, std = (t.view(-1, 1, 1) for t in (self.finer_mean, self.finer_std))
            parts.append((found - mean) / std)
        if self.beside is not None:
            parts += self.beside._read(self.beside.maps(pixels), pixels)
        return parts

    def finer(self, maps: Sequence[Tensor], pixels: Tensor, size: tuple[int, int]) -> Tensor:
        """The maps of earlier stages, averaged over each cell: (B, C, h, w), not standardised."""
        read = (self._of_stride(maps, pixels, stride) for stride in self.config.finer)
        return torch.cat([F.adaptive_avg_pool2d(part, size) for part in read], dim=1)

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """Pixels (B, 3, H, W) in [0, 1] -> those the network sees, and all its stages' outputs."""
        normalised = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        outputs = self.network(normalised, output_hidden_states=True)
        return [normalised, *(outputs.hidden_states or ()), outputs.last_hidden_state]

    def _of_width(self, maps: Sequence[Tensor]) -> list[Tensor]:
        return [m for m in maps if self.config.width in (0, m.shape[1])]

    def _of_stride(self, maps: Sequence[Tensor], pixels: Tensor, stride: int) -> Tensor:
        wanted = -(-pixels.shape[-1] // stride)
        for features in reversed(maps):
            if features.ndim == 4 and features.shape[-1] == wanted:
                return features
        of_width = f" and width {self.config.width}" if self.config.width else ""
        strides = {pixels.shape[-1] // m.shape[-1] for m in maps if m.ndim == 4} - {1}
        raise ValueError(
            f"this {self.config.architecture.get('model_type')} has no stage of stride "
            f"{stride}{of_width}; it offers {sorted(strides)}"
        )

    def train(self, mode: bool = True) -> Encoder:
        """Switch to training mode; BatchNorm follows only where `train_batch_norm` is set.

        Layers that drop values by chance stay off, as an EfficientNet's: fine-tuned for a few
        epochs, a network gains nothing by their noise, and they take a quarter of its time.
        """
        if self.beside is not None:
            self.beside.train_batch_norm = self.train_batch_norm
        super().train(mode)
        for layer in self.modules():
            by_chance = isinstance(layer, nn.Dropout)
            if by_chance or (isinstance(layer, nn.BatchNorm2d) and not self.train_batch_norm):
                layer.training = False
        return self

    def freeze(self, through_stride: int) -> None:
        """Freeze every layer up to the last one whose output has this stride; thaw the rest.

        Args:
            through_stride: 0 freezes nothing, the encoder's own stride freezes all of it. Layers
                past the stage that is read are always frozen: they get no gradient.
        """
        layers = self._layers_through(through_stride)
        parameters = list(self.network.parameters())
        frozen = {p for layer in layers for p in layer.parameters(recurse=False)}
        if through_stride >= self.config.stride:
            frozen = set(parameters)
        self.network.requires_grad_(True)
        size = self.config.image_size
        cells = self(torch.zeros(1, 3, size, size, device=self.mean.device)).cells
        gradients = torch.autograd.grad(cells.sum(), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None and parameter not in frozen)
        if self.beside is not None:
            self.beside.freeze(through_stride)

    def _layers_through(self, stride: int) -> set[nn.Module]:
        """The layers run before the first one whose output is coarser than `stride`."""
        size = self.config.image_size
        order: list[tuple[nn.Module, int]] = []

        def note(layer: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1:
                order.append((layer, size // output.shape[-1]))
            else:  # squeeze-and-excite and pooling belong to the stage they are run in
                order.append((layer, order[-1][1] if order else 1))

        owners = [
            m
            for m in self.network.modules()
            if not list(m.children()) or list(m.parameters(recurse=False))
        ]
        dry_run(self, torch.zeros(1, 3, size, size, device=self.mean.device), owners, note)
        coarser = [i for i, (_, layer_stride) in enumerate(order) if layer_stride > stride]
        return {layer for layer, _ in order[: coarser[0] if coarser else None]}


def dry_run(
    network: nn.Module, pixels: Tensor, layers: Iterable[nn.Module], note: Callable[..., None]
) -> None:
    """Run a network once to see what its layers do; it is left as it was.

    Args:
        network: run in eval mode, without gradients.
        pixels: (B, 3, H, W) in [0, 1].
        layers: of the network.
        note: is called as `note(layer, inputs, output)` after each of them.
    """
    modes = {module: module.training for module in network.modules()}
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        for module in modes:
            module.training = False
        with torch.no_grad():
            network(pixels)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in modes.items():
            module.training = mode
