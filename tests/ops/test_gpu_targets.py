"""Every kernel of `ops/` compiles for NVIDIA and AMD chips, without one.

The entries are called with a GPU's block sizes, and each launch is compiled for the target instead of run.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

from tessera import ops
from tessera.ops import (
    attention,
    bags,
    convolution,
    distance,
    distinct,
    equality,
    foreach,
    functions,
    functions_activation,
    functions_complex,
    functions_gamma,
    functions_integer,
    functions_math,
    functions_polynomial,
    grid_sample,
    histogram,
    index,
    layer_norm,
    loss,
    lu,
    masked,
    matmul,
    matrix_exp,
    move,
    multinomial,
    nonzero,
    optimizer,
    pointwise,
    pool,
    random,
    rearrange,
    reduce,
    resample,
    running_extreme,
    scatter,
    search,
    softmax,
    sort,
    tiles,
    triangular,
    vector_products,
    whole_products,
    windows,
)
from tessera.ops import launch as launching

TARGETS = {"cuda": GPUTarget("cuda", 90, 32), "hip": GPUTarget("hip", "gfx942", 64)}
MODULES = [importlib.import_module(f"tessera.ops.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]


def is_kernel(function: Any) -> bool:
    """A kernel gives nothing back and is no part of another; helpers and scalar functions mostly return a value."""
    if not isinstance(function, JITFunction) or "return " in function.src:
        return False
    word = re.compile(rf"(?<![\w.]){function.__name__}\(")
    others = vars(importlib.import_module(function.__module__)).values()
    return not any(isinstance(f, JITFunction) and f is not function and word.search(f.src) for f in others)


KERNELS = {f for module in MODULES for f in vars(module).values() if is_kernel(f)}
OF_SCALARS = (
    functions, functions_activation, functions_complex, functions_gamma, functions_integer, functions_math,
    functions_polynomial,
)  # fmt: skip
SCALAR_FUNCTIONS = [
    f
    for module in OF_SCALARS
    for f in vars(module).values()
    if isinstance(f, JITFunction) and f.__module__ == module.__name__
]


def is_called(function: JITFunction) -> bool:
    """What another scalar function calls is compiled with it."""
    word = re.compile(rf"(?<![\w.]){function.__name__}\(")
    others = (f for f in SCALAR_FUNCTIONS if f is not function and f.__module__ == function.__module__)
    return any(word.search(f.src) for f in others)


x = torch.randn(48, 80)
half = torch.randn(48, 80, dtype=torch.bfloat16)
rows = torch.zeros(48, dtype=torch.int64)
heads = torch.randn(2, 4, 40, 64, dtype=torch.bfloat16)
many = heads[:1].expand(256, -1, -1, -1)
vector = torch.randn(80)
long = torch.ones(2 * vector_products.SHARE + 1)
one = torch.randn(48, 1)
image = torch.randn(2, 8, 9, 9)
filters = torch.randn(8, 8, 3, 3)
wide = torch.randn(1, 16, 5, 20, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
volumes = torch.randn(2, 4, 2, 6, 9), torch.randn(2, 4, 3, 4, 5)


def with_sums_in_registers(call: Callable[[], Any]) -> None:
    """A call on a chip where that is faster than a dot, which no GPU is."""
    row = dataclasses.replace(tiles.of(x.device), outer=(8, 32))
    with mock.patch.object(tiles, "of", lambda device: row):
        call()


# One call or more of every entry that reaches a kernel of its own.
CALLS: list[Callable[[], Any]] = [
    lambda: pointwise.add(x, x.t().contiguous().t(), alpha=2.5),
    lambda: pointwise.add(x[None, :, None, ::2], x[:, None, :40]),
    lambda: pointwise.copy_(half, x, out=half),
    lambda: matmul.addmm(vector, x, torch.randn(80, 80).t(), beta=0.5),
    lambda: matmul.bmm(half[None], half.t()[None]),
    lambda: matmul.mm(half[:1], half.t()),
    lambda: matmul.mm(x[:1], x.t()),
    lambda: matmul.mm(x.t()[:1], x),
    lambda: softmax.softmax(half, -1, False),
    lambda: softmax.softmax(torch.randn(2, 20000), -1, False),
    lambda: softmax.log_softmax(x, 0, False),
    lambda: softmax.softmax(image, 1, False),
    lambda: softmax.log_softmax_backward(image, image, 1, torch.float32),
    lambda: softmax.softmax_backward(x, x, 1, torch.float32),
    lambda: softmax.log_softmax_backward(x, x, 1, torch.float32),
    lambda: layer_norm.native_layer_norm(half, [80], half[0], half[0], 1e-5),
    lambda: layer_norm.native_layer_norm(torch.randn(2, 20000), [20000], None, None, 1e-5),
    lambda: layer_norm.fused_rms_norm(half, [80], half[0], None),
    lambda: layer_norm.fused_rms_norm(torch.randn(2, 20000), [20000], None, 1e-6),
    lambda: layer_norm.fused_rms_norm_backward(x, x, [80], one, vector, [True, True]),
    lambda: layer_norm.native_layer_norm_backward(x, x, [80], one, one, vector, vector, [True, True, True]),
    lambda: reduce.sum_(half, 1),
    lambda: reduce.mean(x, 0),
    lambda: reduce.amax(x, 1),
    lambda: reduce.any_(x > 0, 0),
    lambda: reduce.max_dim(x, 1),
    lambda: reduce.argmin(x, 0),
    lambda: attention.flash_attention_for_cpu(heads, heads[:, :2], heads[:, :2], 0.0, True),
    lambda: attention.flash_attention_for_cpu(heads, heads, heads, attn_mask=torch.zeros(2, 1, 40, 40)),
    lambda: attention.flash_attention_for_cpu_backward(
        heads, heads, heads[:, :2], heads[:, :2], heads, torch.zeros(2, 4, 40), 0.0, True
    ),
    lambda: attention.flash_attention_for_cpu_backward(
        many, many, many, many, many, torch.zeros(256, 4, 40), 0.0, True
    ),
    lambda: equality.equal(torch.ones(5000), torch.ones(5000)),
    lambda: histogram.histc(torch.randn(300), 20, -1, 1),
    lambda: sort.sort(torch.randn(2, 300)),
    lambda: sort.topk(torch.randn(2, 300), 2),
    lambda: distinct.open_counts(rows),
    lambda: distinct.close_groups(rows, rows, rows, rows, rows, rows),
    lambda: distinct.sizes_of(rows, 48),
    lambda: distinct.close_few_groups(rows, rows, rows, rows, rows),
    lambda: search.searchsorted(vector, x),
    lambda: distinct.differing_rows(x.view(2, -1)),
    lambda: search.write_runs(rows, torch.empty_like(rows)),
    lambda: search.add_few_up(rows),
    lambda: search.write_few_runs(rows, torch.empty_like(rows)),
    lambda: matrix_exp.terms((x[None, :, :48], x[None, :, :48], x[None, :, :48]), 11, 3),
    *(
        lambda dim=dim: running_extreme.cummax(x, torch.empty_like(x), torch.empty_like(x, dtype=torch.int64), dim)
        for dim in (0, 1)
    ),
    lambda: nonzero.coordinates(nonzero.counted(x), (6, 8), 48),
    lambda: nonzero.take_few(x, x > 0, x),
    lambda: nonzero.taken(x, nonzero.counted(x > 0), 48),
    lambda: masked.masked_scatter_(x.clone(), x > 0, x),
    lambda: random.normal_(x.clone()),
    lambda: random.uniform_(torch.empty(9, dtype=torch.float64)),
    lambda: random.random_to_(rows.clone(), 10),
    lambda: random.randperm(48, out=rows.clone()),
    lambda: random.normal(x, x.abs()),
    lambda: multinomial.multinomial(x.abs(), 3),
    lambda: multinomial.multinomial(x.abs(), 3, True),
    lambda: whole_products.whole_product(
        rows.view(1, 6, 8), rows.view(1, 8, 6), None, torch.empty(1, 6, 6, dtype=torch.int64), 1, 1
    ),
    lambda: index.index_select(half, 0, rows),
    lambda: index.gather(x, 1, rows[:, None]),
    lambda: index.gather(x, 1, x.to(torch.int64).abs()),
    lambda: index.index(x, [rows, rows]),
    lambda: index.embedding_dense_backward(half, rows, 10, -1, False),
    lambda: bags.embedding_bag(x, rows, rows[:4], False, 2),
    lambda: bags.embedding_bag(half, rows, rows[:4], False, 0, False, half[:48, 0]),
    lambda: bags.embedding_bag_dense_backward(x, rows, rows, rows, rows, 9, True, 1, None),
    lambda: bags.embedding_bag_dense_backward(x, rows, rows, rows, rows[:, None].expand(48, 80), 9, True, 2, None),
    lambda: bags.embedding_bag_per_sample_weights_backward(x, x, rows, rows, rows[:0], 0),
    lambda: loss.nll_loss_forward(x, rows, None, 1, -100),
    lambda: loss.nll_loss_forward(x, rows, vector, 0, -100),
    lambda: loss.nll_loss_backward(torch.tensor(1.0), x, rows, vector, 1, -100, torch.tensor(1.0)),
    lambda: move.arange(0, 100, 1, out=torch.empty(100)),
    lambda: move.cat([x, x], 1),
    lambda: move.cumsum(x, 1),
    lambda: move.cumsum(x, 0),
    lambda: move.cumprod(x, 0),
    lambda: move.logspace(0, 3, 70, out=torch.empty(70)),
    lambda: scatter.scatter_add_(x.clone(), 0, rows[:, None], x[:, :1]),
    lambda: scatter.scatter_reduce_(x.clone(), 0, torch.zeros(48, 80, dtype=torch.int64), x, "amax"),
    lambda: scatter.index_add_(x.clone(), 0, rows, x),
    lambda: scatter.index_put_(x.clone(), [rows, rows], vector[:48], True),
    lambda: rearrange.constant_pad_nd(x, [1, 2, 3, 4], 0.5),
    lambda: rearrange.flip(x, [0]),
    lambda: rearrange.flip(half, [1]),
    lambda: rearrange.roll(x, [3], [1]),
    lambda: rearrange.reflection(image, [8, 2, 1, 0]),
    lambda: rearrange.replication(image, [9, 2, 1, 0]),
    lambda: rearrange.tril(half),
    lambda: resample.average_pool(2)[0](image, [3, 3], [2, 2], [1, 1]),
    lambda: resample.upsample(resample.cubic, 2)[1](image, [9, 9], [2, 8, 4, 5], True, None, None),
    lambda: distance.cdist_forward(x, x, 2.0, None),
    lambda: distance.cdist_backward(x[:, :48], x, x, 2.5, x[:, :48]),
    lambda: distance.pdist_forward(x, 2.5),
    lambda: distance.pdist_backward(torch.randn(1128), x, 1.0, torch.randn(1128)),
    lambda: grid_sample.grid_sampler(2)[0](image, image[:, :4, :, :2], 0, 2, True),
    lambda: grid_sample.grid_sampler(2)[1](image[:, :, :4], image, image[:, :4, :, :2], 2, 1, False, [True, True]),
    lambda: grid_sample.grid_sampler(3)[1](*volumes, image.view(2, 2, 6, 9, 6)[..., :3], 0, 2, False, [True, True]),
    lambda: windows.im2col(image, [3, 3], [1, 2], [1, 1], [2, 2]),
    lambda: windows.unfold_backward(torch.randn(2, 5, 3, 4), [2, 12, 3], 1, 4, 2),
    lambda: windows.col2im(torch.randn(2, 72, 81), [9, 9], [3, 3], [1, 1], [1, 1], [1, 1]),
    lambda: resample.adaptive_average_pool(2)[1](image[..., :2, :2], image),
    lambda: resample.average_pool(2)[0](image.contiguous(memory_format=torch.channels_last), [3, 3], [2, 2], [1, 1]),
    lambda: pool.max_pool(2)(image, [3, 3], [2, 2], [1, 1]),
    lambda: pool.max_pool(2)(torch.randn(1, 2, 4, 40), [3, 3], [2, 2], [1, 1]),
    lambda: pool.max_pool(2)(image.contiguous(memory_format=torch.channels_last), [3, 3], [2, 2], [1, 1]),
    lambda: pool.adaptive_max_pool(2)(image, [1, 1]),
    lambda: pool.max_unpool(2)(image[..., :4, :4], torch.zeros(2, 8, 4, 4, dtype=torch.int64), [9, 9]),
    lambda: convolution.convolution(image, filters, None, [2], [1], [1], False, [0], 1),
    lambda: convolution.convolution(image[:, :3], filters[:, :3], None, [2], [1], [1], False, [0], 1),
    lambda: convolution.convolution(image, filters, filters[0, :, 0, 0], [2], [1], [1], True, [0], 1),
    lambda: convolution.convolution(
        image.contiguous(memory_format=torch.channels_last), filters, None, [1], [1], [1], False, [0], 1
    ),
    lambda: convolution.convolution_backward(
        image, image, filters[:8], None, [1], [1], [1], False, [0], 1, [True, True, False]
    ),
    lambda: convolution.convolution_backward(
        image, image, filters[:, :1], None, [1], [1], [1], False, [0], 8, [True, True, False]
    ),
    lambda: convolution.convolution(
        image.repeat(1, 4, 1, 1), filters[:8, :1].repeat(4, 1, 1, 1), None, [1], [1], [1], False, [0], 32
    ),
    lambda: with_sums_in_registers(lambda: convolution.convolution(image, filters, None, [1], [1], [1], False, [0], 1)),
    lambda: with_sums_in_registers(
        lambda: convolution.convolution(
            image.contiguous(memory_format=torch.channels_last), filters, None, [1], [1], [1], False, [0], 1
        )
    ),
    lambda: with_sums_in_registers(
        lambda: convolution.convolution_backward(
            wide, wide, filters.repeat(2, 2, 1, 1).bfloat16(), None, [1], [1], [1], False, [0], 1, [False, True, False]
        )
    ),
    lambda: with_sums_in_registers(
        lambda: convolution.convolution_backward(
            image, image, filters, None, [1], [1], [1], False, [0], 1, [False, True, False]
        )
    ),
    lambda: foreach.with_number(functions.add, pointwise.add)([x, x], 2.5),
    lambda: foreach.lerp_list(functions_math.lerp, pointwise.add)([half], [half], [half]),
    lambda: optimizer.adamw_(
        [x],
        [x],
        [x],
        [x],
        [x],
        [torch.tensor(1.0)],
        lr=0.1,
        beta1=0.9,
        beta2=0.99,
        weight_decay=0.1,
        eps=1e-8,
        amsgrad=True,
        maximize=True,
    ),
    lambda: optimizer.sgd_(
        [x],
        [x],
        [x],
        lr=0.1,
        momentum=0.9,
        weight_decay=0.1,
        dampening=0.0,
        nesterov=True,
        maximize=False,
        is_first_step=False,
        grad_scale=torch.tensor(2.0),
    ),
    lambda: optimizer.adagrad_(
        [half], [half], [half], [torch.tensor(1.0)], lr=0.1, lr_decay=0.1, weight_decay=0.0, eps=1e-8, maximize=False
    ),
    lambda: move.isin(rows, rows[:3]),
    lambda: vector_products.dot(long, long),
    lambda: triangular.linalg_solve_triangular(x[:, :48], x, upper=True),
    lambda: triangular.linalg_cholesky_ex(x[:, :48]),
    lambda: lu.lu_unpack(x, lu.linalg_lu_factor_ex(x)[1].zero_() + 1),
]

Launch = tuple[JITFunction, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def launches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """What the entries launch, with the block sizes of the chip that the test names."""
    caught: list[Launch] = []

    def catch(kernel: JITFunction, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
        caught.append((kernel, args, constants))

    for module in MODULES:
        if hasattr(module, "launch") and module is not launching:
            monkeypatch.setattr(module, "launch", catch)
    monkeypatch.setattr(tiles, "of", lambda device: tiles.TILES[request.node.callspec.params["chip"]])
    return caught


def compile_for(target: GPUTarget, launch: Launch) -> Any:
    """Compile one launch as Triton would for these arguments: a size of 1 and what is missing are constants."""
    kernel, args, constants = launch
    given = dict(zip(kernel.arg_names, args, strict=False))
    fixed = {name: value for name, value in given.items() if value is None or (isinstance(value, int) and value == 1)}
    fixed |= {name: value for name, value in constants.items() if name in kernel.arg_names}
    signature = {
        p.name: "constexpr" if p.name in fixed else launching._type(launching._kind(given[p.name]), p.annotation_type)
        for p in kernel.params
    }
    return triton.compile(ASTSource(kernel, signature, fixed), target, {"num_warps": constants["num_warps"]})


@pytest.mark.parametrize("chip", TARGETS)
def test_every_kernel_is_called_and_compiles(chip: str, launches: list[Launch]) -> None:
    for call in CALLS:
        call()
    missing = {kernel.__name__ for kernel in KERNELS - {launch[0] for launch in launches}}
    assert not missing, "a kernel that no call in CALLS reaches"
    binary = "cubin" if chip == "cuda" else "hsaco"
    for launch in launches:
        assert len(compile_for(TARGETS[chip], launch).asm[binary]) > 0


@pytest.mark.parametrize("chip", TARGETS)
@pytest.mark.parametrize("function", [f for f in SCALAR_FUNCTIONS if not is_called(f)], ids=lambda f: f.__name__)
def test_every_scalar_function_compiles(chip: str, function: JITFunction, launches: list[Launch]) -> None:
    whole = function.__name__.startswith("bitwise") or function.__module__ == functions_integer.__name__
    kind = torch.int32 if whole else torch.float32
    operands = (torch.ones(64, dtype=kind),) * len(inspect.signature(function.fn).parameters)
    pointwise.run(function, operands, pointwise.compute_type(kind), kind)
    assert compile_for(TARGETS[chip], launches[-1]).asm["cubin" if chip == "cuda" else "hsaco"]
