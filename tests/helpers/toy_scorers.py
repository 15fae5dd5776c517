"""Small real networks that the tests of `saliency` explain."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import torch
from torch import nn

SIDE = 32  # of their pictures, in pixels
CLASSES = 5


class LinearScorer(nn.Module):
    """Scores that are w . x + b: every map of it is known."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * SIDE * SIDE, CLASSES)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw))

    def forward(self, pixels):
        return self.linear(pixels.flatten(1).to(self.linear.weight.dtype))

    def weights(self):
        """(K, 3, H, W)"""
        return self.linear.weight.detach().view(CLASSES, 3, SIDE, SIDE)


class ConvScorer(nn.Module):
    """A residual network with BatchNorm, dropout and in-place ReLU modules; it has everything."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8))
        self.rectify = nn.ReLU(inplace=True)
        self.widen = nn.Conv2d(8, 16, 3, 2, 1)
        self.feature_layer = nn.ReLU()
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Linear(16, CLASSES)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in self.parameters():
                spread = torch.randn(parameter.shape, generator=draw)
                parameter.copy_(spread / max(1, parameter[0].numel()) ** 0.5)
            for layer in self.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.weight.copy_(1 + 0.1 * torch.rand(layer.weight.shape, generator=draw))

    def features(self, pixels):
        stem = self.stem(pixels)
        hidden = self.rectify(self.inner(stem) + stem)
        return self.feature_layer(self.widen(hidden))

    def forward(self, pixels):
        return self.classify(self.dropout(self.features(pixels).mean((2, 3))))

    def attention(self, pixels):
        """(B, 1, h, w), sums to 1."""
        energy = self.features(pixels).mean(1, keepdim=True)
        return energy.flatten(1).softmax(1).view_as(energy)


def a_picture(seed: int = 0, side: int = SIDE):
    """(1, 3, side, side) in [0, 1]"""
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


@contextmanager
def asked_all_the_while(scorer):
    """Another thread asks the scorer; in the end all its answers must be those of a quiet time."""
    pixels = a_picture(7)
    with torch.no_grad():
        expected = scorer(pixels)
    wrong, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            with torch.no_grad():
                answer = scorer(pixels)
            if answer.requires_grad or not torch.equal(answer, expected):
                wrong.append(answer)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert wrong == []
