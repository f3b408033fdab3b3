"""The table of operators and the functions of `ops/`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
import torch

from tessera import ops
from tessera.ops.declined import Declined
from tessera.ops.table import ROWS, VARIANTS, Form

MODULES = [importlib.import_module(f"tessera.ops.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]


def test_in_place_and_out_overloads_come_with_the_row() -> None:
    forms = {name: VARIANTS[f"aten::{name}"].form for name in ("add.Tensor", "add_.Tensor", "add.out", "pow_.Scalar")}
    assert forms == {"add.Tensor": Form.NEW, "add_.Tensor": Form.SELF, "add.out": Form.OUT, "pow_.Scalar": Form.SELF}


def test_every_row_resolves_once() -> None:
    names = [name for row in ROWS for name in row.names]
    assert len(names) == len(set(names))
    assert all(f"aten::{name}" in VARIANTS or f"aten::{name}.default" in VARIANTS for name in names)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_functions_that_are_no_kernels_are_typed(module: object) -> None:
    for name, function in vars(module).items():
        if inspect.isfunction(function) and function.__module__ == module.__name__:  # type: ignore[attr-defined]
            hints = function.__annotations__
            wanted = {"return", *inspect.signature(function).parameters}
            assert wanted <= set(hints), f"{name} lacks types of {sorted(wanted - set(hints))}"


def test_an_entry_declines_with_a_reason() -> None:
    with pytest.raises(Declined, match="matrix products of integers"):
        VARIANTS["aten::mm"].call(torch.ones(2, 2, dtype=torch.int64), torch.ones(2, 2, dtype=torch.int64))
