"""Parts of the language that few kernels use, each against PyTorch."""

import pytest
import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from tessera.core.errors import TesseraError


@pytest.mark.parametrize(("axis", "rows"), [(0, 16), (0, 4), (1, 16)])
def test_gather_along_any_axis(axis, rows):
    @triton.jit
    def gather(x, indices, out, AXIS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
        at = tl.arange(0, 16)[:, None] * 8 + tl.arange(0, 8)[None, :]
        cut = tl.arange(0, ROWS)[:, None] * COLS + tl.arange(0, COLS)[None, :]
        tl.store(out + cut, tl.gather(tl.load(x + at) + 1, tl.load(indices + cut), AXIS))

    x = torch.randn(16, 8)
    indices = torch.randint(0, x.shape[axis], (rows, 8 if axis == 0 else 2))
    out = torch.empty(indices.shape)
    gather[(1,)](x, indices, out, axis, *indices.shape)
    assert torch.equal(out, (x + 1).gather(axis, indices))


def test_gather_in_place_reads_before_it_writes():
    @triton.jit
    def reverse(x, N: tl.constexpr):
        at = tl.arange(0, N)
        tl.store(x + at, tl.gather(tl.load(x + at), N - 1 - at, 0))

    x = torch.arange(64.0)
    reverse[(1,)](x, N=64)
    assert torch.equal(x, torch.arange(64.0).flip(0))


@triton.jit
def copy_tile(source, target, row, col):
    target.store([0, 0], source.load([row, col]))


@pytest.mark.parametrize("padding", ["zero", "nan"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_descriptors_from_the_host_pad_what_lies_outside(dtype, padding):
    x, out = torch.randn(20, 24).to(dtype), torch.zeros(16, 8, dtype=dtype)
    source = TensorDescriptor.from_tensor(x, [16, 8], padding)
    copy_tile[(1,)](source, TensorDescriptor.from_tensor(out, [16, 8]), 10, 16)
    expected = torch.full((16, 8), float("nan") if padding == "nan" else 0.0, dtype=dtype)
    expected[:10] = x[10:, 16:]
    torch.testing.assert_close(out, expected, rtol=0, atol=0, equal_nan=True)


def test_descriptors_from_the_host_in_a_tuple_and_rounded():
    @triton.jit
    def copy(pair):
        pair[1].store([0, 0], pair[0].load([0, 0]))

    x, out = torch.full((16, 8), 1 + 2.0**-12), torch.empty(16, 8)
    source = TensorDescriptor.from_tensor(x, [16, 8], round_f32_to_tf32=True)
    copy[(1,)]((source, TensorDescriptor.from_tensor(out, [16, 8])))
    assert out.eq(1).all()


def test_a_tensor_where_a_descriptor_was_compiled_for_is_told():
    from tessera.runtime.descriptors import expanded

    with pytest.raises(TesseraError, match=r"argument 0 is a Tensor; .* tensordesc<fp32\[16, 8\]> .*TensorDescriptor"):
        expanded("tensordesc<fp32[16, 8]>", torch.empty(16, 8), ("padding",), "0")


@pytest.mark.parametrize("kind", ["add", "min", "max"])
def test_descriptors_made_in_the_kernel_reduce_into_memory(kind):
    @triton.jit
    def reduce(x, out, KIND: tl.constexpr):
        source = tl.make_tensor_descriptor(x, [8, 16], [16, 1], [8, 16])
        target = tl.make_tensor_descriptor(out, [8, 16], [16, 1], [8, 16])
        value = source.load([0, 0])
        if KIND == "add":
            target.atomic_add([0, 0], value)
        elif KIND == "min":
            target.atomic_min([0, 0], value)
        else:
            target.atomic_max([0, 0], value)

    x, out = torch.randint(-9, 9, (8, 16), dtype=torch.int32), torch.randint(-9, 9, (8, 16), dtype=torch.int32)
    expected = {"add": x + out, "min": torch.minimum(x, out), "max": torch.maximum(x, out)}[kind]
    reduce[(1,)](x, out, kind)
    assert torch.equal(out, expected)


def test_descriptors_gather_and_scatter_rows():
    @triton.jit
    def rows(x, indices, out, R: tl.constexpr):
        source = tl.make_tensor_descriptor(x, [32, 16], [16, 1], [1, 16])
        target = tl.make_tensor_descriptor(out, [32, 16], [16, 1], [1, 16])
        picked = tl.load(indices + tl.arange(0, R))
        target.scatter(source.gather(picked, 0), picked, 0)

    x, out = torch.randn(32, 16), torch.zeros(32, 16)
    indices = torch.randperm(32, dtype=torch.int32)[:8]
    rows[(1,)](x, indices, out, 8)
    assert torch.equal(out[indices], x[indices]) and out.count_nonzero() == 8 * 16


@triton.jit
def sign_of_difference(x, y):
    if x < y:
        return -1
    if x == y:
        return 0
    return 1


@triton.jit
def steps_to_one(x):
    steps = 0
    while x != 1:
        x = x // 2 if x % 2 == 0 else 3 * x + 1
        steps += 1
    return steps, x


@pytest.mark.parametrize("shape", [(4, 32), (32, 1), (1, 1)])
def test_functions_of_scalars_with_control_flow(shape):
    @triton.jit
    def kernel(x, y, signs, steps, N: tl.constexpr, M: tl.constexpr):
        at = tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :]
        a, b = tl.load(x + at), tl.load(y + at)
        tl.store(signs + at, tl.map_elementwise(sign_of_difference, a, b))
        count, one = tl.map_elementwise(steps_to_one, a)
        tl.store(steps + at, count * one)

    x, y = (torch.randint(1, 40, shape, dtype=torch.int32) for _ in range(2))
    signs, steps = torch.empty_like(x), torch.empty_like(x)
    kernel[(1,)](x, y, signs, steps, *shape)
    assert torch.equal(signs, (x - y).sign())

    def expected(n: int) -> int:
        return 0 if n == 1 else 1 + expected(n // 2 if n % 2 == 0 else 3 * n + 1)

    assert steps.flatten().tolist() == [expected(n) for n in x.flatten().tolist()]


@triton.jit
def divide_two(a0, a1, b0, b1):
    return a0 // b0, a1 // b1, a0 % b0, a1 % b1


@pytest.mark.parametrize("size", [64, 2, 1])
def test_functions_of_packed_scalars(size):
    @triton.jit
    def kernel(x, y, quotient, rest, N: tl.constexpr):
        at = tl.arange(0, N)
        q, r = tl.map_elementwise(divide_two, tl.load(x + at), tl.load(y + at), pack=2)
        tl.store(quotient + at, q)
        tl.store(rest + at, r)

    x, y = (torch.randint(1, 99, (size,), dtype=torch.int32) for _ in range(2))
    quotient, rest = torch.empty_like(x), torch.empty_like(x)
    kernel[(1,)](x, y, quotient, rest, N=size)
    assert torch.equal(quotient, x // y) and torch.equal(rest, x % y)


@triton.jit
def capped_sum(a, b):
    if a + b > 100:
        return 100
    return a + b


def test_combiners_with_control_flow():
    @triton.jit
    def kernel(x, total, running, N: tl.constexpr):
        at = tl.arange(0, N)
        value = tl.load(x + at)
        tl.store(total, tl.reduce(value, 0, capped_sum))
        tl.store(running + at, tl.associative_scan(value, 0, capped_sum))

    x = torch.randint(1, 9, (64,), dtype=torch.int32)
    total, running = torch.empty(1, dtype=torch.int32), torch.empty_like(x)
    kernel[(1,)](x, total, running, N=64)
    assert torch.equal(running, x.cumsum(0).clamp(max=100).int()) and total == min(int(x.sum()), 100)


def e2m1_values(codes: torch.Tensor) -> torch.Tensor:
    magnitudes = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    return torch.where(codes > 7, -1.0, 1.0) * magnitudes[(codes & 7).long()]


def scaled_operand(kind: str, rows: int, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """What a kernel loads for a [rows, depth] operand, packed along the depth, and its numbers."""
    if kind == "e2m1":
        codes = torch.randint(0, 16, (rows, depth), dtype=torch.uint8)
        return codes[:, ::2] | codes[:, 1::2] << 4, e2m1_values(codes)
    dtypes = {"e4m3": torch.float8_e4m3fn, "e5m2": torch.float8_e5m2, "bf16": torch.bfloat16, "fp16": torch.float16}
    values = torch.randn(rows, depth).to(dtypes[kind])
    return values.view(torch.uint8) if kind.startswith("e") else values, values.float()


@triton.jit
def scaled_product(a, a_scale, b, b_scale, out, A: tl.constexpr, B: tl.constexpr, KA: tl.constexpr, KB: tl.constexpr,
                   M: tl.constexpr, N: tl.constexpr, G: tl.constexpr):  # fmt: skip
    m, n = tl.arange(0, M), tl.arange(0, N)
    left = tl.load(a + m[:, None] * KA + tl.arange(0, KA)[None, :])
    right = tl.load(b + n[None, :] * KB + tl.arange(0, KB)[:, None])
    left_scale = tl.load(a_scale + m[:, None] * G + tl.arange(0, G)[None, :])
    right_scale = tl.load(b_scale + n[:, None] * G + tl.arange(0, G)[None, :])
    if B == "bf16" or B == "fp16":
        product = tl.dot_scaled(left, left_scale, A, right, None, B)
    else:
        product = tl.dot_scaled(left, left_scale, A, right, right_scale, B)
    tl.store(out + m[:, None] * N + n[None, :], product)


@pytest.mark.parametrize("right", ["e2m1", "e4m3", "e5m2", "bf16", "fp16"])
@pytest.mark.parametrize("left", ["e2m1", "e4m3", "e5m2"])
def test_dot_of_scaled_operands(left, right):
    m, n, depth = 32, 16, 128
    a, a_values = scaled_operand(left, m, depth)
    b, b_values = scaled_operand(right, n, depth)
    a_scale, b_scale = (torch.randint(118, 136, (rows, depth // 32), dtype=torch.uint8) for rows in (m, n))
    out = torch.empty(m, n)
    scaled_product[(1,)](a, a_scale, b, b_scale, out, left, right, a.shape[1], b.shape[1], m, n, depth // 32)
    a_values = a_values * torch.exp2(a_scale.float() - 127).repeat_interleave(32, 1)
    if right in ("e2m1", "e4m3", "e5m2"):
        b_values = b_values * torch.exp2(b_scale.float() - 127).repeat_interleave(32, 1)
    exact = a_values.double() @ b_values.double().T
    terms = a_values.double().abs() @ b_values.double().abs().T
    # Every product is exact; what is lost is rounding in sums of `depth` terms.
    assert ((out - exact).abs() <= depth * 2.0**-24 * terms).all()


def test_a_scale_of_all_ones_is_not_a_number():
    a, _ = scaled_operand("e4m3", 16, 32)
    b, _ = scaled_operand("e4m3", 16, 32)
    one, out = torch.full((16, 1), 127, dtype=torch.uint8), torch.empty(16, 16)
    scale = one.clone()
    scale[3] = 255
    scaled_product[(1,)](a, scale, b, one, out, "e4m3", "e4m3", 32, 32, 16, 16, 1)
    assert out[3].isnan().all() and not out[4:].isnan().any()


def test_four_bit_operands_packed_along_rows():
    @triton.jit
    def product(a, b, out):
        at = tl.arange(0, 16)
        left = tl.load(a + at[:, None] * 64 + tl.arange(0, 64)[None, :])
        right = tl.load(b + tl.arange(0, 64)[:, None] * 16 + at[None, :])
        result = tl.dot_scaled(left, None, "e2m1", right, None, "e2m1", lhs_k_pack=False, rhs_k_pack=False)
        tl.store(out + tl.arange(0, 32)[:, None] * 32 + tl.arange(0, 32)[None, :], result)

    a, b = (torch.randint(0, 16, shape, dtype=torch.uint8) for shape in ((32, 64), (64, 32)))
    out = torch.empty(32, 32)
    product[(1,)](a[::2] | a[1::2] << 4, b[:, ::2] | b[:, 1::2] << 4, out)
    assert torch.equal(out, e2m1_values(a) @ e2m1_values(b))


@pytest.mark.parametrize("precision", ["ieee", "tf32", "tf32x3", "bf16x3", "bf16x6"])
def test_every_input_precision_of_a_dot_is_at_least_as_exact_as_asked(precision):
    @triton.jit
    def product(a, b, out, PRECISION: tl.constexpr):
        at = tl.arange(0, 32)[:, None] * 32 + tl.arange(0, 32)[None, :]
        tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=PRECISION))

    a, b, out = torch.randn(32, 32), torch.randn(32, 32), torch.empty(32, 32)
    product[(1,)](a, b, out, precision)
    terms = a.double().abs() @ b.double().abs()
    assert ((out - a.double() @ b.double()).abs() <= 32 * 2.0**-24 * terms).all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.int8])
def test_division_by_zero_behind_a_mask_does_not_end_the_process(dtype):
    @triton.jit
    def divide(x, y, out, n, N: tl.constexpr):
        at = tl.arange(0, N)
        a, b = tl.load(x + at, mask=at < n, other=0), tl.load(y + at, mask=at < n, other=0)
        tl.store(out + at, a // b + a % b, mask=at < n)
        if n > 64:
            tl.store(out, tl.load(x) // tl.load(y))

    x, y = (torch.randint(1, 99, (60,), dtype=dtype) for _ in range(2))
    out = torch.empty_like(x)
    divide[(1,)](x, y, out, 60, N=64)
    assert torch.equal(out, x // y + x % y)
    x[0], y[0] = torch.iinfo(dtype).min, -1
    divide[(1,)](x, y.zero_(), out, 60, N=64)
    y[0] = -1
    divide[(1,)](x, y, out, 60, N=64)


def test_a_program_may_use_more_scratch_than_a_thread_has_stack():
    @triton.jit
    def kernel(x, out, N: tl.constexpr, M: tl.constexpr):
        at = tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :]
        value = tl.load(x + at)
        a = tl.cumsum(value, 1)
        b = tl.cumsum(a, 0)
        c = tl.cumsum(a + b, 1)
        tl.store(out + at, a + b + c)

    x = torch.randint(-3, 4, (1024, 1024), dtype=torch.int32)
    out = torch.empty_like(x)
    kernel[(2,)](x, out, 1024, 1024)
    a = x.cumsum(1)
    b = a.cumsum(0)
    assert torch.equal(out, (a + b + (a + b).cumsum(1)).int())


def test_an_unrolled_loop_of_a_thousand_steps():
    @triton.jit
    def kernel(x, out, N: tl.constexpr):
        at = tl.arange(0, N)
        value, place = tl.load(x + at), x + at
        for step in tl.static_range(1000):
            value = value * 2 - step
            place += tl.num_programs(0) - 1
        tl.store(out + at, value + tl.load(place))

    x, out = torch.zeros(16, dtype=torch.int32), torch.empty(16, dtype=torch.int32)
    kernel[(1,)](x, out, N=16)
    expected = 0
    for step in range(1000):
        expected = expected * 2 - step
    assert (int(out[0]) - expected) % 2**32 == 0


def test_a_branch_gives_a_block_and_a_number():
    """The number comes from where the block's loop has ended."""

    @triton.jit
    def choose(x, out, total, limit, N: tl.constexpr):
        i = tl.arange(0, N)
        value, count = tl.load(x + i), 0.0
        if limit > 0:
            value = tl.cumsum(value, 0)
            count = tl.sum(value, 0)
        tl.store(out + i, value)
        tl.store(total, count)

    x = torch.randint(-9, 9, (1024,)).float()
    out, total = torch.empty_like(x), torch.empty(1)
    for limit, expected in ((2, x.cumsum(0)), (-2, x)):
        choose[(1,)](x, out, total, limit, 1024)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(total, expected.sum(0, keepdim=True) if limit > 0 else torch.zeros(1))
