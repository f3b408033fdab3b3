"""The table of calls: every operator of the catalogue has calls that PyTorch takes, of the size that was asked for."""

from __future__ import annotations

import pytest
import torch

from tessera.aten.classify import place_of, work_of
from tessera.bench.maker import NoSample
from tessera.bench.samples import operators, samples
from tessera.ops.catalogue import ROWS
from tessera.ops.table import VARIANTS

# PyTorch has a kernel of this gradient in its autograd formulas alone.
NO_VENDOR = ("_fused_rms_norm_backward",)


def test_every_operator_of_the_catalogue_has_calls_that_pytorch_takes() -> None:
    names = operators()
    assert len(set(names)) == len(names) >= sum(len(row.names) for row in ROWS)
    without = []
    for name in names:
        found = list(samples(name, "tiny", torch.float32))
        for sample in found if name not in NO_VENDOR else []:
            sample.run()
        without += [] if found else [name]
    assert not without


@pytest.mark.parametrize("name", ["add.Tensor", "_softmax", "mm", "convolution", "embedding", "_foreach_add.List"])
def test_larger_sizes_are_of_higher_classes(name: str) -> None:
    tiny, small = (next(iter(samples(name, size, torch.bfloat16))).place for size in ("tiny", "small"))
    assert tiny.dtype == small.dtype and tiny.dtype.startswith("bfloat16")
    assert tiny.size < small.size


def test_integer_operators_are_measured_once() -> None:
    assert next(iter(samples("bitwise_and.Tensor", "tiny", torch.float32))).place.dtype == "int32"
    with pytest.raises(NoSample, match="computes integers"):
        list(samples("bitwise_and.Tensor", "tiny", torch.bfloat16))


X = torch.randn(64, 64)
CONV = (X.view(1, 4, 32, 32), torch.randn(4, 1, 3, 3), None, [2, 2], [1, 1], [1, 1], False, [0, 0], 4)


@pytest.mark.parametrize(
    ("name", "args", "place"),
    [
        ("add.Tensor", (X, X), "float32, contiguous, size class 6"),
        ("add.Tensor", (X, X[0]), "float32, broadcast, size class 6"),
        ("add.Tensor", (X.t(), X), "float32, strided, size class 6"),
        ("mul.Tensor", (X, torch.tensor(2.0)), "float32, contiguous, size class 6"),
        ("mul.Tensor", (X.bfloat16(), X), "bfloat16+float32, contiguous, size class 6"),
        ("sum.dim_IntList", (X, [-1]), "float32, rows, size class 6"),
        ("sum.dim_IntList", (X[:, :8].contiguous(), [-1]), "float32, rows narrow, size class 4"),
        ("convolution", CONV, "float32, 3x3 stride 2 depthwise, size class 7"),
        ("sum.dim_IntList", (X, [0]), "float32, columns, size class 6"),
        ("sum", (X,), "float32, all, size class 6"),
        ("mm", (X, X.t()), "float32, matrix, size class 10"),
        ("mm", (X[:1], X), "float32, vector, size class 6"),
        ("embedding", (X, torch.zeros(64, dtype=torch.int64)), "float32+int64, contiguous, size class 6"),
        ("_foreach_add.Scalar", ([X, X, X, X], 1.0), "float32, list, size class 7"),
        ("relu", (torch.empty(0),), "float32, contiguous, size class 0"),
    ],
)
def test_places(name: str, args: tuple[object, ...], place: str) -> None:
    assert str(place_of(VARIANTS[f"aten::{name}"], args, {})) == place


@pytest.mark.parametrize(("transposed", "places"), [(False, 2 * 8 * 4), (True, 2 * 32 * 32)])
def test_the_work_of_a_convolution_is_that_of_the_windows_it_moves_to(transposed: bool, places: int) -> None:
    x, weight = torch.empty(2, 6, 32, 32), torch.empty(6, 6, 4, 7)
    args = (x, weight, None, [4, 9], [0, 2], [1, 1], transposed, [0, 0], 1)
    assert work_of(VARIANTS["aten::convolution"], args, {}) == (2.0 * places * weight.numel(), True)


def test_arguments_by_name_have_the_same_place() -> None:
    variant = VARIANTS["aten::sum.dim_IntList"]
    assert place_of(variant, (X,), {"dim": [0]}) == place_of(variant, (X, [0]), {})
