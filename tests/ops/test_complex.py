"""Complex numbers: what has a kernel for their parts, and the views that PyTorch reads conjugated or negated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tessera
from tests.ops.judged import assert_calls, assert_gradients, vendor_calls

torch.manual_seed(0)
x, y = torch.randn(2, 5, 7, dtype=torch.complex64)
real, chance = torch.randn(5, 7), torch.rand(5, 7) < 0.5
places = torch.randint(0, 7, (5, 7))

CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "add": (torch.add, (x, y.t().contiguous().t())),
    "sub of a number": (torch.sub, (x, 2 - 1j)),
    "mul of a row": (torch.mul, (x, y[0])),
    "mul of real numbers": (torch.mul, (x, real)),
    "div": (torch.div, (x, y)),
    "reciprocal": (torch.reciprocal, (x,)),
    "neg": (torch.neg, (x,)),
    "abs": (torch.abs, (x,)),
    "angle": (torch.angle, (x,)),
    "exp": (torch.exp, (x,)),
    "square": (torch.square, (x,)),
    "sum": (torch.sum, (x, 1)),
    "mean": (torch.mean, (x,)),
    "where": (torch.where, (chance, x, y)),
    "masked_fill": (torch.masked_fill, (x, chance, 1j)),
    "cat": (torch.cat, ([x, y], 1)),
    "flip": (torch.flip, (x, (0,))),
    "conjugate": (torch.conj_physical, (x,)),
    "complex": (torch.complex, (real, real.flip(0))),
    "polar": (torch.polar, (real.abs(), real)),
    **{fn.__name__: (fn, (x,)) for fn in (
        torch.sqrt, torch.rsqrt, torch.tanh, torch.sigmoid, torch.tan, torch.sinh, torch.cosh, torch.asin, torch.acos,
        torch.atan, torch.asinh, torch.acosh, torch.atanh, torch.log1p, torch.log2, torch.log10, torch.expm1,
    )},
    "power": (torch.pow, (x, y)),
    "power of a number": (torch.pow, (2.5 - 1j, y)),
    "root by a power": (torch.pow, (x, 0.5)),
    "prod": (torch.prod, (x, 1)),
    "prod of all": (torch.prod, (x,)),
    "norm": (torch.linalg.vector_norm, (x, 3.0, 1)),
    "addcdiv": (torch.addcdiv, (x, y, x.flip(0))),
    "lerp": (torch.lerp, (x, y, 0.3)),
    "any": (torch.any, (x, 0)),
    "logical_and": (torch.logical_and, (x, real.relu())),
    "mm": (torch.mm, (x, y.mH)),
    "bmm of broken strides": (torch.bmm, (x[None].mT, y[None, :, ::2])),
    "addmm": (torch.addmm, (y[0, :5], x, y.t())),
    "mv": (torch.mv, (x, y[0])),
    "dot": (torch.dot, (x[0], y[0])),
    "vdot": (torch.vdot, (x[0], y[0])),
    "gather": (torch.gather, (x, 1, places)),
    "index": (lambda x: x[places[0] % 5, :, None], (x,)),
    "index_select": (torch.index_select, (x, 0, places[0] % 5)),
    "take": (torch.take, (x, places)),
    "masked_select": (torch.masked_select, (x, chance)),
    "masked_scatter": (torch.masked_scatter, (x, chance, y)),
    "scatter": (torch.scatter, (x, 1, places, y)),
    "scatter_add": (torch.scatter_add, (x, 1, places, y)),
    "index_add": (torch.index_add, (x, 0, places[0, :5] % 5, y)),
    "index_fill": (torch.index_fill, (x, 1, places[0], 1 - 2j)),
    "index_put": (torch.index_put, (x, (places[0, :5] % 5,), y), ),
    "tril": (torch.tril, (x, 1)),
}


@pytest.mark.parametrize("name", CALLS)
def test_results(name: str) -> None:
    call, args = CALLS[name]
    for record in assert_calls(call, [(args, {})]):
        assert not vendor_calls(record)


@pytest.mark.parametrize(
    "name", ["mul of a row", "abs", "exp", "sum", "where", "sqrt", "tanh", "sigmoid", "prod", "mm", "gather", "div"]
)
def test_gradients(name: str) -> None:
    call, args = CALLS[name]
    given = tuple(
        a.detach().clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_complex() else a for a in args
    )
    assert_gradients(call, [(given, {})])


def test_equality_sees_both_parts() -> None:
    with tessera.use("always") as record:
        assert torch.eq(torch.tensor([1 + 1j, 1 + 1j]), torch.tensor([1 + 1j, 1 - 1j])).tolist() == [True, False]
        assert torch.ne(torch.tensor([1 + 1j]), 1).tolist() == [True]
    assert not record.vendor


def test_in_place_a_product_reads_what_was_there() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j])
    for _ in range(3):  # the third runs the plan
        w = z.clone()
        with tessera.use("always"):
            torch.mul(w, w, out=w)
        assert w.tolist() == [(1 + 2j) ** 2, (3 - 1j) ** 2]


def test_a_copy_of_a_conjugated_or_negated_view_is_what_the_view_shows() -> None:
    z = torch.tensor([1 + 2j, 3 - 1j])
    with tessera.use("always"):
        for _ in range(3):
            assert z.clone().tolist() == [1 + 2j, 3 - 1j]
            assert z.conj().clone().tolist() == [1 - 2j, 3 + 1j]
            assert torch.zeros_like(z).copy_(z.conj()).tolist() == [1 - 2j, 3 + 1j]
            assert z.imag.clone().tolist() == [2.0, -1.0]
            assert z.conj().imag.clone().tolist() == [-2.0, 1.0]


def test_what_complex_numbers_do_not_have_is_pytorchs_error() -> None:
    for call in (torch.floor, torch.trunc, torch.sign, torch.relu):
        with tessera.use("always"), pytest.raises(RuntimeError):
            call(x)
    with tessera.use("always"), pytest.raises(RuntimeError):
        torch.maximum(x, y)
