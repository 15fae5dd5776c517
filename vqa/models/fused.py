"""Run a frozen-statistics CNN in fewer passes over memory, without changing what it computes.

A BatchNorm whose statistics stand still is an affine map, which the convolution before it can
do itself; a squeeze-and-excite block whose gate is 1 everywhere, as in EfficientNet-lite, does
nothing. Names and shapes of the tensors stay, so a fused network saves and loads like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPEN = 30.0  # a sigmoid of this is 1 in fp32


@torch.no_grad()
def fuse(network: nn.Module) -> None:
    """Fold each BatchNorm into its convolution and skip idle squeeze-and-excite, in place.

    Args:
        network: its convolutions without bias are each followed by their BatchNorm among the
            children of one module, as in transformers' EfficientNet, MobileNetV2 and ResNet.
            Afterwards BatchNorm cannot learn statistics any more; weights and biases can learn.
    """
    for parent in network.modules():
        if type(parent).__name__.endswith("SqueezeExciteLayer") and _is_idle(parent):
            _become(parent, _Skip)
            parent.requires_grad_(False)
        children = list(parent.children())
        for conv, norm in pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
        for layer in children:
            if isinstance(layer, nn.ReLU6):
                layer.inplace = True


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    if conv.bias is not None or norm.running_var is None or norm.running_mean is None:
        raise ValueError("only a convolution without bias and its BatchNorm can be fused")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    norm.bias.sub_(norm.running_mean * scale)
    conv.weight.mul_(scale.view(-1, 1, 1, 1))
    norm.weight.fill_(1.0)
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
    norm.weight.requires_grad_(False)
    _become(conv, _BiasedConv2d)
    cast(_BiasedConv2d, conv).norm = (norm,)
    _become(norm, _Skip)


def _is_idle(gate: nn.Module) -> bool:
    expand = cast(nn.Conv2d, gate.expand)
    return expand.bias is not None and bool((expand.bias - _reach(expand)).min() > OPEN)


def _reach(conv: nn.Conv2d) -> Tensor:
    """How far inputs in 0..6, as a ReLU6 gives them, can move each output."""
    return 6 * conv.weight.abs().sum((1, 2, 3))


def _become(layer: nn.Module, kind: type[nn.Module]) -> None:
    """Change what a layer computes; its parameters, names and copies stay an ordinary layer's."""
    layer.__class__ = type(kind.__name__, (kind, type(layer)), {})


class _Skip(nn.Module):
    """Stands for a block that changes nothing."""

    def forward(self, x: Tensor) -> Tensor:
        """Return what comes in."""
        return x


class _BiasedConv2d(nn.Conv2d):
    norm: tuple[nn.BatchNorm2d]  # in a tuple, so that it is no submodule

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', h, w): the convolution, with the bias of the folded BatchNorm."""
        bias = self.norm[0].bias
        if self.groups == 1 or not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
            return cast(Tensor, self._conv_forward(x, self.weight, bias))
        dtype = torch.get_autocast_dtype("cpu")
        padding = self.kernel_size[0] // 2 if self.padding == "same" else 0
        with torch.autocast("cpu", enabled=False):
            parts = (part.to(dtype) for part in (x, self.weight, bias))
            apply = cast(Callable[..., Tensor], _Depthwise.apply)
            return apply(*parts, self.stride[0], padding)


class _Depthwise(torch.autograd.Function):
    """A convolution a channel at a time in bfloat16, for training on a CPU.

    Two of oneDNN's backward passes in bfloat16 take ten times as long as they need: that for the
    weights of 5 x 5 kernels, which is compiled here instead, and that for the input of strided
    convolutions, which runs in fp32. So does everything where oneDNN has no bfloat16 (a CPU without
    AVX-512): sums would be rounded to bfloat16 on their way.
    """

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        """(B, C, H, W), (C, 1, k, k) and (C,) with a stride and a padding -> (B, C, h, w)."""
        x, weight, bias, ctx.stride, ctx.padding = args
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, ctx.stride, ctx.padding, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """The gradients of input, weights and bias, where they are needed."""
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        large = weight.shape[-1] > 3
        mask = [of_x, of_weight and not large, False]
        rounds = not torch.ops.mkldnn._is_mkldnn_bf16_supported()
        dtype = torch.float32 if ctx.stride > 1 or rounds else grad.dtype
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        inputs = (part.to(dtype) for part in (grad, x, weight))
        options = (None, stride, padding, [1, 1], False, [0, 0], len(weight), mask)
        found = list(torch.ops.aten.convolution_backward(*inputs, *options)) if any(mask) else []
        found = found or [None, None, None]
        if of_weight and large:
            padded = F.pad(x, [ctx.padding] * 4).contiguous(memory_format=torch.channels_last)
            found[1] = _compiled()(padded, grad, weight.shape[-1], ctx.stride).view_as(weight)
        if of_bias:
            found[2] = grad.sum((0, 2, 3))
        return (*(f if f is None else f.to(x.dtype) for f in found), None, None)


@cache
def _compiled() -> Callable[[Tensor, Tensor, int, int], Tensor]:
    return torch.compile(_weight_gradient, dynamic=False)


def _weight_gradient(x: Tensor, grad: Tensor, kernel: int, stride: int) -> Tensor:
    """Padded input (B, C, H, W) and gradient (B, C, h, w) -> that of the weights (C, k * k)."""
    height, width = (stride * (side - 1) + 1 for side in grad.shape[-2:])
    taps = [(i, j) for i in range(kernel) for j in range(kernel)]
    shifted = [
        x[:, :, i : i + height : stride, j : j + width : stride].float() * grad for i, j in taps
    ]
    return torch.stack([tap.sum((0, 2, 3)) for tap in shifted], dim=1)
