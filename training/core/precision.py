"""Whether bfloat16 makes a training faster on this processor."""

from __future__ import annotations

import platform

import torch

SLOW_BFLOAT16 = (
    "note: this processor has no bfloat16 instructions; training is faster with --bf16 false"
)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 with instructions of its own.

    oneDNN says that it supports bfloat16 wherever it can emulate it with AVX-512, which is slower
    than float32; on x86 the processor itself is asked too.
    """
    if device.type != "cpu":
        return True
    native = platform.machine() not in ("x86_64", "AMD64") or torch.cpu._is_avx512_bf16_supported()
    return bool(native and torch.ops.mkldnn._is_mkldnn_bf16_supported())
