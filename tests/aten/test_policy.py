"""The choice between our kernel and PyTorch's: measurements, what follows from them, and what the user can ask for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tessera
from tessera.aten import store
from tessera.aten.classify import Place
from tessera.aten.measured import Measurement, Table, through_us
from tessera.aten.policy import LEFT_OUT, NOT_MEASURED, NOT_WORTH, SLOWER, TAKEN_OFF
from tessera.aten.serve import LOSSES_SEEN
from tessera.core.chips import detect_cpu
from tessera.core.errors import UsageError
from tessera.runtime import front

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
    rows = [measurement("gelu", 3, 6, 2), measurement("gelu", 6, 90, 59), measurement("gelu", 8, 100, 200),
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


@pytest.fixture(params=["with fronts", "without fronts"])
def fronts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without fronts":
        monkeypatch.setattr(front, "available", lambda: False)
    elif not front.layouts_known():
        pytest.skip("fronts need a release of PyTorch whose layouts are known, on Linux")


@pytest.mark.usefixtures("fronts")
def test_what_loses_is_taken_off_while_the_program_runs(table: Path) -> None:
    kernel = repr(torch.library.get_kernel("aten::gelu", "CPU"))
    tiny, large = torch.randn(64), torch.randn(1 << 16)
    tessera.enable(table)
    GELU(large)  # gains 100 us, which may be lost again and 250 more
    for _ in range(int(350 / through_us()) - 10):
        GELU(tiny)
    assert repr(torch.library.get_kernel("aten::gelu", "CPU")) != kernel
    for _ in range(LOSSES_SEEN + 60):
        GELU(tiny)
    assert repr(torch.library.get_kernel("aten::gelu", "CPU")) == kernel
    assert torch.equal(GELU(tiny), GELU(tiny))
    assert served(table, lambda: GELU(tiny)) == {"gelu": (0, 1, {TAKEN_OFF: 1})}
    assert tessera.explain_choice("gelu", large).reason == TAKEN_OFF
    tessera.disable()
    assert repr(torch.library.get_kernel("aten::gelu", "CPU")) == kernel


@pytest.mark.usefixtures("fronts")
def test_a_call_of_the_vendors_is_what_it_is_without_us(table: Path) -> None:
    """A number in the place of a tensor, another number, another layout, an error, and the gradient."""
    rows = [measurement("mul.Tensor", 3, 20, 10), measurement("mul.Tensor", 9, 100, 200)]
    store.write_table(table, {}, rows)
    x = torch.randn(4, 8)
    calls = [
        lambda: x * 0.9, lambda: x * 2, lambda: x.int() * 0.9, lambda: x.t() * x.t(), lambda: x.clone().mul_(0.5),
        lambda: x * True, lambda: torch.mul(x, x, out=torch.empty(4, 8)), lambda: torch.mul(3, x[0]),
    ]  # fmt: skip
    expected = [call() for call in calls]
    tessera.enable(table)
    for _ in range(4):
        for call, value in zip(calls, expected, strict=True):
            torch.testing.assert_close(call(), value, rtol=0, atol=0)
        with pytest.raises(RuntimeError, match=r"size of tensor a \(8\) must match"):
            x * x[:, :5]
        leaf = x.clone().requires_grad_()
        (leaf * x).sum().backward()
        assert leaf.grad is not None and torch.equal(leaf.grad, x)


def test_a_gain_pays_for_losses(table: Path) -> None:
    tiny, large = torch.randn(64), torch.randn(1 << 16)
    tessera.enable(table)
    for _ in range(20):
        GELU(large)
        for _ in range(20):
            GELU(tiny)
    assert tessera.explain_choice("gelu", large).ours


def test_a_choice_between_two_measured_sizes_needs_both(table: Path) -> None:
    for elements, ours in ((1 << 16, True), (1 << 15, True), (1 << 14, False), (1 << 12, False), (1 << 24, True)):
        with tessera.use(table):
            choice = tessera.explain_choice("gelu", torch.randn(elements))
        assert choice.ours is ours, elements
        assert choice.measurement is not None and choice.measurement.ours is ours


def test_the_nearest_number_of_threads_decides(tmp_path: Path) -> None:
    rows = [measurement("exp", 8, 10, 20, threads=1), measurement("exp", 8, 20, 10, threads=8)]
    table = Table(rows, "a test")
    place = Place("float32", "contiguous", 8)
    for threads, ours in ((1, True), (2, True), (4, False), (64, False)):
        found = table.decisive("exp", place, threads)
        assert found is not None and found.ours is ours
        assert (not table.refusal("exp", threads)) is ours


def test_a_failure_is_pytorchs_whatever_its_time(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    store.write_table(
        path, {}, [measurement("exp", 8, 1, 20), measurement("exp", 10, 0, 9, failure="does not compile")]
    )
    assert served(path, lambda: torch.randn(1 << 20).exp())["exp"][:2] == (0, 1)


# --- what the user asks for ---


def test_only_and_exclude() -> None:
    x, square = torch.randn(4, 4), torch.randn(4, 4)

    def work() -> None:
        x + x
        x.clone().add_(x)
        square @ square

    def ours(**names: object) -> set[str]:
        return {name for name, (count, _, _) in served("always", work, **names).items() if count}

    assert ours(only="add") == {"add.Tensor", "add_.Tensor"}
    assert ours(only=["aten::mm", "add.Tensor"]) == {"mm", "add.Tensor"}
    assert ours(only="a*", exclude="add_") == {"add.Tensor"}
    assert "mm" not in ours(exclude="mm")
    assert served("always", work, exclude="mm")["mm"] == (0, 1, {LEFT_OUT: 1})


def test_a_gradient_that_pytorch_lacks_goes_with_its_operator(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    store.write_table(path, {}, [measurement("_fused_rms_norm", 8, 10, 20)])
    x, weight = torch.randn(8, 16, requires_grad=True), torch.ones(16)
    (expected,) = torch.autograd.grad(torch.nn.functional.rms_norm(x, (16,), weight).sum(), x)
    for policy, names in ((path, {}), ("always", {"only": "_fused_rms_norm"}), ("always", {"exclude": "*_backward"})):
        with tessera.use(policy, **names) as record:  # type: ignore[arg-type]
            (found,) = torch.autograd.grad(torch.nn.functional.rms_norm(x, (16,), weight).sum(), x)
        torch.testing.assert_close(found, expected)
        assert record.calls["_fused_rms_norm"].ours == record.calls["_fused_rms_norm_backward"].ours == 1
    with tessera.use("always", exclude="_fused_rms_norm") as record:
        torch.autograd.grad(torch.nn.functional.rms_norm(x, (16,), weight).sum(), x)
    assert "_fused_rms_norm" not in record.calls and "_fused_rms_norm_backward" not in record.calls


def test_random_numbers_do_not_depend_on_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    attention = "_scaled_dot_product_flash_attention_for_cpu"
    store.write_table(path, {}, [measurement("native_dropout", 8, 10, 20), measurement(attention, 8, 10, 20)])
    x = torch.ones(256, 256)
    with tessera.use(path):
        choice = tessera.explain_choice("native_dropout", x, 0.5, True)
        assert not tessera.explain_choice(attention, *[torch.ones(1, 2, 8, 16)] * 3).reason.endswith("numbers")
    assert choice.reason in ("the policy: a seed gives PyTorch's numbers", "no kernel of ours")


def test_a_training_step_may_be_half_ours(table: Path) -> None:
    layer, x = torch.nn.Sequential(torch.nn.Linear(64, 1024), torch.nn.GELU()), torch.randn(64, 64)
    (expected,) = torch.autograd.grad(layer(x).square().sum(), layer[0].weight)
    with tessera.use(table) as record:
        (found,) = torch.autograd.grad(layer(x).square().sum(), layer[0].weight)
    torch.testing.assert_close(found, expected)
    assert record.calls["gelu"].ours == 1 and record.calls["addmm"].vendor == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"only": "xyz"}, "only: unknown operator 'xyz'; names are such as"),
        ({"exclude": ["gelo"]}, "exclude: unknown operator 'gelo'; did you mean 'gelu'"),
        ({"policy": "mesured"}, "unknown policy 'mesured'; did you mean 'measured'?"),
        ({"policy": "no/such/table.json"}, "no/such/table.json cannot be read"),
    ],
)
def test_what_means_nothing_is_an_error(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as raised:
        tessera.enable(**arguments)  # type: ignore[arg-type]
    assert message in str(raised.value)
    with pytest.raises(UsageError):
        tessera.use(**arguments)  # type: ignore[arg-type]


def test_a_file_that_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text("[]")
    with pytest.raises(UsageError, match=r"table\.json is no table of measurements; write one with tessera tune"):
        tessera.enable(path)


def test_explain_choice_says_who_and_why(table: Path) -> None:
    x = torch.randn(1 << 16)
    with tessera.use(table):
        assert str(tessera.explain_choice("gelu", x)) == (
            f"gelu: ours, by the policy '{table}': 2.00× (100 µs, PyTorch 200 µs) at float32, contiguous, "
            "size class 8, 1 thread"
        )
        assert "0.50× (20 µs, PyTorch 10 µs)" in str(tessera.explain_choice(torch.ops.aten.mul, x, x))
        assert tessera.explain_choice("linalg_qr", torch.eye(3)).reason == "no kernel of ours"
    with tessera.use("always", exclude="mul"):
        assert tessera.explain_choice("aten::mul.Tensor", x, x).reason == LEFT_OUT
        half = torch.ones(2, dtype=torch.bfloat16)
        declined = tessera.explain_choice("nextafter", half, half)
        assert (declined.ours, declined.reason) == (False, "neighbours in half types")
        assert tessera.explain_choice(torch.ops.aten.add.Tensor, x, x).ours
    assert x.numel() == 1 << 16


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("geluu", (torch.ones(2),), "did you mean 'gelu'"),
        ("mm", (1, 2), "no overload of aten::mm takes these arguments"),
    ],
)
def test_explain_choice_of_what_is_no_call(name: str, args: tuple[object, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tessera.explain_choice(name, *args)


# --- the store of this machine ---


def test_the_store_of_this_machine_comes_before_what_is_shipped() -> None:
    origin = store.here(detect_cpu())
    x = torch.randn(1 << 16)
    store.Store().write(origin, [measurement("exp", 8, 10, 20)])
    assert served("measured", lambda: x.exp())["exp"][0] == 1
    store.Store().write(origin, [measurement("exp", 8, 20, 10)])
    assert served("measured", lambda: x.exp())["exp"][:2] == (0, 1)
    assert [one.speed for one in store.Store().read(origin)] == [0.5]


def test_a_cores_own_table_comes_before_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    device = replace(detect_cpu(), core="brandnew")
    assert store.shipped(device) == []
    for name, ours in ((device.chip.name, 10), (f"{device.chip.name}-brandnew", 20)):
        store.write_table(tmp_path / f"{name}.json", {}, [measurement("exp", 8, ours, 20)])
        assert [one.ours_us for one in store.shipped(device)] == [ours]
    assert [one.ours_us for one in store.shipped(replace(device, core="older"))] == [10]


def test_what_was_measured_with_other_versions_does_not_count() -> None:
    origin = store.here(detect_cpu())
    store.Store().write(replace(origin, torch="1.0"), [measurement("exp", 8, 10, 20)])
    assert store.Store().read(origin) == []
    assert len(store.Store().read_all()) == 1


def test_a_broken_store_is_told_and_stops_nothing() -> None:
    path = store.store_path()
    path.parent.mkdir(parents=True)
    path.write_bytes(b"SQLite format 3\0" + b"?" * 100)
    with pytest.warns(UserWarning, match="measurements of this machine are left out: .*cannot be read"):
        tessera.enable()
    torch.randn(4) + 1


def test_the_folder_of_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TESSERA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.store_path() == tmp_path / "tessera" / "measured.sqlite"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert store.store_path().parent == Path.home() / ".cache" / "tessera"


# --- a process that only switches on ---

_SWITCH_ON = """
import time
import torch
start = time.perf_counter()
import tessera
tessera.enable()
print(time.perf_counter() - start)
from tessera.ops import launch
print(len(launch._ready))
"""


def test_switching_on_takes_no_second_and_compiles_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", _SWITCH_ON], capture_output=True, text=True, check=True)
    seconds, compiled = done.stdout.split()
    assert float(seconds) < 5  # a loaded machine; `python -m benchmarks --only switch` measures it
    assert compiled == "0"


def test_operators_that_are_not_worth_it_are_not_registered(table: Path) -> None:
    before = {name: repr(torch.library.get_kernel(name, "CPU")) for name in ("aten::mul.Tensor", "aten::gelu")}
    tessera.enable(table)
    now = {name: repr(torch.library.get_kernel(name, "CPU")) for name in before}
    assert now["aten::mul.Tensor"] == before["aten::mul.Tensor"]
    assert now["aten::gelu"] != before["aten::gelu"]
