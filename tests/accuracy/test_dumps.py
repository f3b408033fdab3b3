"""Dumps: made here, compared there, and refused with one sentence where they do not fit."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from tessera.accuracy.capture.store import INDEX, read_dump
from tessera.accuracy.check import check
from tessera.accuracy.dumps import compare, dump
from tessera.core.errors import UsageError
from tests.accuracy.small_models import encoder, tokens


def wrong() -> nn.Module:
    model = encoder()
    part = model.get_submodule("layers.1.linear1")
    right = part.forward
    part.forward = lambda x: right(x) * 1.001  # type: ignore[method-assign]
    return model


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dumps") / "reference"
    assert dump(encoder(), tokens(), path, tensors="whole") == ""
    return path


def test_a_dump_of_a_wrong_model_against_a_right_one_names_the_operator(reference: Path, tmp_path: Path) -> None:
    dump(wrong(), tokens(), tmp_path / "wrong", tensors="whole")
    result = compare(tmp_path / "wrong", reference)
    assert result.verdict == "wrong"
    assert result.culprit is not None
    assert (result.culprit.module, result.culprit.operator, result.culprit.kind) == (
        "layers.1.linear1",
        "aten.mul",
        "scale",
    )


def test_without_tensors_the_operator_is_named_all_the_same(tmp_path: Path) -> None:
    for name, model in (("right", encoder()), ("wrong", wrong())):
        dump(model, tokens(), tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == [INDEX]
    culprit = compare(tmp_path / "wrong", tmp_path / "right").culprit
    assert culprit is not None and (culprit.module, culprit.operator) == ("layers.1.linear1", "aten.mul")


def test_a_model_against_a_dump(reference: Path) -> None:
    assert check(encoder(), tokens(), reference=reference).verdict == "clean"
    culprit = check(wrong(), tokens(), reference=reference).culprit
    assert culprit is not None and culprit.module == "layers.1.linear1"


def test_dumps_of_one_model_are_clean(reference: Path) -> None:
    assert compare(reference, reference).verdict == "clean"


def test_other_inputs_are_refused(reference: Path, tmp_path: Path) -> None:
    dump(encoder(), tokens() + 1, tmp_path / "other")
    with pytest.raises(UsageError, match="were made with other inputs; make both in the same way"):
        compare(tmp_path / "other", reference)
    with pytest.raises(UsageError, match="was made on other inputs"):
        check(encoder(), tokens() + 1, reference=reference)


def test_different_models_are_refused(reference: Path, tmp_path: Path) -> None:
    dump(nn.Linear(32, 5), tokens(), tmp_path / "other")
    with pytest.raises(UsageError, match="are of different models: their outputs have"):
        compare(tmp_path / "other", reference)


def test_a_newer_format_is_refused(reference: Path, tmp_path: Path) -> None:
    dump(nn.Linear(32, 5), tokens(), tmp_path / "newer")
    with sqlite3.connect(tmp_path / "newer" / INDEX) as base:
        base.execute("update meta set value = ? where name = 'format'", (json.dumps(99),))
    with pytest.raises(UsageError, match="has format 99 and this version of tessera reads 3"):
        read_dump(tmp_path / "newer")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    dump(nn.Linear(32, 5), tokens(), tmp_path / "cut")
    index = tmp_path / "cut" / INDEX
    index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    with pytest.raises(UsageError, match=r"is damaged .*make it again"):
        read_dump(tmp_path / "cut")


def test_what_is_no_dump_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no dump: there is no index\.sqlite in it"):
        read_dump(tmp_path)


def test_an_existing_folder_is_not_overwritten(reference: Path) -> None:
    with pytest.raises(UsageError, match="is there already"):
        dump(encoder(), tokens(), reference)


def test_the_budget_is_kept_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    budget = 200_000
    left_out = dump(encoder(), tokens(), tmp_path / "small", budget=budget, tensors="whole")
    assert "did not fit into the budget" in left_out
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= budget
    assert read_dump(tmp_path / "small").facts["left out"] > 0


_KILLED = """
import sys, torch
from pathlib import Path
from tessera.accuracy.dumps import dump
class Slow(torch.nn.Module):
    def forward(self, x):
        for step in range(100_000):
            x = x * 1.0
        return x
dump(Slow(), torch.ones(4), Path(sys.argv[1]))
"""


def test_a_killed_capture_leaves_a_readable_start(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(path)], env=os.environ)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not _num_records(path.with_name("killed.partial") / INDEX):
            time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not path.exists()
    read = read_dump(path)
    assert not read.whole
    assert len(read.streams["own"].ops) >= 64
    assert read.streams["own"].ops[5].name == "aten.mul.Tensor"


def _num_records(index: Path) -> int:
    if not index.is_file():
        return 0
    try:
        with sqlite3.connect(f"file:{index}?mode=ro", uri=True) as base:
            return int(base.execute("select count(*) from op").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def test_large_tensors_are_cut_to_their_start(tmp_path: Path) -> None:
    dump(nn.Identity(), torch.ones(4), tmp_path / "none", tensors="slices")
    model = nn.Linear(4, 300_000)
    dump(model, torch.ones(1, 4), tmp_path / "cut", tensors="slices")
    read = read_dump(tmp_path / "cut")
    product = next(op for op in read.streams["own"].ops if op.name == "aten.addmm.default")
    assert read.tensor("own", product.index, 0) is None
    assert sum(path.stat().st_size for path in (tmp_path / "cut").iterdir()) < 2_000_000
