"""CNN encoders: pixels in [0, 1] -> a grid of feature vectors, by any convolutional network of
transformers.

The network is built from its config alone (`AutoModel.from_config`), so a checkpoint of ours needs
no second download; pretrained weights are read once, when a training starts (`pretrained`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELL_LENGTH = 16.0  # unit cells learn slowly: their entries are about 1/36 where a layer expects 1
_LABELS = ("id2label", "label2id", "transformers_version", "architectures", "dtype")


@dataclass(frozen=True)
class EncoderConfig:
    """Everything that rebuilds an encoder without its weights."""

    architecture: dict[str, Any]  # a transformers config as a dict, "model_type" included
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)  # of pixels in [0, 1], a channel
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    image_size: int = 224  # pictures are squashed to this square
    stride: int = 32  # pixels a grid cell: which stage of the network is read
    name: str = ""  # where the pretrained weights came from, for the card


class Grid(NamedTuple):
    """Feature vectors on a grid, row by row from the top left."""

    cells: Tensor  # (B, height * width, C)
    height: int
    width: int

    def normalised(self) -> Grid:
        """The same directions, every cell of length `CELL_LENGTH`."""
        cells = CELL_LENGTH * F.normalize(self.cells, dim=-1)
        return Grid(cells, self.height, self.width)


class Encoder(nn.Module):
    """A convolutional network that turns pixels into a feature grid.

    Raises:
        ValueError: if the network has no stage of the wanted stride, or returns no feature maps.
    """

    mean: Tensor
    std: Tensor

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
        self.features = nn.Identity()  # what the grid is made of passes here, for Grad-CAM to read
        self.train_batch_norm = False  # statistics stay as they are, unless a training asks for it
        self.eval()
        with torch.no_grad():  # the network tells its own width better than any config field
            probe = self(torch.zeros(1, 3, config.image_size, config.image_size))
        self.channels = int(probe.cells.shape[-1])
        self.grid_size = (probe.height, probe.width)

    def forward(self, pixels: Tensor) -> Grid:
        """Encode pictures.

        Args:
            pixels: (B, 3, S, S) in [0, 1].

        Returns:
            The grid; cells are (B, h * w, C), unnormalised activations.
        """
        features = self.features(self._of_stride(self._maps(pixels), pixels, self.config.stride))
        height, width = features.shape[-2:]
        return Grid(features.flatten(2).transpose(1, 2), height, width)

    def pyramid(self, pixels: Tensor, strides: Sequence[int]) -> list[Tensor]:
        """Pixels (B, 3, H, W) in [0, 1] -> the last feature maps (B, C, h, w) of each stride.

        Raises:
            ValueError: if the network has no stage of a stride.
        """
        maps = self._maps(pixels)
        return [self._of_stride(maps, pixels, stride) for stride in strides]

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        normalised = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        outputs = self.network(normalised, output_hidden_states=True)
        return [*(outputs.hidden_states or ()), outputs.last_hidden_state]

    def _of_stride(self, maps: Sequence[Tensor], pixels: Tensor, stride: int) -> Tensor:
        wanted = -(-pixels.shape[-1] // stride)
        for features in reversed(maps):
            if features.ndim == 4 and features.shape[-1] == wanted:
                return features
        strides = sorted({pixels.shape[-1] // m.shape[-1] for m in maps if m.ndim == 4})
        raise ValueError(
            f"this {self.config.architecture.get('model_type')} has no stage of stride "
            f"{stride}; it offers {strides}"
        )

    def train(self, mode: bool = True) -> Encoder:
        """Switch to training mode; BatchNorm follows only where `train_batch_norm` is set.

        Layers that drop values by chance stay off, as an EfficientNet's: fine-tuned for a few
        epochs, a network gains nothing by their noise, and they take a quarter of its time.
        """
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


def pretrained(source: str, *, image_size: int = 224, stride: int = 32) -> Encoder:
    """An encoder that starts from pretrained weights.

    Args:
        source: a local folder in the transformers layout, or a Hub id.
        image_size: side of the square the pictures are squashed to, in pixels.
        stride: which stage to read, in pixels a grid cell.

    Raises:
        OSError: if there is no such folder or Hub id (transformers' own message).
        ValueError: if the network has no stage of that stride.
    """
    from transformers import AutoImageProcessor, AutoModel

    network = AutoModel.from_pretrained(source, dtype=torch.float32)
    processor = AutoImageProcessor.from_pretrained(source)
    architecture = {k: v for k, v in network.config.to_diff_dict().items() if k not in _LABELS}
    config = EncoderConfig(
        architecture=architecture,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
        image_size=image_size,
        stride=stride,
        name=str(source).rstrip("/").rsplit("/", maxsplit=1)[-1],
    )
    encoder = Encoder(config)
    encoder.network.load_state_dict(network.state_dict())
    return encoder


@torch.no_grad()
def unfold_batch_norm(encoder: Encoder, batches: Iterable[Tensor]) -> None:
    """Give every BatchNorm the true statistics of its input, leaving the function as it is.

    Weights whose normalisation was folded into the convolutions carry mean 0 and variance 1 that
    are not those of their inputs: in training mode such a network diverges. Afterwards training
    mode works.

    Args:
        encoder: changed in place.
        batches: pixels (B, 3, S, S) in [0, 1]; a few hundred real pictures are enough.
    """
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    sums: dict[nn.Module, Tensor] = {
        norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms
    }

    def measure(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].double()
        ones = torch.full((x.shape[1],), x.numel() / x.shape[1])
        sums[norm] += torch.stack([ones, x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])

    handles = [norm.register_forward_pre_hook(measure) for norm in norms]
    was_training = encoder.training
    try:
        encoder.eval()
        for pixels in batches:
            encoder(pixels)
    finally:
        for handle in handles:
            handle.remove()
        encoder.train(was_training)
    for norm in norms:
        count, total, squares = sums[norm]
        if not count.all():
            continue  # a layer past the stage that is read: it never ran
        _restate(norm, total / count, squares / count - (total / count) ** 2)


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Express the same affine map with other running statistics."""
    old_mean, old_variance = norm.running_mean, norm.running_var
    if old_mean is None or old_variance is None:
        raise ValueError("a BatchNorm without running statistics cannot be unfolded")
    scale = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + scale * (mean - old_mean))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    old_mean.copy_(mean)
    old_variance.copy_(variance)
