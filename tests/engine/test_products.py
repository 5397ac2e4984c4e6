"""Products by the faster library are the same products."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from training.engine import products
from training.engine.products import times

FAST = pytest.mark.skipif(not products.FAST, reason="this processor has no AVX-512, so there is one way only")


@pytest.mark.parametrize("shape", [(1, 256), (64, 256), (3, 20, 256)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_products_are_as_exact_as_torchs(shape: tuple[int, ...], transposed: bool, bias: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(shape), torch.randn(256, 400).T if transposed else torch.randn(400, 256)
    added = torch.randn(400) if bias else None
    exact = F.linear(x.double(), weight.double(), None if added is None else added.double())
    with torch.no_grad():
        torch.testing.assert_close(times(x, weight, added).double(), exact, atol=1e-4, rtol=1e-4)


@FAST
def test_gradients_are_never_lost() -> None:
    x, weight = torch.randn(64, 256, requires_grad=True), torch.randn(400, 256)
    times(x, weight).sum().backward()
    torch.testing.assert_close(x.grad, weight.sum(0).expand(64, 256))


@FAST
def test_the_fast_way_is_taken_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(F, "linear", lambda *_: pytest.fail("the slow way was taken"))
    with torch.no_grad():
        assert times(torch.randn(64, 256), torch.randn(400, 256)).shape == (64, 400)
