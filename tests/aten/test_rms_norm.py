"""RMS normalisation through PyTorch's own function, forward and backward."""

import pytest
import torch
from torch.nn.functional import rms_norm

import tessera
from tessera.accuracy import judge


def run(x: torch.Tensor, weight: torch.Tensor | None, shape: tuple[int, ...], eps: float | None) -> list[torch.Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in (x, weight) if t is not None]
    y = rms_norm(leaves[0], shape, leaves[1] if weight is not None else None, eps)
    slope = torch.tensor([i % 7 - 3.0 for i in range(y.numel())]).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, slope)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape,normalized", [((5, 7, 33), (33,)), ((4, 6, 10), (6, 10)), ((3, 70000), (70000,))])
@pytest.mark.parametrize("eps", [None, 1e-5])
@pytest.mark.parametrize("weighted", [True, False])
def test_rms_norm_and_its_gradients(dtype, shape, normalized, eps, weighted):
    x = torch.randn(shape).mul(0.1).to(dtype)
    weight = torch.randn(normalized).to(dtype) if weighted else None
    theirs = run(x, weight, normalized, eps)
    wide = torch.finfo(torch.promote_types(dtype, torch.float32)).eps if eps is None else eps
    exact = run(x.double(), weight.double() if weighted else None, normalized, wide)
    with tessera.use("always") as record:
        ours = run(x, weight, normalized, eps)
    assert record.calls["_fused_rms_norm"].ours == record.calls["_fused_rms_norm_backward"].ours == 1
    for mine, their, true in zip(ours, theirs, exact, strict=True):
        verdict = judge.judge(mine, judge.hold(their, true))
        assert verdict.ok, verdict.reason


def test_rms_norm_in_float64():
    x, weight = torch.randn(6, 40, dtype=torch.float64), torch.randn(40, dtype=torch.float64)
    theirs = run(x, weight, (40,), None)
    with tessera.use("always"):
        ours = run(x, weight, (40,), None)
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their, rtol=1e-13, atol=1e-13)


def test_what_has_no_kernel_of_ours_still_has_gradients():
    x = torch.randn(3, 8, dtype=torch.complex64)
    theirs = run(x, None, (8,), 1e-6)
    with tessera.use("always"):
        ours = run(x, None, (8,), 1e-6)
    for mine, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, their)


def test_a_weight_of_another_type():
    x, weight = torch.randn(4, 16).bfloat16(), torch.randn(16)
    theirs = rms_norm(x, (16,), weight)
    with tessera.use("always"):
        ours = rms_norm(x, (16,), weight)
    assert ours.dtype is theirs.dtype
    torch.testing.assert_close(ours, theirs)


def test_a_wrong_shape_is_pytorchs_error():
    with tessera.use("always"), pytest.raises(RuntimeError, match="normalized_shape"):
        rms_norm(torch.ones(3, 8), (4,))
