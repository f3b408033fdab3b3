"""Triangular systems, Cholesky and LU factors, and what is solved by them, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tessera
from tests.ops.judged import assert_calls, assert_gradients, vendor_calls

torch.manual_seed(0)
a = torch.randn(3, 9, 9, dtype=torch.float64)
tall = torch.randn(2, 12, 7)
b = torch.randn(9, 5, dtype=torch.float64)
positive = (a @ a.mT + torch.eye(9)).float()
factor = torch.linalg.cholesky(positive)
packed = torch.linalg.lu_factor(a)

CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "solve_triangular": (torch.linalg.solve_triangular, (a, b), {"upper": True}),
    "solve_triangular of ones": (torch.linalg.solve_triangular, (a, b), {"upper": False, "unitriangular": True}),
    "solve_triangular from the right": (torch.linalg.solve_triangular, (a, b.mT), {"upper": True, "left": False}),
    "cholesky_ex": (torch.linalg.cholesky_ex, (positive,), {}),
    "cholesky_ex of an upper factor": (torch.linalg.cholesky_ex, (positive.mT[1:],), {"upper": True}),
    "cholesky_inverse": (torch.cholesky_inverse, (factor,), {}),
    "cholesky_solve": (torch.cholesky_solve, (b.float().expand(3, 9, 5), factor), {}),
    "lu_factor_ex": (torch.linalg.lu_factor_ex, (a,), {}),
    "lu_factor_ex of tall matrices": (torch.linalg.lu_factor_ex, (tall.mT,), {}),
    "lu_unpack": (torch.lu_unpack, torch.linalg.lu_factor(tall), {}),
    "lu_solve": (torch.linalg.lu_solve, (*packed, b), {}),
    "lu_solve, adjoint": (torch.linalg.lu_solve, (*packed, b), {"adjoint": True}),
    "lu_solve from the right": (torch.linalg.lu_solve, (*packed, b.mT), {"left": False}),
    "solve": (torch.linalg.solve, (a, b), {}),
    "solve of vectors": (torch.linalg.solve, (a, a[..., 0]), {}),
    "inv": (torch.linalg.inv, (a,), {}),
    "det": (torch.linalg.det, (a,), {}),
    "slogdet": (torch.linalg.slogdet, (a,), {}),
}


@pytest.mark.parametrize("name", CALLS)
def test_results(name: str) -> None:
    call, args, kwargs = CALLS[name]
    for record in assert_calls(call, [(args, kwargs)]):
        assert not vendor_calls(record)


@pytest.mark.parametrize("name", ["solve_triangular", "solve", "inv", "det"])
def test_gradients(name: str) -> None:
    call, args, kwargs = CALLS[name]
    given = tuple(x.detach().clone().requires_grad_() for x in args)
    assert_gradients(call, [(given, kwargs)])


def test_what_has_no_factor_says_where() -> None:
    broken = a.clone()
    broken[1, :, 4] = 0
    with tessera.use("always") as record:
        assert torch.linalg.lu_factor_ex(broken).info.tolist() == [0, 5, 0]
        assert torch.linalg.cholesky_ex(torch.diag(torch.tensor([1.0, 2.0, -1.0, 1.0]))).info.item() == 3
    assert not record.vendor
    with tessera.use("always"), pytest.raises(torch.linalg.LinAlgError, match="singular"):
        torch.linalg.solve(broken, b)


def test_large_matrices_are_pytorchs() -> None:
    large = torch.randn(200, 200)
    with tessera.use("always") as record:
        torch.linalg.lu_factor_ex(large)
    assert list(vendor_calls(record)["linalg_lu_factor_ex"]) == ["matrices of more than 128 rows or columns"]


@pytest.mark.parametrize("shape", [(37, 5, 5), (3, 2, 17, 9), (2, 9, 33), (128, 128)], ids=str)
def test_factors_make_the_matrix_again(shape: tuple[int, ...]) -> None:
    """More matrices than programs, and sides that no block of memory has."""
    a = torch.randn(shape, dtype=torch.float64)
    with tessera.use(policy="always"):
        factors, pivots, info = torch.linalg.lu_factor_ex(a)
        p, lower, upper = torch.lu_unpack(factors, pivots)
    assert not info.any()
    torch.testing.assert_close(p @ lower @ upper, a)


@pytest.mark.parametrize("columns", [1, 5, 70])
def test_many_right_sides_of_many_matrices(columns: int) -> None:
    a = torch.randn(21, 13, 13, dtype=torch.float64) + 13 * torch.eye(13, dtype=torch.float64)
    b = torch.randn(21, 13, columns, dtype=torch.float64)
    with tessera.use(policy="always"):
        x = torch.linalg.solve(a, b)
        adjoint = torch.linalg.lu_solve(*torch.linalg.lu_factor(a), b, adjoint=True)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(a @ a.mT))
    torch.testing.assert_close(a @ x, b)
    torch.testing.assert_close(a.mT @ adjoint, b)
    torch.testing.assert_close(inverse @ (a @ a.mT), torch.eye(13, dtype=torch.float64).expand(21, 13, 13))
