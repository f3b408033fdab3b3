"""Calls of families that factorise and solve: batches of matrices of 32 rows, as whitening and filters have them."""

from __future__ import annotations

import torch

from tessera.bench.maker import Call, Maker, call
from tessera.bench.samples_image import Family

_ROWS = 32


def _matrices(m: Maker) -> torch.Tensor:
    """Well conditioned: large on the diagonal."""
    x = m.x(max(1, m.elements // _ROWS**2), _ROWS, _ROWS)
    return x + _ROWS * torch.eye(_ROWS, dtype=m.dtype)


def _factor(m: Maker) -> torch.Tensor:
    return _matrices(m).tril()


def _matrix(m: Maker) -> Call:
    return call(_matrices(m))


def _symmetric(m: Maker) -> Call:
    x = _matrices(m)
    return call(x + x.mT)


def _inverse_of_factor(m: Maker) -> Call:
    return call(_factor(m), False)


def _triangular(m: Maker) -> Call:
    return call(_factor(m), _matrices(m), upper=False)


def _by_factor(m: Maker) -> Call:
    return call(_matrices(m), _factor(m), False)


def _by_lu(m: Maker) -> Call:
    factors, pivots, _ = torch.linalg.lu_factor_ex(_matrices(m))
    return call(factors, pivots, _matrices(m))


def _unpacked(m: Maker) -> Call:
    return call(*torch.linalg.lu_factor_ex(_matrices(m))[:2])


def _solved(m: Maker) -> Call:
    return call(_matrices(m), _matrices(m))


FAMILIES: tuple[Family, ...] = (
    ("linalg_solve_triangular", _triangular),
    ("cholesky linalg_cholesky_ex", _symmetric),
    ("cholesky_inverse", _inverse_of_factor),
    ("_cholesky_solve_helper", _by_factor),
    ("linalg_lu_factor_ex linalg_inv_ex _linalg_det _linalg_slogdet", _matrix),
    ("linalg_lu_solve", _by_lu),
    ("lu_unpack", _unpacked),
    ("_linalg_solve_ex", _solved),
)
