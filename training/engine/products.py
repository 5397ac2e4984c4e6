"""Matrix products by the faster of torch's two CPU libraries.

torch multiplies float32 matrices with MKL, which on processors of other makers than its own stays at AVX2. oneDNN, in
the same torch, uses AVX-512: on a Zen 5 core 165 to 250 GFLOP/s instead of 75 to 105, with the same accuracy. It makes
a kernel (0.3 to 1 ms) for each new number of rows, so callers with ever new numbers should round them up.

Left out: torch's own switch (`torch.backends.mkldnn.matmul.fp32_precision`). It makes attention ten times slower, and
where there is AMX it rounds to bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

FAST = torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
SMALL = 1 << 20  # multiplications; up to there oneDNN takes longer to begin (10 us) than it saves
NARROW = 1 << 15  # weights; up to there it saves nothing, and its kernels take more memory than a small model


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in), weight (out, in) -> x weight' + bias. The fast way has no gradient, and is not taken under one."""
    plain = x.dtype == torch.float32 and x.device.type == "cpu"
    small = x.numel() * len(weight) < SMALL or weight.numel() < NARROW
    if not FAST or not plain or small or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y
