"""The choice between our kernel and PyTorch's: measurements, what follows from them, and what the user can ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tessera
from tessera.aten import store
from tessera.aten.classify import Place
from tessera.aten.measured import Measurement
from tessera.aten.policy import NOT_MEASURED, NOT_WORTH, SLOWER

GELU = torch.nn.functional.gelu


def measurement(
    operator: str, size: int, ours_us: float, vendor_us: float, *, dtype: str = "float32", layout: str = "contiguous",
    threads: int = 1, failure: str = "",
) -> Measurement:  # fmt: skip
    return Measurement(
        operator=operator, place=Place(dtype, layout, size), threads=threads, ours_us=ours_us, vendor_us=vendor_us,
        speed=0.0 if failure else vendor_us / ours_us, failure=failure,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No measurements of this machine but the test's own, and one thread."""
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    tessera.disable()
    torch.set_num_threads(threads)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """gelu wins from 4**8 elements on, mul nowhere."""
    path = tmp_path / "table.json"
    rows = [measurement("gelu", 3, 6, 2), measurement("gelu", 6, 60, 59), measurement("gelu", 8, 100, 200),
            measurement("mul.Tensor", 8, 20, 10)]  # fmt: skip
    store.write_table(path, {"made": "by a test"}, rows)
    return path


def served(policy: str | Path, call: object, **names: object) -> dict[str, tuple[int, int, dict[str, int]]]:
    with tessera.use(policy, **names) as record:  # type: ignore[arg-type]
        call()  # type: ignore[operator]
    return {name: (calls.ours, calls.vendor, calls.reasons) for name, calls in record.calls.items()}


def test_each_call_goes_to_the_side_that_was_faster(table: Path) -> None:
    tiny, large = torch.randn(64), torch.randn(1 << 16)
    for _ in range(3):  # the first meeting, the one that plans, the planned one
        assert served(table, lambda: GELU(large)) == {"gelu": (1, 0, {})}
        assert served(table, lambda: GELU(tiny)) == {"gelu": (0, 1, {SLOWER: 1})}
    assert served(table, lambda: large * large) == {"mul.Tensor": (0, 1, {NOT_WORTH: 1})}
    assert served(table, lambda: large + large) == {"add.Tensor": (0, 1, {NOT_MEASURED: 1})}
    wide = large.double()
    assert served(table, lambda: GELU(wide)) == {"gelu": (0, 1, {NOT_MEASURED: 1})}
    assert served("always", lambda: large + large) == {"add.Tensor": (1, 0, {})}


def test_operators_that_are_not_worth_it_are_not_registered(table: Path) -> None:
    before = {name: repr(torch.library.get_kernel(name, "CPU")) for name in ("aten::mul.Tensor", "aten::gelu")}
    tessera.enable(table)
    now = {name: repr(torch.library.get_kernel(name, "CPU")) for name in before}
    assert now["aten::mul.Tensor"] == before["aten::mul.Tensor"]
    assert now["aten::gelu"] != before["aten::gelu"]
