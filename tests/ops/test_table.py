"""The table of operators and the functions of `ops/`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest
import torch

import tessera
from tessera import ops
from tessera.ops.catalogue import ROWS
from tessera.ops.declined import Declined
from tessera.ops.table import VARIANTS, Form

MODULES = [importlib.import_module(f"tessera.ops.{m.name}") for m in pkgutil.iter_modules(ops.__path__)]


def test_in_place_and_out_overloads_come_with_the_row() -> None:
    forms = {name: VARIANTS[f"aten::{name}"].form for name in ("add.Tensor", "add_.Tensor", "add.out", "pow_.Scalar")}
    assert forms == {"add.Tensor": Form.NEW, "add_.Tensor": Form.SELF, "add.out": Form.OUT, "pow_.Scalar": Form.SELF}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("eq.Scalar", Form.NEW),  # a number in place of a tensor
        ("eq_.Scalar", Form.SELF),
        ("add.Scalar", Form.NEW),  # alpha by place, where add.Tensor takes it by name
        ("masked_fill.Scalar", Form.NEW),  # the functional form of an operator that is in place
        ("scatter_add.out", Form.OUT),
        ("_foreach_add_.List", Form.SELF),
        ("_fused_adamw_.tensor_lr", Form.SELF),
        ("native_layer_norm.out", Form.OUT),
    ],
)
def test_overloads_are_derived_from_the_schema(name: str, form: Form) -> None:
    assert VARIANTS[f"aten::{name}"].form is form
    assert not any(name in row.names for row in ROWS)


def test_derived_overloads_compute() -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    with tessera.use("always") as record:
        assert torch.ops.aten.add.Scalar(x, 1, 2).tolist() == [3.0, 4.0, 5.0]
        assert torch.ops.aten.masked_fill.Scalar(x, x > 1, 0.0).tolist() == [1.0, 0.0, 0.0]
        filled = torch.ops.aten.scatter_add.out(x, 0, torch.tensor([0, 0]), x, out=torch.empty(3))
        assert filled.tolist() == [4.0, 2.0, 3.0]
        doubled = torch._foreach_mul([x, x], [2.0, 3.0])
        assert [t.tolist() for t in doubled] == [[2.0, 4.0, 6.0], [3.0, 6.0, 9.0]]
    assert x.tolist() == [1.0, 2.0, 3.0]
    assert not record.vendor


def test_there_are_a_thousand_overloads() -> None:
    assert len(VARIANTS) >= 1000


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
    with pytest.raises(Declined, match="matrix products of this type"):
        VARIANTS["aten::mm"].call(torch.ones(2, 2, dtype=torch.bool), torch.ones(2, 2, dtype=torch.bool))
