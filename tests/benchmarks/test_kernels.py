"""The table of kernels, and what a row of it says."""

from __future__ import annotations

import time

import pytest
import torch
import triton

from benchmarks import kernels, launches, overhead
from benchmarks.case import Case, Kernel, Rivals, Spec
from benchmarks.cases import CASES, FAMILIES
from tessera.bench.turns import QUICK
from tessera.ops.declined import Declined

# Small stand-ins for the shapes of the table, by number of dims, so that every kernel of every family is run here. The
# tutorial's attention has no masks: its length, the second of three, must be a multiple of 64.
_SMALL = {1: (257,), 2: (24, 40), 3: (40, 64, 32), 4: (2, 3, 24, 16)}
# PyTorch packs 4-bit weights of multiples of 16 rows, 128 weights share a scale; its product with 8-bit weights is
# wrong for widths that are no multiple of a vector.
_SMALL_OF = {"decode_int4": (32, 256), "decode_int8": (24, 256)}


def case_of(ours: object, target: float = 1.0, read_share: float | None = None) -> Case:
    """A case whose rivals are `ours` and a millisecond of sleep."""

    def theirs() -> torch.Tensor:
        time.sleep(0.001)
        return torch.ones(3)

    kernel = Kernel(
        peer="sleep",
        target=target,
        make=lambda shape, dtype: Rivals(ours=ours, torch=theirs, amount=4e6, unit="B"),  # type: ignore[arg-type]
        read_share=read_share,
    )
    return Case(spec=Spec("made_up", "sleep", (3,)), kernel=kernel)


def rows_of(case: Case) -> list[kernels.Row]:
    return list(kernels.measure([case], (1,), QUICK, lambda name: None))


def test_every_row_has_its_own_name() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert {case.spec.family for case in CASES} == set(FAMILIES)


@pytest.mark.parametrize("family,name", [(family, name) for family, part in FAMILIES.items() for name in part])
def test_rivals_compute_the_same(family: str, name: str) -> None:
    case = next(case for case in CASES if (case.spec.family, case.spec.kernel) == (family, name))
    torch.manual_seed(0)
    dtype = torch.float32 if case.spec.dtype.is_floating_point else case.spec.dtype
    rivals = case.kernel.make(_SMALL_OF.get(name, _SMALL[len(case.spec.shape)]), dtype)
    assert rivals.amount > 0
    ours, theirs = (x[0] if isinstance(x, tuple) else x for x in (rivals.ours(), rivals.torch()))
    close = max(1e-3, torch.finfo(theirs.dtype).eps if theirs.is_floating_point() else 0.0)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=close, atol=1e-3)


def test_a_row_says_ratio_rate_and_whether_the_target_is_met() -> None:
    def ours() -> torch.Tensor:
        time.sleep(0.004)
        return torch.ones(3)

    (row,) = rows_of(case_of(ours, target=0.01))
    assert row["met"] and row["target"] == "≥ 0.01×"
    assert 0.01 < row["ratio"] < 0.9
    assert row["rate"] == pytest.approx(4e6 / (row["ours_us"] * 1e-6) / 1e9, rel=1e-3)
    (row,) = rows_of(case_of(ours, target=0.9))
    assert not row["met"]


def test_decode_is_judged_by_the_bandwidth_of_reading() -> None:
    (row,) = rows_of(case_of(lambda: torch.ones(3), read_share=0.85))
    assert row["met"] and row["target"].startswith("≥ 85% of ") and row["target"].endswith(" GB/s")


def declines() -> torch.Tensor:
    raise Declined("too small")


def fails_to_compile() -> torch.Tensor:
    raise triton.CompilationError("", None, "no such instruction")


@pytest.mark.parametrize(
    "ours,reason",
    [
        (declines, "declined: too small"),
        (fails_to_compile, "does not compile: "),
        (lambda: torch.zeros(3), "wrong: differs from PyTorch by 1 of its largest value"),
        (lambda: torch.full((3,), float("nan")), "wrong: differs from PyTorch by nan of its largest value"),
    ],
)
def test_what_cannot_be_timed_says_why(ours: object, reason: str) -> None:
    (row,) = rows_of(case_of(ours))
    assert row["skipped"].startswith(reason) and "ratio" not in row


def test_overhead_is_measured_with_the_library_on_and_off() -> None:
    rows = overhead.measure(QUICK)
    assert [row["operator"] for row in rows] == ["add", "mul", "relu", "sum", "softmax", "layer_norm", "mm", "median"]
    assert all(row["on_us"] > 0 and row["off_us"] > 0 for row in rows)
    assert rows[-1]["met"] == (rows[-1]["added_us"] <= 3)


def test_a_launch_through_triton_costs_more_than_the_runtime_alone() -> None:
    rows = {(row["way"], row["programs"]): row["us"] for row in launches.measure((1,), QUICK)}
    assert rows["Triton's own launch", 1] > rows["the runtime's, packed arguments", 1] > 0
