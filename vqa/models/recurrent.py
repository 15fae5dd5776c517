"""Recurrent layers that compute in the precision of their weights, also under autocast."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class LSTM(nn.LSTM):
    """`nn.LSTM` that autocast leaves alone.

    On processors without AVX-512, oneDNN has no bfloat16 LSTM, and a training under autocast would
    end with an error. In float32 an LSTM also computes the same on every processor.
    """

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run the LSTM in the precision of its weights, to which input and states are cast."""
        weight = next(self.parameters())
        if hx is not None:
            hx = tuple(state.to(weight.dtype) for state in hx)
        with torch.autocast(weight.device.type, enabled=False):
            return super().forward(input.to(weight.dtype), hx)
