"""Runs on two ranks against the run of a single process: clean ones are clean, faults are named with their rank."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tessera.accuracy.capture.store import read_dump
from tessera.accuracy.dumps import compare, dump
from tessera.accuracy.result import CheckResult
from tessera.core.errors import UsageError
from tests.accuracy.rank_runs import SIZE, Net, adam, inputs


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    for name, backward in (("one", False), ("one-backward", True)):
        dump(Net(), inputs(), folder / name, backward=backward, tensors="whole")
    dump(Net(), inputs(), folder / "one-steps", steps=2, optimizer=adam)
    command = [sys.executable, "-m", "tests.accuracy.rank_runs", str(folder)]
    processes = [
        subprocess.Popen([*command, str(rank)], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
        for rank in range(SIZE)
    ]
    errors = [process.communicate(timeout=900)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return folder


def against_one(runs: Path, name: str) -> CheckResult:
    return compare(
        runs / name, runs / next((f"one-{kind}" for kind in ("backward", "steps") if name.endswith(kind)), "one")
    )


@pytest.mark.parametrize("way", ["tensor", "data", "sharded"])
def test_watching_changes_no_bit_on_any_rank(runs: Path, way: str) -> None:
    assert sorted(path.name for path in runs.glob(f"{way}.?.*")) == [f"{way}.0.same", f"{way}.1.same"]


@pytest.mark.parametrize(
    "name",
    [*(f"{way}-{job}" for way in ("tensor", "data", "sharded") for job in ("backward", "steps")), "manual"],
)
def test_right_runs_on_several_ranks_are_clean(runs: Path, name: str) -> None:
    result = against_one(runs, name)
    assert result.verdict == "clean", result.reason


BOTH = (0, 1)
FAULTS = {
    "forgotten": ("blocks.1.down", "aten.addmm", "not reduced", BOTH),
    "forgotten-on-one": ("blocks.1", "aten.add", "wrong input", (1,)),
    "order": ("blocks.1.up", "aten.addmm", "weight", BOTH),
    "replica": ("blocks.1.norm", "aten.native_layer_norm", "weight", (1,)),
    "kernel": ("blocks.1.up", "aten.addmm", "values", (1,)),
    "unreduced-backward": ("blocks.0.norm", "aten.native_layer_norm_backward", "not reduced", BOTH),
    "summed-backward": ("(model)", "c10d.allreduce_", "scale", BOTH),
    "shard-backward": ("blocks.1.up", "aten.t", "weight", (1,)),
    "tensor-rate-steps": ("(optimizer)", "aten.mul_", "argument", (1,)),
    "sharded-rate-steps": ("(optimizer)", "aten.mul_", "argument", (1,)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_rank(runs: Path, name: str) -> None:
    result = against_one(runs, name)
    culprit = result.culprit
    assert result.verdict == "wrong" and culprit is not None
    assert (culprit.module, culprit.operator, culprit.kind, culprit.ranks) == FAULTS[name]


def test_the_rank_is_said(runs: Path) -> None:
    assert "on rank 1: wrong input; rank 1 reads the result of aten.mm" in against_one(runs, "forgotten-on-one").reason


def test_replicas_that_drift_apart_are_suspicious(runs: Path) -> None:
    result = against_one(runs, "drift")
    assert result.verdict == "suspicious" and result.culprit is not None
    assert (result.culprit.kind, result.culprit.ranks) == ("replicas", (1,))
    assert result.culprit.where == "parameter blocks.1.norm.weight is not the same bits on all ranks"


def test_two_runs_on_ranks_are_compared_rank_by_rank(runs: Path) -> None:
    assert compare(runs / "tensor-backward", runs / "tensor-backward").verdict == "clean"
    culprit = compare(runs / "replica", runs / "drift").culprit
    assert culprit is not None and culprit.ranks == (1,)


def test_how_a_tensor_lies_is_in_its_dump(runs: Path) -> None:
    product = next(op for op in read_dump(runs / "kernel" / "rank-00001").streams["own"].ops if "addmm" in op.name)
    spread = product.outputs[0].spread
    assert spread is not None
    assert (spread.mesh, spread.placements, spread.whole) == ((0, 1), ("S1",), (4, 32))


def test_a_missing_rank_is_said(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "manual" / "rank-00000", tmp_path / "half" / "rank-00000")
    with pytest.raises(UsageError, match="lacks rank-00001 of 2 ranks; copy the folders of all machines into one"):
        compare(tmp_path / "half", runs / "one")


def test_the_single_process_is_the_reference(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"has one dump a rank .* give the former first"):
        compare(runs / "one", runs / "manual")


def test_data_parallel_in_a_single_process_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is the only process; start it with torchrun"):
        dump(Net(), inputs(), tmp_path / "one", data_parallel=True)
