"""The kernels that every Triton author writes first, on the CPU, against float64."""

import pytest
import torch
import triton

from tessera.accuracy import judge as accuracy

from . import kernels


def judge(ours: torch.Tensor, theirs: torch.Tensor, exact: torch.Tensor) -> None:
    """Our error against float64, by the rule of the whole project: relative to PyTorch's own."""
    verdict = accuracy.judge(ours, accuracy.hold(theirs, exact))
    assert verdict.ok, verdict.reason


@pytest.mark.parametrize("size", [1, 7, 1024, 98432])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int32, torch.int64]
)
def test_vector_add(size, dtype):
    x, y = (torch.randn(size).mul(10).to(dtype) for _ in range(2))
    out = torch.empty_like(x)
    kernels.vector_add[(triton.cdiv(size, 1024),)](x, y, out, size, BLOCK=1024)
    assert torch.equal(out, x + y)


def test_vector_add_writes_nothing_beyond_its_mask():
    x, out = torch.ones(100), torch.full((128,), 7.0)
    kernels.vector_add[(1,)](x, x, out, 100, BLOCK=128)
    assert torch.equal(out[:100], torch.full((100,), 2.0)) and torch.equal(out[100:], torch.full((28,), 7.0))


def test_vector_add_in_place():
    x, y = torch.randn(1000), torch.randn(1000)
    expected = x + y
    kernels.vector_add[(1,)](x, y, x, 1000, BLOCK=1024)
    assert torch.equal(x, expected)


@pytest.mark.parametrize("shape", [(5, 1), (37, 781), (3, 1024), (2, 3000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_fused_softmax(shape, dtype):
    x = torch.randn(shape).mul(3).to(dtype)
    out = torch.empty_like(x)
    block = triton.next_power_of_2(shape[1])
    kernels.fused_softmax[(3,)](out, x, x.stride(0), out.stride(0), *shape, BLOCK=block, STAGES=2)
    judge(out, torch.softmax(x, 1), torch.softmax(x.double(), 1))


@pytest.mark.parametrize("shape,block", [((11, 96), 128), ((6, 1000), 256), ((3, 1151), 2048)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_layer_norm_forward_and_backward(shape, block, dtype):
    rows, width = shape
    x = torch.randn(shape).mul(2).add(-0.5).to(dtype)
    weight, bias, dy = torch.rand(width).to(dtype), torch.rand(width).to(dtype), torch.randn(shape).mul(0.1).to(dtype)
    y, mean, rstd = torch.empty_like(x), torch.empty(rows), torch.empty(rows)
    kernels.layer_norm_forward[(rows,)](x, y, weight, bias, mean, rstd, x.stride(0), width, 1e-5, BLOCK=block)

    def reference(cast):
        leaves = [cast(t).clone().requires_grad_() for t in (x, weight, bias)]
        out = torch.nn.functional.layer_norm(leaves[0], (width,), leaves[1], leaves[2], 1e-5)
        out.backward(cast(dy))
        return [out.detach(), *(leaf.grad for leaf in leaves)]

    theirs, exact = reference(lambda t: t), reference(torch.Tensor.double)
    judge(y, theirs[0], exact[0])

    groups = 4
    dx, locks = torch.empty_like(x), torch.zeros(2 * groups, dtype=torch.int32)
    partial_dw, partial_db = (torch.zeros(groups, width, dtype=dtype) for _ in range(2))
    dw, db = torch.empty_like(weight), torch.empty_like(bias)
    kernels.layer_norm_backward_dx[(rows,)](dx, dy, partial_dw, partial_db, x, weight, mean, rstd, locks, x.stride(0),
                                            width, GROUPS=groups, BLOCK=triton.next_power_of_2(width))  # fmt: skip
    kernels.layer_norm_backward_dwdb[(triton.cdiv(width, 128),)](partial_dw, partial_db, dw, db, min(groups, rows),
    width,
                                                                 BLOCK_M=32, BLOCK_N=128)  # fmt: skip
    judge(dx, theirs[1], exact[1])
    # The partial sums are kept in the type of the weights: allow one rounding for each of them.
    rounding = torch.finfo(dtype).eps * (rows / groups + 1)
    for ours, right in ((dw, exact[2]), (db, exact[3])):
        assert (ours.double() - right).abs().max() <= rounding * right.abs().max() + 1e-6


@pytest.mark.parametrize("m,n,k", [(64, 64, 64), (200, 150, 130), (1, 300, 70), (129, 1, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(m, n, k, dtype, transposed):
    a = torch.randn(m, k).to(dtype)
    b = torch.randn(n, k).to(dtype).t() if transposed else torch.randn(k, n).to(dtype)
    c = torch.empty(m, n, dtype=dtype)
    grid = (triton.cdiv(m, 64) * triton.cdiv(n, 32),)
    kernels.matmul[grid](a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride(),
                         BLOCK_M=64, BLOCK_N=32, BLOCK_K=32, GROUP_M=8, ACTIVATION="")  # fmt: skip
    judge(c, a @ b, a.double() @ b.double())


def test_matmul_with_activation():
    a, b, c = torch.randn(70, 40), torch.randn(40, 50), torch.empty(70, 50)
    kernels.matmul[(6,)](a, b, c, 70, 50, 40, *a.stride(), *b.stride(), *c.stride(),
                         BLOCK_M=32, BLOCK_N=32, BLOCK_K=16, GROUP_M=2, ACTIVATION="leaky_relu")  # fmt: skip
    exact = torch.nn.functional.leaky_relu(a.double() @ b.double(), 0.01)
    judge(c, torch.nn.functional.leaky_relu(a @ b, 0.01), exact)


def test_seeded_dropout_keeps_the_same_elements_for_the_same_seed():
    x = torch.randn(10_000)
    first, again, other = (torch.empty_like(x) for _ in range(3))
    for out, seed in ((first, 123), (again, 123), (other, 512)):
        kernels.seeded_dropout[(10,)](x, out, x.numel(), 0.3, seed, BLOCK=1024)
    assert torch.equal(first, again) and not torch.equal(first, other)
    kept = first != 0
    assert 0.28 < 1 - kept.double().mean() < 0.32
    torch.testing.assert_close(first[kept], (x / 0.7)[kept])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("heads,length,width", [(3, 128, 64), (2, 256, 32)])
def test_flash_attention(causal, dtype, heads, length, width):
    q, k, v = (torch.randn(heads, length, width).to(dtype) for _ in range(3))
    out, lse = torch.empty_like(q), torch.empty(heads, length)
    kernels.flash_attention[(length // 64, heads)](q, k, v, width**-0.5, lse, out, q.stride(0), q.stride(1), heads,
                                                   N_CTX=length, D=width, BLOCK_M=64, BLOCK_N=32,
                                                   STAGE=3 if causal else 1)  # fmt: skip
    attend = torch.nn.functional.scaled_dot_product_attention
    exact = attend(*(t.double()[None] for t in (q, k, v)), is_causal=causal)[0]
    # In half precision the probabilities are rounded to it before the second product, as the kernel asks.
    judge(out, attend(*(t[None] for t in (q, k, v)), is_causal=causal)[0], exact)


@pytest.mark.parametrize("shape", [(64, 64, 64), (37, 70, 130), (5, 3, 7), (130, 100, 260)])
@pytest.mark.parametrize("block", [(16, 16, 16), (64, 64, 64), (32, 8, 64)])
@pytest.mark.parametrize("turned", [False, True])
def test_int8_matmul_is_exact(shape, block, turned):
    m, n, k = shape
    a = torch.randint(-128, 128, (m, k), dtype=torch.int8)
    b = torch.randint(-128, 128, (n, k), dtype=torch.int8).t().contiguous()
    # The largest sums that there can be.
    a[0], b[:, 0] = -128, -128
    b = b.t().contiguous().t() if turned else b
    c = torch.empty(m, n, dtype=torch.int32)
    kernels.int8_matmul[(triton.cdiv(m, block[0]), triton.cdiv(n, block[1]))](
        a, b, c, m, n, k, *a.stride(), *b.stride(), *c.stride(), *block
    )
    assert torch.equal(c, (a.double() @ b.double()).int())


@pytest.mark.parametrize("shape", [(64, 256), (37, 130), (5, 1000)])
@pytest.mark.parametrize("block", [(1, 64), (4, 64), (16, 32), (2, 512)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decode_with_weights_of_int8(shape, block, dtype):
    (n, k), x = shape, torch.randn(shape[1]).to(dtype)
    w, scale, out = torch.randint(-127, 128, shape, dtype=torch.int8), torch.rand(n), torch.empty(n)
    kernels.decode_int8[(triton.cdiv(n, block[0]),)](x, w, scale, out, n, k, *block)
    exact = (w.double() @ x.double()) * scale.double()
    judge(out, (w.float() @ x.float()) * scale, exact)


@pytest.mark.parametrize("shape", [(64, 256), (37, 128), (5, 1024)])
@pytest.mark.parametrize("block", [1, 4, 16])
@pytest.mark.parametrize("group", [32, 128])
def test_decode_with_weights_of_int4(shape, block, group):
    (n, k), x = shape, torch.randn(shape[1])
    codes = torch.randint(0, 16, shape, dtype=torch.uint8)
    scale, out = torch.rand(n, k // group), torch.empty(n)
    packed = codes[:, 0::2] | (codes[:, 1::2] << 4)
    kernels.decode_int4[(triton.cdiv(n, block),)](x, packed, scale, out, n, k, group, block)
    weight = (codes.float() - 8) * scale.repeat_interleave(group, 1)
    judge(out, weight @ x, weight.double() @ x.double())
